"""How a cache uses its L1: before Redis is asked, after it has answered, and when it is told."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from labkit.cache import reads, signals, tokens
from labkit.cache.l1 import L1
from labkit.cache.questions import Question
from labkit.cache.server import Server
from labkit.cache.signals import say
from labkit.cache.tracking import Refused, Tracking
from labkit.cache.workings import Workings


class Near(Workings):
    """The side of a cache that knows its L1. Without one, both attributes are None."""

    _l1: L1 | None = None
    _tracking: Tracking | None = None
    _end_tracking: Callable[[], object] | None = None

    def _begin_l1(self, server: Server) -> None:
        """Have an empty L1, if the settings want one."""
        settings = self._settings
        self._l1 = self._tracking = self._end_tracking = None
        if not settings.l1_entries:
            return
        noting = weakref.WeakMethod(self._note_l1_lost)

        def on_lost(error: Exception) -> None:
            if note := noting():  # the thread must not keep a cache that nobody has any more
                note(error)

        self._l1 = L1(settings.l1_entries, settings.l1_bytes)
        self._tracking = Tracking(server.given, settings, server.names, self._l1, on_lost)
        self._end_tracking = weakref.finalize(self, self._tracking.close)

    def _leave_l1(self, server: Server) -> None:
        """Begin anew in a forked child, where no thread runs, and locks may be held for ever."""
        if self._tracking is not None:
            self._tracking.leave()
            self._end_tracking.detach()  # type: ignore[union-attr]
        self._begin_l1(server)

    def _close_l1(self) -> None:
        if self._end_tracking is not None:
            self._end_tracking()

    def _near(self, l1: L1, server: Server, question: Question, key: str) -> bytes | None:
        """Return the value of an entry that L1 has, and that counts.

        Not while a load is under way: what L1 does not know yet, by a moment, would be stored in
        Redis for everybody, with tokens that are younger. And not after an error: whoever asks next
        is to find out whether Redis answers.
        """
        if reads.is_loading() or server.is_silent:
            return None
        return l1.get(key, question.tags)

    def _look(
        self, l1: L1, server: Server, question: Question, key: str
    ) -> tuple[tokens.Lookup, Callable[[], object]]:
        """Ask Redis; return what it has, and what to call to keep that in L1, once it was read."""
        tracking, tags = self._tracking, question.tags
        assert tracking is not None
        qualified = self._qualify(tags)
        if not l1.is_trusted:
            if not tracking.is_started:
                tracking.start()
            return server.ask(tokens.look, key, *qualified), _nothing
        begun = l1.begin()
        found, left, run_id = server.ask(tokens.look_closely, key, *qualified)

        def keep() -> None:
            value = found.value
            if value is not None and tracking.is_of(run_id):
                l1.put(begun, key, value, tags, tokens.token_keys(*qualified), left)

        return found, keep

    def _telling(self, names: Collection[str]) -> AbstractContextManager[Any]:
        """While Redis is told of these keys, and when it was, L1 does not know them."""
        return nullcontext() if self._l1 is None else self._l1.writing(names)

    def _meet(self, run_id: str) -> None:
        if self._tracking is not None:
            self._tracking.meet(run_id)

    def _empty_l1(self) -> None:
        if self._l1 is not None:
            self._l1.clear()

    def _note_l1_lost(self, error: Exception) -> None:
        self.stats.count("l1_lost", type(error).__name__)
        say(signals.l1_lost, self, reason=f"{type(error).__name__}: {error}")
        if isinstance(error, Refused):
            self._tell_once(f"L1 is off, every answer comes from Redis: {error}", key="L1")


def _nothing() -> None:
    pass
