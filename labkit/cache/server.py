"""Redis as the cache sees it: asked within a time-out, spared while silent, told what it missed.

An invalidation that Redis has not taken is owed. Until it has been delivered this process uses no
entry, and a thread of its own goes on trying. It replaces the token of everything, on a connection
that is kept open for that. If the server was frozen, the command waits in that connection's
buffer; if it was started anew, its `run_id` differs, and the first connection replaces that token
(see `labkit.cache.client`). So when Redis returns, the entries from before count for nobody.

Other processes may reach Redis sooner than this one tries again, and fill it with rows from before
a write. So whoever owes puts the command into that open connection's socket by itself, before it
returns: a thread of its own might get no processor in time. Then Redis has it before any that a
reader sends from now on. What a reader may still find, until it is delivered, is an old row:

- where no connection is open, as Redis refuses this process, or was away when it began, or a wire
  was cut: it is tried anew for `timeout_ms`, and what stops it is counted among the errors, as
  `NotSent` if it is the time that was up. If Redis is away for everybody, nothing is lost: started
  anew, it has another `run_id`;
- where the wire is longer than `timeout_ms`, or has lost the command: nobody knows;
- where the open connection was closed for being idle, as by Redis' own `timeout` or by a firewall,
  and Redis then froze: that is counted as `NotSent` too. Whoever is answered looks at it, once in
  `LOOK` seconds, and has a thread open it anew. So it takes a process that has asked Redis nothing
  since it was closed, or only within those seconds;
- where the server was frozen while it served that very reader. It looks at those connections first
  that it has served last, whatever waits in the others.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import redis
from redis.exceptions import OutOfMemoryError, ResponseError

from labkit.cache import tokens
from labkit.cache.breaker import Breaker
from labkit.cache.client import Client, open_connection, own_client
from labkit.cache.line import Line
from labkit.cache.settings import Settings, SettingsError
from labkit.cache.writes import EVERYTHING

PATIENCE = 60.0  # seconds that an owed invalidation waits for a frozen server, before a new attempt
LOOK = 1.0  # seconds between two looks at whether the connection that is kept open still is
SERVER = "server"  # the key that names the server which the entries are from, in the namespace
HASH_TAG = re.compile(r"^[^{}]*\{[^{}]+\}[^{}]*$")
T = TypeVar("T")

log = logging.getLogger("labkit.cache")


class Unavailable(Exception):
    """Redis was not asked, or has not answered. The message says why."""


class NotSent(Exception):
    """The time was up, and no command that Redis will run has been sent for an invalidation."""


class Server:
    """One Redis, by a client of the cache's own.

    Args:
        client: the application's, which is copied. It is not used itself.
        settings: the cache's.
        on_error: called with each error.
        on_greeted: called on each new connection with the server's `run_id`.
        on_delivered: called once Redis has taken all that was owed, before entries are used again.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        on_error: Callable[[Exception], object],
        on_greeted: Callable[[str], object] = lambda run_id: None,
        on_delivered: Callable[[], object] = lambda: None,
    ) -> None:
        self.given = client
        self._on_greeted, self._on_delivered = on_greeted, on_delivered
        self._settings = settings
        self._on_error = on_error
        self._policy_is_known = False
        self._everything = f"{settings.namespace}:{EVERYTHING}"
        self.names = (f"{settings.namespace}:{SERVER}", tokens.token_key(self._everything))
        self.begin()

    def begin(self) -> None:
        """Begin anew, as a child of a fork does: the parent delivers what is owed."""
        self._connecting = threading.Lock()
        self._breaker = Breaker(self._settings.pause_ms / 1000)
        self._client: Client = None
        self._standby: Client = None  # has the line's connection, and does nothing else with it
        self._debts = threading.Condition()  # guards what stands below
        self._line: Line | None = None
        self._opener: threading.Thread | None = None  # of a new line, where it was closed
        self._look_at = 0.0  # the time of the next look at it, by `time.monotonic`
        self._owed: list[tuple[tuple[str, ...], str]] = []
        self._sent = 0  # how many of these, from the first on, have been sent on the line
        # Attempts to deliver: the last one, and the last one that ended.
        self._begun = self._ended = 0
        self._deliverer: threading.Thread | None = None

    @property
    def owes(self) -> bool:
        """Whether an invalidation has not been delivered yet."""
        return bool(self._owed)

    @property
    def is_silent(self) -> bool:
        """Whether the last that was heard of Redis is an error."""
        return self._breaker.is_open

    def why_not(self) -> str:
        """Return why no entry may be used now, and Redis is not asked; empty if it may be.

        After an error, an empty answer makes the caller the one that tries.
        """
        if self._owed:
            return "an invalidation is owed"
        return "" if self._breaker.allows() else "Redis does not answer"

    def ask(self, command: Callable[..., T], *args: Any, **options: Any) -> T:
        """Return `command(client, ...)`.

        Raises:
            Unavailable: Redis could not be asked, or not in time.
        """
        try:
            answer = command(self._client or self._connect(), *args, **options)
        except Exception as error:  # whatever it is, the database can be asked instead
            self._fail(error)
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        self._breaker.succeeded()
        if time.monotonic() >= self._look_at:
            try:
                self._look_at_line()
            except Exception as error:  # it is of no concern to whoever has an answer
                self._on_error(error)
        return answer

    def ask_unless_spared(self, command: Callable[..., T], *args: Any, **options: Any) -> T:
        """As `ask`, unless an invalidation is owed or Redis has not answered just now.

        Raises:
            Unavailable: Redis could not be asked, or was not.
        """
        if why := self.why_not():
            raise Unavailable(why)
        return self.ask(command, *args, **options)

    def greet(self) -> None:
        """Connect now, if that can be done: what is wrong is said at the start."""
        with suppress(Unavailable):
            self.ask(lambda client: None)

    def _look_at_policy(self, client: Client) -> None:
        """Warn, once, of a policy that may evict a marker."""
        if self._policy_is_known:
            return
        try:
            about = client.info("memory")
        except ResponseError:
            about = {}  # not to be known; not even who knows would evict less
        self._policy_is_known = True  # after the answer: one that comes too late is asked for again
        policies = {each.get("maxmemory_policy", "") for each in _of_each_node(about)}
        for policy in policies:
            if policy.startswith("allkeys"):
                log.warning(
                    "Redis evicts by %s, tokens and markers as well. A writer that crashes between "
                    "its COMMIT and its invalidation while its marker is evicted leaves a stale "
                    "entry until its TTL: prefer a policy that begins with volatile-.",
                    policy,
                )

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, OutOfMemoryError):  # it still reads, and forgets
            self._breaker.failed()
            self._client = None
        self._on_error(error)

    def _connect(self) -> Client:
        time_out = self._settings.timeout_ms / 1000
        if not self._connecting.acquire(timeout=time_out):  # not one wait after the other
            raise TimeoutError("another thread is still connecting")
        try:
            if self._client is None:
                client = own_client(self.given, time_out, self.names, on_greeted=self._greeted)
                client.get(self.names[0])  # opens the connection, which recognises the server
                self._look_at_policy(client)
                if self._line is None:  # a client that greets nobody, such as fakeredis'
                    self._keep_standby_open()
                self._client = client
            return self._client
        finally:
            self._connecting.release()

    def _greeted(self, run_id: str) -> None:
        self._on_greeted(run_id)
        self._keep_standby_open()

    def _keep_standby_open(self, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Have a client with its connection open, if that is still wanted once it is.

        A server that starts anew has closed it. So each new connection of the other client looks.
        """
        if not self._owed:  # else the deliverer has it, and connects by itself
            standby, line = self._stand_by()
            with self._debts:
                if not self._owed and is_wanted():
                    self._standby, standby, self._line = standby, self._standby, line
            _close(standby)  # the old one, or the new one

    def _look_at_line(self) -> None:
        """If the line is closed, let go of it, and have a thread open another. Wait for nothing."""
        self._look_at = time.monotonic() + LOOK
        if not self._debts.acquire(blocking=False):  # whoever has it sees to the line
            return
        try:
            if self._owed or self._opener or (self._line and self._line.is_open):
                return
            _close(self._standby)
            self._standby = self._line = None
            self._opener = _started(self._open_line, "querycache-opener")
        finally:
            self._debts.release()

    def _open_line(self) -> None:
        with suppress(Exception):  # the next look has it tried again
            self._keep_standby_open(lambda: self._line is None)
        with self._debts:
            self._opener = None

    def close(self) -> None:
        """Close the connections. What is owed is delivered all the same; who asks connects anew."""
        client, self._client = self._client, None
        _close(client)
        with self._debts:
            if not self._owed:
                _close(self._standby)
                self._standby = self._line = None

    def _stand_by(self) -> tuple[Client, Line]:
        time_out = self._settings.timeout_ms / 1000
        client = own_client(self.given, time_out, self.names)
        return client, Line(open_connection(client, self.names[0]), time_out)

    def owe(self, qualified: tuple[str, ...], writer: str = "") -> None:
        """Have an invalidation sent: now, if a connection is open, or as soon as Redis takes it.

        When this returns, an attempt that has begun since has ended; or the time is up, and its
        command waits in the socket of a server that is frozen. If neither, that is an error. It
        takes `timeout_ms`, or three times that where the socket is full.

        Args:
            qualified: tags, with their namespace.
            writer: who has ended, if it was marked.
        """
        with self._debts:
            self._owed.append((qualified, writer))
            self._send_what_is_owed()
            first_with_it = self._begun + 1
            if self._deliverer is None:
                self._deliverer = _started(self._deliver, "querycache-deliverer")
            self._debts.notify_all()  # ends the pause between two attempts
            is_safe = (
                self._debts.wait_for(
                    lambda: self._ended >= first_with_it, self._settings.timeout_ms / 1000
                )
                or self._send_what_is_owed()
            )
        if not is_safe:
            self._on_error(NotSent("an invalidation waits for a connection: others may read old"))

    def _send_what_is_owed(self) -> bool:
        """Put it into the line's socket; return whether all is covered. The lock is held.

        What finds the socket full is covered by what fills it, as the server has yet to read that.
        """
        while self._sent < len(self._owed):
            if self._line is None:
                return False
            if self._line.is_full:
                return True
            qualified, writer = self._owed[self._sent]
            tags = qualified if writer else ()  # that of everything will do: but a marker is by tag
            if not self._line.send(*tokens.invalidation(self._everything, *tags, writer=writer)):
                return False
            self._sent += 1
        return True

    def _deliver(self) -> None:
        while True:
            with self._debts:
                owed = len(self._owed)
                if not owed:
                    self._deliverer = None
                    return
                self._begun += 1
            delivered = self._try_to_deliver(owed)
            if delivered:
                self._breaker.succeeded()
                self._on_delivered()
            with self._debts:
                del self._owed[:delivered]
                self._sent -= delivered
                self._ended = self._begun
                self._debts.notify_all()
                if not delivered and len(self._owed) == owed:
                    self._debts.wait(min(0.1, self._settings.pause_ms / 1000))

    def _try_to_deliver(self, owed: int) -> int:
        """Return how many of the first that are owed Redis has taken."""
        line = self._line
        if line is not None:
            with suppress(Exception):  # such as a server that is gone, or is the master no more
                return self._take_answers(line, owed)
        self._use(None, None)
        try:
            standby, line = self._stand_by()
            self._use(standby, line)
            return self._take_answers(line, owed)
        except Exception as error:
            self._use(None, None)
            self._on_error(error)
            return 0

    def _use(self, standby: Client, line: Line | None) -> None:
        with self._debts:
            self._standby, self._line, self._sent = standby, line, 0

    def _take_answers(self, line: Line, owed: int) -> int:
        with self._debts:
            self._send_what_is_owed()
            sent = min(self._sent, owed)
        if not sent:
            raise redis.ConnectionError("the connection has ended")
        for qualified, writer in self._owed[:sent]:
            tokens.check(line.read(PATIENCE), 1 + len(qualified if writer else ()))
        return sent


def _started(target: Callable[[], object], name: str) -> threading.Thread | None:
    """Return a thread that runs this; None if none can be started: the next who wants it tries."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def _close(client: Client) -> None:
    if client is not None:
        with suppress(Exception):  # such as of a thread that has just taken a connection of it
            client.close()


def _of_each_node(about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what INFO says of one server, or of each node of a cluster."""
    nodes = [each for each in about.values() if isinstance(each, dict)]
    return nodes or [about]


def checked_client(client: Client, settings: Settings) -> Client:
    """Return the client, if its keys will be where they must be.

    Raises:
        SettingsError: it is a cluster's, and the namespace would scatter an entry and its tokens.
    """
    if isinstance(client, redis.RedisCluster):
        check_hash_tag(settings.namespace)
    return client


def check_hash_tag(namespace: str) -> None:
    """See that a namespace keeps an entry and its tokens together in a cluster.

    Raises:
        SettingsError: it has no hash tag.
    """
    if not HASH_TAG.search(namespace):
        raise SettingsError(
            "In a Redis Cluster an entry and its tags must be in one slot: give the namespace a "
            f"hash tag, such as {{{re.sub('[{}]', '', namespace) or 'shop'}}}."
        )


def client_of(url: str | None) -> redis.Redis:
    """Return a client for a URL.

    Raises:
        SettingsError: there is none, or it is no URL of a Redis.
    """
    if not url:
        raise SettingsError(
            "QUERY_CACHE_URL is missing: such as redis://localhost:6379/0 or unix:///run/redis.sock."
        )
    try:
        return redis.Redis.from_url(url)
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(f"QUERY_CACHE_URL is no URL of a Redis: {error}") from error
