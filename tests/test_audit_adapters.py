"""The adapters of the caches that are compared, and the table and picture that compare them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from labkit.audit import PROBES, Scoreboard, audit, questions
from labkit.audit.adapters import every_adapter
from labkit.audit.probe import FAIL, NOT_APPLICABLE, PASS, Probe, Row, Trial, expect
from labkit.audit.site import NEW, OLD
from scripts import comparison

ADAPTERS = {adapter.__name__: adapter for adapter in every_adapter()}
# Faults that are known of each: `make bench` has all rows, these are quick ones.
KNOWN = {
    "Article": {
        "poisoned_value", "corrupt_value", "function_names", "keyword_order_and_defaults",
        "positional_and_keyword", "namespaced", "jitter", "uncommitted_rows", "invalidates_one",
        "no_scan", "flat_invalidation", "redis_down", "full_redis",
    },
    "LruCache": {"fresh_process", "argument_types", "caller_changes_result"},
    "CacheLib": {"none_and_empty", "no_scan", "redis_down"},
    "FlaskCaching": {"commands_a_hit", "write_during_load"},
    "Dogpile": {"argument_types", "delimiters", "methods", "write_during_load"},
    "Cashews": {"argument_types", "invalidation_during_load", "flat_invalidation"},
}  # fmt: skip
NO_FAULT = {"caches", "exceptions_not_cached", "types_survive"}  # of any of them
ENOUGH = 12  # rows that the article's decorator fails at least


def opens_caches_and_invalidates(trial: Trial) -> str:
    """Be a probe that says what the adapter does, not what the cache is worth."""
    ask, site = trial.cached(questions.region_of), trial.site
    first = [trial.selects(functools.partial(ask, user)) for user in (1, 1, 2)]
    site.change()
    said = [ask(1), "one", *_after(trial.cache.invalidate_one, ask, 1), "all"]
    said += _after(trial.cache.invalidate_all, ask)
    trial.cache.close()
    return expect(True, f"{first} {' '.join(said)}")


def _after(invalidate: Callable[..., Any], ask: Callable[..., Any], *args: Any) -> list[str]:
    try:
        invalidate(ask, *args)
    except Exception as error:
        return [type(error).__name__]
    return [ask(1), ask(2)]


DOES = Probe("does", "it does", "00", opens_caches_and_invalidates)
INVALIDATES = f"[1, 0, 1] {OLD} one {NEW} {OLD} all {NEW} {NEW}"
SAYS = {
    "Article": f"[1, 0, 1] {OLD} one {OLD} {OLD} all {OLD} {OLD}",
    "LruCache": f"[1, 0, 1] {OLD} one DoesNotApply all {NEW} {NEW}",
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_it_opens_caches_invalidates_and_closes(name: str) -> None:
    row = audit(ADAPTERS[name], probes=[DOES]).rows[0]

    assert (row.outcome, row.evidence) == (PASS, SAYS.get(name, INVALIDATES))


@pytest.mark.parametrize("name", ADAPTERS)
def test_its_name_holds_a_version(name: str) -> None:
    assert all(comparison.name_and_version(ADAPTERS[name].name)) or name == "Article"


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_known_of_it_shows_up_and_is_the_same_each_time(name: str) -> None:
    probes = [PROBES[each] for each in sorted(KNOWN[name] | NO_FAULT)]
    one, other = (audit(ADAPTERS[name], probes=probes) for _ in range(2))

    assert set(one.failed) == KNOWN[name]
    assert one.rows == other.rows


def test_enough_is_known_of_the_article() -> None:
    assert len(KNOWN["Article"]) >= ENOUGH


# The table and the picture.


def board(name: str, *outcomes: str) -> Scoreboard:
    lessons = ("02", "05", "05")
    rows = [
        Row(f"probe_{number}", f"what holds {number}", lesson, outcome, "")
        for number, (lesson, outcome) in enumerate(zip(lessons, outcomes, strict=True))
    ]
    return Scoreboard(name, rows)


BOARDS = [board("the article's", FAIL, FAIL, NOT_APPLICABLE), board("cashews 7.6", *[PASS] * 3)]


def test_the_table_groups_rows_by_lesson_and_adds_up() -> None:
    assert comparison.table(BOARDS) == [
        "                    the article's  cashews",
        "                                     7.6",
        "02  probe_0               ✗           ✓",
        "05  probe_1               ✗           ✓",
        "    probe_2               –           ✓",
        "✓   pass                  0           3",
        "✗   fail                  2           0",
        "–   does not apply        1           0",
    ]


def test_the_picture_is_the_same_each_time(tmp_path: Any) -> None:
    pictures = [tmp_path / "docs" / "one.svg", tmp_path / "two.svg"]
    for picture in pictures:
        comparison.draw(BOARDS, picture)

    assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_every_cache_is_in_the_picture_of_the_readme() -> None:
    readme = (comparison.PICTURE.parents[1] / "README.md").read_text()
    alternative = readme.partition("![")[2].partition("](docs/scoreboard.svg)")[0]

    for adapter in ADAPTERS.values():
        assert comparison.name_and_version(adapter.name)[0].removeprefix("the ") in alternative
