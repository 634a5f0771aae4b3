"""Wrong answers to the exercises of lesson 05: exercise, answer, words of its message."""

from __future__ import annotations

import math
from typing import Any


def get_then_delete(redis: Any, key: str, token: str) -> None:
    if redis.get(key) == token.encode():
        redis.delete(key)


WRONG: list[tuple[str, Any, str]] = [
    ("05.1", "R1 R2 W1 W2 R3", "took the version before"),
    ("05.1", "W1 W2 R1 R2 R3", "selects after the commit"),
    ("05.1", "W2 W1 R1 R2 R3", "W's own steps"),
    ("05.1", "W1 R1 R2", "has to come once"),
    ("05.1", 3, "a schedule is text"),
    ("05.2", lambda redis, key, token: redis.delete(key), "was another's"),
    ("05.2", lambda redis, key, token: None, "is still there"),
    ("05.2", get_then_delete, "Look and delete in one step"),
    ("05.3", lambda remaining, load: math.exp(remaining / load), "the share is 0.3679"),
    ("05.3", lambda remaining, load: math.exp(-remaining * load), "the share is 0.7788"),
    ("05.3", lambda remaining, load: 1 - math.exp(-remaining / load), "gave 0.632"),
]
