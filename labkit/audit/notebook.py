"""The audit at the end of a lesson: the cache so far, and which rows are green by now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.audit.probe import PROBES
from labkit.audit.report import Scoreboard
from labkit.audit.run import audit
from labkit.audit.target import NotAuditable, shown
from labkit.errors import LabError

# What each lesson from 02 to 10 teaches, by the probe that shows it.
ONE_A_LESSON = (
    "caches",
    "types_survive",
    "function_names",
    "write_during_load",
    "jitter",
    "invalidation_before_commit",
    "no_scan",
    "flat_invalidation",
    "statements",
)


def scoreboard(
    adapter: Any, rows: Sequence[str] | None = None, invalidate: Any = None
) -> Scoreboard:
    """Audit a cache, and return what a notebook shows as a table.

    Where the audit cannot run, as on Windows, the scoreboard says so and has no rows:
    `claim(sentence, "caches" in board.passed, board.was_run)` claims nothing there.

    Args:
        adapter: a subclass of `labkit.audit.Adapter` or a decorator; or the text
            `package.module:name` of one.
        rows: names of probes, such as `labkit.audit.ONE_A_LESSON`; all of them by default.
        invalidate: what invalidates, if it is a decorator: see `labkit.audit.Decorator`.

    Raises:
        NotAuditable: the cache could not be audited, with the reason in a line.
        LabError: there is no probe of that name.
    """
    if unknown := [name for name in rows or () if name not in PROBES]:
        raise LabError(
            f"there is no probe {unknown[0]!r}.\nlabkit.audit.PROBES holds them, by their names."
        )
    try:
        probes = None if rows is None else [PROBES[name] for name in rows]
        return audit(adapter, invalidate, probes)
    except NotAuditable:
        raise
    except LabError as error:
        return Scoreboard(shown(adapter), [], not_run=" ".join(str(error).split()))
