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
assured, the README which invalidations can be lost all the same.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import time
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec, TypeVar

import orjson
from sqlalchemy import Engine
from sqlalchemy.orm import scoped_session

from labkit.cache import reads, signals, tokens
from labkit.cache.codec import CorruptData, NotStorable, dumps, loads
from labkit.cache.commits import watch_writes
from labkit.cache.loading import SingleFlight, wait_for_lease
from labkit.cache.questions import (
    Function,
    Question,
    checked_tags,
    key_and_tables,
    refuse_entities,
)
from labkit.cache.server import Server, Unavailable, checked_client, client_of
from labkit.cache.settings import RAISE, Settings, SettingsError, settings_from, settings_of
from labkit.cache.signals import say
from labkit.cache.statistics import Statistics
from labkit.cache.ttl import jittered_ms

P = ParamSpec("P")
T = TypeVar("T")
MOST_TOLD = 1_000  # messages that are said once, and combinations of tags that are kept
NOTE_EVERY = 1.0  # seconds between two notes of the statistics, which travel with a miss
log = logging.getLogger("labkit.cache")


class InvalidationFailed(RuntimeError):
    """Redis did not take an invalidation, and `failed_invalidation` is "raise"."""


class _Outcome:
    """What a load has come to: for its own caller an answer, for the others its bytes."""

    def __init__(
        self, value: Any = None, data: bytes | None = None, error: BaseException | None = None
    ) -> None:
        self._value, self._error = value, error
        self.data = data

    def answer(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


class _Writes:
    """What `watch_writes` tells a cache: before each commit, and after it."""

    def __init__(self, cache: QueryCache) -> None:
        self._cache = cache

    def __call__(self, *tables: str) -> None:
        self._cache._invalidate(tables)

    def before_commit(self, *tables: str) -> Callable[..., None]:
        writer = self._cache._mark(tables)
        return lambda *names: self._cache._invalidate(names, writer)


class QueryCache:
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
        self._server: Server | None = None
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
        self._stop_watching()
        self._settings, self._session, self._context = settings, session, context
        self._qualified: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._told: set[str] = set()
        self._server = Server(checked_client(client, settings), settings, self._note_error)
        self._begin()
        self._stop_watching = watch_writes(Engine, _Writes(self))
        _all.add(self)
        self._server.greet()

    def _begin(self) -> None:
        self._flights = SingleFlight()
        self._process = tokens.new_token().decode()
        self._noted_at = 0.0

    def close(self) -> None:
        """Stop watching writes. Entries stay until their TTL ends them."""
        self._stop_watching()

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
                pure=pure, trusted=trusted,
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

    # A question, and its answer.

    def _answer(
        self,
        question: Question,
        key_of: Callable[[Any], str],
        load: Callable[[], Any],
        trusted: bool = False,
    ) -> Any:
        server = self._server or self._opened()
        why = self._doubt() or server.why_not()
        if why:
            return self._bypass(question, why, load)
        try:
            key = key_of(self._context() if self._context else None)
        except Exception as error:  # of an argument, of the statement, or of the context
            self._tell_once(f"{question.name} is not cached: {error}")
            return self._bypass(question, getattr(error, "reason", "no key"), load)
        try:
            found = server.ask(tokens.look, key, *self._qualify(question.tags))
            if found.value is not None:
                answer = loads(found.value)
                self.stats.count("hits")
                say(signals.hit, self, name=question.name, key=key)
                reads.depends_on(question.tags)
                return answer
        except Unavailable:
            return self._bypass(question, "Redis does not answer", load)
        except CorruptData as error:
            self._note_error(error)
            if not self._quietly(tokens.drop, key):
                return self._bypass(question, "Redis does not answer", load)
        return self._miss(question, key, found, load, trusted)

    def _miss(
        self,
        question: Question,
        key: str,
        found: tokens.Lookup,
        load: Callable[[], Any],
        trusted: bool,
    ) -> Any:
        session = self._present_session()
        if session is not None and reads.reads_an_old_snapshot(session):
            return self._bypass(question, "an older transaction", load)
        self.stats.count("misses")
        say(signals.miss, self, name=question.name, key=key)
        reads.depends_on(question.tags)
        led: list[_Outcome] = []

        def lead() -> _Outcome:
            led.append(self._load(question, key, load, trusted))
            return led[0]

        if found.busy:  # another load may have begun before a write that has ended since
            return lead().answer()
        # Whoever has seen the same tokens, and the same holder of the lease, may have the same
        # answer: between their looks nothing was invalidated and nothing forgotten.
        flight = f"{key} {found.tokens} {found.holder!r}"
        try:
            outcome = self._flights.do(flight, lead, timeout=self._settings.lease_ms / 1000)
        except TimeoutError:
            return load()
        if led:
            return outcome.answer()
        self._waited(question, key)
        return load() if outcome.data is None else loads(outcome.data)

    def _load(
        self, question: Question, key: str, load: Callable[[], Any], trusted: bool
    ) -> _Outcome:
        """Load an answer for all who wait, and store it if it may be kept."""
        tags = self._qualify(question.tags)
        found = self._take(question, key, tags)
        if found.value is not None:
            try:
                return _Outcome(loads(found.value), found.value)
            except CorruptData as error:  # it has come since the look
                self._note_error(error)
                self._quietly(tokens.drop, key)
                found = found._replace(why="an entry that cannot be read")
        why, data = "", None
        with reads.observed() as seen:
            try:
                value = load()
                data = dumps(value)
            except NotStorable as error:
                why = "not storable"
                self._tell_once(f"{question.name} is not cached: {error}")
            except BaseException as error:
                self._release(key, found)
                return _Outcome(error=error)
        why = why or self._why_not_kept(question, seen, trusted)
        if why or data is None or not found.ours:
            self._release(key, found)
            self._refused(question, key, why or found.why)
            return _Outcome(value, None if why else data)
        self._fill(question, key, data, found, tags)
        return _Outcome(value, data)

    def _take(self, question: Question, key: str, tags: tuple[str, ...]) -> tokens.Lookup:
        try:
            return self._opened().ask_unless_spared(
                wait_for_lease, key, self._settings.lease_ms, *tags,
                note=self._note(), on_wait=lambda: self._waited(question, key),
            )  # fmt: skip
        except Unavailable:
            return tokens.Lookup(None, (), why="Redis does not answer")

    def _release(self, key: str, found: tokens.Lookup) -> None:
        if found.ours:
            self._quietly(tokens.release, key, found)

    def _fill(
        self, question: Question, key: str, data: bytes, found: tokens.Lookup, tags: tuple[str, ...]
    ) -> None:
        ttl = jittered_ms(question.ttl, self._settings.jitter) / 1000
        try:
            fill = self._opened().ask_unless_spared
            if not fill(tokens.fill, key, data, ttl, found, *tags):
                self._refused(question, key, "written to meanwhile")
        except Unavailable:
            self._refused(question, key, "Redis does not answer")

    # Doubts.

    def _present_session(self) -> Any:
        """Return the session of this thread or request; None where there can be none."""
        if not isinstance(self._session, scoped_session):
            return self._session
        try:
            return self._session()
        except RuntimeError:  # outside of an application's context
            return None

    def _doubt(self) -> str:
        """Return why no entry may be used now; empty if one may be."""
        session = self._present_session()
        if session is None:
            return ""
        if reads.has_pending_writes(session):
            return "writes are pending"
        if self._context is None and session.dispatch.do_orm_execute:
            self._tell_once(
                "a listener of do_orm_execute may change statements, and no key would show it: "
                "nothing is cached. Give init_app context=, which returns what the listener goes "
                "by, such as the tenant; or context=dict if it changes no rows"
            )
            return "a listener without a context"
        return ""

    def _why_not_kept(self, question: Question, seen: reads.Load, trusted: bool) -> str:
        """Return why what was loaded is not stored; empty if it may be."""
        if seen.unfit:
            return seen.unfit
        if seen.by_text and not (trusted or question.given):
            self._tell_once(f"{question.name} reads by text: name its tables with tags=[...]")
            return "text without tags"
        if new := question.learn(seen.tables):
            if question.given:
                self._tell_once(f"{question.name} reads {', '.join(new)}: name them in its tags")
            return "tables that were not known"
        return ""

    # Writes.

    def _mark(self, tables: Collection[str]) -> str:
        """Say before a commit that it is coming; return the name of who commits."""
        if not self._settings.mark_writes:
            return ""
        writer, marked = tokens.new_token().decode(), self._qualify(tables)
        try:
            self._opened().ask_unless_spared(
                tokens.mark, writer, *marked, deadline_ms=self._settings.mark_ms
            )
        except Unavailable as error:
            if self._settings.failed_invalidation == RAISE:
                raise InvalidationFailed(f"Nothing was committed. {error}") from error
        return writer

    def _invalidate(self, tags: Collection[str], writer: str = "") -> None:
        marked = self._qualify(sorted(checked_tags(tags)))
        self._send(tokens.invalidate, *marked, marked=marked, writer=writer)

    def _send(
        self,
        command: Callable[..., Any],
        *args: Any,
        marked: tuple[str, ...] = (),
        writer: str = "",
    ) -> None:
        """Send what must not be lost; where Redis does not take it, it is owed."""
        server = self._opened()
        options = {"writer": writer} if writer else {}
        self.stats.count("invalidations")
        try:
            server.ask_unless_spared(command, *args, **options)
        except Unavailable as error:
            self.stats.count("owed")
            server.owe(marked, writer)
            say(signals.error, self, reason=f"an invalidation is owed: {error}")
            if self._settings.failed_invalidation == RAISE:
                raise InvalidationFailed(
                    f"It is owed to Redis, and will be sent. {error}"
                ) from error
        else:
            say(signals.invalidated, self, tags=args)

    # What is said.

    def _bypass(self, question: Question, reason: str, load: Callable[[], Any]) -> Any:
        self.stats.count("bypasses", reason)
        say(signals.bypass, self, name=question.name, reason=reason)
        return load()

    def _refused(self, question: Question, key: str, reason: str) -> None:
        self.stats.count("refused_fills", reason)
        say(signals.fill_refused, self, name=question.name, key=key, reason=reason)

    def _waited(self, question: Question, key: str) -> None:
        self.stats.count("waits")
        say(signals.wait, self, name=question.name, key=key)

    def _note_error(self, error: Exception) -> None:
        self.stats.count("errors", type(error).__name__)
        say(signals.error, self, reason=f"{type(error).__name__}: {error}")
        self._tell_once(f"{type(error).__name__}: {error}", key=type(error).__name__)

    def _tell_once(self, message: str, key: str = "") -> None:
        if (key or message) not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(key or message)
            log.warning("QueryCache: %s (said once)", message)

    def _note(self) -> tuple[str, bytes] | None:
        """Return the statistics and their key, from time to time: they travel with a miss."""
        now = time.monotonic()
        if now < self._noted_at + NOTE_EVERY:
            return None
        self._noted_at = now
        key = f"{self._settings.namespace}:statistics:{self._process}"
        return key, orjson.dumps(self.stats.as_dict())

    # What is used.

    def _opened(self) -> Server:
        if self._server is None:
            raise RuntimeError(
                "The cache has no Redis yet: call cache.init_app(app, db), or QueryCache(client)."
            )
        return self._server

    def _qualify(self, tags: Collection[str]) -> tuple[str, ...]:
        """Return the tags as their tokens are called: each with the namespace."""
        names = tuple(tags)
        if names not in self._qualified:
            if len(self._qualified) >= MOST_TOLD:
                self._qualified.clear()
            self._qualified[names] = tuple([f"{self._settings.namespace}:{tag}" for tag in names])
        return self._qualified[names]

    def _quietly(self, command: Callable[..., Any], *args: Any) -> bool:
        """Send what is not needed but good; return whether Redis took it."""
        try:
            self._opened().ask_unless_spared(command, *args)
        except Unavailable:
            return False
        return True


_all: weakref.WeakSet[QueryCache] = weakref.WeakSet()


def _after_fork() -> None:
    """Begin anew in a child: it has the parent's counts, and waits for threads that it has not."""
    for cache in list(_all):
        cache.stats.reset()
        cache._begin()
        cache._opened().begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
