"""labkit: the workbench under the course on caching database queries.

An application needs `labkit.cache` alone, and `pip install labkit` for it. What stands here is for
the course, `pip install 'labkit[lab]'`; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError, MissingExtra

if TYPE_CHECKING:
    from labkit.audit import scoreboard
    from labkit.concurrency.schedule import explore
    from labkit.lab import Lab, start
    from labkit.lessons.evidence import claim, predict
    from labkit.lessons.exercises import check, hint, solution
    from labkit.lessons.progress import progress
    from labkit.measure import plots
    from labkit.measure.timing import compare

__all__ = [
    "Lab",
    "LabError",
    "check",
    "claim",
    "compare",
    "explore",
    "hint",
    "plots",
    "predict",
    "progress",
    "scoreboard",
    "solution",
    "start",
]

_HOMES = {
    "Lab": "labkit.lab",
    "check": "labkit.lessons.exercises",
    "claim": "labkit.lessons.evidence",
    "compare": "labkit.measure.timing",
    "explore": "labkit.concurrency.schedule",
    "hint": "labkit.lessons.exercises",
    "plots": "labkit.measure",
    "predict": "labkit.lessons.evidence",
    "progress": "labkit.lessons.progress",
    "scoreboard": "labkit.audit",
    "solution": "labkit.lessons.exercises",
    "start": "labkit.lab",
}


if not TYPE_CHECKING:  # to a type checker, what stands above is all there is

    def __getattr__(name: str) -> Any:
        """Import a name of the course when it is first used.

        Raises:
            AttributeError: there is no such name.
            MissingExtra: the course's packages are not installed.
        """
        if name not in _HOMES:
            raise AttributeError(f"module 'labkit' has no attribute {name!r}")
        try:
            home = importlib.import_module(_HOMES[name])
            found = getattr(home, name)
        except ModuleNotFoundError as error:
            raise MissingExtra(f"labkit.{name}", error) from None
        globals()[name] = found  # the next look finds it at once
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
