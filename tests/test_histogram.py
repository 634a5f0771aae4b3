"""Histograms: labkit's own counts as the library does, and stands in where there is none."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from labkit.measure import histogram as module
from labkit.measure.histogram import MOST_US, PlainHistogram, decoded, histogram
from tests.test_load import Site, site

__all__ = ["site"]  # the fixture

needs_library = pytest.mark.skipif(
    module.note() != "", reason="hdrhistogram has no wheel for this machine"
)
# The library reads 20,000 steps each time: to look for the smallest example would take minutes.
quick = settings(deadline=None, max_examples=25, phases=(Phase.explicit, Phase.generate))
values = st.one_of(st.integers(1, 5_000), st.integers(1, MOST_US))
recorded = st.lists(st.tuples(values, st.integers(1, 50)), max_size=60)
PERCENTILES = (0, 1, 25, 50, 80, 90, 95, 99, 99.9, 100)
Pairs = list[tuple[int, int]]


def both(pairs: Pairs) -> tuple[PlainHistogram, Any]:
    plain, library = PlainHistogram(), histogram()
    for value, count in pairs:
        plain.record_value(value, count)
        library.record_value(value, count)
    return plain, library


def steps(each: Any) -> Pairs:
    return [
        (step.value_iterated_to, step.count_added_in_this_iter_step)
        for step in each.get_recorded_iterator()
    ]


def assert_same(plain: PlainHistogram, library: Any) -> None:
    assert plain.get_total_count() == library.get_total_count()
    assert steps(plain) == steps(library)
    assert plain.get_mean_value() == pytest.approx(library.get_mean_value(), rel=1e-12)
    for percent in PERCENTILES:
        assert plain.get_value_at_percentile(percent) == library.get_value_at_percentile(percent)


@needs_library
@quick
@given(recorded)
def test_both_have_the_same_percentiles(pairs: Pairs) -> None:
    assert_same(*both(pairs))


@needs_library
@quick
@given(recorded, recorded)
def test_so_they_have_once_they_are_added(one: Pairs, other: Pairs) -> None:
    plain, library = both(one)
    more, much = both(other)
    plain.add(more)
    library.add(much)

    assert_same(plain, library)


@needs_library
@quick
@given(st.lists(st.tuples(st.integers(1, 100_000), st.integers(1, 9)), max_size=9),
       st.integers(500, 20_000))  # fmt: skip
def test_and_once_they_are_corrected(pairs: Pairs, interval: int) -> None:
    plain, library = PlainHistogram(), histogram()
    for value, count in pairs:
        plain.record_corrected_value(value, interval, count)
        library.record_corrected_value(value, interval, count)

    assert_same(plain, library)


@needs_library
@quick
@given(recorded)
def test_each_reads_what_it_has_written_and_what_the_other_has(pairs: Pairs) -> None:
    plain, library = both(pairs)

    assert_same(plain, decoded(plain.encode().decode()))
    assert_same(plain, decoded(library.encode().decode()))


@quick
@given(recorded)
def test_a_percentile_is_a_value_to_three_digits(pairs: Pairs) -> None:
    plain = PlainHistogram()
    for value, count in pairs:
        plain.record_value(value, count)
    ordered = sorted(value for value, count in pairs for _ in range(count))
    for percent in PERCENTILES[1:]:
        rank = max(1, int(percent * len(ordered) / 100 + 0.5))
        expected = ordered[rank - 1] if ordered else 0
        assert expected <= plain.get_value_at_percentile(percent) <= expected * 1.001


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the library from this process, as where it has no wheel."""
    monkeypatch.setitem(sys.modules, "hdrh", None)
    monkeypatch.setitem(sys.modules, "hdrh.histogram", None)
    importlib.reload(module)
    yield
    monkeypatch.undo()
    importlib.reload(module)


@pytest.mark.usefixtures("hidden")
def test_where_the_library_is_missing_labkits_own_is_taken_and_said() -> None:
    assert type(module.histogram()).__name__ == "PlainHistogram"
    assert module.note() == module.NOTE
    with pytest.raises(ValueError, match="where hdrhistogram is installed"):
        module.decoded("HISTFAAA")


@needs_library
def test_where_it_is_there_nothing_is_said() -> None:
    assert module.note() == ""
    assert type(histogram()).__name__ == "HdrHistogram"


def without_the_library(code: str, folder: Path) -> list[str]:
    """Run code where no process finds the library, and return what it prints."""
    (folder / "hdrh.py").write_text("raise ImportError('hidden')")
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_load_runs_without_the_library(site: Site, tmp_path: Path) -> None:
    """Neither this process nor the one that sends finds it."""
    code = (
        "import json\n"
        "from labkit.measure.load import load\n"
        f"found = load({site.url!r}, seconds=30, connections=3, requests=60)\n"
        "told = type(found.latency).__name__, found.requests, sum(found.counts.values())\n"
        "print(json.dumps([*told, found.ms(50) <= found.ms(99)]))\n"
    )
    [line] = without_the_library(code, tmp_path)

    assert json.loads(line) == ["PlainHistogram", 60, 60, True]
    assert len(site.paths) == 60


def test_labkit_load_says_so_in_a_line(site: Site, tmp_path: Path) -> None:
    words = ["load", site.url, "--seconds", "0.2"]
    code = f"from labkit.cli import main; main({words!r})"
    first, second = without_the_library(code, tmp_path)

    assert first == module.NOTE
    assert ", 0 failed, " in second
