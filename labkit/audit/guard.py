"""Connections of the process that is audited go to the audit's own servers, or nowhere.

A cache that opens a Redis of its own, perhaps the one of production, is told so before a byte is
sent. Python says of each connection where it goes, and of each name before it is looked up,
whichever library asks.
(https://docs.python.org/3/library/audit_events.html: socket.connect, socket.getaddrinfo)
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_allowed: set[tuple[str, int]] = set()
_audit = threading.local()
foreign: list[str] = []  # where else it wanted to go


class Elsewhere(ConnectionError):
    """A connection to a server that is not the audit's was refused."""


def allow(*ports: int) -> None:
    """Let connections to these loopback ports pass."""
    _allowed.update((host, port) for port in ports for host in LOOPBACK)


@contextmanager
def trusted() -> Iterator[None]:
    """Let whatever this thread connects to pass, within the `with` block: the audit itself does."""
    _audit.trusted = True
    try:
        yield
    finally:
        _audit.trusted = False


def watch() -> None:
    """Refuse, for the rest of this process, connections to all other servers."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if getattr(_audit, "trusted", False):
        return
    if event == "socket.getaddrinfo":
        host, port = map(_text, arguments[:2])
        if "None" in (host, port) or port == "0":
            return  # nothing is to be reached there
        address: Any = (host, int(port) if port.isdigit() else port)
    elif event == "socket.connect":
        address = arguments[1]
    else:
        return
    if isinstance(address, tuple) and tuple(address[:2]) in _allowed:
        return
    if not isinstance(address, tuple | str | bytes):
        return  # of a kind that no server of a cache listens at, such as netlink's
    where = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else _text(address)
    foreign.append(where)
    raise Elsewhere(f"{where} is not the audit's Redis")


def _text(given: Any) -> str:
    return given.decode(errors="replace") if isinstance(given, bytes) else str(given)
