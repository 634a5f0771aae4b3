"""Faults under load: no error, nothing stale, what was lost is found, nothing is left behind."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import labkit
from labkit.concurrency import lost as losing
from labkit.concurrency import timeline as lines
from labkit.concurrency.clients import client_of
from labkit.concurrency.lost import ASKED, ENTRIES, Database, Renewed, SmallCache, lost
from labkit.concurrency.outage_shop import (
    BYPASS,
    HIT,
    MISS,
    READ,
    WRITTEN,
    Event,
    OutageShop,
    serve,
    too_old,
)
from labkit.concurrency.timeline import Episode, Timeline, compared, p99, timeline
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.measure.paced import Answered
from labkit.servers import Keeper
from labkit.servers.failover import failing_program, start_alone
from tests.helpers import REPOSITORY
from tests.kills import killed_after

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Redis program")

KILLS = int(os.environ.get("LABKIT_FAULT_KILLS", "2"))
LIFE = 16.0  # seconds: a little more than a time line takes


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with labkit.start(users=300, orders=2_000) as lab:
        yield lab


@pytest.fixture(scope="module")
def line(lab: Lab) -> Timeline:
    return timeline(lab)


# The time line.


def test_no_request_fails_and_no_answer_is_stale(line: Timeline) -> None:
    assert (line.errors, line.stale, line.too_old) == (0, 0, 0)
    assert [each.failed for each in line.episodes] == [0] * 5


def test_every_fault_is_there_in_its_lane(line: Timeline) -> None:
    assert {name: [each.fault for each in lane] for name, lane in line.lanes.items()} == {
        "one Redis": [lines.KILLED, lines.FROZEN, lines.EMPTIED],
        "Sentinel": [lines.FAILOVER],
        "Cluster": [lines.TAKEOVER],
    }


def test_hits_return_after_each_fault_and_all_questions_are_hits_then(line: Timeline) -> None:
    assert line.returned
    for each in line.episodes:
        assert each.hits == each.asked == lines.ROUNDS * 8
        assert 0 <= each.back_ms < 1000 * lines.PATIENCE


def test_no_hit_comes_while_redis_is_away(line: Timeline) -> None:
    for each in line.episodes:
        late = [event for event in each.events if each.begin + lines.NOTICED < event.at < each.end]
        if each.fault != lines.EMPTIED:
            assert {event.kind for event in late} >= {BYPASS, READ}
        if each.fault in (lines.KILLED, lines.FROZEN):
            assert HIT not in {event.kind for event in late if event.at < each.begin + 0.7}


def test_writes_go_on_meanwhile_and_some_invalidations_are_owed(line: Timeline) -> None:
    for each in line.episodes:
        assert each.writes == sum(answer.path.startswith("POST") for answer in each.answers)
        assert each.writes > 0
        during = [e for e in each.events if e.kind == WRITTEN and each.begin < e.at < each.end]
        if each.fault not in (lines.KILLED, lines.EMPTIED):
            assert during
            assert 0 < each.owed <= each.writes


def test_no_write_is_due_while_the_redis_is_killed_that_comes_back_with_an_old_snapshot(
    line: Timeline,
) -> None:
    """Else what is owed would replace its tokens, whether a restart is noticed or not."""
    killed = line.of(lines.KILLED)
    due = [each.due for each in killed.answers if each.path.startswith("POST")]

    assert len(due) == killed.writes == 3
    assert max(due) < killed.begin
    assert max(each.at for each in killed.events if each.kind == WRITTEN) < killed.begin


def test_the_same_requests_are_in_the_journal_and_in_the_senders_log(line: Timeline) -> None:
    for each in line.episodes:
        reads = [answer for answer in each.answers if not answer.path.startswith("POST")]
        assert len(reads) == sum(event.kind == READ for event in each.events)


def test_the_table_has_a_row_for_each_fault(line: Timeline) -> None:
    rows = str(line).splitlines()[2:]

    assert [row.split("  ")[0] for row in rows] == [each.fault for each in line.episodes]
    for row, each in zip(rows, line.episodes, strict=True):
        assert row.split()[-3:] == ["0", "of", str(each.asked)]
        assert "none" in row


def test_the_picture_is_drawn_of_it(line: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, list[object]]] = []
    monkeypatch.setattr("labkit.measure.plots.timeline", drawn.append)
    line.plot()
    Timeline({}).plot()

    [lanes] = drawn
    assert {name: len(own) for name, own in lanes.items()} == {
        "one Redis": 3, "Sentinel": 1, "Cluster": 1
    }  # fmt: skip


def an_episode(answers: list[Answered], back: float | None = 20.0) -> Episode:
    return Episode("frozen", 0.0, 10.0, 15.0, back, answers, [], 8, 8, 0)


def test_a_request_counts_for_the_time_in_which_it_was_under_way() -> None:
    answers = [
        Answered(1.0, 0.001, 200, "/"),
        Answered(9.9, 0.5, 200, "/"),  # under way when it began
        Answered(12.0, 0.3, 200, "/"),
        Answered(20.0, 0.002, 200, "/"),
    ]
    assert an_episode(answers).p99 == (1.0, 500.0, 2.0)
    before, during, after = an_episode(answers[:3], back=None).p99
    assert (before, during) == (1.0, 500.0)
    assert math.isnan(after)
    assert an_episode(answers, back=None).back_ms == math.inf
    assert an_episode(answers, back=14.0).back_ms == 0.0
    assert an_episode(answers).back_ms == an_episode(answers).away_ms == 5000.0


def test_a_read_is_too_old_by_the_writes_of_earlier_loads_as_well() -> None:
    written, read = Event(1.0, 1, WRITTEN, "total/1", 5), Event(11.0, 1, READ, "total/1", 4)
    episode = an_episode([])

    assert replace(episode, events=[read], written=[written]).too_old == 1
    assert replace(episode, events=[read]).too_old == 0


def test_what_is_not_answered_is_an_error_and_so_is_a_5xx() -> None:
    answers = [Answered(1.0, 0.1, status, "/") for status in (200, 204, 404, 500, 503, 0)]
    episode = an_episode(answers)

    assert (episode.requests, episode.failed, episode.errors) == (6, 4, 3)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [([0.003], 3.0), ([*range(1, 101)], 99_000.0), ([5.0] * 99 + [9.0] * 2, 9000.0)],
)
def test_p99(seconds: list[float], expected: float) -> None:
    assert p99(seconds[::-1]) == expected
    assert math.isnan(p99([]))


def test_owed_is_what_each_worker_has_counted_meanwhile() -> None:
    written = [(1.0, 7, 3), (2.0, 8, 0), (3.0, 7, 4), (4.0, 7, 5), (5.0, 8, 0)]
    events = [Event(at, pid, WRITTEN, "total/1", 9, owed) for at, pid, owed in written]
    episode = Episode("frozen", 0, 1, 2, 3, [], events, 8, 8, 0)

    assert (episode.owed, episode.writes) == (2, 5)


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ([(0.5, 1), (2.5, 2), (3.5, 3)], 0),
        ([(1.5, 1)], 0),  # the write was not answered yet
        ([(2.5, 1)], 1),
        ([(3.5, 2), (3.6, 2), (3.7, 3)], 2),
        ([(1.5, 2)], 0),  # committed, and not answered: it may be read already
    ],
)
def test_a_read_is_too_old_if_a_write_was_answered_before_it_was_asked(
    reads: list[tuple[float, int]], expected: int
) -> None:
    events = [Event(at, 1, READ, "total/1", value) for at, value in reads]
    events += [Event(2.0, 1, WRITTEN, "total/1", 2), Event(3.0, 1, WRITTEN, "total/1", 3)]
    events += [Event(0.1, 1, WRITTEN, "total/2", 99), Event(0.2, 1, MISS)]

    assert too_old(events) == expected


# What looks for stale answers finds them.


@pytest.fixture
def shop(lab: Lab) -> Iterator[tuple[OutageShop, Keeper]]:
    keeper = Keeper()
    try:
        group = start_alone(failing_program(lab.server), keeper)
        yield serve(lab, group.told, keeper, range(101, 105)), keeper
    finally:
        keeper.close()


def test_a_write_behind_the_caches_back_is_found(lab: Lab, shop: tuple[OutageShop, Keeper]) -> None:
    served, _ = shop
    compared(served)
    assert compared(served) == (32, 32, 0)
    with lab.app.app_context():
        url = lab.db.engine.url
    if url.get_backend_name() != "sqlite":
        pytest.skip("it writes to SQLite's file by itself")
    with closing(sqlite3.connect(str(url.database))) as behind, behind:
        behind.execute("UPDATE order_lines SET quantity = quantity + 1 WHERE order_id = 102")

    assert compared(served) == (32, 32, lines.ROUNDS)


def test_an_old_snapshot_is_stale_without_renewal_and_is_not_with_it(lab: Lab) -> None:
    keeper = Keeper()
    try:
        node = start_alone(failing_program(lab.server), keeper).node
        client = client_of(node.url)
        alone = SmallCache(client, "alone")
        with closing(Renewed(client_of(node.url), Database())) as renewed:
            assert (alone.read(), renewed.stale()) == (1, 0)
            snapshot = node.saved()
            alone.write()
            assert renewed.write() == 0
            assert (alone.stale(), renewed.stale()) == (0, 0)
            node.kill()
            node.start(snapshot)

            assert alone.stale() == ASKED
            assert renewed.stale() == 0
    finally:
        keeper.close()


def test_a_cache_that_does_not_notice_a_restart_is_found_out(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers' QueryCache keeps its tokens, whichever server it meets: all else is as it is."""
    shutil.copytree(REPOSITORY / "labkit", tmp_path / "labkit")
    script = tmp_path / "labkit/cache/recognise.lua"
    renews = "redis.call('SET', KEYS[2], ARGV[2])"
    assert renews in script.read_text()
    script.write_text(script.read_text().replace(renews, ""))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # python -m looks there first

    def only_killed(program: Path, keeper: Keeper) -> tuple[object, list[lines.Fault]]:
        told, faults = lines._alone(program, keeper)
        return told, [fault for fault in faults if fault.name == lines.KILLED]

    keeper, program = Keeper(), failing_program(lab.server)
    try:
        [killed] = lines._lane(lab, program, only_killed, keeper, 50, threading.Barrier(1))
    finally:
        keeper.close()
    assert (killed.errors, killed.hits) == (0, killed.asked)
    assert killed.stale == 3 * lines.ROUNDS  # three orders were written to


