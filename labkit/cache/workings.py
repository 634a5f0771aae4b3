"""What a cache works with: its server and the names of its tags; and how it says what happens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import Any

import orjson

from labkit.cache import reads, signals
from labkit.cache.loading import SingleFlight
from labkit.cache.questions import Question
from labkit.cache.server import Server, Unavailable
from labkit.cache.settings import Settings
from labkit.cache.signals import say
from labkit.cache.statistics import Statistics

MOST_TOLD = 1_000  # messages that are said once, and combinations of tags that are kept
NOTE_EVERY = 1.0  # seconds between two notes of the statistics, which travel with a miss
log = logging.getLogger("labkit.cache")


class Workings:
    """What the sides of a cache share: how it answers, and how it invalidates.

    Attributes:
        stats: what has been counted in this process.
    """

    stats: Statistics
    _settings: Settings
    _server: Server | None
    _session: Any
    _unused: Any  # a session that stands for those that are not made yet
    _context: Callable[[], Any] | None
    _flights: SingleFlight
    _qualified: dict[tuple[str, ...], tuple[str, ...]]
    _told: set[str]
    _process: str
    _noted_at: float

    def _opened(self) -> Server:
        if self._server is None:
            raise RuntimeError(
                "The cache has no Redis yet: call cache.init_app(app, db), or QueryCache(client)."
            )
        return self._server

    def _qualify(self, tags: Collection[str]) -> tuple[str, ...]:
        """Return the tags as their tokens are called: each with the namespace, in small letters.

        Users and users may be one table: in SQLite they are, and in PostgreSQL without quotes.
        """
        names = tuple(tags)
        qualified = self._qualified.get(names)
        if qualified is None:
            if len(self._qualified) >= MOST_TOLD:
                self._qualified.clear()
            folded = dict.fromkeys(str(tag).lower() for tag in names)
            qualified = tuple([f"{self._settings.namespace}:{tag}" for tag in folded])
            self._qualified[names] = qualified
        return qualified

    def _quietly(self, command: Callable[..., Any], *args: Any) -> bool:
        """Send what is not needed but good; return whether Redis took it."""
        try:
            self._opened().ask_unless_spared(command, *args)
        except Unavailable:
            return False
        return True

    # What is said.

    def _bypass(self, question: Question, reason: str, load: Callable[[], Any]) -> Any:
        self.stats.count("bypasses", reason)
        say(signals.bypass, self, name=question.name, reason=reason)
        reads.depends_on(question.tags)  # the caller's entry may be stored all the same
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
