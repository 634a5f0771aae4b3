"""What `labkit audit` does, once its arguments are read."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from labkit.audit.probe import Row
from labkit.audit.report import Scoreboard, as_junit
from labkit.audit.run import audit, every_probe
from labkit.errors import LabError

PASSES, FAILS, NOT_RUN = 0, 1, 2  # exit statuses
INTERRUPTED = 130  # as a shell has it


@dataclass(frozen=True)
class Wishes:
    """What was asked for.

    Attributes:
        target: the text `package.module:name` of a decorator or an adapter.
        invalidate: that of what invalidates, if it is a decorator.
        json: whether to print JSON in place of a table.
        junit: the path of the file that gets JUnit's XML; None for no such file.
    """

    target: str
    invalidate: str | None = None
    json: bool = False
    junit: str | None = None


def run(wishes: Wishes) -> int:
    """Audit, print, and return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an old terminal has no ✓
    try:
        if wishes.junit is None:
            return _audited(wishes)
        with _opened(wishes.junit) as junit:
            return _audited(wishes, junit)
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


def _audited(wishes: Wishes, junit: BinaryIO | None = None) -> int:
    try:
        with Progress(len(every_probe())) as progress:
            board = audit(wishes.target, wishes.invalidate, on_row=progress.count)
    except LabError as error:
        if junit:
            junit.write(as_junit(wishes.target, [], error=_in_a_line(error)))
        raise
    if junit:
        junit.write(as_junit(wishes.target, board.rows))
    try:
        _print_board(board, wishes.json)
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