def test_a_shop_that_does_not_start_ends_all_of_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    keepers: list[Keeper] = []

    def keep() -> Keeper:
        keepers.append(Keeper())
        return keepers[-1]

    def fail(*_: object) -> None:
        raise LabError("the Cluster does not come up")

    monkeypatch.setattr(lines, "Keeper", keep)
    monkeypatch.setattr(lines, "start_clustered", fail)

    with pytest.raises(LabError, match=r"Cluster does not come up|another shop was not served"):
        timeline(lab)
    assert len(keepers) == 3
    assert not any(keeper.directory.exists() for keeper in keepers)


def test_where_there_is_no_program_nothing_starts_and_it_is_said(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lines, losing):
        monkeypatch.setattr(module, "can_fail", lambda server: False)
    monkeypatch.setattr("labkit.servers.keeper.subprocess.Popen", None)
    for found in (timeline(lab), lost(lab)):
        assert not found.measured
        assert str(found).startswith("not measured")


# An invalidation that is acknowledged and lost.


def test_each_way_loses_and_mends_what_it_is_said_to(lab: Lab) -> None:
    found = lost(lab)

    told = {way: (each.told, each.stale, each.then) for way, each in found.outcomes.items()}
    short = told.pop(losing.EXPIRED)
    assert told == {
        losing.ALONE: ("OK", ASKED, ASKED),
        losing.OTHER: ("OK, replicas: 1", ASKED, ASKED),
        losing.WAITED: ("OK, replicas: 0", ASKED, 0),
        losing.RENEWED: ("OK", 0, 0),
        losing.TWO: ("OK", ASKED, 0),
    }
    assert (short[0], short[2]) == ("OK", 0)
    assert found.measured
    assert found.misses == ENTRIES
    assert found.stale_seconds < losing.SHORT_TTL + 0.1  # Redis counts in whole milliseconds
    assert len(str(found).splitlines()) == 1 + len(losing.PRICES) + 1


# Nothing outlives who started it.

KERNEL = """
import labkit
from labkit.concurrency.lost import lost
from labkit.concurrency.timeline import timeline
lab = labkit.start("wheel", users=300, orders=2_000)
print("begun", flush=True)
timeline(lab), lost(lab)
print("ended", flush=True)
"""


def test_a_kernel_that_is_killed_at_any_moment_leaves_nothing() -> None:
    labkit.start("wheel", users=300, orders=2_000).close()  # seeded once, for all of them
    moments = [LIFE * (number + 0.5) / KILLS for number in range(KILLS)]
    with ThreadPoolExecutor(2) as pool:
        most = list(pool.map(partial(killed_after, code=KERNEL), moments))
    assert max(most) >= 20  # servers, web servers and senders, all at once
