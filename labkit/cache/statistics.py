"""What a cache has counted in this process."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any


class Statistics:
    """Counts since this process began, or since it was forked.

    Attributes:
        hits: answers from the cache.
        l1_hits: those of them for which Redis was not asked.
        l1_lost: how often the process' own entries were given up as a whole, or could not be kept,
            by reason.
        misses: answers that were loaded and, unless a fill was refused, stored.
        waits: misses that waited for another caller's load.
        bypasses: answers from the database without a look into the cache, by reason.
        refused_fills: answers that were not stored, by reason.
        invalidations: of tags, each call counted once.
        owed: invalidations that Redis did not take at once.
        errors: of Redis and of what it holds, by type.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._lock = threading.Lock()
        self.hits = self.l1_hits = 0
        self.misses = 0
        self.waits = 0
        self.invalidations = 0
        self.owed = 0
        self.bypasses: Counter[str] = Counter()
        self.refused_fills: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.l1_lost: Counter[str] = Counter()

    def count_hit(self) -> None:
        """Add one to the hits, as `count("hits")` does at more cost."""
        with self._lock:
            self.hits += 1

    def count_l1_hit(self) -> None:
        """Add one to the hits, and to those for which Redis was not asked."""
        with self._lock:
            self.hits += 1
            self.l1_hits += 1

    def count(self, what: str, reason: str = "") -> None:
        """Add one to a count, or to one reason's count."""
        with self._lock:
            if reason:
                getattr(self, what)[reason] += 1
            else:
                setattr(self, what, getattr(self, what) + 1)

    @property
    def hit_ratio(self) -> float:
        """Hits among all answers: 0 to 1; 0 if nothing was asked yet."""
        asked = self.hits + self.misses + self.bypasses.total()
        return self.hits / asked if asked else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, as JSON takes them."""
        with self._lock:
            return {
                "hits": self.hits,
                "l1_hits": self.l1_hits,
                "misses": self.misses,
                "waits": self.waits,
                "invalidations": self.invalidations,
                "owed": self.owed,
                "bypasses": dict(sorted(self.bypasses.items())),
                "refused_fills": dict(sorted(self.refused_fills.items())),
                "errors": dict(sorted(self.errors.items())),
                "l1_lost": dict(sorted(self.l1_lost.items())),
            }

    def __repr__(self) -> str:
        return f"{self.hits} hits, {self.misses} misses, {self.bypasses.total()} bypasses"
