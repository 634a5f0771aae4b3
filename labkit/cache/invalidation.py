"""How a write is told to Redis: before its commit, after it, and again until Redis has taken it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from labkit.cache import signals, tokens
from labkit.cache.near import Near
from labkit.cache.questions import checked_tags
from labkit.cache.server import Unavailable
from labkit.cache.settings import RAISE
from labkit.cache.signals import say


class InvalidationFailed(RuntimeError):
    """Redis did not take an invalidation, and `failed_invalidation` is "raise"."""


class Invalidation(Near):
    """The side of a cache that writers see."""

    def _mark(self, tables: Collection[str]) -> str:
        """Say before a commit that it is coming; return the name of who commits."""
        if not self._settings.mark_writes:
            return ""
        writer, marked = tokens.new_token().decode(), self._qualify(tables)
        try:
            with self._telling(tokens.token_keys(*marked)):
                self._opened().ask_unless_spared(
                    tokens.mark, writer, *marked, deadline_ms=self._settings.mark_ms
                )
        except Unavailable as error:
            if self._settings.failed_invalidation == RAISE:
                raise InvalidationFailed(f"Nothing was committed. {error}") from error
        return writer

    def _invalidate(self, tags: Collection[str], writer: str = "") -> None:
        marked = self._qualify(sorted(checked_tags(tags)))
        with self._telling(tokens.token_keys(*marked)):
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


class Writes:
    """What `watch_writes` tells a cache: before each commit, and after it."""

    def __init__(self, cache: Invalidation) -> None:
        self._cache = cache

    def __call__(self, *tables: str) -> None:
        """Say what was committed without a word before."""
        self._cache._invalidate(tables)

    def before_commit(self, *tables: str) -> Callable[..., None]:
        """Mark what will be committed; return what to call after the commit."""
        writer = self._cache._mark(tables)
        return lambda *names: self._cache._invalidate(names, writer)
