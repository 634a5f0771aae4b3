"""How a command ends, whoever reads what it prints: a person, `head`, or nobody."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from labkit.errors import LabError

NOT_RUN = 2  # the exit status of what could not be done
INTERRUPTED = 130  # as a shell has it


def run(command: str, work: Callable[[], int]) -> int:
    """Return a command's exit status; say in one line why its work could not be done.

    Args:
        command: such as "audit".
        work: prints by `show`, and returns the exit status.
    """
    if sys.stdout is None:  # it was closed before, as by `>&-`: only the exit status is wanted
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an old terminal has no ✓
    try:
        return work()
    except (LabError, OSError) as error:
        print(f"labkit {command}: {in_a_line(error)}", file=sys.stderr)
        return NOT_RUN
    except KeyboardInterrupt:
        print(f"labkit {command}: interrupted", file=sys.stderr)
        return INTERRUPTED


def show(text: str) -> None:
    """Print a text, as far as anybody reads it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # who reads has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def in_a_line(error: Exception) -> str:
    """Return an error's message in one line."""
    return " ".join(str(error).split())
