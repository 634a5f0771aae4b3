"""The results of load tests, kept in a file, and held against later ones."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from labkit.errors import LabError
from labkit.measure.load import Load, read_load, written_load

NAME_WIDTH = 22
NOT_SAVED = "Not saved: the folder for data cannot be written to here."


def save(runs: Mapping[str, Load], file: Path) -> None:
    """Write runs to a file, all of them or none; what was in it before is gone.

    Args:
        runs: what came of each, by its name.
        file: its folder is made, if need be.

    Raises:
        LabError: it cannot be written.
    """
    unfinished = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps({name: written_load(run) for name, run in runs.items()}))
        unfinished.replace(file)
    except OSError as error:
        raise LabError(f"{file} cannot be written: {error.strerror}.") from None


def saved(file: Path) -> dict[str, Load]:
    """Return the runs that a file holds; none where there is no such file.

    Raises:
        LabError: there is one, and `save` has not written it.
    """
    try:
        return {name: read_load(told) for name, told in json.loads(file.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise LabError(f"{file} holds no results of a load test: remove it.") from None


def keep(runs: Mapping[str, Load], file: Path) -> str:
    """Save runs for the next time; return how they compare with those of the last time.

    Nothing is raised: a lesson goes on where nothing can be saved, and says so.

    Args:
        runs: as of `save`.
        file: as of `save`.

    Returns:
        Lines to print.
    """
    try:
        earlier = saved(file)
    except LabError:
        earlier = {}
    said = beside(runs, earlier) if earlier else "There is no earlier run to compare with."
    try:
        save(runs, file)
    except LabError:
        return f"{said}\n{NOT_SAVED}"
    return said


def beside(now: Mapping[str, Load], before: Mapping[str, Load]) -> str:
    """Return a table: what runs of the same name have done now and before, and the ratios.

    Args:
        now: runs, by their names.
        before: earlier ones.
    """
    width = max([NAME_WIDTH, *map(len, now)])
    lines = [
        f"{'':{width}}  {'before':>9}  {'now':>9}  {'ratio':>6}  {'p95 before':>11}  {'now':>11}"
    ]
    for name, run in now.items():
        if name not in before:
            lines.append(f"{name:{width}}  {'–':>9}  {run.a_second:>7,.0f}/s")
            continue
        old = before[name]
        ratio = f"×{run.a_second / old.a_second:.2f}" if old.a_second else "–"
        lines.append(
            f"{name:{width}}  {old.a_second:>7,.0f}/s  {run.a_second:>7,.0f}/s  {ratio:>6}"
            f"  {old.ms(95):>8,.1f} ms  {run.ms(95):>8,.1f} ms"
        )
    return "\n".join(lines)
