"""Copies in a worker's memory: each hears of what has changed, or is not used.

A cache without such copies asks Redis, and passes. One whose copies hear of nothing that other
processes do has fallen into another pitfall already, a row of lesson 08: these do not apply then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from labkit.audit import guard, questions
from labkit.audit.adapter import DoesNotApply
from labkit.audit.crowd import PAUSE, Neighbour
from labkit.audit.probe import TTL, Trial, expect, one_line, probe
from labkit.audit.probes.invalidation import ON_ITS_WAY
from labkit.audit.site import NEW, OLD, Place
from labkit.servers.proxy import Proxy

KEPT = (1, 2, 3)  # users whose entries there are copies of
ANOTHER = 4  # user whom the other process asks for
CALLS = 10  # after which a cache that still asks Redis keeps no copy
WITHIN = 1.0  # seconds without a word of Redis, after which no copy counts
LATER = 3  # calls for each user
A_MOMENT = 0.5  # seconds that an answer from memory takes at most
_Ask = Callable[[int], str]


@probe("13", "a worker whose connections break misses no invalidation")
def broken_connections(trial: Trial) -> str:
    """Have another process invalidate, and lose what Redis says of it with the connections."""
    proxy, ask = _invalidated_unheard(trial)
    proxy.drop()
    time.sleep(WITHIN)
    answers = [answer for _ in range(LATER) for answer in _answers(ask)]
    return _none_is_old(answers, LATER * len(KEPT))


@probe("13", "a worker cut off from Redis gives old answers for 1 s at most")
def silent_redis(trial: Trial) -> str:
    """Hold up all that Redis says to one process, and have another one invalidate."""
    _, ask = _invalidated_unheard(trial)
    time.sleep(WITHIN)
    calls = [trial.begin(partial(ask, user)) for user in KEPT]
    end = time.monotonic() + A_MOMENT  # one that waits for Redis has given no old answer
    ended = [call for call in calls if call.ended_within(max(0.0, end - time.monotonic()))]
    answers = [call.result_within(0) for call in ended if not call.error]
    return _none_is_old(answers, len(KEPT))


@probe("13", "whoever empties Redis empties the copies in workers' memory")
def emptied_redis(trial: Trial) -> str:
    """Change every row, and have somebody send FLUSHALL, as an operator does who knows no tags."""
    ask = trial.cached(questions.region_of)
    _ask_until_kept(trial, ask)
    trial.stored()
    trial.site.change()
    trial.site.client.flushall()
    new = _become(ask, NEW)
    return expect(new == len(KEPT), f"{new} of {len(KEPT)} answers are new")


@probe("13", "an invalidation reaches a process that was forked since")
def fork_listens(trial: Trial) -> str:
    """Fork a process that has copies, and have another one invalidate."""
    neighbour = _other_worker(trial)
    ask = trial.cached(questions.region_of)
    _keep_copies(trial, ask, neighbour)
    child = Neighbour(partial(_in_child, trial, ask))
    trial.site.change()
    neighbour.act()
    new = child.act()
    return expect(new == len(KEPT), f"{new} of {len(KEPT)} answers in the child are new")


def _other_worker(trial: Trial) -> Neighbour:
    """Return a process that has the cache open, and invalidates when it is told to."""

    def get_ready() -> Callable[[], None]:
        worker = trial.anew()
        ask = worker.cached(questions.region_of)
        ask(ANOTHER)  # it is connected now

        def invalidate() -> None:
            for user in KEPT:
                worker.invalidate(ask, user)

        return invalidate

    return Neighbour(get_ready)


def _invalidated_unheard(trial: Trial) -> tuple[Proxy, _Ask]:
    """Have another process invalidate copies, while all that Redis says is held up by a proxy."""
    neighbour = _other_worker(trial)
    trial.cache.close()
    proxy = Proxy(trial.site.place.url)
    guard.allow(proxy.port)
    ask = trial.open(Place(proxy.url, trial.site.app)).wrap(questions.region_of, TTL)
    _keep_copies(trial, ask, neighbour)
    proxy.hold()
    trial.site.change()
    neighbour.act()
    return proxy, ask


def _keep_copies(trial: Trial, ask: _Ask, neighbour: Neighbour) -> None:
    """Have copies made, if the cache makes any; and again, after an invalidation elsewhere.

    Raises:
        DoesNotApply: this process does not hear of that one at all.
    """
    _ask_until_kept(trial, ask)
    trial.site.change()
    neighbour.act()
    if _become(ask, NEW) < len(KEPT):
        raise DoesNotApply("no invalidation of another process reaches it")
    trial.site.change(region=OLD)
    neighbour.act()
    _become(ask, OLD)
    _ask_until_kept(trial, ask)


def _ask_until_kept(trial: Trial, ask: _Ask) -> None:
    """Ask for each user until a call sends Redis nothing: the answer is from memory then."""
    for user in KEPT:
        for _ in range(CALLS):
            if not trial.commands(partial(ask, user)):
                break


def _in_child(trial: Trial, ask: _Ask) -> Callable[[], int]:
    try:
        _ask_until_kept(trial, ask)
    except Exception as error:  # that is the row of `after_fork`
        raise DoesNotApply(
            one_line(f"a forked process cannot use it: {type(error).__name__}: {error}")
        ) from None
    return partial(_become, ask, NEW)


def _become(ask: _Ask, region: str) -> int:
    """Return for how many users the answer is this before long: a message may be on its way."""
    end = time.monotonic() + ON_ITS_WAY
    while (right := _answers(ask).count(region)) < len(KEPT) and time.monotonic() < end:
        time.sleep(PAUSE)
    return right


def _answers(ask: _Ask) -> list[str]:
    """Return what is answered for each user; an error is no answer."""
    answers = []
    for user in KEPT:
        with suppress(Exception):
            answers.append(ask(user))
    return answers


def _none_is_old(answers: list[str], calls: int) -> str:
    old = answers.count(OLD)
    return expect(old == 0, f"{old} of {calls} calls get an old answer")
