"""The pictures: drawn without a trace, nothing cut off, in colours that all can tell apart."""

from __future__ import annotations

import io
import itertools
import math
import os
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import labkit
from labkit.measure import plots
from labkit.measure.plots import style
from labkit.measure.plots.schedules import draw_run
from labkit.measure.plots.slider import draw_hit_ratio
from labkit.measure.plots.timeline import Outage
from labkit.measure.timing import Comparison
from tests.test_slider import Ran

LOOK_AT = os.environ.get("LABKIT_LOOK_AT")  # a folder: the pictures are saved there, for people

FEW = {"miss": [6.1, 6.4, 7.0], "hit": [0.11, 0.12, 0.4]}
MANY = {
    name: [median * (1 + (n * 13 % 29) / 40) for n in range(100)]
    for name, median in {
        "no cache": 212.0,
        "a miss, stored": 220.0,
        "a hit": 0.151,
        "Memcached from another process": 0.093,
        "functools.lru_cache": 0.0002,
    }.items()
}
NARROW = {"pickle": [1.02, 1.05, 1.07], "fixed codec": [1.01, 1.03, 1.09]}

PITFALLS = [
    (lesson, f"{title} ({n})")
    for lesson in ("02", "05", "08", "13")
    for n, title in enumerate(
        [
            "one entry that is invalidated while it loads is not old after",
            "a second call runs no SQL",
        ]
        * 5
    )
]
CACHES = (
    "the article's", "lru_cache 3.11", "cachelib 0.17.0", "Flask-Caching 2.5.1",
    "dogpile.cache 1.5.0", "cashews 7.6.0", "labkit 0.1.0",
)  # fmt: skip
BOARDS: dict[str, list[str]] = {
    name: [("fail", "pass", "does not apply")[row * column % 3] for row in range(len(PITFALLS))]
    for column, name in zip((1, 2, 4, 5, 7, 8), CACHES[:-1], strict=True)
}
BOARDS[CACHES[-1]] = ["pass"] * len(PITFALLS)

