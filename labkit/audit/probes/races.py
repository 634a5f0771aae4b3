"""Several at once: a write during a load, a crowd that asks for what is missing, and a crash."""

from __future__ import annotations

from labkit.audit import questions
from labkit.audit.probe import PATIENCE, Trial, expect, probe
from labkit.audit.site import NEW

A_WHILE = 0.5  # seconds that an invalidation gets while a load is under way: it may wait for it


@probe("05", "one entry that is invalidated while it loads is not old afterwards")
def write_during_load(trial: Trial) -> str:
    """Read, change, invalidate, and only then store."""
    ask = trial.cached(questions.region_of)
    gate = trial.gate()
    reader = trial.begin(lambda: ask(1))
    gate.wait()
    trial.site.change(1)
    writer = trial.begin(lambda: trial.cache.invalidate_one(ask, 1))
    writer.ended_within(A_WHILE)
    gate.open()
    reader.result_within(PATIENCE)
    writer.result_within(PATIENCE)
    answer = ask(1)
    return expect(answer == NEW, f"afterwards it answers {answer!r}, the database has {NEW!r}")
