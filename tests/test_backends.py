"""Lesson 12's caches: each does what its row of the table says, here and in another process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import diskcache  # type: ignore[import-untyped]
import pytest

import labkit
from labkit.concurrency import kinds
from labkit.concurrency.backends import Backends, Others, open_backends
from labkit.concurrency.kinds import Refused
from tests.helpers import is_running, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the wheel is not for Windows")

IN_PROCESS = (kinds.LRU_CACHE, kinds.CACHETOOLS, kinds.FAKEREDIS)
SERVERS = (kinds.REDIS_SOCKET, kinds.REDIS_TCP, kinds.MEMCACHED)
SHARED = (kinds.DISKCACHE, *SERVERS)
VALUE = [{"month": 1, "orders": 7}, "Köln", None, True, 2.5]


@pytest.fixture(scope="module")
def lab(own_data: None) -> Iterator[labkit.Lab]:
    with labkit.start(redis="wheel", database="sqlite", users=50, orders=50) as lab:
        yield lab


@pytest.fixture(scope="module")
def caches(lab: labkit.Lab) -> Iterator[Backends]:
    with open_backends(lab) as caches:
        yield caches


@pytest.fixture(scope="module")
def other(caches: Backends) -> Iterator[Others]:
    with caches.worker() as other:
        yield other


@pytest.fixture(scope="module")
def another(caches: Backends) -> Iterator[Others]:
    with caches.worker() as another:
        yield another


@pytest.fixture(params=kinds.ALL)
def kind(request: pytest.FixtureRequest, caches: Backends) -> str:
    chosen: str = request.param
    if chosen in caches.absent:
        assert chosen == kinds.MEMCACHED
        pytest.skip("no memcached on PATH")
    return chosen


def test_what_was_stored_is_found_and_what_was_deleted_is_not(caches, kind):
    cache = caches[kind]
    assert cache.get("report") is None
    cache.set("report", VALUE)
    assert cache.get("report") == VALUE
    cache.delete("report")
    assert cache.get("report") is None


def test_a_set_replaces_except_in_lru_cache(caches, kind):
    cache = caches[kind]
    for value in (1, 2):
        cache.set("replaced", value)
    assert cache.get("replaced") == (1 if kind == kinds.LRU_CACHE else 2)


def test_another_process_shares_or_has_its_own(caches, other, kind):
    caches[kind].set("shared", VALUE)
    assert other[kind].get("shared") == (VALUE if kind in SHARED else None)
    caches[kind].delete("shared")
    assert other[kind].get("shared") is None


def test_only_an_object_that_is_kept_can_be_changed_by_its_reader(caches, kind):
    caches[kind].set("rows", [1])
    caches[kind].get("rows").append(2)
    expected = [1, 2] if kind in (kinds.LRU_CACHE, kinds.CACHETOOLS) else [1]
    assert caches[kind].get("rows") == expected


def test_add_stores_once_and_increment_counts_from_there(caches, kind):
    cache, key = caches[kind], f"count:{kind}"
    if kind == kinds.LRU_CACHE:
        with pytest.raises(Refused):
            cache.add(key, 0)
        with pytest.raises(Refused):
            cache.increment(key)
        return
    assert [cache.add(key, 5), cache.add(key, 6)] == [True, False]
    assert [cache.increment(key), cache.increment(key)] == [6, 7]
    assert cache.get(key) == 7


def test_two_processes_that_count_at_once_lose_nothing_of_what_they_share(other, another, kind):
    workers, key = (other[kind], another[kind]), f"together:{kind}"
    if kind == kinds.LRU_CACHE:
        with pytest.raises(Refused):
            other[kind].add(key, 0)
        return
    added = sorted(worker.add(key, 0) for worker in workers)
    assert added == [kind not in SHARED, True]
    for worker in workers:
        worker.begin("increment", key, times=500)
    assert max(worker.result() for worker in workers) == (1000 if kind in SHARED else 500)


def test_an_entry_with_a_ttl_ends_and_one_without_does_not(caches, kind):
    cache = caches[kind]
    cache.set("stays", 1)
    if kind == kinds.LRU_CACHE:
        with pytest.raises(Refused, match="it has no TTL"):
            cache.set("ends", 1, ttl=1)
        return
    cache.set("ends", 1, ttl=1)
    assert wait_until(lambda: cache.get("ends") is None, 10)
    assert cache.get("stays") == 1


def test_a_ttl_of_more_than_thirty_days_is_a_date_to_memcached_alone(caches, kind):
    if kind != kinds.LRU_CACHE:
        caches[kind].set("month", 1, ttl=31 * 24 * 3600)
        assert caches[kind].get("month") == (None if kind == kinds.MEMCACHED else 1)


def test_what_memcached_does_not_take_is_refused_with_its_words(caches):
    if kinds.MEMCACHED in caches.absent:
        pytest.skip("no memcached on PATH")
    cache = caches[kinds.MEMCACHED]
    for key, value, ttl, words in [
        ("k" * 251, 1, None, "Key is too long"),
        ("a key", 1, None, "whitespace"),
        ("large", "x" * 2**20, None, "too large"),
        ("half", 1, 0.5, "integer"),
    ]:
        with pytest.raises(Refused, match=words):
            cache.set(key, value, ttl)
    cache.set("k" * 250, 1)
    assert cache.get("k" * 250) == 1


def test_the_second_worker_is_stale_unless_the_cache_is_shared(lab, other, another, kind):
    user = 1 + kinds.ALL.index(kind)
    workers = other[kind], another[kind]
    old = [worker.user_name(user) for worker in workers]
    with lab.app.app_context(), lab.db.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE users SET name = 'new' WHERE id = {user}")
    workers[0].delete(f"user:{user}")

    assert old[0] == old[1] != "new"
    assert [worker.user_name(user) for worker in workers] == [
        "new",
        "new" if kind in SHARED else old[1],
    ]


def test_the_end_of_a_process_takes_what_is_in_it(caches):
    with caches.worker() as ending:
        for kind in caches:
            ending[kind].set("kept", 1)
    with caches.worker() as beginning:
        kept = {kind for kind in caches if beginning[kind].get("kept") == 1}
    assert kept == {*SHARED} & {*caches}


def test_a_worker_outlives_an_interrupt_and_ends_with_its_block(caches):
    with caches.worker() as worker:
        pid = worker.pid
        worker[kinds.CACHETOOLS].set("before", 1)
        os.kill(pid, signal.SIGINT)
        assert worker[kinds.CACHETOOLS].get("before") == 1
    assert not is_running(pid)


def test_a_restart_loses_what_was_not_saved_and_workers_go_on(lab):
    with open_backends(lab) as caches, caches.worker() as worker:
        for kind in set(SERVERS) & set(caches):
            for save in (False, True):
                key = f"{kind}:{save}"
                worker[kind].set(key, 1)
                if (kind, save) == (kinds.MEMCACHED, True):
                    with pytest.raises(Refused, match="it saves nothing"):
                        caches.restart(kind, save)
                    continue
                caches.restart(kind, save)
                kept = 1 if save else None
                assert (worker[kind].get(key), caches[kind].get(key)) == (kept, kept)


def test_an_answer_that_nobody_waited_for_is_not_taken_for_another(other):
    cache, same_process = other[kinds.CACHETOOLS], other[kinds.DISKCACHE]
    cache.set("asked", "first")
    cache.begin("get", "asked")  # as a cell does that is interrupted before it hears
    assert same_process.get("nothing") is None
    assert cache.result() == "first"
    cache.begin("get", "asked")
    cache.set("asked", "second")
    assert cache.get("asked") == "second"


@pytest.mark.parametrize("kind", [*IN_PROCESS, kinds.DISKCACHE])
def test_what_has_no_server_cannot_restart_it(caches, kind):
    for save in (False, True):
        with pytest.raises(Refused, match="it has no server"):
            caches.restart(kind, save)


def when_full(cache: kinds.Backend) -> str:
    missed = 0
    try:
        for number in range(500):
            cache.set(f"entry:{number}", 10_000 * "x")
            if not cache.get("wanted"):
                missed += 1
                cache.set("wanted", 10_000 * "x")
    except Refused:
        return "error"
    if cache.get("entry:0"):
        return "no limit"
    # Memcached may lose it once: until a thread of its own has sorted it, it goes as the oldest.
    return "LRU" if missed < 3 else "oldest"


def test_small_ones_that_are_full_do_what_the_table_says(lab):
    expected = {kinds.DISKCACHE: "oldest", kinds.FAKEREDIS: "no limit"}
    expected |= dict.fromkeys((kinds.REDIS_SOCKET, kinds.REDIS_TCP), "error")
    with open_backends(lab, small=True) as small:
        full = {kind: when_full(cache) for kind, cache in small.items()}
    assert full == {kind: expected.get(kind, "LRU") for kind in full}


def test_where_redis_is_simulated_its_servers_are_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    with (
        labkit.start(redis="fake", database="sqlite", users=20, orders=50) as lab,
        open_backends(lab) as caches,
    ):
        assert {kinds.REDIS_SOCKET, kinds.REDIS_TCP} <= {*caches.absent}
        assert {*caches} | {*caches.absent} == {*kinds.ALL}


def test_without_memcached_on_path_it_is_absent(lab, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with open_backends(lab) as caches:
        assert caches.absent == [kinds.MEMCACHED]


class Stranger:
    def __reduce__(self) -> Any:
        return os.getpid, ()


def test_a_worker_that_starts_after_its_kernel_has_ended_makes_no_folder(tmp_path):
    gone = tmp_path / "of the keeper"
    with pytest.raises(FileNotFoundError):
        kinds.DiskCache(str(gone / "diskcache"), 2**20)
    assert not gone.exists()


def test_a_strangers_pickle_is_not_read(tmp_path):
    with diskcache.Cache(tmp_path) as by_default:
        by_default["report"] = Stranger()
        by_default["large"] = [Stranger()] * 10_000
        assert by_default["report"] == os.getpid()
    with closing(kinds.DiskCache(str(tmp_path), 2**20)) as ours:
        for key in ("report", "large"):
            with pytest.raises(Refused, match="a pickle"):
                ours.get(key)


@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, -(2**63), True, "1", 100_000 * "x"])
def test_diskcache_gives_back_what_it_was_given(value, tmp_path):
    with closing(kinds.DiskCache(str(tmp_path), 2**30)) as ours:
        ours.set("key", value)
        found = ours.get("key")
    assert (found, type(found)) == (value, type(value))


def test_no_file_and_no_server_is_left(lab):
    with open_backends(lab) as caches:
        folder = Path(caches[kinds.DISKCACHE].directory)  # type: ignore[attr-defined]
        assert folder.exists()
    assert not folder.parent.exists()
