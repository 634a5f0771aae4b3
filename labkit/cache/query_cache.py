"""The cache that the course arrives at: one command a hit, and no answer that it knows to be stale.

Its parts are the lessons': the key of a call (04) and of a statement (10), tokens in values and the
marker of a writer (05, 09), single-flight and the lease (05), a TTL with jitter (06), invalidation
after the root commit (07, 10), a codec that runs no code (03).

    cache = QueryCache()
    cache.init_app(app, db)

    @cache.query(ttl=300, tags=["users", "orders"])
    def report(region): ...

    cache.rows(db.select(User.id, User.name), ttl=60)

Where anything is in doubt the answer comes from the database and is not stored; `stats` and the
signals say why. While Redis does not answer, the first read waits `timeout_ms`, and the next ones
do not. What is written meanwhile is owed to Redis, and delivered before this process uses an entry
again. No entry from before an outage counts after it: `labkit.cache.server` says how that is
assured, docs/query_cache.md which invalidations can be lost all the same.
"""

from __future__ import annotations

import functools
import inspect
import os
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Engine

from labkit.cache import reads, tokens
from labkit.cache.answers import Answers
from labkit.cache.commits import watch_writes
from labkit.cache.invalidation import Invalidation, Writes
from labkit.cache.loading import SingleFlight
from labkit.cache.questions import (
    Function,
    Question,
    key_and_tables,
    refuse_entities,
    schemas_of,
)
from labkit.cache.server import Server, checked_client, client_of
from labkit.cache.settings import Settings, SettingsError, settings_from, settings_of
from labkit.cache.statistics import Statistics

P = ParamSpec("P")
T = TypeVar("T")


