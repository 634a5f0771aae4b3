"""Every exercise: its reference solution passes, each wrong answer gets its own message."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from labkit.lessons.exercises import Exercise, Outcome, judge
from labkit.shop import Order

EXERCISES: dict[str, Exercise] = {}
for lesson in ("00", "01", "02"):
    EXERCISES |= importlib.import_module(f"labkit.lessons.lesson_{lesson}").EXERCISES


def orders(*order: Any) -> Callable[[int], Any]:
    return lambda limit: select(Order).order_by(*order).limit(limit)


def cache(
    is_found: Callable[[Any], bool] = lambda stored: stored is not None,
    read: Callable[[Any], Any] = json.loads,
    options: Callable[[int], dict[str, Any]] = lambda ttl: {"ex": ttl},
    says_hit: bool = True,
    stores: bool = True,
) -> Callable[..., Any]:
    """Return a get_or_load that is wrong in what is said."""

    def get_or_load(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
        stored = redis.get(key)
        if is_found(stored):
            return read(stored), says_hit
        value = load()
        if stores:
            redis.set(key, json.dumps(value), **options(ttl))
        return value, False

    return get_or_load


def always_load(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
    value = load()
    redis.set(key, json.dumps(value), ex=ttl)
    return value, redis.get(key) is not None


def value_only(redis: Any, key: str, ttl: int, load: Callable[[], Any]) -> Any:
    return cache()(redis, key, ttl, load)[0]


# Exercise, wrong answer, words that its message alone must have.
WRONG: list[tuple[str, Any, str]] = [
    ("00.1", 4, "one statement a call"),
    ("00.1", 1, "all four asked the same"),
    ("00.1", 2, "Write the four keys down"),
    ("00.1", "3", "whole number"),
    ("00.1", True, "whole number"),
    ("00.1", None, "whole number"),
    ("00.2", lambda hits, misses: misses / max(1, hits + misses), "gave 0.2"),
    ("00.2", lambda hits, misses: hits / misses if misses else 1.0, "gave 4.0"),
    ("00.2", lambda hits, misses: 100 * hits / (hits + misses), "gave 80.0"),
    ("00.2", lambda hits, misses: 1 - misses / max(1, hits + misses), "before the first"),
    ("00.2", 0.8, "a function is asked for"),
    ("01.1", lambda seconds: f"{seconds:.1f} ms", "1,000 milliseconds"),
    ("01.1", lambda seconds: f"{seconds * 1000:.0f}ms", "one decimal, a unit"),
    ("01.1", lambda seconds: seconds * 1000, "not text"),
    ("01.2", lambda limit: select(Order).limit(limit), "placed on the latest day"),
    ("01.2", orders(Order.placed_on), "placed on the latest day"),
    ("01.2", orders(Order.placed_on.desc()), "what breaks the tie"),
    ("01.2", orders(Order.placed_on.desc(), Order.user_id), "what breaks the tie"),
    ("01.2", lambda limit: orders(Order.placed_on.desc(), Order.id)(99), "gave 8 orders"),
    ("01.2", lambda limit: [1, 2, 3], "a select() statement"),
    ("01.3", lambda calls, ms: max(ms, key=ms.get), "gave 'report'"),
    ("01.3", lambda calls, ms: max(calls, key=calls.get), "gave 'login'"),
    ("01.3", lambda calls, ms: min(calls, key=lambda name: calls[name] * ms[name]), "costs the"),
    ("01.3", lambda calls, ms: max(calls[name] * ms[name] for name in calls), "one of the names"),
    ("02.1", cache(is_found=bool, stores=False), "run 2 times"),
    ("02.1", always_load, "it said was_hit=True"),
    ("02.1", cache(is_found=lambda stored: stored not in (None, b"[]")), "An empty answer"),
    ("02.1", cache(options=lambda ttl: {}), "without a TTL"),
    ("02.1", cache(options=lambda ttl: {"px": ttl}), "to live"),
    ("02.1", cache(options=lambda ttl: {"ex": 60 * ttl}), "has 3600 s to live"),
    ("02.1", cache(read=lambda stored: stored), "call 2 gave b'"),
    ("02.1", cache(says_hit=False), "was a hit, and it said was_hit=False"),
    ("02.1", value_only, "a pair"),
    ("02.2", lambda ratio, hit, miss: ratio * miss + (1 - ratio) * hit, "swapped"),
    ("02.2", lambda ratio, hit, miss: (hit + miss) / 2, "the mean is 250 ms"),
    ("02.2", lambda ratio, hit, miss: f"{ratio}", "gave '0.0'"),
    ("02.3", lambda s, hit, miss: 100 * (1 - 1 / s) / (1 - hit / miss), "not a percentage"),
    ("02.3", lambda s, hit, miss: 1 - 1 / s, "it takes 0.8032"),
    ("02.3", lambda s, hit, miss: (1 - 1 / s) / (1 - hit / miss), "return None then"),
    ("02.3", lambda s, hit, miss: min(1, (1 - 1 / s) / (1 - hit / miss)), "return None then"),
]  # fmt: skip


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_solution_is_right(name: str) -> None:
    outcome, message = judge(name, EXERCISES[name].solution)

    assert (outcome, message) == (Outcome.RIGHT, f"right: {EXERCISES[name].praise}")


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_is_not_attempted(name: str) -> None:
    stub = (lambda *_: ...) if inspect.isroutine(EXERCISES[name].solution) else ...

    assert judge(name, stub)[0] is Outcome.NOT_ATTEMPTED


@pytest.mark.parametrize("name", [n for n in EXERCISES if inspect.isroutine(EXERCISES[n].solution)])
def test_an_answer_that_raises_is_told_what_and_when(name: str) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("division by zero")

    outcome, message = judge(name, broken)

    assert outcome is Outcome.RAISED
    assert "ZeroDivisionError: division by zero, when it was called with (" in message


@pytest.mark.parametrize(("name", "answer", "words"), WRONG, ids=lambda value: str(value)[:20])
def test_a_wrong_answer_is_met_with_its_own_message(name: str, answer: Any, words: str) -> None:
    outcome, message = judge(name, answer)

    assert outcome is Outcome.WRONG
    assert message.startswith("not yet: ")
    assert words in message


@pytest.mark.parametrize("name", EXERCISES)
def test_every_exercise_has_wrong_answers_and_hints(name: str) -> None:
    assert sum(name == wrong for wrong, _, _ in WRONG) >= 3
    assert len(EXERCISES[name].hints) >= 2
