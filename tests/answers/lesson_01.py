"""Wrong answers to the exercises of lesson 01: exercise, answer, words of its message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from labkit.shop import Order


def orders(*order: Any) -> Callable[[int], Any]:
    return lambda limit: select(Order).order_by(*order).limit(limit)


WRONG: list[tuple[str, Any, str]] = [
    ("01.1", lambda seconds: f"{seconds:.1f} ms", "1,000 milliseconds"),
    ("01.1", lambda seconds: f"{seconds * 1000:.0f}ms", "one decimal, a unit"),
    ("01.1", lambda seconds: seconds * 1000, "not text"),
    ("01.2", lambda limit: select(Order).limit(limit), "are the newest"),
    ("01.2", orders(Order.placed_on), "gave [1, 3, 5, 7, 2, 4]"),
    ("01.2", lambda limit: orders(Order.placed_on.desc(), Order.id)(3), "newest_orders(6) gave 3"),
    ("01.2", lambda limit: select(Order.placed_on), "whole orders"),
    ("01.2", lambda limit: None, "end with `return`"),
    ("01.3", lambda calls, ms: sorted(calls), "one of the names"),
    ("01.2", orders(Order.placed_on.desc()), "what breaks the tie"),
    ("01.2", orders(Order.placed_on.desc(), Order.user_id), "what breaks the tie"),
    ("01.2", lambda limit: orders(Order.placed_on.desc(), Order.id)(99), "newest_orders(6) gave 8"),
    ("01.2", lambda limit: [1, 2, 3], "returned a list"),
    ("01.3", lambda calls, ms: max(ms, key=ms.get), "gave 'report'"),
    ("01.3", lambda calls, ms: max(calls, key=calls.get), "gave 'login'"),
    (
        "01.3",
        lambda calls, ms: min(calls, key=lambda name: calls[name] * ms[name]),
        "takes 4,000 ms",
    ),
    ("01.3", lambda calls, ms: max(calls[name] * ms[name] for name in calls), "one of the names"),
]
