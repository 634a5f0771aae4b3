"""Memcached, where it is on PATH, on a private socket. It has no wheel, and asks for no password.

It listens on a unix socket in a directory that only this user can enter, and on no port: whoever
can reach a Memcached can read and change all that is in it.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from pymemcache.client.base import Client  # type: ignore[import-untyped]
from pymemcache.exceptions import MemcacheError  # type: ignore[import-untyped]

from labkit.errors import LabError
from labkit.servers.keeper import Keeper, has_ended, last_words
from labkit.servers.redis import HAS_UNIX_SOCKETS, LONGEST_SOCKET_PATH

START_TIMEOUT = 10.0  # seconds; a start takes some 20 milliseconds
MEGABYTES = 64  # Memcached's own default


@dataclass(frozen=True)
class MemcachedServer:
    """A Memcached that labkit has started.

    Attributes:
        version: its own, such as "1.6.18".
        pid: its process id.
        socket: where it listens.
    """

    version: str
    pid: int
    socket: Path


def find_memcached(keeper: Keeper) -> str | None:
    """Return the program on PATH, or None where it cannot be had.

    Args:
        keeper: in its directory the socket is to be: its path must not be too long for one.
    """
    is_short = len(os.fsencode(_address(keeper))) <= LONGEST_SOCKET_PATH
    return shutil.which("memcached") if HAS_UNIX_SOCKETS and is_short else None


def _address(keeper: Keeper) -> Path:
    return keeper.directory / "memcached" / "memcached.sock"


def start_memcached(keeper: Keeper, megabytes: int = MEGABYTES) -> MemcachedServer:
    """Start a Memcached in the keeper's directory, where none must be running.

    Args:
        keeper: owns the process and its directory.
        megabytes: how much its entries may take, 2 or more. This is rough: memory is given out in
            pages of 1 MB, at least one for each range of sizes.

    Raises:
        LabError: it cannot be had, or does not answer, with its last words.
    """
    program, address = find_memcached(keeper), _address(keeper)
    if program is None:
        raise LabError(
            "no memcached is on PATH, or the temporary folder's path is too long for its socket.\n"
            "Install it (Debian: apt install memcached), or do without."
        )
    directory = address.parent
    directory.mkdir(mode=0o700, exist_ok=True)
    address.unlink(missing_ok=True)  # of one that was killed
    command = [program, "-s", str(address), "-a", "0700", "-m", str(megabytes)]
    if os.geteuid() == 0:  # it runs as root only if it is told to
        command += ["-u", _my_name()]
    log = directory / "log"
    try:
        pid = keeper.spawn(command, log=log, stop_signal=signal.SIGKILL)  # nothing is kept
    except OSError as error:
        raise LabError(f"{program} could not be run: {error}.\nMend it, or do without.") from None
    return MemcachedServer(_wait_until_ready(address, pid, log), pid, address)


def _my_name() -> str:
    import pwd  # which Windows does not have

    return pwd.getpwuid(os.geteuid()).pw_name


def _wait_until_ready(address: Path, pid: int, log: Path) -> str:
    """Poll until the server with this pid answers; return its version."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and not has_ended(pid):
        client = Client(str(address), connect_timeout=1, timeout=START_TIMEOUT)
        try:
            stats = client.stats()
        except (OSError, MemcacheError):
            time.sleep(0.002)
            continue
        finally:
            client.close()
        if int(stats[b"pid"]) == pid:
            return str(stats[b"version"].decode())
        break
    raise LabError(
        f"the Memcached that labkit started does not answer. {last_words(log)}\n"
        "Start again, or take it off PATH to do without."
    )
