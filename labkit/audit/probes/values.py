"""What comes back from a cache: the answer, with its types, and nothing that a stranger wrote."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from labkit.audit import questions
from labkit.audit.adapter import DoesNotApply
from labkit.audit.poison import poisoned
from labkit.audit.probe import TTL, Failed, Trial, expect, probe
from labkit.audit.site import OLD, Broken

EMPTY = [name for name, value in questions.VALUES.items() if not value]
SEED = 3
RANDOM_BYTES = 64
Write = Callable[[], object]


@probe("02", "a second call runs no SQL")
def caches(trial: Trial) -> str:
    """Ask the same question five times."""
    ask = trial.cached(questions.region_of)
    selects = trial.selects(lambda: [ask(1) for _ in range(5)])
    return expect(selects == 1, f"{selects} SQL for 1 expected")


@probe("02", "None and what is empty are answers, and are cached")
def none_and_empty(trial: Trial) -> str:
    """Ask twice for each."""
    ask = trial.cached(questions.value_named)
    again = []
    for name in EMPTY:
        ask(name)
        if trial.selects(lambda name=name: ask(name)):  # type: ignore[misc]
            again.append(name)
    return expect(not again, _counted(EMPTY, again, "are cached"))


@probe("02", "an error reaches the caller, and is not cached")
def exceptions_not_cached(trial: Trial) -> str:
    """Ask while the database fails, and once it works again."""
    ask = trial.cached(questions.region_of)
    trial.site.broken = True
    try:
        answer = ask(1)
    except Broken:
        pass
    except Exception as error:
        raise Failed(
            f"the caller gets {type(error).__name__}, the function raised Broken"
        ) from None
    else:
        raise Failed(f"the function raised, the caller gets {answer!r}")
    trial.site.broken = False
    try:
        answer = ask(1)
    except Broken:
        raise Failed("it raises the error again, though the function would answer") from None
    return expect(answer == OLD, f"the error reaches the caller; the next call answers {answer!r}")


@probe("03", "a hit has the value and the types that the function gave")
def types_survive(trial: Trial) -> str:
    """Ask twice for a value of each type that a query may give."""
    ask = trial.cached(questions.value_named)
    anew = _in_another_memory(trial, ask)
    changed = []
    for name, value in questions.VALUES.items():
        try:
            answers = [ask(name), ask(name), *(each(name) for each in anew)]
        except Exception as error:
            changed.append(f"{name} ({type(error).__name__})")
        else:
            if any(_told(answer) != _told(value) for answer in answers):
                changed.append(name)
    return expect(not changed, _counted(questions.VALUES, changed, "as they were"))


def _in_another_memory(trial: Trial, ask: Callable[..., Any]) -> list[Callable[..., Any]]:
    """Return what gives the answers that are in Redis, if a hit gives those that are in memory."""
    sample = next(iter(questions.VALUES))
    with suppress(Exception):  # it shows once it is asked
        ask(sample)
        if trial.stored() and not trial.commands(lambda: ask(sample)):
            return [trial.open(trial.site.place).wrap(questions.value_named, TTL)]
    return []


def _told(value: Any) -> str:
    """Return a text that tells types and values apart, whatever `==` makes of them."""
    return f"{type(value).__name__} {value!r}"


def _counted(of: Any, wrong: list[str], what: str) -> str:
    right = f"{len(of) - len(wrong)} of {len(of)} {what}"
    return f"{right}, not: {', '.join(wrong)}" if wrong else right


@probe("03", "what a caller does to an answer reaches no other caller")
def caller_changes_result(trial: Trial) -> str:
    """Change the list that a miss gave to one caller, and the list that a hit gave to another."""
    ask = trial.cached(questions.rows_of)
    reached = []
    for user, gave in ((1, "a miss"), (2, "a hit")):
        if gave == "a hit":
            ask(user)
        answer = ask(user)
        answer[0]["region"] = "changed"
        answer.append("more")
        if ask(user) != [{"id": user, "region": OLD}]:
            reached.append(f"of what {gave} gave")
    evidence = f"{len(reached)} of 2 changes reach another caller"
    return expect(not reached, f"{evidence}: {', '.join(reached)}" if reached else evidence)


class Stored:
    """What a cache has written to Redis: each value may be replaced, and is put back.

    Args:
        trial: whose Redis.

    Raises:
        DoesNotApply: there is nothing.
    """

    def __init__(self, trial: Trial) -> None:
        keys = trial.stored()
        self._redis: Any = trial.site.client
        self._kept = [
            (key, max(0, self._redis.pttl(key)), dump)
            for key in keys
            if (dump := self._redis.dump(key))  # else it has expired by now
        ]
        self.values = [value for key, _, _ in self._kept for value in self._values(key)]

    def _values(self, key: bytes) -> Iterator[tuple[bytes, Callable[[bytes], object]]]:
        """Give each value that stands under a key, and what writes another in its place."""
        kind = self._redis.type(key)
        if kind == b"string":
            yield self._redis.get(key), partial(self._redis.set, key, keepttl=True)
        elif kind == b"hash":
            for field, value in sorted(self._redis.hgetall(key).items()):
                yield value, partial(self._redis.hset, key, field)

    def lists(self) -> Iterator[Write]:
        """Give, for each key, what makes it a list."""
        for key, _, _ in self._kept:
            yield partial(self._make_list, key)

    def _make_list(self, key: bytes) -> None:
        with self._redis.pipeline(transaction=True) as at_once:
            at_once.delete(key).rpush(key, b"1").execute()

    def put_back(self) -> None:
        """Have all of it as it was, before a thread of the cache's writes there by itself."""
        with self._redis.pipeline(transaction=True) as at_once:
            at_once.flushdb()
            for key, ttl, dump in self._kept:
                at_once.restore(key, ttl, dump)
            at_once.execute()


