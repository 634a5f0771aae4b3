"""A server that is looked at: what it says of itself, and what it holds. Nothing is written.

What its user may not ask, or this server does not have, is `NotLookedAt`: neither good nor bad.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import NoPermissionError, ResponseError
from redis.retry import Retry

from labkit.errors import LabError
from labkit.operate.keyspace import sizes_of
from labkit.operate.reading import Names, ask_each, evenly, names_of
from labkit.operate.table import cut
from labkit.servers.redis import choose_redis

PASSWORD = "REDISCLI_AUTH"  # the variable that redis-cli takes a password from
TIMEOUT = 5.0  # seconds of each wait for the server
OF_A_CACHE = re.compile(rb"token:([^:]+):|([^:]+):server$")
# Rather too much than too little: a password that is not escaped may hold anything.
SECRET = re.compile(r"(?<=://).*@|(?<=password=)[^&]+", re.DOTALL)
UNREACHED = re.compile(r"\bconnecting to \S+\. (.+)")
TLS = re.compile(r"\bSSL\b|certificate|ssl_")


class NotLookedAt(Exception):
    """Something could not be looked at. The message says why."""


@dataclass(frozen=True)
class Key:
    """A key that was looked at.

    Attributes:
        name: as the server has it.
        ttl_ms: what is left of its life, in milliseconds; -1 if it has no end.
    """

    name: bytes
    ttl_ms: int


def hidden(text: str) -> str:
    """Return a text with what stands in a URL before its host, and passwords, hidden."""
    return SECRET.sub(lambda found: "***@" if found[0].endswith("@") else "***", text)


def options_of(url: str) -> dict[str, Any]:
    """Return what a client of this URL is made with. A password may be in REDISCLI_AUTH.

    Raises:
        LabError: it is no URL of a Redis.
    """
    wanted = "Use redis://host:port/number, rediss:// for TLS, or unix:///path/to/socket."
    if "://" not in url:
        raise LabError(f"{cut(hidden(url), 60)!r} is not the URL of a Redis server. {wanted}")
    try:
        choose_redis(url)
        parse: Any = parse_url
        options: dict[str, Any] = dict(parse(url))
    except (LabError, ValueError):
        raise LabError(f"{hidden(url)!r} is not the URL of a Redis server. {wanted}") from None
    if not options.get("password") and os.environ.get(PASSWORD):
        options["password"] = os.environ[PASSWORD]
    return options


def open_client(options: dict[str, Any], **others: Any) -> redis.Redis:
    """Return a client that waits for a bounded time, and tries nothing twice."""
    waits = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
    pool: Any = redis.ConnectionPool(**waits | options | {"retry": Retry(NoBackoff(), 0)} | others)
    return redis.Redis(connection_pool=pool)


class Inspected:
    """One server, asked as one user.

    Args:
        url: where it is.
        bound: how many of its keys are looked at.
        measured: of how many of them the size is asked.

    Attributes:
        shown: the URL without what is secret.

    Raises:
        LabError: it cannot be reached, or is no server with keys. The message says what to do.
    """

    def __init__(self, url: str, bound: int = 10_000, measured: int = 1_000) -> None:
        self.shown = hidden(url)
        self.options = options_of(url)
        self._bound, self._measured = bound, measured
        self._known: dict[tuple[Any, ...], Any] = {}
        try:
            self._client: Any = open_client(self.options)
            self.name, self.database = "", int(self.options.get("db", 0))
            try:
                self._greet()
            except NotLookedAt:
                self.name = "a server whose user may not INFO"
        except (TypeError, ValueError, AttributeError) as error:
            raise LabError(f"{self.shown}: {_without_addresses(error)}.") from None
        except (redis.RedisError, OSError) as error:
            raise LabError(f"{self.shown} {why_not(error, self.options)}") from None

    def _greet(self) -> None:
        about = self.info()
        if "sentinel" in (about.get("redis_mode"), about.get("server_mode")):  # Redis, Valkey
            watched = [each for name, each in about.items() if re.fullmatch(r"master\d+", name)]
            told = ", ".join(f"{each['name']} is at {each['address']}" for each in watched)
            raise LabError(
                f"{self.shown} is a Sentinel, which has no keys: give the URL of the master that "
                f"it watches{f' ({told})' if told else ''}."
            )
        if "valkey_version" in about:
            self.name = f"Valkey {about['valkey_version']}"
        else:
            self.name = f"Redis {about.get('redis_version', 'of an unknown version')}"

    def close(self) -> None:
        """End its connections."""
        self._client.close()

    def ask(self, *command: Any, **options: Any) -> Any:
        """Return the answer to a command; it is sent once.

        Raises:
            NotLookedAt: the user may not, or the server has no such command.
            RedisError: the server has not answered.
        """
        if command not in self._known:
            try:
                self._known[command] = self._client.execute_command(*command, **options)
            except ResponseError as error:
                if why := _refusal(str(command[0]), error):
                    raise NotLookedAt(why) from None
                raise
        return self._known[command]

    def info(self) -> dict[str, Any]:
        """Return what INFO says.

        Raises:
            NotLookedAt: the user may not.
        """
        about: dict[str, Any] = self.ask("INFO")
        return about

    def config(self, name: str) -> str:
        """Return a setting.

        Raises:
            NotLookedAt: the user may not, or the server has no such setting.
        """
        found = self.ask("CONFIG GET", name)
        if name not in found:
            raise NotLookedAt(f"the server has no setting {name}")
        return str(found[name])

    @cached_property
    def names(self) -> Names:
        """The names of so many keys of this database.

        Raises:
            NotLookedAt: the user may not, or there are none.
        """
        try:
            names = names_of(self._client, self._bound)
        except ResponseError as error:
            if why := _refusal("SCAN", error):
                raise NotLookedAt(why) from None
            raise
        if not names.names:
            raise NotLookedAt(f"database {self.database} has no keys yet")
        return names

    @cached_property
    def keys(self) -> list[Key]:
        """The same keys, with their times to live.

        Raises:
            NotLookedAt: the user may not, or there are none.
        """
        answers = ask_each(self._client, (("PTTL", name) for name in self.names.names))
        _refuse("PTTL", answers)
        return [
            Key(name, ttl)
            for name, ttl in zip(self.names.names, answers, strict=True)
            if isinstance(ttl, int) and ttl != -2  # it has ended meanwhile
        ]

    @cached_property
    def sizes(self) -> dict[bytes, int]:
        """The bytes of some of these keys.

        Raises:
            NotLookedAt: the user may not, or there are none.
        """
        some = evenly(self.names.names, self._measured)
        answers = sizes_of(self._client, some)
        _refuse("MEMORY", answers)
        return {
            name: size for name, size in zip(some, answers, strict=True) if isinstance(size, int)
        }

    @cached_property
    def namespaces(self) -> list[bytes]:
        """The namespaces of the QueryCaches whose tokens are among these keys.

        Raises:
            NotLookedAt: the user may not, or there are none.
        """
        matches = (OF_A_CACHE.match(name) for name in self.names.names)
        candidates = sorted({match[1] or match[2] for match in matches if match})
        # Each cache has the token of everything; its key may be among those not looked at.
        there = ask_each(self._client, (("EXISTS", b"token:%b:*" % name) for name in candidates))
        return [name for name, found in zip(candidates, there, strict=True) if found == 1]

    def lets_in_without_password(self) -> bool:
        """Whether somebody without a password is let in: it is tried, by a PING.

        Raises:
            RedisError: the server has not answered.
        """
        options = {
            name: value
            for name, value in self.options.items()
            if name not in ("username", "password")
        }
        with open_client(options) as stranger:
            try:
                stranger.ping()
            except (redis.AuthenticationError, ResponseError):
                return False
        return True


def _refusal(command: str, error: Exception) -> str:
    """Return why a command was not run; empty if it was, and has failed."""
    word = command.split()[0]
    if isinstance(error, NoPermissionError):
        if "key" in str(error):
            return "the user may not read the keys"
        named = re.search(r"'(\w+)(?:\|\w+)?' command", str(error))
        return f"the user may not {named[1].upper() if named else word}"
    if "unknown command" in str(error).lower():
        return f"the server has no {word}"
    return ""


def _refuse(command: str, answers: list[Any]) -> None:
    """Say so if every answer is an error."""
    errors = [each for each in answers if isinstance(each, Exception)]
    if errors and len(errors) == len(answers):
        raise NotLookedAt(_refusal(command, errors[0]) or f"{command}: {cut(str(errors[0]), 80)}")


def why_not(error: Exception, options: dict[str, Any]) -> str:
    """Return why a server cannot be looked at, and what to do, after its URL."""
    said = _without_addresses(error)
    if isinstance(error, redis.AuthenticationError):
        if options.get("password"):
            return f"refuses this user or password: correct the URL, or {PASSWORD}."
        return f"asks for a password: write it into {PASSWORD}, which redis-cli takes as well."
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return "is still loading its data: try again in a moment."
    if "max number of clients" in said:
        return "takes no more connections: raise maxclients, or close some."
    if isinstance(error, redis.TimeoutError):
        doubt = " Does it speak TLS?" if "SSL" in str(options.get("connection_class")) else ""
        return f"did not answer within {TIMEOUT:g} s.{doubt}"
    if TLS.search(str(error)):
        return f"does not agree on TLS: {said}. Is ssl_ca_certs= in the URL right?"
    if isinstance(error, ResponseError):
        return f"answers with an error: {said}"
    if match := UNREACHED.search(said):
        return f"cannot be reached: {match[1]}. Is the address right, and does it run?"
    if "Connection closed" in str(error) or "reset" in str(error):
        return "closes the connection: does it want TLS (rediss://), or is it no Redis?"
    return f"is no Redis: {said}"


def _without_addresses(error: Exception) -> str:
    return cut(hidden(str(error) or type(error).__name__), 120).removesuffix(".")
