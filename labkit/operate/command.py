"""What `labkit acl` and `labkit checklist` do, once their arguments are read."""

from __future__ import annotations

import argparse
import getpass
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from labkit.errors import LabError
from labkit.operate.acl import acl_line, warning
from labkit.operate.checklist import Checklist, checklist

WELL, TO_MEND, NOT_RUN = 0, 1, 2  # exit statuses
INTERRUPTED = 130  # as a shell has it


@dataclass(frozen=True)
class _Outcome:
    """What a command has come to: what it prints, what it notes beside, and its exit status."""

    text: str
    status: int
    note: str = ""


def run_acl(wishes: argparse.Namespace) -> int:
    """Print the line, and return the exit status."""
    return _run("acl", lambda: _acl(wishes))


def run_checklist(wishes: argparse.Namespace) -> int:
    """Look, print, and return the exit status."""
    return _run("checklist", lambda: _checklist(wishes))


def _run(command: str, work: Callable[[], _Outcome]) -> int:
    """Print what some work has come to; say in one line why it could not be done."""
    if sys.stdout is None:  # it was closed before, as by `>&-`: only the exit status is wanted
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an old terminal has no ✓
    try:
        outcome = work()
        try:
            print(outcome.text, flush=True)
        except BrokenPipeError:  # who reads has read enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (LabError, OSError) as error:
        print(f"labkit {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return NOT_RUN
    except KeyboardInterrupt:
        print(f"labkit {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    if outcome.note:
        print(f"labkit {command}: {outcome.note}", file=sys.stderr)
    return outcome.status


def _acl(wishes: argparse.Namespace) -> _Outcome:
    user = wishes.user if wishes.user is not None else wishes.namespace.strip("{}")
    password = _password() if wishes.password_stdin else None
    line = acl_line(
        wishes.namespace,
        user,
        password,
        setuser=wishes.setuser,
        inspection=not wishes.without_inspection,
        cluster=wishes.cluster,
        l1=wishes.l1,
        sentinel=wishes.sentinel,
        before_7_2=wishes.before_7_2,
    )
    return _Outcome(line, WELL, warning(user, password))


def _password() -> str:
    if sys.stdin is None:
        raise LabError("there is no standard input to read a password from.")
    if sys.stdin.isatty():
        try:
            return getpass.getpass("Password of the user: ")
        except EOFError:
            return ""
    return sys.stdin.readline().rstrip("\r\n")


def _checklist(wishes: argparse.Namespace) -> _Outcome:
    url = wishes.redis if wishes.redis is not None else os.environ.get("REDIS_URL", "")
    if not url:
        raise LabError("which server? Give --redis URL, or set REDIS_URL.")
    if wishes.keys < 1:
        raise LabError(f"--keys is a number of at least 1, not {wishes.keys}.")
    measured = max(1, wishes.keys // 10)
    found = checklist(url, wishes.app, ignore=wishes.ignore, bound=wishes.keys, measured=measured)
    text = json.dumps(found.as_dict(), indent=2) if wishes.json else _in_words(found)
    if not found.was_looked_at:
        return _Outcome(text, NOT_RUN, "nothing could be looked at.")
    return _Outcome(text, WELL if found.passes else TO_MEND)


def _in_words(found: Checklist) -> str:
    # A file and a pipe get a line for each check, however long: what reads them may search for it.
    text = found.as_text(shutil.get_terminal_size().columns if sys.stdout.isatty() else 0)
    return f"{text}\nTo mend: {', '.join(found.to_mend)}." if found.to_mend else text
