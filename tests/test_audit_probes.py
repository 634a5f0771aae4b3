"""Each probe tells a cache that falls into its pitfall from all others, and that one only."""

from __future__ import annotations

import os

import pytest

from labkit.audit import PROBES, audit, every_probe
from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.probes import outages
from tests.broken import BROKEN
from tests.broken.copies import FOR_EVER_MS, Patient

ALL = bool(os.environ.get("LABKIT_ALL_AUDITS"))
whole = pytest.mark.skipif(not ALL, reason="minutes: LABKIT_ALL_AUDITS=1 runs it")


def test_query_cache_passes_every_row() -> None:
    board = audit(QueryCacheAdapter)

    assert board.failed == []
    assert board.passed == [each.name for each in every_probe()]


@pytest.mark.parametrize("name", PROBES)
def test_a_cache_with_one_fault_fails_its_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "BACK_SECONDS", 3.0)  # who never comes back waits it out
    # In the other rows copies must not count for so long; in this one no stall ends them.
    monkeypatch.setattr(Patient, "stale_ms", FOR_EVER_MS)
    assert audit(BROKEN[name], probes=[PROBES[name]]).failed == [name]


@whole
@pytest.mark.parametrize("name", PROBES)
def test_a_cache_with_one_fault_fails_no_other_row(name: str) -> None:
    assert audit(BROKEN[name]).failed == [name]
