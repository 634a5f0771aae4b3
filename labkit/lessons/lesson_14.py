"""Exercises of lesson 14, Capstone."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import redis

from labkit.audit import PROBES, Row, audit
from labkit.audit.run import CAN_FORK
from labkit.lessons.exercises import Exercise, Raised, Wrong, call, letters
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
        seen = f" The audit has seen: {row.evidence.removesuffix('.')}."
    title = PROBES[ROWS[letter]].title
    raise Wrong(f'you say that it {says} {letter}, "{title}". It does not.{seen}')


def _rows(decorator: Any, *names: str) -> list[Row]:
    return audit(decorator, probes=[PROBES[name] for name in names]).rows


class GoesDown:
    """A client whose Redis is down from a moment on.

    Attributes:
        down: whether it is.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.down = False

    def __getattr__(self, name: str) -> Any:
        command = getattr(self._client, name)

        def ask(*args: Any, **options: Any) -> Any:
            if self.down:
                raise redis.ConnectionError("Connection refused.")
            return command(*args, **options)

        return ask if callable(command) else command


def _examine_mended(answer: Any) -> None:
    with scratch_redis() as client:
        _examine_errors(_decorator_of(answer, client))
    if not CAN_FORK:
        raise Wrong("this check kills a Redis, which it cannot do on this system.")
    for row in _rows(lambda client, ttl: answer(client, ttl), "caches", "redis_down"):
        if row.outcome != "pass":
            raise Wrong(f"the row {row.title!r} says: {row.evidence.removesuffix('.')}.")
    with scratch_redis() as client:
        _examine_entries(_decorator_of(answer, client), client)
        client.flushdb()
        falling = GoesDown(client)
        _examine_moment(_decorator_of(answer, falling), falling)


def _decorator_of(answer: Any, client: Any) -> Any:
    return functools.partial(_decorated, call(answer, client, 60, shown="(client, 60)"))


def _decorated(decorate: Any, function: Callable[..., Any]) -> Any:
    cached = call(decorate, function, shown="(function)")
    if not callable(cached):
        raise Wrong(f"what (client, 60) returns is no decorator: it gave {cached!r}.")
    return cached


def _examine_errors(decorate: Any) -> None:
    loads = 0

    def broken() -> None:
        nonlocal loads
        loads += 1
        raise ZeroDivisionError

    cached = decorate(broken)
    try:
        cached()
    except ZeroDivisionError:
        pass
    except Exception as error:
        raise Raised(
            f"{type(error).__name__}: {error}, when the function that it decorates was called."
        ) from error
    else:
        raise Wrong("the function raised, and its caller was not told.")
    if loads != 1:
        raise Wrong(f"the function raised, and was called {loads} times: it is not Redis.")


def _examine_entries(decorate: Any, client: redis.Redis) -> None:
    loads = 0

    def region() -> str:
        nonlocal loads
        loads += 1
        return "EU"

    cached = decorate(region)
    call(cached, shown="()")
    entries: Any = client.keys()
    if any(client.ttl(key) == -1 for key in entries):
        raise Wrong("what it has stored has no TTL.")
    client.flushdb()
    call(cached, shown="()")
    if loads != 2:
        raise Wrong("Redis was emptied, and a call ran no function: its answer is kept elsewhere.")


def _examine_moment(decorate: Any, client: GoesDown) -> None:
    loads = 0

    def region() -> str:
        nonlocal loads
        loads += 1
        client.down = True
        return "EU"

    cached = decorate(region)
    when = "Redis went down while the function ran, and"
    try:
        got = cached()
    except redis.RedisError as error:
        raise Wrong(f"{when} its caller got a {type(error).__name__}.") from error
    if got != "EU":
        raise Wrong(f"{when} its caller got {got!r}, which is not what it had returned.")
    if loads != 1:
        raise Wrong(f"{when} it was called {loads} times.")


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

KEEPS: list[tuple[str, Callable[[Any], Any]]] = [
    ("gives all back as it was", lambda answer: answer),
    ("gives back an equal copy", copy.deepcopy),
]
LOSSES: list[tuple[str, Callable[[Any], Any]]] = [
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


def within(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what changes an answer, and what is in its lists, tuples and dictionaries, too."""

    def changed(answer: Any) -> Any:
        if type(answer) is dict:
            answer = {key: changed(value) for key, value in answer.items()}
        elif type(answer) in (list, tuple):
            answer = type(answer)(map(changed, answer))
        return change(answer)

    return changed


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
        for what, change in KEEPS:
            _examine_verdict(answer, storing(change, on_miss), what, True)
        where = ", also to who misses" if on_miss else ""
        for what, change in LOSSES:
            _examine_verdict(answer, storing(within(change), on_miss), what + where, False)


def _examine_verdict(probe: Any, cached: Decorator, what: str, holds: bool) -> None:
    verdict = call(probe, cached, shown=f"(a cache that {what})")
    if verdict is not holds:
        raise Wrong(f"of a cache that {what} it says {verdict!r}, not {holds}.")


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
