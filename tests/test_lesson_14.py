"""Lesson 14: what it says of the bookshop's cache is so, and the mended one passes every row."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import current_app

from labkit.audit import PROBES, every_probe, scoreboard
from labkit.cache import QueryCache, after_root_commit
from labkit.cache.reads import has_pending_writes
from labkit.lessons.exercises import Outcome, judge
from tests.helpers import REPOSITORY, defined_in_notebook, environment

DATA = REPOSITORY / "data"
CACHED, INVALIDATE = "sample_shop.cache:cached", "sample_shop.cache:invalidate"
ALL = bool(os.environ.get("LABKIT_ALL_AUDITS"))
whole = pytest.mark.skipif(not ALL, reason="a minute: LABKIT_ALL_AUDITS=1 runs it")

FAILS = {
    "none_and_empty", "types_survive", "corrupt_value", "function_names", "argument_types",
    "delimiters", "keyword_order_and_defaults", "positional_and_keyword",
    "write_during_load", "invalidation_during_load", "stampede_threads", "stampede_processes",
    "nothing_else",
    "hash_seed", "jitter", "uncommitted_rows", "invalidation_before_commit", "no_scan",
    "statements", "redis_down", "redis_frozen", "full_redis",
}  # fmt: skip


@pytest.fixture
def from_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DATA))


def mended() -> dict[str, Any]:
    """Return what the lesson writes out in place of the bookshop's cache."""
    wanted = ("TIMEOUT_MS", "LEASE_MS", "cache", "tag_of", "session_of_app", "mended", "invalidate")
    nodes: Any = [defined_in_notebook("14_capstone")[name] for name in wanted]
    names = {
        "functools": functools, "os": os, "redis": redis, "current_app": current_app,
        "QueryCache": QueryCache, "after_root_commit": after_root_commit,
        "has_pending_writes": has_pending_writes,
    }  # fmt: skip
    exec(compile(ast.Module(nodes, []), "lesson 14", "exec"), names)
    return names


@pytest.mark.usefixtures("from_data")
@pytest.mark.parametrize("row", ["none_and_empty", "delimiters", "jitter", "no_scan"])
def test_the_bookshop_fails_and_the_mended_one_does_not(row: str) -> None:
    names = mended()

    assert scoreboard(CACHED, [row], INVALIDATE).failed == [row]
    assert scoreboard(names["mended"], [row], names["invalidate"]).passed == [row]


@whole
def test_the_readmes_two_lines_audit_the_bookshop(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "labkit.cli", "audit", CACHED, "--invalidate", INVALIDATE, "--json"],
        cwd=DATA,
        env=environment(),
        capture_output=True,
        text=True,
    )
    rows = json.loads(done.stdout)["rows"]

    assert done.returncode == 1
    assert {row["probe"] for row in rows if row["outcome"] == "fail"} == FAILS
    assert len(rows) == len(PROBES)


@whole
def test_the_mended_one_passes_every_row() -> None:
    names = mended()
    board = scoreboard(names["mended"], None, names["invalidate"])

    assert board.failed == []
    assert set(board.passed) >= {each.name for each in every_probe()} - {
        "cluster",  # its client is for one server
        "fresh_process",  # cloudpickle takes no functools.cache along
        "hash_seed",
    }


def test_the_readme_has_the_two_lines() -> None:
    lines = f"cd data\nlabkit audit {CACHED} --invalidate {INVALIDATE}\n"

    assert lines in (REPOSITORY / "README.md").read_text()
    assert lines in (REPOSITORY / "notebooks" / "14_capstone.ipynb").read_text().replace(
        '\\n",\n    "', "\n"
    )


def test_what_a_decorated_function_raises_in_14_2_is_told() -> None:
    def swapped(ttl: Any, client: Any) -> Any:
        return lambda function: lambda: client.get("a key") or function()

    outcome, message = judge("14.2", swapped)

    assert outcome is Outcome.RAISED
    assert "'int' object has no attribute 'get', when the function that it decorates" in message
