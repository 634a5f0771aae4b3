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

from labkit.errors import LabError
from labkit.operate.acl import acl_line, warning
from labkit.operate.checklist import Checklist, checklist

WELL, TO_MEND, NOT_RUN = 0, 1, 2  # exit statuses
INTERRUPTED = 130  # as a shell has it


def run_acl(wishes: argparse.Namespace) -> int:
    """Print the line, and return the exit status."""
    return _in_a_line("acl", lambda: _acl(wishes))


def run_checklist(wishes: argparse.Namespace) -> int:
    """Look, print, and return the exit status."""
    return _in_a_line("checklist", lambda: _checklist(wishes))


def _in_a_line(command: str, work: Callable[[], int]) -> int:
    """Return the exit status of some work; say in one line why it could not be done."""
    if sys.stdout is None:  # it was closed before, as by `>&-`: only the exit status is wanted
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an old terminal has no ✓
    try:
        status = work()
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WELL
    except (LabError, OSError) as error:
        print(f"labkit {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return NOT_RUN
    except KeyboardInterrupt:
        print(f"labkit {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _acl(wishes: argparse.Namespace) -> int:
    user = wishes.user if wishes.user is not None else wishes.namespace.strip("{}")
    password = _password() if wishes.password_stdin else None
    print(
        acl_line(
            wishes.namespace,
            user,
            password,
            setuser=wishes.setuser,
            inspection=not wishes.without_inspection,
            cluster=wishes.cluster,
            sentinel=wishes.sentinel,
            before_7_2=wishes.before_7_2,
        )
    )
    if said := warning(user, password):
        print(f"labkit acl: {said}", file=sys.stderr)
    return WELL


def _password() -> str:
    if sys.stdin is None:
        raise LabError("there is no standard input to read a password from.")
    if sys.stdin.isatty():
        try:
            return getpass.getpass("Password of the user: ")
        except EOFError:
            return ""
    return sys.stdin.readline().rstrip("\r\n")


def _checklist(wishes: argparse.Namespace) -> int:
    url = wishes.redis if wishes.redis is not None else os.environ.get("REDIS_URL", "")
    if not url:
        raise LabError("which server? Give --redis URL, or set REDIS_URL.")
    if wishes.keys < 1:
        raise LabError(f"--keys is a number of at least 1, not {wishes.keys}.")
    measured = max(1, wishes.keys // 10)
    found = checklist(url, wishes.app, ignore=wishes.ignore, bound=wishes.keys, measured=measured)
    _print(found, wishes.json)
    if not found.was_looked_at:
        raise LabError("nothing could be looked at.")
    return WELL if found.passes else TO_MEND


def _print(found: Checklist, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
        return
    # A file and a pipe get a line for each check, however long: what reads them may search for it.
    print(found.as_text(shutil.get_terminal_size().columns if sys.stdout.isatty() else 0))
    if found.to_mend:
        print(f"To mend: {', '.join(found.to_mend)}.")
