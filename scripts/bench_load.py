"""The regional report behind a web server, under load: a part of what `make bench` runs.

Each ratio is of one run, in which its two sides take turns: what slows the machine down slows both.
A ratio is the median of several such runs.
"""

from __future__ import annotations

import contextlib
import io
import statistics
from collections.abc import Iterator

import labkit
from labkit.concurrency import web
from labkit.measure.load import in_turn, mixed
from scripts.timings import Row

REGION = "LATAM"  # as in the lesson
CONNECTIONS = 4
RUNS = 5
SECONDS = 9.0  # of each scenario, in a run: a few dozen reports without a cache
SHORT_RUNS, SHORT = 9, 3.0  # of hits alone, thousands a second
MIXED = {"80 % hits": 4.5, "all hits": 50.0}  # at least so many times the throughput of no cache
NEAR = 0.9  # of one GET's throughput


def ratios() -> Iterator[Row]:
    """80 % hits and hits alone against no cache; a QueryCache's hit against one GET."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        labkit.start() as lab,
        web.served(lab) as shop,
    ):
        rows = [*_against_no_cache(shop), _against_one_get(shop)]
    yield from rows  # and whoever takes them may print


def _against_no_cache(shop: web.Served) -> Iterator[Row]:
    shop.warm(web.QUERY_CACHE, REGION)
    hit, miss = (shop.path(web.QUERY_CACHE, REGION, visit) for visit in (0, "{}"))
    none = "no cache"
    scenarios = {
        none: [shop.path(web.NONE, REGION)],
        "80 % hits": mixed(hit, miss, 0.8),
        "all hits": [hit],
    }
    found: dict[str, list[float]] = {name: [] for name in MIXED}
    for _ in range(RUNS):
        runs = _in_turn(shop, scenarios, SECONDS, rounds=3)
        for name in MIXED:
            found[name].append(runs[name] / runs[none])
    for name, least in MIXED.items():
        ratio = statistics.median(found[name])
        what = f"regional_report('{REGION}') behind {shop.server}: {name} against {none}"
        yield Row(what, f"x{ratio:,.2f}", f"at least x{least:g}", ratio >= least)


def _against_one_get(shop: web.Served) -> Row:
    ways = {way: [shop.path(way, REGION)] for way in (web.ONE_GET, web.QUERY_CACHE)}
    for way in ways:
        shop.warm(way, REGION)
    found = []
    for _ in range(SHORT_RUNS):
        runs = _in_turn(shop, ways, SHORT, rounds=6)
        found.append(runs[web.QUERY_CACHE] / runs[web.ONE_GET])
    ratio = statistics.median(found)
    what = "  QueryCache, all hits, against a view with one GET of the same bytes"
    return Row(what, f"x{ratio:.2f}", f"at least x{NEAR:.2f}", ratio >= NEAR)


def _in_turn(
    shop: web.Served, scenarios: dict[str, list[str]], seconds: float, rounds: int
) -> dict[str, float]:
    """Return the requests a second of each scenario, of which none may fail."""
    url = shop.url(web.NONE, REGION)
    runs = in_turn(url, scenarios, seconds, CONNECTIONS, rounds)
    failed = {name: run.failed for name, run in runs.items() if run.failed}
    assert not failed, f"requests have failed: {failed}"
    return {name: run.a_second for name, run in runs.items()}
