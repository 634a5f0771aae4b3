"""What `labkit acl` and `labkit checklist` do, once their arguments are read."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import shutil
import sys

from labkit import command
from labkit.errors import LabError
from labkit.operate.acl import acl_line, warning
from labkit.operate.checklist import Checklist, checklist

WELL, TO_MEND = 0, 1  # exit statuses


def run_acl(wishes: argparse.Namespace) -> int:
    """Print the line, and return the exit status."""
    return command.run("acl", lambda: _acl(wishes))


def run_checklist(wishes: argparse.Namespace) -> int:
    """Look, print, and return the exit status."""
    return command.run("checklist", lambda: _checklist(wishes))


def _acl(wishes: argparse.Namespace) -> int:
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
    command.show(line)
    if note := warning(user, password):
        print(f"labkit acl: {note}", file=sys.stderr)
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
    command.show(json.dumps(found.as_dict(), indent=2) if wishes.json else _in_words(found))
    if not found.was_looked_at:
        print("labkit checklist: nothing could be looked at.", file=sys.stderr)
        return command.NOT_RUN
    return WELL if found.passes else TO_MEND


def _in_words(found: Checklist) -> str:
    # A file and a pipe get a line for each check, however long: what reads them may search for it.
    text = found.as_text(shutil.get_terminal_size().columns if sys.stdout.isatty() else 0)
    return f"{text}\nTo mend: {', '.join(found.to_mend)}." if found.to_mend else text
