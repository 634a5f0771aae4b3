"""What `labkit audit` does, once its arguments are read."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import BinaryIO

from labkit.audit.probe import Row
from labkit.audit.report import Scoreboard, as_junit
from labkit.audit.run import audit, every_probe
from labkit.errors import LabError

PASSES, FAILS, NOT_RUN = 0, 1, 2  # exit statuses
INTERRUPTED = 130  # as a shell has it


def run(target: str, invalidate: str | None, as_json: bool, junit_path: str | None) -> int:
    """Audit, print, and return the exit status.

    Args:
        target: the text `package.module:name` of a decorator or an adapter.
        invalidate: that of what invalidates, if it is a decorator.
        as_json: whether to print JSON in place of a table.
        junit_path: of the file that gets JUnit's XML; None for no such file.
    """
    if sys.stdout is None:  # it was closed before, as by `>&-`: only the exit status is wanted
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an old terminal has no ✓
    try:
        with _opened(junit_path) if junit_path is not None else nullcontext() as junit:
            return _audited(target, invalidate, as_json, junit)
    except (LabError, OSError) as error:
        print(f"labkit audit: {_in_a_line(error)}", file=sys.stderr)
        return NOT_RUN
    except KeyboardInterrupt:
        print("labkit audit: interrupted", file=sys.stderr)
        return INTERRUPTED


def _opened(path: str) -> BinaryIO:
    """Open a file before the audit runs: minutes later would be late to say that it cannot be.

    Raises:
        LabError: it cannot be written.
    """
    try:
        return open(path, "wb")
    except OSError as error:
        raise LabError(f"{path} cannot be written: {error.strerror}.") from None


def _audited(target: str, invalidate: str | None, as_json: bool, junit: BinaryIO | None) -> int:
    try:
        with Progress(len(every_probe())) as progress:
            board = audit(target, invalidate, on_row=progress.count)
    except LabError as error:
        if junit:
            junit.write(as_junit(target, [], error=_in_a_line(error)))
        raise
    if junit:
        junit.write(as_junit(target, board.rows))
    try:
        _print_board(board, as_json)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PASSES if board.passes else FAILS


def _print_board(board: Scoreboard, as_json: bool) -> None:
    if as_json:
        print(json.dumps(board.as_dict(), indent=2))
        return
    # A file and a pipe get a line for each row, however long: what reads them may search for it.
    print(board.as_text(shutil.get_terminal_size().columns if sys.stdout.isatty() else 0))
    if board.failed:
        print(f"It fails {', '.join(board.failed)}.")


class Progress:
    """Says, to who sits at a terminal, how many probes have ended. It leaves nothing behind."""

    def __init__(self, probes: int) -> None:
        self._probes, self._ended = probes, 0
        self._say: Callable[[str], object] = _rewrite if sys.stderr.isatty() else lambda text: None

    def __enter__(self) -> Progress:
        self._say(f"0 of {self._probes} probes")
        return self

    def count(self, row: Row) -> None:
        """Add one that has ended."""
        self._ended += 1
        self._say(f"{self._ended} of {self._probes} probes")

    def __exit__(self, *_: object) -> None:
        self._say("")


def _rewrite(text: str) -> None:
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())
