"""Four ways to remove a tag's entries, what others wait for, and what workers are told."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import redis

import labkit
from labkit import Lab, LabError
from labkit.baselines import deletion
from labkit.baselines.deletion import STRATEGIES, cost, fill, set_of
from labkit.concurrency import local_cache
from labkit.concurrency.local_cache import CarefulLocalCache, LocalCache, disconnect, local_workers
from labkit.concurrency.other_client import main as other_client_main
from labkit.concurrency.other_client import other_client
from labkit.shop import User, db
from tests.helpers import (
    defined,
    defined_in_notebook,
    dies_with_its_kernel,
    is_running,
    wait_until,
)

WAYS = pytest.mark.parametrize("invalidate", STRATEGIES.values(), ids=STRATEGIES)


@contextmanager
def started(kind: str, folder: Path) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_DATA", str(folder))
        try:
            lab = labkit.start(kind, users=50, orders=100)
        except LabError as error:
            pytest.skip(str(error).splitlines()[0])
        with lab:
            yield lab


@pytest.fixture(scope="module", params=["server", "wheel", "fake"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with started(request.param, tmp_path_factory.mktemp("data")) as lab:
        yield lab


@pytest.fixture
def client(lab: Lab) -> redis.Redis:
    lab.redis.flushdb()
    return lab.redis


@pytest.fixture(scope="module", params=["server", "wheel"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A lab whose Redis other processes can reach."""
    with started(request.param, tmp_path_factory.mktemp("data")) as lab:
        yield lab


# The four ways.


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 51_000])
def test_fill_stores_as_many_as_it_is_told_and_names_them_in_the_set(client, count):
    fill(client, count, "tag", b"value")

    assert client.scard(set_of("tag")) == count
    assert client.dbsize() == count + 1
    assert client.get("tag:0000") == b"value"


@WAYS
@pytest.mark.parametrize("count", [0, 1, 1000, 2500])
def test_each_way_removes_the_tag_and_nothing_else(client, invalidate, count):
    client.mset({"tags:1": "x", "session:1": "x"})
    fill(client, 10, "other")
    if count:
        fill(client, count, "tag")

    assert invalidate(client, "tag") == count
    assert client.keys("tag:*") == []
    assert client.dbsize() - client.exists(set_of("tag")) == 2 + 11


def test_what_is_stored_during_the_removal_of_a_set_is_removed_or_still_named(client):
    fill(client, 10, "tag")
    stored_meanwhile = ["tag:0003", "tag:new"]  # one that is being removed, one that is not
    unlink = client.unlink

    def store() -> None:
        with client.pipeline(transaction=True) as pipe:
            pipe.sadd(set_of("tag"), *stored_meanwhile)
            pipe.mset(dict.fromkeys(stored_meanwhile, "x"))
            pipe.execute()

    def store_before_and_after(*keys: Any) -> Any:
        client.unlink = unlink
        store()
        removed = unlink(*keys)
        store()
        return removed

    client.unlink = store_before_and_after
    try:
        deletion.set_of_keys(client, "tag")
    finally:
        client.unlink = unlink
    assert set(client.keys("tag:*")) == client.smembers(set_of("tag")) == {b"tag:0003", b"tag:new"}
    assert deletion.set_of_keys(client, "tag") == 2
    assert client.keys("*tag*") == []


def test_who_dies_half_way_leaves_the_rest_to_the_next(client):
    fill(client, 2500, "tag")
    unlink = client.unlink

    def unlink_once_and_die(*keys: Any) -> Any:
        if client.scard(set_of("tag")) < 1500:
            raise ZeroDivisionError
        return unlink(*keys)

    client.unlink = unlink_once_and_die
    with pytest.raises(ZeroDivisionError):
        deletion.set_of_keys(client, "tag")
    client.unlink = unlink
    left = len(client.keys("tag:*"))
    assert 1000 < left < 2500
    assert deletion.set_of_keys(client, "tag") >= left - 1000
    assert client.exists(set_of("tag")) == 0
    assert len(client.keys("tag:*")) <= 1000


def test_a_cost_is_refused_where_not_all_was_removed(client):
    with pytest.raises(RuntimeError, match="0 of 5 entries"):
        cost(client, lambda client, tag: 0, 5)


# The others.


def counted(client: redis.Redis, command: str, what: str = "calls") -> int:
    """Return what the server has counted of a command."""
    return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get(what, 0))


def wait_for_gets(client: redis.Redis, number: int) -> None:
    before = counted(client, "get")
    assert wait_until(lambda: counted(client, "get") >= before + number, 60)


def test_another_client_waits_for_the_end_of_a_script(shared):
    busy = "for i = 1, 500000 do redis.call('PING') end"

    def work() -> None:
        wait_for_gets(shared.redis, 1)
        shared.redis.eval(busy, 0)

    with other_client(shared) as other:
        alone = other.waits_during(lambda: wait_for_gets(shared.redis, 12))
        before = counted(shared.redis, "eval", "usec")
        waits = other.waits_during(work)
        took = counted(shared.redis, "eval", "usec") - before

    assert len(alone) >= 12
    assert waits == sorted(waits)
    assert waits[-1] > took / 1000 / 2


