"""One loader for many waiters, in threads and in processes; holders crash, fail and are late."""

from __future__ import annotations

import ast
import math
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import redis

import labkit
from labkit import Lab, LabError
from labkit.cache import loading, tokens
from labkit.cache.loading import SingleFlight
from labkit.concurrency import lease
from labkit.concurrency import stampede as crowd
from labkit.concurrency.early_loading import first_loads, never, simulate
from labkit.concurrency.lease import fetch_with_lease
from labkit.concurrency.stampede import Gate, crashed_holder, stampede
from labkit.lessons.exercises import Outcome, judge
from labkit.servers.processes import worker
from tests.helpers import defined, defined_in_notebook, dies_with_its_kernel

CALLERS = 20
LONG_LEASE = 60_000  # milliseconds: a test that waits for it has failed


@pytest.fixture(scope="module", params=["server", "wheel"])
def lab(request: pytest.FixtureRequest, own_data: None) -> Iterator[Lab]:
    try:
        started = labkit.start(request.param, users=50, orders=100)
    except LabError as error:
        pytest.skip(str(error).splitlines()[0])
    with started:
        yield started


@pytest.fixture
def client(lab: Lab) -> redis.Redis:
    lab.redis.flushdb()
    return lab.redis


class Loader:
    """Loads b"1", b"2" and so on, each once as many callers as told have found nothing."""

    def __init__(self, callers: int = 0) -> None:
        self.calls = 0
        self.arrivals = threading.Semaphore(0)
        self._callers = callers

    def arrive(self) -> None:
        self.arrivals.release()

    def __call__(self) -> bytes:
        for _ in range(self._callers):
            assert self.arrivals.acquire(timeout=30)
        self._callers = 0
        self.calls += 1
        return b"%d" % self.calls


class LoadError(Exception):
    pass


def failing() -> bytes:
    raise LoadError


def in_threads(function: Callable[[], Any]) -> list[Any]:
    """Return what each thread's call gave, or what it raised."""

    def outcome(_: int) -> Any:
        try:
            return function()
        except LoadError as error:
            return error

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(outcome, range(CALLERS)))


# Single-flight, within a process.


def test_of_many_threads_one_loads_and_all_have_its_answer():
    flights, load = SingleFlight(), Loader(CALLERS)

    answers = in_threads(lambda: flights.do("users", load, on_join=load.arrive))

    assert (answers, load.calls) == ([b"1"] * CALLERS, 1)


def test_single_flight_remembers_nothing():
    flights, load = SingleFlight(), Loader()

    assert [flights.do("users", load) for _ in range(3)] == [b"1", b"2", b"3"]


def test_what_a_load_raises_is_raised_in_all_who_wait_and_the_next_loads():
    flights, load = SingleFlight(), Loader(CALLERS)

    def fail() -> bytes:
        load()
        raise LoadError

    errors = in_threads(lambda: flights.do("users", fail, on_join=load.arrive))

    assert [type(error) for error in errors] == [LoadError] * CALLERS
    assert load.calls == 1
    assert flights.do("users", lambda: b"again") == b"again"


def test_who_wants_something_else_does_not_wait():
    flights, both_load = SingleFlight(), threading.Barrier(2)

    def load() -> bool:
        both_load.wait(timeout=30)
        return True

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda key: flights.do(key, load), ["users", "orders"]))


# A lease, between processes.


def fetch(
    client: redis.Redis,
    load: Callable[[], bytes],
    lease_ms: int = LONG_LEASE,
    on_miss: Callable[[], object] = lambda: None,
) -> bytes:
    return fetch_with_lease(client, "count", load, 60, lease_ms, "users", on_miss=on_miss)


def stored(client: redis.Redis) -> bytes | None:
    return tokens.lookup(client, "count", "users").value


def store(client: redis.Redis, value: bytes) -> None:
    found = tokens.lookup(client, "count", "users")
    assert tokens.fill(client, "count", value, 60, found, "users")


def test_of_many_misses_one_loads_and_the_others_find_its_entry(client):
    load = Loader(CALLERS)

    answers = in_threads(lambda: fetch(client, load, on_miss=load.arrive))

    assert (answers, load.calls) == ([b"1"] * CALLERS, 1)
    assert stored(client) == b"1"
    assert 0 < client.ttl("count") <= 60
    assert client.exists("lease:count") == 0


def test_a_hit_is_one_command_and_no_load(lab, client):
    store(client, b"7")

    with lab.observe(show=False) as seen:
        answer = fetch(client, failing, on_miss=failing)

    assert (answer, list(seen.redis)) == (b"7", ["MGET"])


