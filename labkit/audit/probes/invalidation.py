"""Invalidation: it reaches all that it must, nothing else, and does not search for it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from labkit.audit import questions
from labkit.audit.adapter import DoesNotApply
from labkit.audit.crowd import PAUSE, Process
from labkit.audit.probe import Trial, expect, patience, probe
from labkit.audit.site import NEW, OLD, USERS

ONE, FEW, MANY = 1, 10, 100  # entries
HITS = 10
TRIES = 3  # of a count: a connection that is only kept alive may add to one, and not to each
FOREIGN = 1_000  # keys of others
# Through all keys. To walk through a SET of one's own, as lesson 08 does, is no search.
SEARCHES = ("KEYS", "SCAN", "RANDOMKEY", "FLUSHDB", "FLUSHALL")
OTHERS = range(2, 7)  # users whose entries nobody invalidates
GENERATIONS = 2
ON_ITS_WAY = 2.0  # seconds that an invalidation gets to reach another process
_State = dict[bytes, tuple[int, bytes]]  # of each key the milliseconds left, and what it holds


@probe("08", "an invalidation of one entry reaches it")
def invalidates_one(trial: Trial) -> str:
    """Fill ten entries, change every row, invalidate one after the other."""
    ask = trial.cached(questions.region_of)
    users = range(1, FEW + 1)
    _ask_all(ask, users)
    trial.site.change()
    new = 0
    for user in users:
        trial.cache.invalidate_one(ask, user)
        new += ask(user) == NEW
    return expect(new == FEW, f"{new} of {FEW} answers are new")


@probe("08", "an invalidation of all entries reaches all of them")
def invalidates_all(trial: Trial) -> str:
    """Fill a hundred entries, change every row, invalidate."""
    ask = trial.cached(questions.region_of)
    users = range(1, USERS + 1)
    _ask_all(ask, users)
    trial.site.change()
    trial.cache.invalidate_all(ask)
    new = sum(ask(user) == NEW for user in users)
    return expect(new == USERS, f"{new} of {USERS} answers are new")


@probe("08", "an invalidation in one process reaches the others")
def other_processes(trial: Trial) -> str:
    """Fill two entries here, change every row, and have another process invalidate: one, all."""
    ask = trial.cached(questions.region_of)
    _ask_all(ask, [1, 1, 2, 2])
    trial.site.change()
    reached = []

    def elsewhere(user: int, invalidate: Callable[[Trial], None]) -> None:
        why_not = Process(lambda: _why_not(invalidate, trial.anew())).result_within(patience())
        if why_not:
            raise DoesNotApply(why_not)
        reached.append(_becomes_new(ask, user))

    _whichever_it_can(partial(elsewhere, 1, _invalidate_1), partial(elsewhere, 2, _invalidate_all))
    return expect(all(reached), f"{sum(reached)} of {len(reached)} reach this process")


def _why_not(invalidate: Callable[[Trial], None], trial: Trial) -> str:
    """Invalidate; or return why the cache cannot."""
    try:
        invalidate(trial)
    except DoesNotApply as error:
        return str(error)
    return ""


def _invalidate_1(trial: Trial) -> None:
    trial.cache.invalidate_one(trial.cached(questions.region_of), 1)


def _invalidate_all(trial: Trial) -> None:
    trial.cache.invalidate_all(trial.cached(questions.region_of))


def _becomes_new(ask: Callable[[int], str], user: int) -> bool:
    """Whether the answer is new before long: a message may be on its way."""
    end = time.monotonic() + ON_ITS_WAY
    while not (new := ask(user) == NEW) and time.monotonic() < end:
        time.sleep(PAUSE)
    return new


@probe("08", "an invalidation leaves other entries and other keys alone")
def nothing_else(trial: Trial) -> str:
    """Invalidate one entry and then all, beside those of two functions and keys of others."""
    client = trial.site.client
    client.set("region_of:weekly", "a job's")
    client.rpush("region_of:queue", "a queue's")
    client.hset("users:1", "basket", "a basket's")
    ask = trial.cached(questions.region_of)
    beside = [trial.cached(each) for each in (questions.rows_of, questions.region_of_buyer)]
    for cached in (ask, *beside):
        _ask_all(cached, [1, *OTHERS])
    others = left = 0

    def count_left(cached: Callable[[int], Any], users: Iterable[int]) -> None:
        nonlocal others, left
        for user in users:
            others += 1
            left += trial.selects(partial(cached, user)) == 0

    def count_left_beside() -> None:
        for cached in beside:
            count_left(cached, [1, *OTHERS])

    def one() -> None:
        trial.cache.invalidate_one(ask, 1)
        count_left(ask, OTHERS)
        count_left_beside()

    def everything() -> None:
        trial.cache.invalidate_all(ask)
        count_left_beside()

    _whichever_it_can(one, everything)
    foreign: Any = client.exists("region_of:weekly", "region_of:queue", "users:1")
    return expect(
        foreign == 3 and left == others,
        f"{foreign} of 3 foreign keys, {left} of {others} other entries are left",
    )


@probe("08", "an invalidation searches for nothing in Redis")
def no_scan(trial: Trial) -> str:
    """Invalidate one entry and then all, among a thousand keys of others."""
    ask = trial.cached(questions.region_of)
    _ask_all(ask, range(1, FEW + 1))
    trial.stored()
    trial.site.client.mset({f"foreign:{number}": "" for number in range(FOREIGN)})
    commands = trial.commands(
        lambda: _whichever_it_can(
            lambda: trial.cache.invalidate_one(ask, 1), lambda: trial.cache.invalidate_all(ask)
        )
    )
    searches = [each for each in SEARCHES if each in commands]
    expect(not searches, f"{', '.join(searches)} among {FOREIGN:,} keys of others")
    return f"{', '.join(sorted(commands)) or 'no command'}: nothing that searches"


@probe("09", "a hit costs one command at most")
def commands_a_hit(trial: Trial) -> str:
    """Hit an entry ten times, on connections that are there."""
    ask = trial.cached(questions.region_of)
    _ask_all(ask, [1, 1, 1])
    trial.stored()
    before = trial.site.sql
    commands = _least(trial.commands(lambda: _ask_all(ask, HITS * [1])) for _ in range(TRIES))
    expect(trial.site.sql == before, f"{trial.site.sql - before} of {TRIES * HITS} are no hits")
    return expect(commands.total() <= HITS, f"{HITS} hits: {_counted(commands)}")


@probe("09", "invalidating 100 entries costs as much as invalidating 10")
def flat_invalidation(trial: Trial) -> str:
    """Count the commands of both, within scripts as well."""
    ask = trial.cached(questions.region_of)
    costs: dict[int, list[Counter[str]]] = {ONE: [], FEW: [], MANY: []}
    for _ in range(TRIES):
        for entries, counted in costs.items():  # the first sends what is sent once, as scripts are
            _ask_all(ask, range(1, entries + 1))
            trial.stored()
            counted.append(trial.commands(lambda: trial.cache.invalidate_all(ask)))
        few, many = _least(costs[FEW]), _least(costs[MANY])
        if few.total() == many.total():
            break
    longer = "a longer search" if _searches(many) > _searches(few) else "a search"
    seen = f"{_cost(few, 'a search')} for {FEW} entries, {_cost(many, longer)} for {MANY}"
    expect(trial.selects(partial(ask, 1)) == 1, f"{seen}, which are still there")
    return expect(few.total() == many.total(), seen)


@probe("09", "no eviction of a single key brings an old answer back")
def eviction_of_any_key(trial: Trial) -> str:
    """Fill, change and invalidate again and again; then evict each key, alone."""
    ask = trial.cached(questions.region_of)
    evictions = _Evictions(trial, ask)
    _whichever_it_can(
        lambda: evictions.run(lambda: trial.cache.invalidate_one(ask, 1)),
        lambda: evictions.run(lambda: trial.cache.invalidate_all(ask)),
    )
    return expect(evictions.wrong == 0, f"{evictions.wrong} of {evictions.tried} evictions do")


class _Evictions:
    """Evicts each key that a cache has, alone, from states that it has come to.

    Attributes:
        tried: how many evictions there were.
        wrong: how many of them have brought an old answer.
    """

    def __init__(self, trial: Trial, ask: Callable[[int], str]) -> None:
        self._trial, self._site, self._ask = trial, trial.site, ask
        self._changes = self.tried = self.wrong = 0

    def run(self, invalidate: Callable[[], object]) -> None:
        """Try all of them, with a way to invalidate."""
        self._is_right(OLD)
        self._trial.stored()
        for _ in range(GENERATIONS):  # what the first has left may count again
            region = self._change(invalidate)
            not_filled = self._state()
            expect(self._is_right(region), "an old answer, and nothing was evicted")
            filled = self._state()
            for state in (not_filled, filled):
                for key in state:
                    self.tried += 1
                    self.wrong += not self._bears(state, key, region, invalidate)
            self._restore(filled)

    def _bears(
        self, state: _State, key: bytes, region: str, invalidate: Callable[[], object]
    ) -> bool:
        """Return whether answers are right without a key: now, and after another change."""
        self._restore(state, without=key)
        right = self._is_right(region)
        self._restore(state, without=key)
        newer = self._change(invalidate)  # a counter that was evicted begins anew here
        right &= self._is_right(newer)
        self._site.change(region=region)
        invalidate()  # for what it keeps in the process: what is in Redis is put back
        return right

    def _change(self, invalidate: Callable[[], object]) -> str:
        self._changes += 1
        region = f"region {self._changes}"
        self._site.change(region=region)
        invalidate()
        return region

    def _is_right(self, region: str) -> bool:
        return self._ask(1) == region

    def _state(self) -> _State:
        keys: Any = self._site.client.keys("*")
        pipe = self._site.client.pipeline()
        for key in keys:
            pipe.pttl(key)
            pipe.dump(key)
        found = pipe.execute()
        return {key: (max(0, found[2 * i]), found[2 * i + 1]) for i, key in enumerate(keys)}

    def _restore(self, state: _State, without: bytes = b"") -> None:
        pipe = self._site.client.pipeline()
        pipe.flushdb()
        for key, (left, value) in state.items():
            if key != without:
                pipe.restore(key, left, value)  # 0 for one without a TTL
        pipe.execute()


def _ask_all(ask: Callable[[int], Any], users: Iterable[int]) -> None:
    for user in users:
        ask(user)


def _whichever_it_can(*ways: Callable[[], object]) -> None:
    """Invalidate in each way that the cache has.

    Raises:
        DoesNotApply: it has none.
    """
    lacking = []
    for way in ways:
        try:
            way()
        except DoesNotApply as error:
            lacking.append(error)
    if len(lacking) == len(ways):
        raise lacking[-1]


def _least(counts: Iterable[Counter[str]]) -> Counter[str]:
    return min(counts, key=Counter.total)


def _counted(commands: Counter[str]) -> str:
    return ", ".join(f"{times} {name}" for name, times in sorted(commands.items())) or "no command"


def _searches(commands: Counter[str]) -> int:
    return sum(commands[each] for each in SEARCHES)


def _cost(commands: Counter[str], search: str) -> str:
    """Return how many there are, but for those of a search: Redis hashes keys by a random seed."""
    others = _plural(commands.total() - _searches(commands))
    return f"{search} and {others}" if _searches(commands) else others


def _plural(commands: int) -> str:
    return f"{commands} command" + "s" * (commands != 1)
