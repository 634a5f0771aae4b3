"""Every interleaving: found, counted, replayed; and FACTS.md's table of protocols, cell by cell."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator

import pytest

import labkit
from labkit import Lab, LabError
from labkit.concurrency.schedule import explore
from tests.protocols import (
    BumpBeforeCommit,
    BusyMarker,
    DeleteAfterCommit,
    MarkerForEachWriter,
    Protocol,
    Shop,
    StampedAtSet,
    TokenAndCompareAndSet,
    VersionCounter,
    explore_protocol,
)

ALL = bool(os.environ.get("LABKIT_ALL_SCHEDULES"))
whole = pytest.mark.skipif(not ALL, reason="minutes: LABKIT_ALL_SCHEDULES=1 runs it")
STALE, OK = "stale", "ok"
COLUMNS = ("plain", "writer crashes", "version evicted", "old snapshot")
# FACTS.md, "Every interleaving of two readers and a writer".
TABLE = {
    DeleteAfterCommit: (STALE, STALE, STALE, STALE),
    StampedAtSet: (STALE, STALE, STALE, STALE),
    VersionCounter: (OK, STALE, STALE, STALE),
    BumpBeforeCommit: (STALE, STALE, STALE, STALE),
    TokenAndCompareAndSet: (OK, STALE, OK, STALE),
    BusyMarker: (OK, OK, OK, STALE),
    MarkerForEachWriter: (OK, OK, OK, STALE),
}
CELLS = [
    pytest.param(protocol, column, expected, id=f"{protocol.__name__}-{column}")
    for protocol, cells in TABLE.items()
    for column, expected in zip(COLUMNS, cells, strict=True)
]


@pytest.fixture(scope="module")
def lab(own_data: None) -> Iterator[Lab]:
    with labkit.start(users=5, orders=5) as started:
        yield started


@pytest.fixture(scope="module")
def shop(lab: Lab) -> Shop:
    return Shop(lab)


@pytest.mark.parametrize(("protocol", "column", "expected"), CELLS)
def test_the_table_of_protocols(
    shop: Shop, protocol: type[Protocol], column: str, expected: str
) -> None:
    actors = protocol(shop, old_snapshot=column == "old snapshot")
    # One stale schedule proves "stale"; "ok" is said of all of them. Those of two readers and a
    # fault take a minute together, so by default one reader has to do for them.
    readers = "RS" if ALL or expected == STALE or column == "plain" else "R"
    found = explore_protocol(actors, column, expected == STALE, readers)

    assert (STALE if found.stale else OK) == expected


@pytest.mark.parametrize(
    ("protocol", "faults", "writers", "expected"),
    [
        (BusyMarker, "writer crashes, version evicted", "W", STALE),
        (MarkerForEachWriter, "writer crashes, version evicted", "W", STALE),
        (BusyMarker, "writer crashes", "WV", STALE),
        (MarkerForEachWriter, "writer crashes", "WV", OK),
        pytest.param(MarkerForEachWriter, "version evicted", "WV", OK, marks=whole),
    ],
)
def test_two_faults_at_once_and_two_writers(
    shop: Shop, protocol: type[Protocol], faults: str, writers: str, expected: str
) -> None:
    found = explore_protocol(protocol(shop), faults, expected == STALE, "R", writers)

    assert (STALE if found.stale else OK) == expected


def test_what_is_found_happens_again_when_it_is_replayed(shop: Shop) -> None:
    found = explore_protocol(DeleteAfterCommit(shop))

    assert len(found.stale) > 0
    for run in found.stale:
        again = found.replay(run.schedule)
        assert (again.schedule, again.problem) == (run.schedule, run.problem)


def test_a_replay_shows_each_step_and_lane(shop: Shop) -> None:
    run = explore_protocol(DeleteAfterCommit(shop)).replay("R1 R2 W1 W2 R3 S1")

    assert [(step.token, step.label) for step in run.steps] == [
        ("R1", "GET"),
        ("R2", "SELECT"),
        ("W1", "UPDATE"),
        ("W2", "DEL"),
        ("R3", "SET"),
        ("S1", "GET"),
    ]
    assert [step.lanes["row"] for step in run.steps] == [b"old"] * 2 + [b"new"] * 4
    assert [step.lanes["entry"] for step in run.steps] == [None] * 4 + [b"old"] * 2
    assert run.problem == "Redis serves old, the database has new"


def test_every_order_of_independent_steps_is_run_once(lab: Lab) -> None:
    seen = set()
    order: list[str] = []

    def actor(name: str, steps: int):
        def run():
            for _ in range(steps - 1):
                order.append(name)
                yield
            order.append(name)

        return run

    def check() -> None:
        assert tuple(order) not in seen
        seen.add(tuple(order))

    found = explore(
        {"A": actor("A", 4), "B": actor("B", 3), "C": actor("C", 2)},
        check,
        lab=lab,
        reset=order.clear,
    )

    expected = math.factorial(9) // (math.factorial(4) * math.factorial(3) * math.factorial(2))
    assert found.schedules == len(seen) == expected


def test_a_crash_and_an_eviction_can_come_after_any_step(lab: Lab) -> None:
    done: list[int] = []

    def actor():
        for number in range(3):
            done.append(number)
            yield

    found = explore(
        {"A": actor}, lambda: f"{len(done)}", lab=lab, reset=done.clear, crash="A", evict=["k"]
    )
    schedules = {run.schedule for run in found.stale}

    assert {"A1 A!", "A1 A2 A!", "A1 A2 A3 A!", "A1 A2 A3 A4"} <= schedules
    assert {"~k A1 A!", "A1 ~k A!", "A1 A2 A3 ~k A4"} <= schedules
    assert len(schedules) == found.schedules
    assert all(text.count("~k") <= 1 for text in schedules)


def test_a_crashed_actor_does_nothing_more_not_even_cleaning_up(lab: Lab) -> None:
    cleaned = []

    def actor():
        try:
            yield
        finally:
            cleaned.append(True)

    def check() -> str | None:
        return "cleaned up" if cleaned else None

    found = explore({"A": actor}, check, lab=lab, reset=cleaned.clear, crash="A")

    assert [run.schedule for run in found.stale] == ["A1 A2"]


def test_each_schedule_begins_with_an_empty_redis(lab: Lab) -> None:
    def actor():
        assert lab.redis.dbsize() == 0
        yield
        lab.redis.set("k", 1)

    assert explore({"A": actor}, lambda: None, lab=lab, crash="A").schedules == 2


def test_an_impossible_step_is_named_in_two_lines(shop: Shop) -> None:
    found = explore_protocol(DeleteAfterCommit(shop), stop_at_first=True)

    for schedule in ("R2", "R1 R1", "X1", "W!", "~version", "nonsense"):
        with pytest.raises(LabError) as caught:
            found.replay(schedule)
        assert len(str(caught.value).splitlines()) == 2
        assert "R1" in str(caught.value) or "R2" in str(caught.value)


def test_nothing_stale_cannot_be_drawn_unless_it_is_named(shop: Shop) -> None:
    found = explore_protocol(VersionCounter(shop))

    with pytest.raises(LabError, match="no schedule ends stale"):
        found.plot()
    assert str(found) == f"{found.schedules:,} schedules, 0 end stale"


def test_no_actors_or_a_crash_of_nobody_is_refused(lab: Lab) -> None:
    def actor():
        yield

    with pytest.raises(LabError, match="explore needs actors"):
        explore({}, lambda: None, lab=lab)
    with pytest.raises(LabError, match="explore needs actors"):
        explore({"A": actor}, lambda: None, lab=lab, crash="B")


def recorder(done: list[str], name: str, steps: int):
    def actor():
        for number in range(steps):
            done.append(f"{name}:{number}")
            yield

    return actor


def test_an_actors_name_may_end_in_a_digit(lab: Lab) -> None:
    done: list[str] = []
    actors = {name: recorder(done, name, steps) for name, steps in {"R": 1, "R1": 2}.items()}
    found = explore(actors, lambda: " ".join(done), lab=lab, reset=done.clear, crash="R1")
    schedules = {run.schedule for run in found.stale}

    assert len(schedules) == found.schedules == len(found.stale)
    assert "R1 R1.1 R2 R1.2 R1.3" in schedules
    assert "R1.1 R1 R1! R2" in schedules
    run = found.replay("R1.1 R1 R1.2 R2 R1!")

    assert [step.actor for step in run.steps] == ["R1", "R", "R1", "R", "R1"]
    assert run.problem == "R1:0 R:0 R1:1"


def test_no_two_steps_have_one_token(lab: Lab) -> None:
    names = ["R", "R1", "R11", "R1.1", "R1.x", "²", "r٣", "a.b", "9", "reader~1"]
    done: list[str] = []
    actors = {name: recorder(done, name, 12) for name in names}
    stage = explore(actors, lambda: "stale", lab=lab, stop_at_first=True)
    (run,) = stage.stale
    steps = stage.replay(run.schedule).steps

    assert len({step.token for step in steps}) == len(steps) == 13 * len(names)
    assert [step.actor for step in steps] == [name for name in names for _ in range(13)]


@pytest.mark.parametrize("name", ["", "R ", "a b", "R!", "~R", "R1.", ".", "a\n"])
def test_a_name_that_a_schedule_cannot_show_is_refused(lab: Lab, name: str) -> None:
    with pytest.raises(LabError, match="cannot be an actor's name") as caught:
        explore({"W": recorder([], "W", 1), name: recorder([], name, 1)}, lambda: None, lab=lab)
    assert len(str(caught.value).splitlines()) == 2


def test_an_actors_error_is_not_swallowed(lab: Lab) -> None:
    def actor():
        yield
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        explore({"A": actor}, lambda: None, lab=lab)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its CPUs")
def test_it_and_its_server_take_turns_on_one_cpu_only_while_it_runs(lab: Lab) -> None:
    assert lab.server.pid is not None
    both = 0, lab.server.pid
    before = [os.sched_getaffinity(process) for process in both]
    meanwhile: list[set[int]] = []

    def actor():
        yield
        meanwhile.extend(os.sched_getaffinity(process) for process in both)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        explore({"A": actor}, lambda: None, lab=lab)

    assert meanwhile[0] == meanwhile[1]
    assert len(meanwhile[0]) == 1
    assert [os.sched_getaffinity(process) for process in both] == before


def test_drawing_shows_every_lane_and_step(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    texts: list[str] = []
    monkeypatch.setattr(plt, "show", lambda: texts.extend(t.get_text() for t in plt.gca().texts))
    found = explore_protocol(DeleteAfterCommit(shop), "writer crashes")
    found.plot("R1 R2 R3 W1 W! S1")

    assert {"GET", "SELECT", "SET", "UPDATE", "crash", "stale from here"} <= set(texts)
    assert plt.get_fignums() == []


def test_a_thousand_schedules_take_seconds_not_minutes(shop: Shop) -> None:
    began = time.perf_counter()
    found = explore_protocol(BusyMarker(shop))

    assert (time.perf_counter() - began) / found.schedules < 0.05
