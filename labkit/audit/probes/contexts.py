"""Where a call is made: outside of a request, in a transaction that is open, after a fork."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from labkit.audit import questions
from labkit.audit.crowd import Process
from labkit.audit.probe import Failed, Trial, expect, patience, probe
from labkit.audit.site import NEW, OLD
from labkit.shop.models import User

CHILDREN = 4
ENTRIES = 50  # that each process asks for, twice
TOGETHER_SECONDS = 12.0  # that all of them get: two cores need half of one


@probe("07", "outside of a request the answers are right, and cached", in_context=False)
def outside_a_request(trial: Trial) -> str:
    """Ask twice where no application is current: in the main thread, and in another."""
    ask = trial.cached(questions.rows_of)
    before = trial.site.sql
    answers = [ask(1), ask(1), *(trial.within(patience(), partial(ask, 2)) for _ in range(2))]
    right = sum(
        answer == [{"id": user, "region": OLD}]
        for user, answer in zip((1, 1, 2, 2), answers, strict=True)
    )
    selects = trial.site.sql - before
    evidence = f"{right} of 4 answers are right, {selects} SQL for 2 expected"
    return expect(right == 4 and selects == 2, evidence)


@probe("07", "rows that are not committed are seen by their writer alone")
def uncommitted_rows(trial: Trial) -> str:
    """Flush a change of two rows, ask, roll back; and have another session ask."""
    ask = trial.cached(questions.region_in_session)
    ask(2)  # one that is cached before, and one that is not
    session = trial.site.place.db.session
    _flush(trial, 1, 2)
    own = [ask(user) for user in (1, 2)]
    session.rollback()
    others = [trial.within(patience(), partial(ask, user)) for user in (1, 2)]
    seen = f"{own.count(NEW)} of 2 rows seen by their writer"
    evidence = f"{seen}, {others.count(NEW)} by others after the rollback"
    return expect(own == [NEW, NEW] and others == [OLD, OLD], evidence)


@probe("07", "an invalidation before the commit lets no old row back in")
def invalidation_before_commit(trial: Trial) -> str:
    """Flush, invalidate, have somebody else ask, and only then commit."""
    ask = trial.cached(questions.region_in_session)
    elsewhere = partial(trial.within, patience(), partial(ask, 1))
    elsewhere()
    _flush(trial, 1)
    trial.invalidate(ask, 1)
    elsewhere()  # SQLite lets others read the old row, as long as the COMMIT has not been sent
    trial.site.place.db.session.commit()
    answer = elsewhere()
    return expect(
        answer == NEW, f"after the commit it answers {answer!r}, the database has {NEW!r}"
    )


def _flush(trial: Trial, *users: int) -> None:
    """Change rows in the session of this thread, without a commit."""
    session = trial.site.place.db.session
    for user in users:
        session.get_one(User, user).region = NEW
    session.flush()


@probe("13", "a cache that is open may be used in forked processes")
def after_fork(trial: Trial) -> str:
    """Use it in four children and their parent at once, each for entries of its own."""
    ask = trial.cached(questions.both)
    ask("the parent, before", 0)  # it is connected now
    reader, writer = os.pipe()

    def in_child(number: int) -> bool:
        os.close(writer)
        os.read(reader, 1)  # ends once nobody holds the other end: all have begun
        return _gets_its_own(ask, f"child {number}")

    children = [Process(partial(in_child, number)) for number in range(CHILDREN)]
    os.close(writer)
    call = trial.begin(lambda: _gets_its_own(ask, "the parent"))
    deadline = time.monotonic() + TOGETHER_SECONDS
    ended = [call.ended_within(TOGETHER_SECONDS) and call.result_within(0)]
    ended += [_is_right(child, deadline) for child in children]
    os.close(reader)
    everybody = f"{CHILDREN + 1} processes at once"
    return expect(
        all(ended),
        f"{everybody}: {'each gets' if all(ended) else 'not each has got'} its {ENTRIES} answers",
    )


def _gets_its_own(ask: Callable[..., str], name: str) -> bool:
    """Whether each answer is to the question that was asked. It does not raise."""
    with suppress(Exception):
        return all(
            ask(name, number) == f"{name!r} and {number!r}"
            for number in range(ENTRIES)
            for _ in range(2)
        )
    return False


def _is_right(child: Process, deadline: float) -> bool:
    """Whether a child has found, until the deadline, that each answer is its own."""
    try:
        return bool(child.result_within(max(0.0, deadline - time.monotonic())))
    except Failed:
        return False