class QueryCache(Answers, Invalidation):
    """A cache of answers of database queries, in Redis.

    With Flask, `QueryCache()` and `init_app(app, db)`; without it, `QueryCache(client, ...)`.
    `labkit.cache.settings.Settings` lists the settings. It may be used in any number of threads,
    and across a fork. One cache serves one application: the last `init_app` counts.

    Args:
        client: a `redis.Redis` (over TCP, TLS or a unix socket, or of a Sentinel) or a
            `redis.RedisCluster`. It is copied, with time-outs of the cache's own.
        session: a scoped_session or a Session, for `rows` and for writes that are pending.
        context: called without arguments; what it returns is part of every key, such as a tenant.
        settings: as `Settings` has them.

    Attributes:
        stats: what has been counted in this process.

    Raises:
        SettingsError: a setting is unknown or wrong.
    """

    def __init__(
        self,
        client: Any = None,
        *,
        session: Any = None,
        context: Callable[[], Any] | None = None,
        **settings: Any,
    ) -> None:
        self.stats = Statistics()
        self._client = client
        self._server = None
        self._stop_watching: Callable[[], None] = lambda: None
        if client is not None:
            self._open(client, settings_from(**settings), session, context)
        elif settings or session or context:
            raise SettingsError("QueryCache takes settings with a client; else init_app has them.")

    def init_app(
        self, app: Any, db: Any, context: Callable[[], Any] | None = None, client: Any = None
    ) -> None:
        """Serve a Flask application: invalidate by table after each commit of `db`.

        Args:
            app: its configuration has the settings: QUERY_CACHE_URL, and those of `Settings`.
            db: the Flask-SQLAlchemy extension.
            context: as of the class.
            client: in place of QUERY_CACHE_URL.

        Raises:
            SettingsError: a setting is missing, unknown or wrong.
        """
        url, settings = settings_of(app.config, app.name)
        self._open(client or self._client or client_of(url), settings, db.session, context)
        app.extensions["querycache"] = self

    def _open(
        self, client: Any, settings: Settings, session: Any, context: Callable[[], Any] | None
    ) -> None:
        self.close()
        self._settings, self._session, self._context = settings, session, context
        self._unused = reads.unused_session(session)
        self._qualified, self._told = {}, set()
        self._server = Server(
            checked_client(client, settings), settings, self._note_error, self._meet, self._empty_l1
        )
        self._begin()
        self._begin_l1(self._server)
        self._stop_watching = watch_writes(Engine, Writes(self))
        _all.add(self)
        self._server.greet()
        if self._tracking is not None:
            self._tracking.start(wait=2 * settings.timeout_ms / 1000)

    def _begin(self) -> None:
        self._flights = SingleFlight()
        self._process = tokens.new_token().decode()
        self._noted_at = 0.0

    def close(self) -> None:
        """Stop watching writes, and be without L1. Entries stay until their TTL ends them."""
        self._stop_watching()
        self._close_l1()

    # What an application calls.

    def query(
        self,
        ttl: float,
        tags: Collection[str] = (),
        *,
        by_table: bool = True,
        ignore: Collection[str] = (),
        version: int = 1,
        name: str = "",
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Return a decorator that caches a function's answers.

        On a miss, what the session holds already is expired before the function runs: it may be
        older than the entry would be, and could be read without a statement. It is read anew at its
        next use.

        Args:
            ttl: the longest time to live, in seconds.
            tags: what invalidates the entries, beside the tables that the function reads. Name
                those tables too: else the first load in each process only finds them out.
            by_table: False for an entry that no write to its tables invalidates, but its tags and
                its TTL alone.
            ignore: names of parameters that do not decide the answer, such as "session" or "self".
            version: of the function. A new one leaves the old entries to their TTL.
            name: stands for module and qualified name, for functions that have none of their own.

        Raises:
            TypeError: the TTL is no number; the function has no key, or is a coroutine.
            ValueError: the TTL is not positive, or over a year.
        """

        def decorate(function: Callable[P, T]) -> Callable[P, T]:
            question = Function(
                function, ttl, tags, by_table, ignore=ignore, version=version, name=name
            )

            @functools.wraps(function)
            def cached(*args: P.args, **kwargs: P.kwargs) -> T:
                answer: T = self._answer(
                    question,
                    lambda context: question.key(self._settings.namespace, args, kwargs, context),
                    lambda: function(*args, **kwargs),
                )
                return answer

            cached.question = question  # type: ignore[attr-defined]
            return cached

        return decorate

    def rows(
        self,
        statement: Any,
        ttl: float,
        tags: Collection[str] = (),
        *,
        params: Mapping[str, Any] | None = None,
        by_table: bool = True,
        pure: Collection[str] = (),
        trusted: Mapping[str, Collection[str]] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the rows of a SELECT, each as a dictionary of plain values.

        Args:
            statement: of columns. What has no key is run without the cache; `stats` says why.
            ttl: the longest time to live, in seconds.
            tags: what invalidates the entry, beside the tables that the statement reads.
            params: what is passed to `execute` beside the statement.
            by_table: as of `query`.
            pure: as of `statement_key`, and so is the next.
            trusted: texts in the statement, and the tables that each reads.

        Raises:
            NotCacheable: the statement selects whole entities.
            TypeError: the TTL is no number.
            ValueError: the TTL is not positive, or over a year.
        """
        refuse_entities(statement)
        self._opened()
        session = self._session
        if session is None:
            raise RuntimeError("rows() needs a session: QueryCache(client, session=db.session).")
        question = Question("rows", ttl, tags, by_table)

        def key_of(context: Any) -> str:
            engine = session.get_bind(clause=statement)
            key, tables = key_and_tables(
                statement, engine, params, context, self._settings.namespace,
                schemas=schemas_of(self._present_session(), engine), pure=pure, trusted=trusted,
            )  # fmt: skip
            question.learn(tables)
            return key

        def load() -> list[dict[str, Any]]:
            return [dict(row) for row in session.execute(statement, params or {}).mappings()]

        rows: list[dict[str, Any]] = self._answer(question, key_of, load, bool(trusted))
        return rows

    def invalidate(self, *tags: str) -> None:
        """Make every entry of these tags count no more: one command, however many there are.

        If Redis does not take it, it is owed: see `failed_invalidation`.

        Args:
            tags: such as names of tables; `EVERYTHING`, "*", for all entries.

        Raises:
            TypeError: a tag is no text.
            InvalidationFailed: Redis did not take it, and the setting is "raise".
        """
        self._invalidate(tags)

    def forget(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Remove the entry of one call, and let no load that is under way bring it back.

        Args:
            function: a function that this cache caches.
            args: of the call.
            kwargs: of the call. The context is the present one.

        Raises:
            TypeError: the function is not cached, or an argument has no key.
            InvalidationFailed: Redis did not take it, and the setting is "raise".
        """
        if inspect.ismethod(function):
            method: Any = function
            function, args = method.__func__, (method.__self__, *args)
        question = getattr(function, "question", None)
        if not isinstance(question, Function):
            raise TypeError(f"{function!r} is not cached: decorate it with @cache.query(ttl=...)")
        context = self._context() if self._context else None
        self._opened()
        key = question.key(self._settings.namespace, args, kwargs, context)
        with self._telling((key,)):
            self._send(tokens.forget, key, self._settings.lease_ms)

    @property
    def namespace(self) -> str:
        """What every key begins with."""
        self._opened()
        return self._settings.namespace

    def ask(self, command: Callable[..., Any], *args: Any) -> Any:
        """Return `command(client, ...)`, with the cache's own client of Redis.

        Raises:
            Unavailable: Redis has not answered, or not in time.
        """
        return self._opened().ask(command, *args)


_all: weakref.WeakSet[QueryCache] = weakref.WeakSet()


def close_all() -> None:
    """Close every cache of this process, as a forked child may that has nothing to do with them."""
    for cache in list(_all):
        cache.close()


def _after_fork() -> None:
    """Begin anew in a child: it has the parent's counts, and waits for threads that it has not."""
    for cache in list(_all):
        cache.stats.reset()
        cache._begin()
        cache._opened().begin()
        cache._leave_l1(cache._opened())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
