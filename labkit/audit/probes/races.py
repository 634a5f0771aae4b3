"""Several at once: a write during a load, a crowd that asks for what is missing, and a crash."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from labkit.audit import questions
from labkit.audit.crowd import PAUSE, Crowd, Process, wait_until
from labkit.audit.probe import PATIENCE, Trial, expect, patience, probe
from labkit.audit.site import NEW, OLD, Broken

A_WHILE = 2.0  # seconds that an invalidation gets while a load is under way: it may wait for it
AT_ONCE = 1.5  # seconds: a caller who does not wait needs a thousandth of it
THREADS = 20
PROCESSES, THREADS_EACH = 4, 3
WAITING = 4


@probe("05", "one entry that is invalidated while it loads is not old afterwards")
def write_during_load(trial: Trial) -> str:
    """Read, change, invalidate one, and only then store."""
    ask = trial.cached(questions.region_of)
    return _overtake(trial, partial(ask, 1), lambda: trial.cache.invalidate_one(ask, 1))


@probe("05", "an entry that loads while all are invalidated is not old afterwards")
def invalidation_during_load(trial: Trial) -> str:
    """Read, change, invalidate all, and only then store."""
    ask = trial.cached(questions.region_of)
    return _overtake(trial, partial(ask, 1), lambda: trial.cache.invalidate_all(ask))


def _overtake(trial: Trial, ask: Callable[[], str], invalidate: Callable[[], None]) -> str:
    gate = trial.gate()
    reader = trial.begin(ask)
    gate.wait()
    trial.site.change(1)
    writer = trial.begin(invalidate)
    writer.ended_within(A_WHILE)
    gate.open()
    reader.result_within(patience())
    writer.result_within(patience())
    answer = ask()
    return expect(answer == NEW, f"afterwards it answers {answer!r}, the database has {NEW!r}")


@probe("05", "threads that ask at once for what is missing load it once")
def stampede_threads(trial: Trial) -> str:
    """Have them ask, and hold the first load until no other comes."""
    answers: list[str] = []
    selects = trial.selects(lambda: answers.extend(_crowd(trial, Crowd(trial.site, THREADS))))
    return _once(selects, answers, THREADS)


@probe("05", "processes that ask at once for what is missing load it once")
def stampede_processes(trial: Trial) -> str:
    """Have threads of several processes ask, and hold the first load until no other comes."""
    callers = PROCESSES * THREADS_EACH
    crowd = Crowd(trial.site, callers)
    answers: list[str] = []

    def run() -> None:
        processes = [
            Process(lambda: _crowd(trial.anew(), crowd, THREADS_EACH)) for _ in range(PROCESSES)
        ]
        for process in processes:
            answers.extend(process.result_within(patience()))

    return _once(trial.selects(run), answers, callers)


def _crowd(trial: Trial, crowd: Crowd, callers: int = THREADS) -> list[str]:
    ask = trial.cached(questions.region_of)
    calls = [trial.begin(lambda: crowd.call(lambda: ask(1))) for _ in range(callers)]
    return [call.result_within(patience()) for call in calls]


def _once(selects: int, answers: list[str], callers: int) -> str:
    right = answers.count(OLD)
    expect(right == callers, f"{right} of {callers} answers are right")
    return expect(selects == 1, f"{selects} SQL for 1 expected")


@probe("05", "a loader that crashes is not waited for without end")
def crashed_loader(trial: Trial) -> str:
    """Kill a process while it loads, and have another caller ask until an answer is stored."""
    ask = trial.cached(questions.region_of)
    before = trial.site.sql
    process = Process(lambda: _load_for_ever(trial.anew()))
    wait_until(lambda: trial.site.sql > before)
    process.kill()
    answer = trial.within(PATIENCE, partial(ask, 1))
    expect(answer == OLD, f"it answers {answer!r}, the database has {OLD!r}")
    end = time.monotonic() + PATIENCE
    while not (stored := trial.selects(partial(ask, 1)) == 0) and time.monotonic() < end:
        time.sleep(PAUSE)
    seen = "which is stored" if stored else "and nothing is stored"
    return expect(stored, f"another has the answer, {seen}")


def _load_for_ever(trial: Trial) -> None:
    trial.site.after_load = lambda: time.sleep(10 * PATIENCE)
    trial.cached(questions.region_of)(1)


@probe("05", "a load that fails has nobody wait, and the next one is tried")
def failed_loader(trial: Trial) -> str:
    """Have others ask during a load, which raises once none of them comes to load."""
    ask = trial.cached(questions.region_of)
    crowd = Crowd(trial.site, WAITING)
    trial.site.after_load = lambda: _fail(crowd)
    calls = [trial.begin(lambda: ask(1))]
    wait_until(lambda: crowd.has_come)
    calls += [trial.begin(lambda: ask(1)) for _ in range(WAITING - 1)]
    wait_until(lambda: crowd.is_over)
    end = time.monotonic() + AT_ONCE
    ended = [call for call in calls if call.ended_within(max(0.0, end - time.monotonic()))]
    told = sum(isinstance(call.error, Broken) for call in ended)
    trial.site.after_load = lambda: None
    expect(told == WAITING, f"{told} of {WAITING} callers have its error at once")
    answer = trial.within(AT_ONCE, partial(ask, 1))
    return expect(
        answer == OLD,
        f"{told} of {WAITING} callers have its error at once, the next has {answer!r}",
    )


def _fail(crowd: Crowd) -> None:
    crowd.hold()
    raise Broken("the database has had enough")
