"""Memcached, and a Redis with two doors: who can reach them, and what is left afterwards."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import redis
from pymemcache.client.base import Client  # type: ignore[import-untyped]
from redis.backoff import NoBackoff
from redis.retry import Retry

from labkit import LabError
from labkit.servers import Keeper, RedisServer, start_redis
from labkit.servers.memcached import find_memcached, start_memcached
from labkit.servers.two_doors import TwoDoors, kill
from tests.helpers import dies_with_its_kernel, is_gone, is_running, mode

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no unix sockets")
needs_memcached = pytest.mark.skipif(
    shutil.which("memcached") is None, reason="no memcached on PATH"
)
SLEEPING = "import sys, time\nprint('server', {pid}, flush=True)\ntime.sleep(60)"
START_MEMCACHED = """
from labkit.servers import Keeper
from labkit.servers.memcached import start_memcached
keeper = Keeper()
server = start_memcached(keeper)
""" + SLEEPING.format(pid="server.pid")
START_TWO_DOORS = """
from labkit.servers import Keeper, start_redis
from labkit.servers.two_doors import TwoDoors
keeper = Keeper()
server = TwoDoors(start_redis("wheel", keeper), keeper)
""" + SLEEPING.format(pid="server.pid")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only program on PATH, called memcached, still to be written."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "memcached"


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")  # a path with a space would be no shebang
    program.chmod(0o755)


@needs_memcached
def test_it_answers_on_a_socket_that_nobody_else_can_reach_and_on_no_port(keeper):
    server = start_memcached(keeper)

    assert Client(str(server.socket)).version() == server.version.encode()
    assert mode(keeper.directory) == mode(server.socket.parent) == mode(server.socket) == 0o700
    assert psutil.Process(server.pid).net_connections("inet") == []


@needs_memcached
def test_it_ends_with_its_keeper_and_leaves_nothing(keeper):
    server = start_memcached(keeper)
    assert is_running(server.pid)
    keeper.close()
    assert is_gone(server.pid, keeper.directory)


@needs_memcached
def test_it_ends_with_a_kernel_that_is_killed():
    assert dies_with_its_kernel(START_MEMCACHED, "server")


@needs_memcached
def test_a_killed_one_is_started_again_at_its_address_and_empty(keeper):
    before = start_memcached(keeper)
    Client(str(before.socket), default_noreply=False).set("key", b"value")
    kill(before.pid)
    after = start_memcached(keeper)

    assert after.socket == before.socket
    assert after.pid != before.pid
    assert Client(str(after.socket)).get("key") is None


@needs_memcached
def test_its_room_is_limited(keeper):
    client = Client(str(start_memcached(keeper, megabytes=2).socket), default_noreply=False)
    for number in range(500):
        client.set(f"entry:{number}", 10_000 * b"x")

    assert int(client.stats()[b"evictions"]) > 100


@needs_memcached
def test_less_room_than_it_takes_is_reported_with_its_last_words(keeper):
    with pytest.raises(LabError, match=r"does not answer\. .+\n"):
        start_memcached(keeper, megabytes=1)


def test_where_there_is_none_two_lines_say_what_to_do(keeper, program):
    assert find_memcached(keeper) is None
    with pytest.raises(LabError) as refusal:
        start_memcached(keeper)
    assert len(str(refusal.value).splitlines()) == 2


def test_a_temporary_folder_too_long_for_a_socket_counts_as_none(monkeypatch, tmp_path, program):
    write(program, "")
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    keeper = Keeper()
    try:
        assert find_memcached(keeper) is None
    finally:
        keeper.close()


def test_one_that_ends_at_once_is_reported_at_once_with_its_last_words(keeper, program):
    write(program, "echo 'its last words' >&2; exit 1")
    with pytest.raises(LabError, match=r"does not answer\. its last words"):
        start_memcached(keeper)


def test_a_file_that_cannot_be_run_is_reported(keeper, program):
    program.write_text("no program")
    program.chmod(0o755)
    with pytest.raises(LabError, match="could not be run"):
        start_memcached(keeper)


# A Redis with two doors.


@pytest.fixture
def doors(keeper: Keeper) -> TwoDoors:
    return TwoDoors(start_redis("wheel", keeper), keeper)


def clients(doors: TwoDoors) -> list[redis.Redis]:
    assert doors.socket
    return [redis.Redis.from_url(url) for url in (doors.tcp, doors.socket)]


def test_both_doors_lead_to_one_server(doors, keeper):
    by_port, by_socket = clients(doors)
    by_port.set("key", "value")

    assert by_socket.get("key") == b"value"
    assert by_port.info()["process_id"] == by_socket.info()["process_id"] == doors.pid
    assert mode(keeper.directory / "doors") == mode(keeper.directory / "doors/redis.sock") == 0o700
    bound = {each.laddr.ip for each in psutil.Process(doors.pid).net_connections("inet")}
    assert bound == {"127.0.0.1"}


def test_both_doors_ask_for_the_password(doors, keeper):
    port = int(doors.tcp.rpartition(":")[2].partition("/")[0])
    path = str(keeper.directory / "doors" / "redis.sock")
    once = Retry(NoBackoff(), 0)
    strangers = redis.Redis(port=port, retry=once), redis.Redis(unix_socket_path=path, retry=once)
    for client in strangers:
        with pytest.raises(redis.AuthenticationError):
            client.ping()
    password = doors.tcp.partition("://:")[2].partition("@")[0]
    assert not any(password in word for word in psutil.Process(doors.pid).cmdline())


@pytest.mark.parametrize("save", [False, True])
def test_a_restarted_server_has_what_was_saved_and_only_that(doors, save):
    for client in clients(doors):
        client.set("key", "value")
    before, urls = doors.pid, (doors.tcp, doors.socket)
    doors.restart(save)

    assert (doors.tcp, doors.socket) == urls
    assert doors.pid != before
    assert not is_running(before)
    assert [client.exists("key") for client in clients(doors)] == [save, save]


def test_it_ends_with_its_keeper_and_with_a_kernel_that_is_killed(doors, keeper):
    keeper.close()
    assert is_gone(doors.pid, keeper.directory)
    assert dies_with_its_kernel(START_TWO_DOORS, "server")


def test_fakeredis_has_no_doors(keeper):
    with pytest.raises(LabError, match="lives inside this process") as refusal:
        TwoDoors(start_redis("fake", keeper), keeper)
    assert len(str(refusal.value).splitlines()) == 2


def test_a_server_that_is_not_ours_leads_to_what_auto_finds(keeper):
    doors = TwoDoors(RedisServer("url", "Redis", "7", None, "redis://localhost"), keeper)
    assert clients(doors)[0].ping()
