"""How long an entry lives: a TTL that is checked before anything runs, and jitter.

Jitter against synchronised expiry is old advice; see Amazon's "Caching challenges and strategies"
(https://aws.amazon.com/builders-library/caching-challenges-and-strategies/).
"""

from __future__ import annotations

import random
from collections.abc import Callable

SHORTEST = 0.001  # seconds: Redis counts in milliseconds
LONGEST = 365 * 24 * 3600  # seconds: beyond it, somebody has passed a moment, or means "for ever"
SPREAD = 0.1  # of the TTL
HUGE = 10**20  # seconds: no message shows more digits than that


def checked_ttl(ttl: float) -> float:
    """Return `ttl`, a number of seconds, as it is, if an entry can have it.

    Raises:
        TypeError: it is no number: None, a bool, a text.
        ValueError: it is zero, negative, not finite, under a millisecond, or over a year.
    """
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise TypeError(f"a TTL is a number of seconds, and {ttl!r} is none")
    if not ttl >= SHORTEST:  # NaN is neither more nor less than anything
        raise ValueError(f"a TTL of {_shown(ttl)} seconds would leave nothing in the cache")
    if ttl > LONGEST:
        raise ValueError(
            f"a TTL of {_shown(ttl)} seconds is over a year: it is a duration, not a moment in time"
        )
    return ttl


def _shown(ttl: float) -> str:
    """Return a number for people: an integer beyond 4,300 digits cannot be written in decimals."""
    if isinstance(ttl, float) or abs(ttl) < HUGE:
        return repr(ttl)
    return "more than 10^20" if ttl > 0 else "less than -10^20"


def jittered_ms(
    ttl: float, spread: float = SPREAD, random: Callable[[], float] = random.random
) -> int:
    """Return a TTL in whole milliseconds, as SET's PX takes it, shortened by chance.

    It is never lengthened: the TTL is what readers were promised.

    Args:
        ttl: the longest time to live, in seconds.
        spread: the greatest part that is taken off: at least 0, below 1.
        random: gives numbers of at least 0, below 1.

    Raises:
        TypeError: the TTL is no number.
        ValueError: the TTL or the spread is out of range.
    """
    if not 0 <= spread < 1:
        raise ValueError(f"a spread is at least 0 and below 1, and this is {spread!r}")
    return max(1, int(1000 * checked_ttl(ttl) * (1 - spread * random())))