# Latencies in milliseconds, and how many requests took each: 80 % hits have two humps.
HITS: dict[float, int] = {0.6 + n / 10: 400 - 9 * n for n in range(40)}
MISSES: dict[float, int] = {240.0 + 3 * n: 20 - n for n in range(18)}
MIXED_RUNS = {
    "no cache": MISSES,
    "80 % hits": {time: count // 40 + 1 for time, count in HITS.items()} | MISSES,
    "all hits": HITS,
}
HIT_TIMES = {
    name: [median * (1 + (n * 13 % 29) / 40) for n in range(100)]
    for name, median in {
        "lru_cache": 0.0002,
        "cachetools": 0.002,
        "fakeredis (simulated)": 0.06,
        "diskcache (SQLite)": 0.03,
        "Redis, unix socket": 0.1,
        "Redis, TCP": 0.15,
        "Memcached": 0.09,
    }.items()
}
TOLD = {name: n > 2 for n, name in enumerate(HIT_TIMES)}
RATIOS = {n / 100: 1000 / (n / 100 * 0.4 + (1 - n / 100) * 80) for n in range(101)}


# At least one picture of each function; several where numbers or names stretch it.
def outage(name: str, at: float = 0.0, back: float | None = 2.0, errors: int = 0) -> Outage:
    """Return three seconds of load, with a fault in the first, and hits from `back` on."""
    moments = [at + n / 60 for n in range(180)]
    until = at + 3 if back is None else at + back
    away = at + 0.8, at + 1.6
    latencies = [(now, 250.0 if away[0] <= now < away[1] else 3.0) for now in moments]
    answers = [(now, now < away[0] or now >= until) for now in moments]
    hits_back = None if back is None else until
    return Outage(name, *away, hits_back, latencies, answers, errors, "3 of 6 owed\nlost: none")


PICTURES: dict[str, Callable[[], Any]] = {
    "calls": lambda: plots.calls([212.3, 0.21, 0.19, 0.2], ["miss", "hit", "hit", "hit"]),
    "calls: one": lambda: plots.calls([212.3], ["miss"]),
    "calls: ten": lambda: plots.calls(
        [212.3] + [0.216] * 8 + [99.95], ["miss"] + ["hit"] * 8 + ["miss"]
    ),
    "comparison": lambda: plots.comparison(FEW),
    "comparison: one": lambda: plots.comparison({"hit": [0.11, 0.12, 0.4]}),
    "comparison: many": lambda: plots.comparison(MANY),
    "comparison: narrow": lambda: plots.comparison(NARROW),
    "latencies": lambda: plots.latencies(MIXED_RUNS),
    "latencies: one": lambda: plots.latencies({"all hits": {0.52: 1}}),
    "latencies: wide": lambda: plots.latencies(
        {"a server that was stuck for a minute": {0.05: 900, 59_999.0: 100}, "no": {1.0: 5}}
    ),
    "by_hit_ratio": lambda: plots.by_hit_ratio(
        {0: 12.1, 0.5: 25.4, 0.8: 60.0, 0.99: 951.0, 1: 2412.0}, RATIOS, "requests a second"
    ),
    "by_hit_ratio: one": lambda: plots.by_hit_ratio({1: 0.5}, {0: 260.0, 1: 0.5}, "p95 (ms)"),
    "draw_hit_ratio": lambda: draw_hit_ratio(Ran(2412.0, HITS), Ran(12.1, MISSES), 0.8),
    "draw_hit_ratio: 97 %": lambda: draw_hit_ratio(Ran(2412.0, HITS), Ran(12.1, MISSES), 0.97),
    "draw_hit_ratio: hits": lambda: draw_hit_ratio(Ran(2412.0, HITS), Ran(12.1, MISSES), 1),
    "bars": lambda: plots.bars({"SCAN": 1211.0, "fixed": 1.0}, "One trip, not 1,211", "commands"),
    "bars: many": lambda: plots.bars(
        {f"a backend with a name, {n}": 10.0**n for n in range(-3, 7)},
        "The seventh is the largest by far",
        "requests a second",
        highlight="a backend with a name, 6",
    ),
    "bars: equal": lambda: plots.bars({"hit": 5.0, "miss": 5.0}, "No difference", "statements"),
    "bars: none": lambda: plots.bars({"hit": 0.0, "miss": 100.0}, "A hit asks nothing", "SQL"),
    "backends": lambda: plots.backends(HIT_TIMES, TOLD),
    "backends: one": lambda: plots.backends({"lru_cache": [0.0002]}, {"lru_cache": False}),
    "backends: alike": lambda: plots.backends(
        {"Redis, unix socket": [0.1, 0.12], "Memcached": [0.1, 0.11]},
        {"Redis, unix socket": True, "Memcached": True},
    ),
    "speed_up": lambda: plots.speed_up(210, 0.2, 214, {0: 0.98, 0.5: 1.9, 0.8: 4.8, 1: 1040}),
    "speed_up: slow hits": lambda: plots.speed_up(6, 2, 8, {0: 0.75, 0.5: 1.2, 1: 3}),
    "speed_up: fast query": lambda: plots.speed_up(6, 0.15, 6.5, {0: 0.92, 0.9: 7.6, 1: 40}),
    "cache_aside": plots.cache_aside,
    "byte_diff": lambda: plots.byte_diff(b"\x80\x05K\x01.", b"\x80\x05G?\xf0\x00\x00."),
    "byte_diff: thirty": lambda: plots.byte_diff(bytes(range(30)), bytes(range(1, 32))),
    "byte_diff: same": lambda: plots.byte_diff(b"users:EU", b"users:EU"),
    "promises": lambda: plots.promises(
        {
            "str(args)": {"1 and '1'": "wrong answer", "f(1) and f(n=1)": "needless miss"},
            "pickle": {"1 and '1'": "right", "f(1) and f(n=1)": "needless miss"},
            "canonical": {"1 and '1'": "right", "f(1) and f(n=1)": "refused"},
        }
    ),
    "transaction": lambda: plots.transaction(
        [
            ("writer", "begin", True, False, "old", "old"),
            ("writer", "savepoint", True, True, "old", "old"),
            ("writer", "release", True, False, "old", None),
            ("reader", "fill", True, False, "old", "old"),
            ("writer", "commit", False, False, "new", "old"),
        ]
    ),
    "copies": lambda: plots.copies(
        ["A stores a copy", "B changes it", "A merges"],
        {"database": ("old", "new", "old"), "copy": ("old", "old", "old")},
        {"database": ("old", "new", "new"), "copy": ("old", "new", "new")},
        "The merge brings the old one back",
    ),
    "formats": lambda: plots.formats(
        {
            "json": {"a date": "refused", "a tuple": "changed"},
            "codec": {"a date": "same", "a tuple": "same"},
        }
    ),
    "growth": lambda: plots.growth([60, 120, 180], [90, 170, 240], [90, 95, 92], "memory (kB)"),
    "growth: nothing with a TTL": lambda: plots.growth([60, 120], [90, 170], [0, 0], "entries"),
    "policies": lambda: plots.policies(
        {
            "allkeys-lfu": {"a usual day": 0.86, "after the job": 0.8, "new favourites": 0.78},
            "allkeys-lru": {"a usual day": 0.81, "after the job": 0.7, "new favourites": 0.8},
            "noeviction": {"a usual day": 1.0, "after the job": 0.79, "new favourites": 0.0},
        }
    ),
    "policies: equal": lambda: plots.policies({"a": {"day": 0.5}, "b": {"day": 0.5}}),
    "invalidation_cost": lambda: plots.invalidation_cost(
        {
            "KEYS + DEL": {10**3: 0.003, 10**4: 0.016, 10**5: 0.17, 10**6: 1.9},
            "SCAN + UNLINK": {10**3: 0.0018, 10**4: 0.018, 10**5: 0.18, 10**6: 2.5},
            "Lua": {10**3: 0.001, 10**4: 0.008, 10**5: 0.08, 10**6: 1.3},
            "SET of keys": {10**3: 0.003, 10**4: 0.02, 10**5: 0.22, 10**6: 2.4},
        }
    ),
    "invalidation_cost: tokens": lambda: plots.invalidation_cost(
        {"Lua": {10**3: 0.001, 10**5: 0.08}, "tokens": {1: 0.0001, 10**6: 0.00011}}
    ),
    "invalidation_cost: uneven": lambda: plots.invalidation_cost(
        {
            "KEYS + DEL": {10**3: 0.003, 10**5: 0.17},
            "SCAN + UNLINK": {10**3: 0.0018, 10**5: 0.18},
            "Lua": {10**3: 0.001, 10**6: 1.3},
            "SET of keys": {10**3: 0.003, 10**6: 2.4},
            "a sixth line of other ways": {10**3: 0.004, 10**5: 0.4},
            "one size": {10**4: 0.1},
        }
    ),
    "draw_run": lambda: draw_run(
        ["R1", "R2", "R3", "W1", "~token:users", "W2"],
        ["R", "R", "R", "W", "eviction", "W"],
        ["SET, GET", "SELECT", "EVALSHA", "UPDATE", "DEL", "INCRBY"],
        {
            "database row": ["EU", "EU", "EU", "US", "US", "US"],
            "valid entry": [None, None, "EU", "EU", None, "EU"],
        },
        "Redis says EU, the database US",
    ),
    "draw_run: long": lambda: draw_run(
        [f"{actor}{n}" for n in (1, 2, 3) for actor in "RSTW"] + ["W!"],
        [*"RSTW"] * 3 + ["W"],
        ["GET", "GET", "GET", "UPDATE", "SELECT", "SELECT", "SELECT", "DEL", "SET", "SET", "SET"]
        + ["", ""],
        {"row": ["old"] * 3 + ["new"] * 10, "entry": ["old"] * 7 + [None] + ["old"] * 5},
        "Redis serves old, the database has new",
    ),
    "draw_run: no lanes": lambda: draw_run(["A1", "B1"], ["A", "B"], ["GET", "SET"], {}, ""),
    "transaction: for now": lambda: plots.transaction(
        [
            ("writer", "begin", True, False, "LATAM", "LATAM"),
            ("writer", "commit", False, False, "EU", "LATAM"),
            ("writer", "delete", False, False, "EU", None),
            ("reader", "fill", False, False, "EU", "EU"),
            ("writer", "commit", False, False, "US", "EU"),
        ]
    ),
    "formats: none": lambda: plots.formats({"json": {"a date": "refused"}}),
    "promises: one": lambda: plots.promises({"call_key": {"1 and '1'": "right", "": "refused"}}),
    "timeline": lambda: plots.timeline(
        {
            "one Redis": [outage("killed"), outage("frozen", 3.4), outage("restarted empty", 6.8)],
            "Sentinel": [outage("Sentinel failover")],
            "Cluster": [outage("Cluster takeover", back=None, errors=2)],
        }
    ),
    "timeline: one": lambda: plots.timeline({"one Redis": [outage("frozen")]}),
    "timeline: nothing was asked": lambda: plots.timeline(
        {"one Redis": [Outage("frozen", 0.8, 1.6, None, [], [], 0, "")]}
    ),
    "scoreboard": lambda: plots.scoreboard(PITFALLS, BOARDS),
    "scoreboard: one row": lambda: plots.scoreboard(PITFALLS[:1], {"a cache": ["fail"]}),
    "deadlines: one": lambda: plots.deadlines({"no jitter": [300.0] * 3}),
    "deadlines": lambda: plots.deadlines(
        {
            "no jitter": [300.01] * 1000,
            "jitter of 10%": [270 + n * 0.03 for n in range(1000)],
            "jitter of 50%": [150 + n * 0.15 for n in range(1000)],
        }
    ),
}


@pytest.fixture(autouse=True)
def agg() -> Iterator[None]:
    """Draw without a screen, and without its warning that there is none."""
    before = mpl.get_backend()
    mpl.use("Agg")
    yield
    plt.close("all")
    mpl.use(before)


@pytest.fixture
def shown(monkeypatch) -> list[Figure]:
    """The figures that are shown, still open while `look` is called on them."""
    figures: list[Figure] = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    return figures


def draw(name: str, monkeypatch: pytest.MonkeyPatch, look: Callable[[Figure], None]) -> None:
    """Draw a picture, and look at its figure at the moment that it is shown."""
    looked: list[bool] = []

    def show() -> None:
        plt.gcf().canvas.draw()
        look(plt.gcf())
        looked.append(True)

    monkeypatch.setattr(plt, "show", show)
    PICTURES[name]()
    assert looked == [True]


def test_every_function_has_a_picture_here():
    functions = {name for name in plots.__all__ if callable(getattr(plots, name))}
    drawn = functions - {"hit_ratio"} | {"draw_run", "draw_hit_ratio"}  # the slider's picture
    assert drawn == {name.partition(":")[0] for name in PICTURES}


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_shown_once_returns_nothing_and_leaves_no_figure(name, shown):
    settings = dict(mpl.rcParams)
    assert PICTURES[name]() is None
    assert len(shown) == 1
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == settings


def test_a_picture_that_fails_leaves_no_figure_either(shown):
    with pytest.raises(ValueError, match="zip"):
        plots.calls([1.0, 2.0], ["miss"])
    assert (shown, plt.get_fignums()) == ([], [])


@pytest.mark.parametrize("name", PICTURES)
def test_the_background_is_white_and_opaque_in_a_dark_theme_too(name, monkeypatch):
    def look(figure: Figure) -> None:
        saved = io.BytesIO()
        # As the notebook's own backend saves it.
        figure.savefig(saved, facecolor=figure.get_facecolor(), bbox_inches="tight")
        saved.seek(0)
        pixels = plt.imread(saved)
        assert pixels.shape[2] == 3 or (pixels[..., 3] == 1).all()
        edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
        assert all((edge[:, :3] == 1).all() for edge in edges)

    with plt.style.context("dark_background"):
        draw(name, monkeypatch, look)


def written(figure: Figure) -> list[Text]:
    """Return every text that can be seen: ticks outside the axes' limits cannot."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            for tick in ticks:
                is_seen = low <= tick.get_loc() <= high and axes.axison
                if not is_seen:
                    hidden |= {tick.label1, tick.label2}
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    return [text for text in texts if text.get_text() and text.get_visible() and text not in hidden]


@pytest.mark.parametrize("name", PICTURES)
def test_no_words_are_cut_off_and_none_collide(name, monkeypatch):
    def look(figure: Figure) -> None:
        if LOOK_AT:
            figure.savefig(Path(LOOK_AT) / f"{name.replace(': ', '-')}.png")
        boxes = [(text.get_text(), Text.get_window_extent(text)) for text in written(figure)]
        assert len(boxes) > 3
        for text, box in boxes:
            assert figure.bbox.x0 <= box.x0, text
            assert box.x1 <= figure.bbox.x1, text
            assert figure.bbox.y0 <= box.y0, text
            assert box.y1 <= figure.bbox.y1, text
        for (text, box), (other_text, other) in itertools.combinations(boxes, 2):
            # Boxes are a little larger than their letters: they may touch.
            is_apart = not box.padded(-1).overlaps(other.padded(-1))
            assert is_apart, f"{text!r} collides with {other_text!r}"

    draw(name, monkeypatch, look)


@pytest.mark.parametrize("name", [name for name in PICTURES if "speed_up" in name])
def test_every_measured_point_and_the_whole_curve_are_inside_the_axes(name, monkeypatch):
    def look(figure: Figure) -> None:
        axes = figure.axes[0]
        low, high = axes.get_ylim()
        curve = axes.lines[0].get_ydata()
        points = np.asarray(axes.collections[0].get_offsets())[:, 1]
        for values in (np.asarray(curve), points):
            assert len(values) >= 3
            assert low < values.min()
            assert values.max() < high

    draw(name, monkeypatch, look)


def test_a_comparison_draws_itself(shown):
    Comparison(FEW).plot()
    assert len(shown) == 1


def test_learners_reach_the_pictures():
    assert labkit.plots is plots


@pytest.mark.parametrize(
    ("name", "kind"), [("hit", "hit"), ("a miss", "miss"), ("fixed codec", "fixed")]
)
def test_a_name_says_its_colour(name, kind):
    assert style.color(name) == plots.PALETTE[kind]


def test_another_name_is_grey():
    assert style.color("Memcached") == style.NEUTRAL


# Titles: what they say is in the data, and would be in a repeat.


def title_of(drawing: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> str:
    titles: list[str] = []
    monkeypatch.setattr(plt, "show", lambda: titles.append(plt.gcf().get_suptitle()))
    drawing()
    [title] = titles
    return title.replace("\n", " ")


def noisy(value: Any, by: float, chance: random.Random) -> Any:
    """Return data whose every time or ratio is another, by as much as a repeat's may be."""
    if isinstance(value, dict):
        return {name: noisy(each, by, chance) for name, each in value.items()}
    if isinstance(value, list):
        return [noisy(each, by, chance) for each in value]
    return value * chance.uniform(1 - by, 1 + by)


SIZES = {10**3: 0.003, 10**4: 0.02, 10**5: 0.22}
TOKENS = {1: 0.00011, 10**5: 0.0001, 10**6: 0.0001}
SPREAD = [270 + n * 0.03 for n in range(1000)]
DAY = {"usual": 0.84, "job": 0.83}

# What is drawn, its data, how noisy that is, and what the title says with any number as #.
REPEATED: list[tuple[Callable[[Any], None], Any, float, str]] = [
    (lambda ms: plots.calls(ms, ["miss", "hit"]), [212.3, 0.2], 0.2, "# of # calls missed"),
    (plots.comparison, {"a": [1.0] * 9, "b": [4.0] * 9}, 0.2, "b: # times as long as a"),
    (
        lambda times: plots.backends(times, {"own": False, "other": False, "shared": True}),
        {"own": [0.001] * 9, "other": [0.004] * 9, "shared": [0.1] * 9},
        0.2,
        "The fastest cache, own, is wrong in a second worker: to be right takes # times as long",
    ),
    (
        lambda times: plots.backends(times, {"own": False, "other": False, "shared": True}),
        {"own": [0.001] * 9, "other": [0.001] * 9, "shared": [0.1] * 9},
        0.1,
        "The fastest caches are wrong in a second worker: to be right takes # times as long",
    ),
    (
        lambda times: plots.backends(times, {"own": False, "shared": True}),
        {"own": [0.1] * 9, "shared": [0.101] * 9},
        0.1,
        "Time of a hit, and whether a second worker sees an invalidation",
    ),
    (plots.comparison, {"a": [1.0] * 9, "b": [1.02] * 9}, 0.1, "Medians between # ms and # ms"),
    (
        plots.comparison,
        {"slow": [9.0] * 9, "slow too": [9.1] * 9, "fast": [1.0] * 9},
        0.1,
        "fast is the fastest: the others take # to # times as long",
    ),
    (
        plots.comparison,
        {"slow": [9.0] * 9, "fast": [1.0] * 9, "fast too": [1.01] * 9},
        0.1,
        "slow is the slowest: # to # times as long as the others",
    ),
    (
        plots.comparison,
        {name: [ms] * 9 for name, ms in zip("abcd", [1, 1.01, 9, 9.1], strict=True)},
        0.1,
        "Medians between # ms and # ms",
    ),
    (
        lambda points: plots.speed_up(300, 0.2, 310, points),
        {0: 1, 0.5: 2, 0.8: 5, 0.9: 10, 1: 1000},
        0.2,
        "Five times as fast: # % hits are too few, # % are enough",
    ),
    (
        lambda points: plots.speed_up(300, 90, 310, points),
        {0: 1, 0.5: 1.7, 1: 3},
        0.05,
        "Measured up to # % hits: never five times as fast",
    ),
    (
        lambda points: plots.speed_up(300, 60, 300, points),
        {0: 1, 0.5: 1.7, 1: 5},
        0.1,
        "Mean speed-up against hit ratio",
    ),
    (
        lambda kept: plots.growth([1, 2], kept[0], kept[1], "entries"),
        [[100.0, 300.0], [100.0, 100.0]],
        0.2,
        "At the end, without a TTL: # times the most with one",
    ),
    (
        lambda kept: plots.growth([1, 2], kept[0], kept[1], "entries"),
        [[100.0, 100.0], [100.0, 100.0]],
        0.1,
        "What is stored without a TTL, and with one: entries",
    ),
    (
        plots.policies,
        {"lfu": DAY, "lru": {"usual": 0.84, "job": 0.7}},
        0.005,
        "Only lfu is close to the best throughout",
    ),
    (
        plots.policies,
        {"lfu": {"usual": 0.6, "job": 0.8}, "lru": {"usual": 0.8, "job": 0.6}},
        0.05,
        "No policy is close to the best throughout",
    ),
    (plots.policies, {"lfu": DAY, "lru": DAY}, 0.02, "Hit ratio of each policy"),
    (
        lambda seconds: plots.deadlines({"all": seconds[0], "spread": seconds[1]}),
        [[300.0] * 1000, SPREAD],
        0.0001,
        "Statements in the busiest second: all #, spread #",
    ),
    (
        plots.invalidation_cost,
        {"tokens": TOKENS, "Lua": SIZES},
        0.3,
        "tokens: # times the entries, less than # times the time",
    ),
    (
        plots.invalidation_cost,
        {"KEYS + DEL": SIZES, "Lua": SIZES},
        0.3,
        "# times the entries take # to # times as long",
    ),
]


@pytest.mark.parametrize(
    ("draw_it", "data", "by", "finding"), REPEATED, ids=[finding for *_, finding in REPEATED]
)
def test_a_title_says_the_same_of_noisy_repeats(draw_it, data, by, finding, monkeypatch):
    chance = random.Random(9)
    for _ in range(10):
        repeat = noisy(data, by, chance)
        title = title_of(partial(draw_it, repeat), monkeypatch)
        assert re.sub(r"[\d,.]*\d", "#", title) == finding


# What no title had been written for: one of a kind, ties, nothing, sizes that differ.
UNEVEN: list[tuple[Callable[[], None], str]] = [
    (lambda: plots.calls([1.0], ["miss"]), "1 of 1 call missed"),
    (lambda: plots.calls([1.0, 1.0], ["hit", "hit"]), "0 of 2 calls missed"),
    (lambda: plots.calls([], []), "0 of 0 calls missed"),
    (lambda: plots.comparison({"hit": [2.0]}), "hit: 2 ms in the median"),
    (lambda: plots.comparison({"a": [1.0], "b": [1.0, 1.0]}), "Medians between 1 ms and 1 ms"),
    (lambda: plots.comparison({"a": [0.0, 0.0], "b": [1.0]}), "Medians between 0 ms and 1 ms"),
    (lambda: plots.speed_up(300, 1, 300, {}), "Mean speed-up against hit ratio"),
    (lambda: plots.speed_up(300, 1, 300, {1: 300}), "Mean speed-up against hit ratio"),
    (
        lambda: plots.speed_up(300, 1, 300, {0.5: 9, 0.9: 2}),
        "Mean speed-up against hit ratio",
    ),
    (
        lambda: plots.speed_up(300, 1, 300, {0: 1}),
        "Measured up to 0 % hits: never five times as fast",
    ),
    (
        lambda: plots.growth([1, 2], [9, 4], [5, 5], "entries"),
        "What is stored without a TTL, and with one: entries",
    ),
    (
        lambda: plots.growth([1, 2], [9, 8], [0, 0], "kB"),
        "What is stored without a TTL, and with one: kB",
    ),
    (lambda: plots.policies({"lru": {"day": 0.0}}), "Hit ratio of each policy"),
    (lambda: plots.policies({"a": DAY, "b": {"usual": 0.1}}), "Hit ratio of each policy"),
    (
        lambda: plots.policies({"a": {"day": 0.9}, "b": {"day": 0.83}}),
        "Hit ratio of each policy",
    ),
    (lambda: plots.deadlines({"all": [1.0]}), "Statements in the busiest second: all 1"),
    (
        lambda: plots.deadlines({"all": [0.0, 0.5], "none": []}),
        "Statements in the busiest second: all 2, none 0",
    ),
    (
        lambda: plots.invalidation_cost({"KEYS + DEL": SIZES, "Lua": {10**3: 0.003, 10**6: 3.0}}),
        "Each way takes longer, the more entries there are",
    ),
    (
        lambda: plots.invalidation_cost({"tokens": TOKENS, "Lua": TOKENS | {10**7: 0.0001}}),
        "tokens and Lua: at least 1,000,000 times the entries, less than 10 times the time",
    ),
    (
        lambda: plots.invalidation_cost({"Lua": {1000: 0.001}}),
        "Time of an invalidation, against the entries of its tag",
    ),
    (
        lambda: plots.invalidation_cost({"Lua": {1: 0.001, 100: 0.001}}),
        "Time of an invalidation, against the entries of its tag",
    ),
    (
        lambda: plots.invalidation_cost({"Lua": SIZES, "once slow": {1: 9.0, 10**6: 0.01}}),
        "Time of an invalidation, against the entries of its tag",
    ),
    (
        lambda: plots.invalidation_cost({"Lua": SIZES, "between": {1: 0.1, 10**6: 1.0}}),
        "Time of an invalidation, against the entries of its tag",
    ),
    (lambda: plots.backends({"own": [1.0]}, {"own": False}), "Time of a hit"),
    (lambda: plots.backends({"a": [1.0], "b": [9.0]}, {"a": True, "b": True}), "Time of a hit"),
    (lambda: plots.latencies({"all hits": {1.0: 94, 7.0: 6}}), "p95: all hits 7 ms"),
    (lambda: plots.latencies({"hits": {1.0: 95, 7.0: 5}}), "p95: hits 1 ms"),
    (lambda: plots.latencies({"none": {}}), "No request was answered"),
    (
        lambda: plots.by_hit_ratio({0: 5.0, 0.5: 10.0, 0.8: 25.0, 1: 2000.0}, RATIOS, "answers"),
        "answers: ×5 up to 80 % hits, ×80 from there to 100 %",
    ),
    (
        lambda: plots.by_hit_ratio({0: 400.0, 0.8: 200.0, 1: 4.0}, RATIOS, "p95 (ms)"),
        "p95 (ms): ÷2 up to 80 % hits, ÷50 from there to 100 %",
    ),
    (lambda: plots.by_hit_ratio({0: 5.0, 1: 9.0}, RATIOS, "answers"), "By hit ratio: answers"),
    (lambda: plots.timeline({}), "No fault was measured"),
    (
        lambda: plots.timeline({"a": [outage("frozen")]}),
        "1 fault, 180 requests, no error; hits back within 0.4 s once Redis serves again",
    ),
    (
        lambda: plots.timeline({"a": [outage("frozen", errors=1), outage("killed", 4, None)]}),
        "2 faults, 360 requests, 1 error; no hits after: killed",
    ),
    (
        lambda: plots.timeline({"a": [outage("frozen", back=1.0)]}),
        "1 fault, 180 requests, no error; hits back within 0.0 s once Redis serves again",
    ),
    (lambda: plots.byte_diff(b"a", b"b"), "Aligned, they differ in 1 of 1 place"),
    (lambda: plots.byte_diff(b"US", b"USA!"), "Aligned, they differ in 2 of 4 places"),
    (lambda: plots.byte_diff(b"", b""), "The same bytes"),
    (lambda: plots.promises({"call_key": {"a": "right"}}), "call_key kept the promise"),
    (
        lambda: plots.promises({"str": {"a": "wrong answer"}, "repr": {"a": "needless miss"}}),
        "No scheme kept the promise: 2 broke it for 1 of 1 pair",
    ),
    (
        lambda: plots.promises(
            {
                "str": {"a": "wrong answer", "b": "right"},
                "pickle": {"a": "wrong answer", "b": "needless miss"},
                "call_key": {"a": "right", "b": "refused"},
            }
        ),
        "call_key kept the promise: 2 others broke it for 1 to 2 of 2 pairs",
    ),
    (
        lambda: plots.promises({"str": {"a": "wrong answer", "b": "right"}, "new": {"a": "right"}}),
        "What became of each pair",
    ),
    (
        lambda: plots.formats({"json": {"a": "changed"}}),
        "No format gave back every value as it was",
    ),
    (
        lambda: plots.formats({name: {"a": "same"} for name in ("a", "b", "c")}),
        "a, b and c gave back every value as it was",
    ),
    (
        lambda: plots.formats({"a": {"x": "same"}, "b": {"x": "same", "y": "same"}}),
        "b gave back every value as it was",
    ),
    (
        lambda: draw_run(["A1"], ["A"], [""], {"row": ["new"], "entry": ["old"]}, ""),
        "A1: the check found nothing stale",
    ),
    (
        lambda: plots.scoreboard(PITFALLS[:1], {"a": ["fail"], "b": ["does not apply"]}),
        "b fell into none of 1 pitfall, 1 other into 1",
    ),
    (
        lambda: plots.scoreboard(PITFALLS[:2], {"a": ["fail", "pass"], "b": ["fail", "fail"]}),
        "2 caches fell into 1 to 2 of 2 pitfalls",
    ),
    (
        lambda: plots.scoreboard(PITFALLS[:2], {"a": ["pass"] * 2, "b": ["pass"] * 2}),
        "a and b fell into none of 2 pitfalls",
    ),
    (lambda: draw_run([], [], [], {"row": [], "entry": []}, ""), ": nothing stale remains"),
]


@pytest.mark.parametrize(("drawing", "title"), UNEVEN, ids=[title for _, title in UNEVEN])
def test_a_title_says_nothing_false_of_uneven_data(drawing, title, monkeypatch):
    assert title_of(drawing, monkeypatch) == title


def test_the_arrow_of_the_speed_up_is_where_the_law_has_five_times(monkeypatch):
    for miss_ms, words in (
        (300, "by the law ×5 at 80 %"),
        (600, "by the law ×5 at 90 %"),
        (240_000, "by the law ×5 at 100.0 %"),
    ):
        texts: list[str] = []
        monkeypatch.setattr(
            plt, "show", lambda seen=texts: seen.extend(t.get_text() for t in plt.gca().texts)
        )
        plots.speed_up(300, 0.2, miss_ms, {0: 1})
        assert texts == [words]


def test_no_line_of_an_invalidations_cost_is_left_out(monkeypatch):
    def look(figure: Figure) -> None:
        assert len(figure.axes[0].lines) == 6

    draw("invalidation_cost: uneven", monkeypatch, look)


def test_a_picture_that_is_saved_is_the_same_each_time_and_is_not_shown(shown, tmp_path):
    files = [tmp_path / name for name in ("one.svg", "two.svg")]
    for file in files:
        plots.scoreboard(PITFALLS, BOARDS, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert b"dc:date" not in files[0].read_bytes()
    assert (shown, plt.get_fignums()) == ([], [])


# Stale lanes.

STATES = (None, "old", "new")
TRUTH = ("old", "new", "new")


def draw_entry(function: str, entry: tuple[str | None, ...]) -> None:
    if function == "draw_run":
        lanes = {"row": TRUTH, "entry": entry}
        draw_run(["A1", "A2", "A3"], ["A"] * 3, [""] * 3, lanes, "stale")
    else:
        both = zip(TRUTH, entry, strict=True)
        plots.transaction([("A", "step", False, False, row, value) for row, value in both])


@pytest.mark.parametrize("entry", [*itertools.product(STATES, repeat=3)])
@pytest.mark.parametrize("function", ["draw_run", "transaction"])
def test_the_stale_colour_begins_where_stale_from_here_stands(function, entry, monkeypatch):
    def look() -> None:
        axes: Any = plt.gca()
        stale = mpl.colors.to_rgba(plots.PALETTE["stale"])
        bars = [bar.get_x() for bar in axes.patches if bar.get_facecolor() == stale]
        lines = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
        wrong = [value not in (None, right) for value, right in zip(entry, TRUTH, strict=True)]
        stays = [n - 0.5 for n in range(3) if all(wrong[n:])]
        assert bars == stays
        assert lines == stays[:1]
        seen = [text.get_text() for text in axes.texts]
        assert seen.count("stale from here") == len(lines)
        assert ("differs for now" in seen) == (sum(wrong) > len(stays))

    monkeypatch.setattr(plt, "show", look)
    draw_entry(function, entry)


# Colours, as they are seen.

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SIGHT = {
    "any": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = TO_XYZ @ np.ones(3)
CLEARLY_APART = 15  # in CIELAB, where some 2.3 can just be noticed


def linear(shade: str) -> Any:
    values = np.array([int(shade[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(shade: str, sight: str) -> Any:
    seen = np.clip(SIGHT[sight] @ linear(shade), 0, 1)
    ratio = TO_XYZ @ seen / WHITE
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast_with_white(shade: str) -> float:
    luminance = float((TO_XYZ @ linear(shade))[1])
    return 1.05 / (luminance + 0.05)


@pytest.mark.parametrize("sight", SIGHT)
def test_the_colours_can_be_told_apart(sight):
    for one, other in itertools.combinations(plots.PALETTE, 2):
        shades = plots.PALETTE[one], plots.PALETTE[other]
        difference = math.dist(lab(shades[0], sight), lab(shades[1], sight))
        assert difference >= CLEARLY_APART, f"{one} and {other}: {difference:.0f}"


def test_red_and_green_would_not_pass():
    assert math.dist(lab("#C04000", "deuteranopia"), lab("#808000", "deuteranopia")) < CLEARLY_APART


@pytest.mark.parametrize("name", plots.PALETTE)
def test_a_colour_can_be_read_on_white(name):
    assert contrast_with_white(plots.PALETTE[name]) >= 3


def test_ink_reads_as_text_does():
    assert contrast_with_white(style.INK) >= 7
    assert contrast_with_white("#FFFFFF") == pytest.approx(1)
