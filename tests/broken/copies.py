"""What is wrong with the copies that a worker keeps in its memory (L1)."""

from __future__ import annotations

import math
from typing import Any

from labkit.audit.adapters.query_cache import QueryCacheL1Adapter
from labkit.audit.site import Place
from labkit.cache import QueryCache, tracking
from labkit.cache.l1 import L1
from tests.broken import fails

STALE_MS = 900  # a busy machine may take so long; less than the second that the audit allows
FOR_EVER_MS = 600_000


class Patient(QueryCacheL1Adapter):
    """QueryCache with L1, which a busy machine does not disturb."""

    stale_ms = STALE_MS

    def __init__(self, place: Place) -> None:
        place.app.config["QUERY_CACHE_L1_STALE_MS"] = self.stale_ms
        super().__init__(place)


@fails("broken_connections")
class KeepsWhatItHad(Patient):
    """When its connection is lost, it makes a new one, and has the copies from before."""

    def __init__(self, place: Place) -> None:
        lost: Any = L1
        lost.distrust = lambda l1: l1.trust_until(0.0)
        stream: Any = tracking.Stream
        connect = stream.__init__

        def connect_and_keep(self: Any, client: Any, names: Any, prefixes: Any, l1: Any) -> None:
            connect(self, client, names, prefixes, l1)
            l1.clear = lambda: vars(l1).pop("clear")  # the one call that comes next

        stream.__init__ = connect_and_keep
        super().__init__(place)


@fails("silent_redis")
class NeedsNoProof(Patient):
    """As long as its connection is open, it takes it that there is nothing to hear."""

    stale_ms = FOR_EVER_MS


@fails("emptied_redis")
class HearsOfNamesAlone(Patient):
    """A message that names no key, as FLUSHALL's does not, changes nothing."""

    def __init__(self, place: Place) -> None:
        stream: Any = tracking.Stream
        hear = stream._is_message

        def hear_of_names(self: Any, answer: Any) -> bool:
            return answer == [b"invalidate", None] or bool(hear(self, answer))

        stream._is_message = hear_of_names
        super().__init__(place)


@fails("fork_listens")
class ForkedChildIsDeaf(Patient):
    """A forked child goes on with its parent's copies, and has no thread that listens."""

    def __init__(self, place: Place) -> None:
        forked: Any = QueryCache
        forked._leave_l1 = lambda cache, server: cache._l1.trust_until(math.inf)
        super().__init__(place)