def test_an_entry_that_came_between_the_look_and_the_lease_is_not_loaded_again(client):
    assert fetch(client, failing, on_miss=lambda: store(client, b"7")) == b"7"
    assert client.exists("lease:count") == 0


def test_an_invalidated_entry_is_loaded_again(client):
    fetch(client, lambda: b"7")
    tokens.invalidate(client, "users")

    assert fetch(client, lambda: b"8") == b"8"
    assert stored(client) == b"8"


def test_what_was_written_to_during_the_load_is_not_stored(client):
    def load() -> bytes:
        tokens.invalidate(client, "users")
        return b"old"

    assert fetch(client, load) == b"old"
    assert stored(client) is None
    assert client.exists("lease:count") == 0


def test_while_a_writer_is_under_way_all_load_and_none_waits_or_stores(client):
    all_load = threading.Barrier(CALLERS)
    tokens.mark(client, "writer", "users")

    def load() -> bytes:
        all_load.wait(timeout=30)
        return b"7"

    assert in_threads(lambda: fetch(client, load)) == [b"7"] * CALLERS
    tokens.invalidate(client, "users", writer="writer")
    assert stored(client) is None


def test_a_load_that_fails_gives_its_lease_back(client):
    with pytest.raises(LoadError):
        fetch(client, failing)

    assert client.exists("lease:count") == 0


def test_after_a_load_that_failed_one_who_waits_loads(client):
    load = Loader(CALLERS)
    first = threading.Lock()

    def fail_once() -> bytes:
        answer = load()
        if first.acquire(blocking=False):
            raise LoadError
        return answer

    answers = in_threads(lambda: fetch(client, fail_once, on_miss=load.arrive))

    assert sorted(map(repr, answers)) == ["LoadError()"] + ["b'2'"] * (CALLERS - 1)


def test_a_late_holder_leaves_the_lease_of_another_alone(client):
    def late() -> bytes:
        client.set("lease:count", "another's", px=LONG_LEASE)
        return b"7"

    assert fetch(client, late, lease_ms=1) == b"7"
    assert client.get("lease:count") == b"another's"


def test_a_killed_holder_costs_its_lease_and_then_one_loads(lab, client):
    crashed_holder(lab, "count", LONG_LEASE)
    with client.pipeline() as pipe:  # the lease must not end before its end is known
        pipe.pexpire("lease:count", 500)
        pipe.pexpiretime("lease:count")
        was_there, deadline = pipe.execute()
    assert was_there
    loaded_at: list[float] = []

    def load() -> bytes:
        seconds, microseconds = client.time()
        loaded_at.append(1000 * seconds + microseconds / 1000)
        return b"7"

    answers = in_threads(lambda: fetch(client, load))

    assert answers == [b"7"] * CALLERS
    assert len(loaded_at) == 1
    assert deadline <= loaded_at[0] < deadline + 10_000  # the margin is for a busy machine


def test_without_a_crash_nobody_waits_for_the_lease_to_end(client):
    fetch(client, lambda: b"7")
    client.delete("count")

    assert fetch(client, lambda: b"8") == b"8"


def test_without_tags_a_lease_alone_is_kept(client):
    assert fetch_with_lease(client, "count", lambda: b"7", 60, LONG_LEASE) == b"7"
    assert fetch_with_lease(client, "count", failing, 60, LONG_LEASE) == b"7"


# The crowd.


@pytest.mark.parametrize(
    ("strategy", "statements"),
    [("none", [25] * 4), ("single-flight", [1] * 4), ("lease", [0, 0, 0, 1])],
)
def test_a_hundred_misses_in_four_processes(lab, strategy, statements):
    assert stampede(lab, strategy) == statements


def test_the_crowd_is_gone_when_the_stampede_is_over(lab):
    before = set(psutil.Process().children())
    stampede(lab, "lease", processes=2, threads=2)
    lab.redis.flushdb()
    crashed_holder(lab, "users", LONG_LEASE)

    assert set(psutil.Process().children()) <= before


def test_a_simulated_redis_cannot_be_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    with labkit.start("fake", users=5, orders=5) as simulated:
        with pytest.raises(LabError):
            stampede(simulated, "lease")
        with pytest.raises(LabError):
            crashed_holder(simulated, "users", LONG_LEASE)


