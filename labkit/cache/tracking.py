"""Redis' own word of what changes: one connection that hears it, and a thread that reads it.

The connection speaks RESP3 and asks for the names of all keys of the namespace that change, are
evicted or expire, whoever changes them: `CLIENT TRACKING ON BCAST PREFIX ...`. Redis puts them into
it before it answers who has changed them. On one connection everything arrives in order. So the
reply to a command that was sent at some moment proves that all has arrived which Redis had said
until then: the heartbeat. (https://redis.io/docs/latest/develop/reference/client-side-caching/)

The heartbeat reads the name of the server that the entries are from (`labkit.cache.client`). That
proves more than a PING: a node of a cluster that has the keys no longer says so, and a master that
has become a replica has the name of its master there.

Once the connection is lost, nothing is known of what changes. L1 is emptied, and the connection
made anew. A heartbeat that is late empties nothing: what comes after it is still in order.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import redis
from redis.exceptions import NoPermissionError, ResponseError

from labkit.cache.client import RUN_ID, Client, own_client
from labkit.cache.l1 import L1
from labkit.cache.settings import Settings

BEATS = 3  # heartbeats while one proof counts
REFUSED_PAUSE = 60.0  # seconds until a server is asked again that has no tracking, or not for us


class Refused(Exception):
    """The server does not know RESP3 or CLIENT TRACKING, or does not allow it."""


class AnotherServer(redis.RedisError):
    """The keys are on another server than the one that this connection leads to."""


class Stream:
    """One connection that hears what changes, and tells an L1.

    Args:
        client: of `own_client`, with protocol 3.
        names: the keys of the server's name and of the token that every entry carries.
        prefixes: of the keys that are watched.
        l1: what is told.

    Attributes:
        run_id: which server it leads to.

    Raises:
        Refused: the server does not do this.
        RedisError: it cannot be reached.
    """

    def __init__(
        self, client: Client, names: tuple[str, str], prefixes: Iterable[str], l1: L1
    ) -> None:
        self._name, self._l1 = names[0], l1
        self._connection: Any = None
        try:
            self._connection = _pool_of(client, self._name).make_connection()
            self._connection.connect()
            self._connection._parser.set_invalidation_push_handler(lambda message: message)
            self.run_id: str = getattr(self._connection, RUN_ID, "")
            watched = [word for prefix in prefixes for word in ("PREFIX", prefix)]
            self._send("CLIENT", "TRACKING", "ON", "BCAST", *watched)
            answer = self._connection.read_response()
        except (ResponseError, redis.ConnectionError) as error:
            self.close()
            if type(error) in (ResponseError, NoPermissionError) or "RESP" in str(error):
                raise Refused(str(error)) from error
            raise
        except BaseException:
            self.close()
            raise
        if answer != b"OK":
            self.close()
            raise Refused(f"no answer to CLIENT TRACKING: {answer!r:.60}")

    def _send(self, *command: str) -> None:
        self._connection.send_command(*command, check_health=False)

    def beat(self) -> float:
        """Tell L1 all that Redis has said until now; return when that was, in seconds.

        Raises:
            AnotherServer: the keys are elsewhere.
            RedisError: the connection is lost, or nothing arrives within the time-out.
        """
        asked_at = time.monotonic()
        self._send("GET", self._name)
        while True:
            answer = self._connection.read_response(push_request=True)
            if not self._is_message(answer):
                break
        if answer is not None and answer != self.run_id.encode():
            raise AnotherServer(f"the entries are of another server: {answer!r:.60}")
        return asked_at

    def listen(self, end: float) -> None:
        """Tell L1 what Redis says, until that time comes, by `time.monotonic`.

        Raises:
            RedisError: the connection is lost.
        """
        while (left := end - time.monotonic()) > 0:
            if self._connection.can_read(left):
                self._is_message(self._connection.read_response(push_request=True))

    def _is_message(self, answer: Any) -> bool:
        if not isinstance(answer, list):
            return False
        if answer[:1] == [b"invalidate"]:
            if answer[1] is None:  # FLUSHALL, FLUSHDB
                self._l1.clear()
            else:
                self._l1.forget([each.decode("utf-8", "surrogateescape") for each in answer[1]])
        return True

    def interrupt(self) -> None:
        """End the connection, whoever reads from it."""
        sock = getattr(self._connection, "_sock", None)
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """Close a forked child's copy. The parent goes on using its own."""
        sock = getattr(self._connection, "_sock", None)
        if sock is not None:
            with suppress(OSError):
                os.close(sock.detach())

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.disconnect()


