"""Invalidation: it reaches all that it must, nothing else, and does not search for it."""

from __future__ import annotations

from labkit.audit import questions
from labkit.audit.probe import Trial, expect, probe
from labkit.audit.site import NEW, USERS


@probe("08", "an invalidation of all entries reaches all of them")
def invalidates_all(trial: Trial) -> str:
    """Fill a hundred entries, change every row, invalidate."""
    ask = trial.cached(questions.region_of)
    users = range(1, USERS + 1)
    for user in users:
        ask(user)
    trial.site.change()
    trial.cache.invalidate_all(ask)
    new = sum(ask(user) == NEW for user in users)
    return expect(new == USERS, f"{new} of {USERS} answers are new")