def test_a_process_that_ends_too_early_is_named(lab, monkeypatch):
    monkeypatch.setattr(crowd, "_task", lambda lab, key: {"redis": "", "key": key})

    with pytest.raises(LabError, match="ended before its work"):
        crashed_holder(lab, "users", 1)


def test_a_process_that_has_ended_is_named_by_whoever_speaks_to_it():
    task = {"redis": "nowhere", "key": "users"}
    with worker(crowd.MODULE, task) as ended:
        psutil.Process(ended.pid).wait(60)
        with pytest.raises(LabError, match="ended before its work"):
            ended.tell("a line that nobody reads")


def test_the_gate_opens_for_the_whole_crowd_only(client, monkeypatch):
    monkeypatch.setattr(crowd, "GATE_TIMEOUT", 0.05)
    gate = Gate(client, crowd=2)
    gate.arrive()
    with pytest.raises(TimeoutError, match="not complete"):
        gate.wait()
    gate.arrive()
    gate.wait()
    gate.wait()


HOLD = """
import labkit, time
from labkit.concurrency.stampede import MODULE, _task
from labkit.concurrency.early_loading import first_loads, never, simulate
from labkit.servers.processes import worker
lab = labkit.start("{kind}", users=5, orders=5)
with worker(MODULE, _task(lab, "users") | {{"strategy": "crash", "lease_ms": 60_000}}) as holder:
    print(holder.said(), holder.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_kernel_leaves_no_crowd(lab, tmp_path):
    code = HOLD.format(kind=lab.server.kind)

    assert dies_with_its_kernel(code, "loading", LABKIT_DATA=str(tmp_path))


# The notebook.


@pytest.fixture(scope="module")
def lesson() -> dict[str, ast.stmt]:
    return defined_in_notebook("05_races")


@pytest.mark.parametrize(
    "name", ["SingleFlight", "settle", "lease", "fetch_with_lease", "RELEASE", "WAIT"]
)
def test_the_notebooks_code_is_labkits(lesson, name):
    ours: dict[str, ast.stmt] = {}
    for module in (tokens, loading, lease):
        ours |= defined(Path(str(module.__file__)).read_text())

    assert ast.unparse(lesson[name]) == ast.unparse(ours[name])


@pytest.fixture(scope="module")
def is_due(lesson: dict[str, ast.stmt]) -> Callable[..., bool]:
    namespace: dict[str, Any] = {"math": math}
    exec(ast.unparse(lesson["is_due"]), namespace)
    due: Callable[..., bool] = namespace["is_due"]
    return due


@pytest.mark.parametrize(
    ("remaining", "load_seconds", "beta"), [(0, 1, 1), (1, 1, 1), (3, 2, 1), (3, 2, 2), (2, 4, 0.5)]
)
def test_the_share_of_early_loads_is_xfetchs(is_due, remaining, load_seconds, beta):
    draw = random.Random(5).random
    early = sum(is_due(remaining, load_seconds, 1 - draw(), beta) for _ in range(20_000))

    assert early / 20_000 == pytest.approx(math.exp(-remaining / load_seconds / beta), abs=0.02)


def test_without_a_rule_the_whole_crowd_loads_at_once_and_with_it_a_few(client, is_due):
    assert simulate(never) == 100
    assert 1 <= simulate(is_due) <= 10

    draw = random.Random(5).random
    loaded: list[int] = []
    counts = [
        first_loads(client, "count", rule, lambda: loaded.append(1), draw)
        for rule in (never, is_due)
    ]
    assert counts[0] == 100
    assert 1 <= counts[1] <= 10
    assert len(loaded) == sum(counts)


# Right answers to exercise 05.2 that are not labkit's.


def watching(redis: Any, key: str, token: str) -> None:
    def delete_if_ours(pipe: Any) -> None:
        ours = pipe.get(key) == token.encode()
        pipe.multi()
        if ours:
            pipe.delete(key)

    redis.transaction(delete_if_ours, key)


def registered(redis: Any, key: str, token: str) -> Any:
    return redis.register_script(tokens.RELEASE)(keys=[key], args=[token])


def watching_once(redis: Any, key: str, token: str) -> None:
    with redis.pipeline() as pipe:
        pipe.watch(key)
        if pipe.get(key) == token.encode():
            pipe.multi()
            pipe.delete(key)
            pipe.execute()  # raises WatchError where another has taken the lease


@pytest.mark.parametrize("answer", [watching, watching_once, registered])
def test_another_way_of_releasing_is_right_too(answer):
    assert judge("05.2", answer)[0] is Outcome.RIGHT
