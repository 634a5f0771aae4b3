"""Run every notebook strictly under each Redis and each database: what `make matrix` runs.

It prints a table: a row a notebook, a column for each pair of a Redis and a database, and in each
field how many cells passed, or how many failed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from labkit.errors import LabError
from labkit.servers import Keeper, start_redis

ROOT = Path(__file__).parents[1]
REDISES = ("server", "wheel", "fake")
DATABASES = ("sqlite", "postgres")
CELLS = [f"{redis}+{database}" for redis, database in itertools.product(REDISES, DATABASES)]
NOTEBOOKS = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]

Counts = dict[str, Counter[str]]  # for each notebook, how many cells have which outcome


def main() -> int:
    """Print the table; return how many notebooks failed, or 1 if none could be run."""
    parser = argparse.ArgumentParser(description="Run every notebook under each Redis and database")
    parser.add_argument("cells", nargs="*", help=f"only these columns: {', '.join(CELLS)}")
    chosen = parser.parse_args().cells or CELLS
    if unknown := [cell for cell in chosen if cell not in CELLS]:
        parser.error(f"no such column: {', '.join(unknown)}. There are {', '.join(CELLS)}.")
    columns: dict[str, Counts] = {}
    for cell in chosen:
        redis, database = cell.split("+")
        if problem := missing(redis):
            print(f"{cell}: left out, {problem}", flush=True)
            continue
        began = time.monotonic()
        columns[cell] = run(redis, database)
        print(f"{cell}: {time.monotonic() - began:.0f} s", flush=True)
    if not columns:
        return 1
    print(table(columns))
    return sum(failed(counts[name]) for counts in columns.values() for name in NOTEBOOKS)


def missing(redis: str) -> str:
    """Return why a Redis cannot be had on this machine, in a line; nothing if it can."""
    keeper = Keeper()
    try:
        start_redis(redis, keeper)
    except LabError as error:
        return " ".join(str(error).split())
    finally:
        keeper.close()
    return ""


def run(redis: str, database: str) -> Counts:
    """Run all notebooks under strict nbval.

    Raises:
        RuntimeError: pytest could not run them.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "notebooks"],
            cwd=ROOT,
            env=os.environ | {"LABKIT_REDIS": redis, "LABKIT_DATABASE": database},
            capture_output=True,
            text=True,
        )
        if not report.exists():
            raise RuntimeError(f"pytest notebooks:\n{done.stdout}{done.stderr}")
        if done.returncode:
            print(done.stdout)
        return outcomes(report.read_text())


def outcomes(report: str) -> Counts:
    """Return how many cells of each notebook have which outcome, by a report in JUnit's format."""
    counts: Counts = {name: Counter() for name in NOTEBOOKS}
    for case in ElementTree.fromstring(report).iter("testcase"):
        notebook = next(name for name in NOTEBOOKS if name in str(case.attrib))
        outcome = "failed" if len(case) and case[0].tag in ("failure", "error") else "passed"
        counts[notebook][outcome] += 1
    return counts


def failed(counts: Counter[str]) -> bool:
    """Whether a notebook failed: a cell did, or none was run."""
    return bool(counts["failed"]) or not counts["passed"]


def table(columns: dict[str, Counts]) -> str:
    """Return the table as text."""
    first = max(map(len, NOTEBOOKS))
    lines = ["  ".join([" " * first, *(f"{cell:>15}" for cell in columns)])]
    for name in NOTEBOOKS:
        fields = [
            f"{counts[name]['failed']} failed" if failed(counts[name])
            else f"{counts[name]['passed']} passed"
            for counts in columns.values()
        ]  # fmt: skip
        lines.append("  ".join([f"{name:{first}}", *(f"{field:>15}" for field in fields)]))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(min(main(), 100))
