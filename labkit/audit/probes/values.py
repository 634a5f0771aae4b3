"""What comes back from a cache: the answer, with its types, and nothing that a stranger wrote."""

from __future__ import annotations

from labkit.audit import questions
from labkit.audit.probe import Trial, expect, probe


@probe("02", "a second call runs no SQL")
def caches(trial: Trial) -> str:
    """Ask the same question five times."""
    ask = trial.cached(questions.region_of)
    selects = trial.selects(lambda: [ask(1) for _ in range(5)])
    return expect(selects == 1, f"{selects} SQL for 1 expected")
