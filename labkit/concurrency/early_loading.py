"""Where early loading is tried: a rule that says when to load, against a crowd of callers."""

from __future__ import annotations

import random
from collections.abc import Callable

import redis

# Given the seconds that remain, those that a load takes, and a number of 0 < u <= 1: load now?
Rule = Callable[[float, float, float], bool]
CALLERS = 100  # a second
TTL, SIMULATED = 60.0, 300  # seconds
LOAD_SECONDS = 1.0


def never(remaining: float, load_seconds: float, u: float) -> bool:
    """Load nothing before its deadline: the rule of those who have none."""
    return False


def simulate(rule: Rule) -> int:
    """Return the most loads that were under way at once, on a clock that is only a number.

    A hundred callers a second find the entry and apply the rule, or find none and load. A load
    takes a second, and then stores the entry again.

    Args:
        rule: who loads early.
    """
    draw = random.Random(5).random
    deadline, under_way, most = TTL, list[float](), 0  # an entry that has just been stored
    for call in range(SIMULATED * CALLERS):
        now = call / CALLERS
        stored = [end for end in under_way if end <= now]
        deadline = max([deadline, *(end + TTL for end in stored)])
        under_way = [end for end in under_way if end > now]
        remaining = deadline - now
        if remaining <= 0 or rule(remaining, LOAD_SECONDS, 1 - draw()):
            under_way.append(now + LOAD_SECONDS)
            most = max(most, len(under_way))
    return most


def first_loads(
    client: redis.Redis, key: str, rule: Rule, load: Callable[[], object], draw: Callable[[], float]
) -> int:
    """Return how many callers load in the first second in which any of them does.

    The entry's deadline comes nearer by a second each time. At each second a hundred callers ask
    Redis how long it will live, and apply the rule.

    Args:
        client: the Redis client.
        key: the entry's key. What is stored there is lost.
        rule: who loads early.
        load: what they call then.
        draw: gives a random number, of 0 <= number < 1, to each caller.
    """
    for remaining in range(10, -1, -1):
        with client.pipeline() as pipe:  # in one transaction: it does not end among the hundred
            pipe.set(key, 1)
            pipe.pexpire(key, 1000 * remaining)  # 0 deletes it
            for _ in range(CALLERS):
                pipe.pttl(key)
            left = [each / 1000 for each in pipe.execute()[2:]]
        due = [each for each in left if each <= 0 or rule(each, LOAD_SECONDS, 1 - draw())]
        for _ in due:
            load()
        if due:
            return len(due)
    return 0
