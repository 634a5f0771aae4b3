"""How a question is answered: a look, and where that finds nothing, one load for all who ask.

In doubt the answer comes from the database and is not stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import scoped_session

from labkit.cache import reads, signals, tokens
from labkit.cache.codec import CorruptData, NotStorable, dumps, loads
from labkit.cache.loading import wait_for_lease
from labkit.cache.near import Near
from labkit.cache.questions import Function, Question, schemas_of
from labkit.cache.server import Unavailable
from labkit.cache.signals import say
from labkit.cache.ttl import jittered_ms


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


class Answers(Near):
    """The side of a cache that readers see."""

    def _answer(
        self,
        question: Question,
        key_of: Callable[[Any], str],
        load: Callable[[], Any],
        trusted: bool = False,
    ) -> Any:
        server = self._server or self._opened()
        why = self._doubt(question) or server.why_not()
        if why:
            return self._bypass(question, why, load)
        try:
            key = key_of(self._context() if self._context else None)
        except Exception as error:  # of an argument, of the statement, or of the context
            self._tell_once(f"{question.name} is not cached: {error}")
            return self._bypass(question, getattr(error, "reason", "no key"), load)
        l1, keep = self._l1, None
        try:
            if l1 is None:
                found = server.ask(tokens.look, key, *self._qualify(question.tags))
            else:
                value = self._near(l1, server, question, key)
                if value is not None:
                    answer = loads(value)
                    self._said_l1_hit(question, key)
                    return answer
                found, keep = self._look(l1, server, question, key)
            view = found.view
            if view is not None:
                answer = loads(view)
                if keep is not None:
                    keep()
                self.stats.count_hit()
                if signals.hit.receivers:
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

    def _said_l1_hit(self, question: Question, key: str) -> None:
        self.stats.count_l1_hit()
        for signal in (signals.hit, signals.l1_hit):
            if signal.receivers:
                say(signal, self, name=question.name, key=key)

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
        session = self._present_session()
        if session is not None and isinstance(question, Function):
            # What it holds may be older than the tokens, and be read without a statement. Nothing
            # is lost: with writes that are pending we would not be here.
            session.expire_all()
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
            return self._session.registry()
        except RuntimeError:  # outside of an application's context
            return None

    def _session_so_far(self) -> Any:
        """Return the present session; where there is none yet, one like it that nobody uses.

        To make a session for a request that has none costs as much as a hit.
        """
        if self._unused is not None:
            try:
                if not self._session.registry.has():
                    return self._unused
            except RuntimeError:  # outside of an application's context
                return None
        return self._present_session()

    def _doubt(self, question: Question) -> str:
        """Return why no entry may be used now; empty if one may be."""
        session = self._session_so_far()
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
        if self._hides_schemas(question) and schemas_of(session, getattr(session, "bind", None)):
            return self._schema_map_without_context()
        return ""

    def _hides_schemas(self, question: Question) -> bool:
        """Whether no key of a question shows what a `schema_translate_map` makes of its tables."""
        return self._context is None and isinstance(question, Function)

    def _schema_map_without_context(self) -> str:
        self._tell_once(
            "a schema_translate_map says which tables are read, and the key of a call does not "
            "show it: no function is cached under it. Give init_app context=, which returns "
            "the tenant; or context=dict if the function goes by no such map"
        )
        return "a schema map without a context"

    def _why_not_kept(self, question: Question, seen: reads.Load, trusted: bool) -> str:
        """Return why what was loaded is not stored; empty if it may be."""
        if seen.unfit:
            return seen.unfit
        if seen.by_schema_map and self._hides_schemas(question):
            return self._schema_map_without_context()
        if seen.by_text and not (trusted or question.given):
            self._tell_once(f"{question.name} reads by text: name its tables with tags=[...]")
            return "text without tags"
        if new := question.learn(seen.tables):
            if question.given:
                self._tell_once(f"{question.name} reads {', '.join(new)}: name them in its tags")
            return "tables that were not known"
        return ""
