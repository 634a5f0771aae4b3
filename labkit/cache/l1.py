"""A second cache within the process: bounded, and emptied by what Redis says has changed (L1).

It holds the bytes of entries that Redis has served. An answer comes from here only while all of
this holds:

- Redis has proven, by a reply on the connection that brings its messages, that all it had said
  before has arrived here. A proof counts for a limited time (`trust_until`), from the moment at
  which it was asked for. So when nothing arrives any more, nothing is answered either.
- No message, and no writer in this process, has named the entry or one of its tokens since.
- The question has the tags that the entry was compared with.
- The time to live that Redis has told is not over.

A message may overtake the reply that brings an entry. So whoever asks Redis first notes the moment
(`begin`), and `put` refuses what was named since then.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

OVERHEAD = 500  # bytes that an entry takes beside its value and its key, or a little less
MOST_RECENT = 10_000  # names of which it is known when they were last named


class Begun(NamedTuple):
    """When somebody began to ask Redis: by the count of what was heard, and in seconds."""

    moment: int
    at: float


class Entry(NamedTuple):
    """An answer, and what it depends on.

    Attributes:
        value: its bytes.
        tags: the question's, when it was compared.
        tokens: the keys of their tokens.
        deadline: when its time to live ends, in seconds of `time.monotonic`.
        size: in bytes, about.
    """

    value: bytes
    tags: tuple[str, ...]
    tokens: tuple[str, ...]
    deadline: float
    size: int


class L1:
    """Entries by key; the one that was not asked for for longest makes room.

    Args:
        entries: the most that it holds.
        size: the most that it holds, in bytes.
    """

    def __init__(self, entries: int, size: int) -> None:
        self._most, self._most_bytes = entries, size
        self._lock = threading.Lock()  # for what is changed; `get` does without
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._by_token: dict[str, set[str]] = {}
        self._bytes = 0
        self._trusted_until = 0.0
        self._writers = 0  # in this process, that are telling Redis now
        self._moment = 0
        self._named: OrderedDict[str, int] = OrderedDict()  # and at which moment, the latest last
        self._unknown_before = 0  # of what was named before this moment not all is known

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """What it holds, in bytes, about."""
        return self._bytes

    @property
    def is_trusted(self) -> bool:
        """Whether Redis has proven of late that its messages arrive."""
        return time.monotonic() < self._trusted_until

    def get(self, key: str, tags: tuple[str, ...]) -> bytes | None:
        """Return an entry's value; None if there is none that counts.

        Args:
            key: the entry's.
            tags: the question's, all that are known now.
        """
        entry = self._entries.get(key)
        if entry is None or entry.tags != tags:
            return None
        now = time.monotonic()
        if now >= self._trusted_until or now >= entry.deadline:
            return None
        try:
            self._entries.move_to_end(key)
        except KeyError:  # it was taken out since
            return None
        return entry.value

    def begin(self) -> Begun:
        """Return the present moment: to be noted before Redis is asked."""
        return Begun(self._moment, time.monotonic())

    def put(
        self,
        begun: Begun,
        key: str,
        value: bytes,
        tags: tuple[str, ...],
        tokens: tuple[str, ...],
        ttl_ms: int,
    ) -> bool:
        """Store what Redis has served; return whether it was stored.

        Args:
            begun: of before Redis was asked.
            key: the entry's.
            value: its bytes.
            tags: the question's.
            tokens: the keys of their tokens.
            ttl_ms: what Redis says is left of its time to live, in milliseconds; negative, as Redis
                says it, for an entry that is gone or has none: it is not stored.
        """
        size = len(value) + len(key) + OVERHEAD
        entry = Entry(value, tags, tokens, begun.at + ttl_ms / 1000, size)
        if ttl_ms <= 0 or size > self._most_bytes:
            return False
        with self._lock:
            if self._writers or not self.is_trusted or begun.moment < self._unknown_before:
                return False
            if any(self._named.get(each, 0) > begun.moment for each in (key, *tokens)):
                return False
            self._remove(key)
            self._entries[key] = entry
            self._bytes += size
            for token in tokens:
                self._by_token.setdefault(token, set()).add(key)
            while len(self._entries) > self._most or self._bytes > self._most_bytes:
                self._remove(next(iter(self._entries)))
        return True

    def forget(self, names: Collection[str]) -> None:
        """Take out the entries of these keys, and those that depend on these tokens."""
        with self._lock:
            self._forget(names)

    def _forget(self, names: Collection[str]) -> None:
        self._moment += 1
        for name in names:
            for key in self._by_token.pop(name, ()):
                self._remove(key)
            self._remove(name)
            self._named.pop(name, None)
            self._named[name] = self._moment
        while len(self._named) > MOST_RECENT:
            self._unknown_before = self._named.popitem(last=False)[1]

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._bytes -= entry.size
        for token in entry.tokens:
            if keys := self._by_token.get(token):
                keys.discard(key)
                if not keys:
                    del self._by_token[token]

    def clear(self) -> None:
        """Take out everything, and let nothing in that was asked for before."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        self._moment += 1
        self._unknown_before = self._moment
        self._entries.clear()
        self._by_token.clear()
        self._named.clear()
        self._bytes = 0

    @contextmanager
    def writing(self, names: Collection[str]) -> Iterator[None]:
        """Let nothing in while Redis is told that these have changed, and nothing of before.

        Others of this process may have asked Redis before it was told, and have their answer after
        it. So the names are taken out twice: what is told now is known here at once, and once Redis
        has answered, nothing from before that comes back.
        """
        with self._lock:
            self._writers += 1
            self._forget(names)
        try:
            yield
        finally:
            with self._lock:
                self._writers -= 1
                self._forget(names)

    def trust_until(self, moment: float) -> None:
        """Answer until then, by `time.monotonic`: what Redis said before has arrived."""
        self._trusted_until = moment

    def distrust(self) -> None:
        """Answer nothing, and begin anew: what Redis says may not arrive."""
        with self._lock:
            self._trusted_until = 0.0
            self._clear()
