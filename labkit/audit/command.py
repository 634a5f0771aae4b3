"""What `labkit audit` does, once its arguments are read."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import BinaryIO

from labkit import command
from labkit.audit.probe import Row
from labkit.audit.report import Scoreboard, as_junit
from labkit.audit.run import audit, every_probe
from labkit.errors import LabError

PASSES, FAILS = 0, 1  # exit statuses


def run(target: str, invalidate: str | None, as_json: bool, junit_path: str | None) -> int:
    """Audit, print, and return the exit status.

    Args:
        target: the text `package.module:name` of a decorator or an adapter.
        invalidate: that of what invalidates, if it is a decorator.
        as_json: whether to print JSON in place of a table.
        junit_path: of the file that gets JUnit's XML; None for no such file.
    """

    def work() -> int:
        with _opened(junit_path) if junit_path is not None else nullcontext() as junit:
            return _audited(target, invalidate, as_json, junit)

    return command.run("audit", work)


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
            junit.write(as_junit(target, [], error=command.in_a_line(error)))
        raise
    if junit:
        junit.write(as_junit(target, board.rows))
    command.show(json.dumps(board.as_dict(), indent=2) if as_json else _in_words(board))
    return PASSES if board.passes else FAILS


def _in_words(board: Scoreboard) -> str:
    # A file and a pipe get a line for each row, however long: what reads them may search for it.
    text = board.as_text(shutil.get_terminal_size().columns if sys.stdout.isatty() else 0)
    return f"{text}\nIt fails {', '.join(board.failed)}." if board.failed else text


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