def test_another_client_that_loses_its_server_says_so(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    with labkit.start(shared.server.kind, users=5, orders=5) as lab, other_client(lab) as other:
        assert other.waits_during(lambda: wait_for_gets(lab.redis, 1))
        with pytest.raises(LabError, match="ended before its work"):
            other.waits_during(lambda: lab.redis.shutdown(nosave=True, force=True))


def test_a_server_that_is_lost_after_the_last_get_is_noticed(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    with labkit.start(shared.server.kind, users=5, orders=5) as lab:
        lines = iter([json.dumps({"redis": lab.redis_url}), "measure", "stop"])

        def lose_the_server_before_stop() -> str:
            line = next(lines, "")
            if line == "stop":
                lab.redis.shutdown(nosave=True, force=True)
            return line

        monkeypatch.setattr("sys.stdin.readline", lose_the_server_before_stop)
        monkeypatch.setattr("labkit.concurrency.other_client._read", lambda *_: None)
        with pytest.raises(redis.ConnectionError):
            other_client_main()


def test_a_simulated_redis_has_no_other_client(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    with labkit.start("fake", users=5, orders=5) as simulated:
        with pytest.raises(LabError), other_client(simulated):
            pass
        with pytest.raises(LabError), local_workers(simulated, 1, 1, False):
            pass


# Workers' own caches.


def rename(lab: Lab, name: str) -> None:
    with lab.app.app_context(), db.engine.begin() as connection:
        connection.execute(db.update(User).filter_by(id=7).values(name=name))


def publish(lab: Lab) -> Any:
    heard = lab.redis.publish(local_cache.CHANNEL, "user:7")
    lab.redis.ping()  # answered after the messages have been written to all who listen
    return heard


@pytest.mark.parametrize(("careful", "after_the_cut"), [(False, "Kim Park"), (True, "Kim Ray")])
def test_a_message_that_was_lost_leaves_an_old_name_unless_one_is_careful(
    shared, careful, after_the_cut
):
    with local_workers(shared, 3, user=7, careful=careful) as workers:

        def names() -> list[str]:
            return [worker.ask("name?") for worker in workers.values()]

        rename(shared, "Kim Lee")
        assert names() == ["Kim Lee"] * 3
        assert names() == ["Kim Lee"] * 3
        rename(shared, "Kim Park")
        assert names() == ["Kim Lee"] * 3
        assert publish(shared) == 3
        assert names() == ["Kim Park"] * 3
        assert names() == ["Kim Park"] * 3
        disconnect(shared.redis, workers["worker-2"])
        rename(shared, "Kim Ray")
        assert publish(shared) == 2
        assert names() == ["Kim Ray", after_the_cut, "Kim Ray"]
        assert names() == ["Kim Ray", after_the_cut, "Kim Ray"]
        rename(shared, "Kim Noon")
        assert publish(shared) == 3
        assert names() == ["Kim Noon"] * 3


@pytest.mark.parametrize("kind", [LocalCache, CarefulLocalCache])
def test_a_local_cache_loads_once_until_it_is_told(client, kind):
    cache, loads = kind(client), iter(range(100))

    def load() -> int:
        return next(loads)

    assert wait_until(lambda: cache.get("entry", load) == cache.get("entry", load), 60)
    kept = cache.get("entry", load)
    client.publish(local_cache.CHANNEL, "another")
    client.ping()
    assert cache.get("entry", load) == kept
    client.publish(local_cache.CHANNEL, "entry")
    assert wait_until(lambda: cache.get("entry", load) == kept + 1, 60)


@pytest.mark.parametrize("code", [
    "from labkit.concurrency.local_cache import local_workers\n"
    "with local_workers(lab, 1, 1, False) as workers:\n"
    "    print('pid', workers['worker-1'].pid, workers['worker-1'].ask('name?'), flush=True)\n"
    "    time.sleep(600)\n",
    "from labkit.concurrency.other_client import MODULE\n"
    "from labkit.servers.processes import worker\n"
    "with worker(MODULE, {'redis': lab.redis_url}) as other:\n"
    "    print('pid', other.pid, other.ask('measure'), flush=True)\n"
    "    time.sleep(600)\n",
], ids=["worker", "other_client"])  # fmt: skip
def test_a_killed_kernel_leaves_no_process(shared, tmp_path, code):
    start = f"import labkit, time\nlab = labkit.start({shared.server.kind!r}, users=5, orders=5)\n"

    assert dies_with_its_kernel(start + code, "pid", LABKIT_DATA=str(tmp_path))


def test_processes_are_gone_after_their_block(shared):
    before = set(psutil.Process().children())
    with other_client(shared) as other:
        other.waits_during(lambda: None)
    with local_workers(shared, 2, user=7, careful=False) as workers:
        assert all(is_running(worker.pid) for worker in workers.values())

    assert set(psutil.Process().children()) <= before


NOTEBOOK = "08_lua_invalidation"
SHOWN = ["batches", "keys_and_del", "scan_and_unlink", "lua", "set_of", "set_of_keys"]


@pytest.mark.parametrize("name", ["BATCH", "PATTERN_SCRIPT", *SHOWN])
def test_the_four_ways_of_the_notebook_are_labkits(name):
    ours = defined(Path(deletion.__file__).read_text())[name]

    assert ast.unparse(defined_in_notebook(NOTEBOOK)[name]) == ast.unparse(ours)


def test_the_notebook_tries_all_four_by_the_same_names():
    listed = ast.unparse(defined_in_notebook(NOTEBOOK)["ways"])
    namespace: dict[str, Any] = {way.__name__: way for way in STRATEGIES.values()}
    exec(listed, namespace)

    assert namespace["ways"] == STRATEGIES


@pytest.mark.parametrize("name", ["LocalCache", "ForgetfulLocalCache", "CarefulLocalCache"])
def test_the_notebooks_caches_are_labkits(name):
    ours = ast.unparse(defined(Path(local_cache.__file__).read_text())[name])
    theirs = ast.unparse(defined_in_notebook(NOTEBOOK)[name])

    ours = ours.replace("    assert self.messages.connection is not None\n    ", "")
    assert theirs.replace("'shop:invalidate'", "CHANNEL") == ours
