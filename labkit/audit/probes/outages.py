"""A Redis that is gone, frozen, full or back: the site goes on, and nothing old comes back."""

from __future__ import annotations

from functools import partial

from labkit.audit import questions
from labkit.audit.probe import PATIENCE, Trial, expect, probe
from labkit.audit.site import OLD


@probe("13", "a Redis that is down is no outage of the site")
def redis_down(trial: Trial) -> str:
    """Kill it, and ask for what was cached and for what was not."""
    ask = trial.cached(questions.region_of)
    ask(1)
    trial.site.server.kill()
    answers = [trial.within(PATIENCE, partial(ask, user)) for user in (1, 2)]
    return expect(answers == [OLD, OLD], f"{answers.count(OLD)} of 2 answers are right")
