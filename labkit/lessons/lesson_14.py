"""Exercises of lesson 14, Capstone."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import redis

from labkit.audit import PROBES, Row, audit
from labkit.audit.run import CAN_FORK
from labkit.lessons.exercises import Exercise, Wrong, call, letters
from labkit.lessons.lesson_02 import scratch_redis

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

ROWS = {
    "a": "none_and_empty",
    "b": "types_survive",
    "c": "caller_changes_result",
    "d": "argument_types",
    "e": "stampede_threads",
    "f": "redis_down",
}
FAILING = {"c", "d", "e"}  # what the audit says too, where it can run


def remembered(client: Any, ttl: int) -> Decorator:
    """Return the decorator that 14.1 is about: a dictionary in the process."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        entries: dict[Any, Any] = {}

        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            if args not in entries:
                entries[args] = function(*args)
            return entries[args]

        return wrapper

    return decorate


def _examine_rows(answer: Any) -> None:
    named = letters(answer, "abcdef")
    different = sorted(named ^ FAILING)
    if not different:
        return
    letter = different[0]
    says = "fails" if letter in named else "passes"
    seen = ""
    if CAN_FORK:
        [row] = _rows(remembered, ROWS[letter])
        seen = f" The audit has seen: {row.evidence}."
    raise Wrong(f"you say that it {says} {letter}, {ROWS[letter]}. It does not.{seen}")


def _rows(decorator: Any, *names: str) -> list[Row]:
    return audit(decorator, probes=[PROBES[name] for name in names]).rows


def _examine_mended(answer: Any) -> None:
    shown = "(client, 60)"
    with scratch_redis() as client:
        decorate = call(answer, client, 60, shown=shown)
        loads = 0

        def broken() -> None:
            nonlocal loads
            loads += 1
            raise ZeroDivisionError

        cached = call(decorate, broken, shown="(function)")
        if not callable(cached):
            raise Wrong(f"what {shown} returns is no decorator: it gave {cached!r}.")
        try:
            cached()
        except ZeroDivisionError:
            pass
        else:
            raise Wrong("the function raised, and its caller was not told.")
        if loads != 1:
            raise Wrong(f"the function raised, and was called {loads} times: it is not Redis.")
    if not CAN_FORK:
        raise Wrong("this check kills a Redis, which it cannot do on this system.")
    for row in _rows(lambda client, ttl: answer(client, ttl), "caches", "redis_down"):
        if row.outcome != "pass":
            raise Wrong(f"the row {row.probe} says: {row.evidence}.")


def steady(client, ttl):  # type: ignore[no-untyped-def]  # shown as it stands
    def ask(command, *args, **options):  # type: ignore[no-untyped-def]
        try:
            return command(*args, **options)
        except redis.RedisError:
            return None

    def decorate(function):  # type: ignore[no-untyped-def]
        @functools.wraps(function)
        def wrapper(*args):  # type: ignore[no-untyped-def]
            key = f"{function.__name__}:{json.dumps(args)}"
            if (stored := ask(client.get, key)) is None:  # type: ignore[no-untyped-call]
                stored = json.dumps(function(*args))
                ask(client.set, key, stored, ex=ttl)  # type: ignore[no-untyped-call]
            return json.loads(stored)

        return wrapper

    return decorate


# Caches for 14.3, in memory: what they do to an answer when they store it, and what that is.

LOSSES: list[tuple[str, Callable[[Any], Any]]] = [
    ("gives all back as it was", lambda answer: answer),
    ("makes texts of dates", lambda answer: str(answer) if isinstance(answer, date) else answer),
    ("makes lists of tuples", lambda answer: list(answer) if type(answer) is tuple else answer),
    (
        "makes texts of a dictionary's keys",
        lambda answer: (
            {str(key): value for key, value in answer.items()} if type(answer) is dict else answer
        ),
    ),
    (
        "makes floats of Decimals",
        lambda answer: float(answer) if isinstance(answer, Decimal) else answer,
    ),
]


def storing(change: Callable[[Any], Any], on_miss: bool = False) -> Decorator:
    """Return a decorator that stores `change(answer)`, and gives it to who misses, too, or not."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        entries: dict[Any, Any] = {}

        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            key = repr(args)
            if key in entries:
                return entries[key]
            answer = function(*args)
            entries[key] = change(answer)
            return entries[key] if on_miss else answer

        return wrapper

    return decorate


def _examine_probe(answer: Any) -> None:
    for on_miss in (False, True):
        for what, change in LOSSES:
            holds = what == LOSSES[0][0]
            where = ", also to who misses" if on_miss and not holds else ""
            verdict = call(answer, storing(change, on_miss), shown=f"(a cache that {what}{where})")
            if verdict is not holds:
                raise Wrong(f"of a cache that {what}{where} it says {verdict!r}, not {holds}.")


def probe(cached):  # type: ignore[no-untyped-def]  # shown as it stands
    from datetime import date
    from decimal import Decimal

    values = [(1, 2), {1: "EU"}, Decimal("12.50"), date(2025, 7, 1)]

    @cached
    def answer(number):  # type: ignore[no-untyped-def]
        return values[number]

    for number, value in enumerate(values):
        answer(number)
        hit = answer(number)
        if type(hit) is not type(value) or hit != value:
            return False
    return True


EXERCISES = {
    "14.1": Exercise(
        ask="Name the rows that the decorator with a dictionary fails.",
        examine=_examine_rows,
        praise="a dictionary keeps types, and shares what it keeps; 1 and True are one key of it.",
        hints=(
            "A row that needs Redis does not trouble a cache that never asks it.",
            "entries[args] is the very object that the last caller got.",
            "What are {1: 'a'}[True], and two threads between `not in` and `=`?",
        ),
        solution={"c", "d", "e"},
    ),
    "14.2": Exercise(
        ask="Write steady(client, ttl), so that a Redis that is down is no outage.",
        examine=_examine_mended,
        praise="without Redis it asks the database, and what the function raises is still told.",
        hints=(
            "redis.RedisError is what a client raises when its server is gone.",
            "Two of its lines ask Redis. The function is called between them.",
            "Catch the error around each of the two lines, and not around the function.",
        ),
        solution=steady,
    ),
    "14.3": Exercise(
        ask="Write probe(cached): whether a hit gives back what the function gave.",
        examine=_examine_probe,
        praise="a hit was held against what the function gave, type and value, for several types.",
        hints=(
            "Decorate a function of your own whose answers you know, and call it twice.",
            "Which types did lesson 03 lose? Try one value of each.",
            "Decimal('12.50') == 12.5: hold the types against each other, too.",
        ),
        solution=probe,
    ),
}