def _pool_of(client: Client, key: str) -> Any:
    node: Any = client
    if isinstance(client, redis.RedisCluster):
        node.get(key)  # by which it finds out who has it
        node = node.get_redis_connection(node.get_node_from_key(key))
    return node.connection_pool


class Tracking:
    """The thread that keeps an L1 up to date.

    Args:
        given: the application's client, which is copied.
        settings: the cache's.
        names: as of `Stream`.
        l1: what is kept up to date.
        on_lost: called with a reason each time L1 had to be emptied, or cannot be used.
    """

    def __init__(
        self,
        given: Client,
        settings: Settings,
        names: tuple[str, str],
        l1: L1,
        on_lost: Callable[[Exception], object],
    ) -> None:
        self._given, self._settings, self._names, self._l1 = given, settings, names, l1
        self._on_lost = on_lost
        namespace = settings.namespace
        # Not the leases and the statistics, which are no answers.
        self._prefixes = (f"{namespace}:v", f"token:{namespace}:")
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._tried = threading.Event()
        self._stream: Stream | None = None

    def start(self, wait: float = 0) -> None:
        """Begin, unless it has begun; wait for so many seconds for the first try to end."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="querycache-tracking", daemon=True
                )
                self._thread.start()
        self._tried.wait(wait)

    @property
    def is_started(self) -> bool:
        """Whether the thread was started, in this process."""
        return self._thread is not None

    def is_of(self, run_id: str) -> bool:
        """Whether it hears this server; a cluster's connections do not say which theirs is."""
        stream = self._stream
        return stream is not None and run_id in ("", stream.run_id)

    def meet(self, run_id: str) -> None:
        """Hear that a new connection for data leads to this server: to another one than ours?"""
        stream = self._stream
        if stream is not None and run_id != stream.run_id:
            self._l1.distrust()
            stream.interrupt()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._l1.distrust()
        if self._stream is not None:
            self._stream.interrupt()

    def leave(self) -> None:
        """Let go of what a forked child has of its parent's."""
        if self._stream is not None:
            self._stream.leave()

    def _run(self) -> None:
        while not self._closed.is_set():
            pause = 0.0
            try:
                self._hear()
            except Refused as error:
                pause = REFUSED_PAUSE
                self._on_lost(error)
            except Exception as error:  # whatever it is, Redis can be asked instead of L1
                was_on = self._stream is not None
                pause = 0.0 if was_on else self._settings.pause_ms / 1000
                if was_on and not self._closed.is_set():
                    self._on_lost(error)
            finally:
                self._stop_hearing()
            self._tried.set()
            self._closed.wait(pause)

    def _hear(self) -> None:
        time_out = self._settings.timeout_ms / 1000
        client = own_client(self._given, time_out, self._names, protocol=3)
        try:
            stream = Stream(client, self._names, self._prefixes, self._l1)
        finally:
            client.close()
        counts = self._settings.l1_stale_ms / 1000
        try:
            self._l1.clear()  # what was asked for before is not watched
            heard_at = stream.beat()
            self._stream = stream
            while not self._closed.is_set():
                self._l1.trust_until(heard_at + counts)
                self._tried.set()
                stream.listen(heard_at + counts / BEATS)
                heard_at = stream.beat()
        finally:
            self._l1.distrust()  # before anybody is told, which may take a while
            stream.close()

    def _stop_hearing(self) -> None:
        self._stream = None
        self._l1.distrust()