@probe("03", "a value that a stranger has written runs no code")
def poisoned_value(trial: Trial) -> str:
    """Replace whatever was stored by pickles that make a folder."""
    asks = _filled(trial)
    stored, path = Stored(trial), trial.site.directory / "code has run"
    if not stored.values:
        raise DoesNotApply("no text and no hash in Redis has a value that could be replaced")
    ran = 0
    for value, write in stored.values:
        for poison in poisoned(value, path):
            stored.put_back()
            write(poison)
            for ask in asks:
                with suppress(Exception):
                    ask(1)
        if path.exists():
            ran += 1
            path.rmdir()
    return expect(not ran, f"code ran from {ran} of {len(stored.values)} values")


@probe("03", "a value that cannot be read is a miss")
def corrupt_value(trial: Trial) -> str:
    """Truncate whatever was stored; replace it by noise, by nothing, and by a list."""
    asks = _filled(trial)
    stored = Stored(trial)
    noise = random.Random(SEED).randbytes(RANDOM_BYTES)
    damage: list[Write] = []
    for value, write in stored.values:
        for new in (value[: len(value) // 2], value[:-1], value[:-1] + noise, noise, b""):
            damage.append(partial(write, new))
    wrong = []
    for each in [*damage, *stored.lists()]:
        stored.put_back()
        each()
        wrong += [found for ask, right in asks.items() if (found := _wrong(ask, right))]
    answers = len(asks) * (len(damage) + len(list(stored.lists())))
    right = f"{answers - len(wrong)} of {answers} answers are right"
    return expect(not wrong, f"{right}, not: {', '.join(sorted(set(wrong)))}" if wrong else right)


def _wrong(ask: Callable[..., Any], right: Any) -> str:
    """Return what is wrong with an answer; empty if it is the right one."""
    try:
        return "" if ask(1) == right else "a wrong one"
    except Exception as error:
        return type(error).__name__


def _filled(trial: Trial) -> dict[Callable[..., Any], Any]:
    """Return two functions with the cache before them, and what they give for 1: a text, a list."""
    functions = questions.region_of, questions.rows_of
    return {trial.from_redis(each, 1): each(1) for each in functions}
