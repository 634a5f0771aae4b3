"""The shop behind a web server: every statement is counted, and nothing outlives who started it."""

from __future__ import annotations

import importlib.util
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]
import pytest

import labkit
from labkit.baselines import article_app
from labkit.concurrency import web
from labkit.concurrency.web import STRATEGIES, Served, served, served_article
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.measure.load import load, mixed
from tests.helpers import end, is_gone, is_running, start_python, wait_until

LIGHT = "LATAM"
CACHED = [name for name in STRATEGIES if name != web.NONE]
SERVERS = [name for name in (web.GUNICORN, web.WAITRESS) if importlib.util.find_spec(name)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with labkit.start(users=300, orders=2_000) as lab:
        yield lab


@pytest.fixture(scope="module")
def shop(lab: Lab) -> Iterator[Served]:
    with served(lab) as shop:
        yield shop


def answer(url: str) -> object:
    with urlopen(url, timeout=30) as got:
        return json.loads(got.read())


def test_no_proxy_is_asked(shop: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # it reads the environment once
    with pytest.raises(URLError):
        urlopen(shop.url(web.NONE, LIGHT), timeout=30)

    shop.warm(web.QUERY_CACHE, LIGHT)
    shop.write()


def test_every_strategy_gives_the_same_report_first_and_again(lab: Lab, shop: Served) -> None:
    # Not flushed while the shop is served: a connection that then finds no server's name in Redis
    # makes every entry of QueryCache count no more, once, in the middle of a later test.
    new = 1_000_000
    answers = [answer(shop.url(name, LIGHT, new)) for name in STRATEGIES for _ in range(2)]

    assert answers[0]
    assert all(each == answers[0] for each in answers)


@pytest.mark.parametrize("strategy", CACHED)
@pytest.mark.parametrize("hits", [0.0, 0.5, 0.8, 1.0])
def test_statements_are_what_the_hit_ratio_implies_exactly(
    lab: Lab, shop: Served, strategy: str, hits: float
) -> None:
    shop.warm(strategy, LIGHT)
    before = shop.sql
    paths = mixed(shop.path(strategy, LIGHT), shop.path(strategy, LIGHT, "{}"), hits)
    found = load(shop.url(strategy, LIGHT), seconds=60, paths=paths, requests=40)

    assert (found.requests, found.failed) == (40, 0)
    assert shop.sql - before == found.numbered == round(40 * (1 - hits))


def test_so_they_are_where_time_ends_the_load(shop: Served) -> None:
    shop.warm(web.QUERY_CACHE, LIGHT)
    before = shop.sql
    hit, miss = (shop.path(web.QUERY_CACHE, LIGHT, visit) for visit in (0, "{}"))
    found = load(
        shop.url(web.QUERY_CACHE, LIGHT), seconds=1, paths=mixed(hit, miss, 0.8), connections=7
    )

    assert found.failed == 0
    assert shop.sql - before == found.numbered
    assert abs(found.numbered - 0.2 * found.requests) < 1


def test_without_a_cache_each_request_is_a_statement(shop: Served) -> None:
    before = shop.sql
    found = load(shop.url(web.NONE, LIGHT), seconds=60, requests=30)

    assert (found.requests, found.failed, shop.sql - before) == (30, 0, 30)


def test_a_write_is_one_statement_and_the_query_cache_sees_it(lab: Lab, shop: Served) -> None:
    url = shop.url(web.QUERY_CACHE, region_of_the_first_order(lab))
    old, before = answer(url), shop.sql
    shop.write()
    assert shop.sql - before == 1
    assert answer(url) != old
    assert shop.sql - before == 2


def region_of_the_first_order(lab: Lab) -> str:
    with lab.app.app_context():
        text = "SELECT region FROM users JOIN orders ON user_id = users.id WHERE orders.id = 1"
        return str(lab.db.session.execute(lab.db.text(text)).scalar_one())


def test_writes_under_load_fail_nobody_and_every_statement_is_counted(shop: Served) -> None:
    before, writes = shop.sql, 5
    with ThreadPoolExecutor() as pool:
        under_way = pool.submit(load, shop.url(web.NONE, LIGHT), seconds=60, requests=200)
        for _ in range(writes):
            shop.write()
        found = under_way.result()

    assert (found.requests, found.failed, shop.sql - before) == (200, 0, 200 + writes)


def test_who_does_not_know_the_beginning_of_the_path_gets_nothing(shop: Served) -> None:
    address = shop.url(web.NONE, LIGHT)
    scheme_and_port = "/".join(address.split("/")[:3])
    for path in (f"/{web.NONE}/{LIGHT}", f"/x/{web.NONE}/{LIGHT}", "/write", "/"):
        with pytest.raises(HTTPError, match="404"):
            urlopen(scheme_and_port + path, timeout=30)


def test_an_unknown_strategy_or_region_is_not_found(shop: Served) -> None:
    with pytest.raises(LabError, match="status 404"):
        shop.warm("magic", LIGHT)
    with pytest.raises(LabError, match="status 404"):
        shop.warm(web.NONE, "MARS")


@pytest.mark.parametrize("server", SERVERS)
def test_each_server_says_what_it_is_and_counts_the_same(
    lab: Lab, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.redis.flushdb()
    with served(lab, workers=2, server=server) as shop:
        [line] = capsys.readouterr().out.splitlines()
        assert line.startswith(f"Server    {server} ")
        assert shop.workers == (2 if server == web.GUNICORN else 1)
        shop.warm(web.QUERY_CACHE, LIGHT)
        paths = mixed(
            shop.path(web.QUERY_CACHE, LIGHT), shop.path(web.QUERY_CACHE, LIGHT, "{}"), 0.8
        )
        found = load(shop.url(web.QUERY_CACHE, LIGHT), seconds=60, paths=paths, requests=50)
        assert (found.requests, found.failed, shop.sql) == (50, 0, 11)


def test_where_gunicorn_does_not_run_it_is_waitress(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patch, value, why in [
        ("importlib.util.find_spec", lambda name: None, "gunicorn is not installed here"),
        ("sys.platform", "win32", "gunicorn does not run on Windows"),
    ]:
        with monkeypatch.context() as here:
            here.setattr(patch, value)
            program = web._program("a:b", web.AUTO)
            with pytest.raises(LabError, match=f"{why}: it needs Linux"):
                web._program("a:b", web.GUNICORN)
        assert program.name == web.WAITRESS
        assert program.words.endswith(f"threads: {why}")
    with pytest.raises(LabError, match="a server is"):
        web._program("a:b", "apache")


def test_with_a_simulated_redis_the_shop_is_one_process_and_counts_the_same() -> None:
    with labkit.start("fake", users=300, orders=2_000) as lab, served(lab) as shop:
        assert shop.workers == 1
        for strategy in CACHED:
            before = shop.sql
            shop.warm(strategy, LIGHT)
            found = load(shop.url(strategy, LIGHT), seconds=60, requests=20)
            assert (found.requests, found.failed, shop.sql - before) == (20, 0, 1)


def test_a_server_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    program = web._program("labkit.nowhere:app", web.AUTO)
    monkeypatch.setattr(web, "_program", lambda target, server: program)

    with pytest.raises(LabError, match="the web server does not start"), served_article():
        pass


def test_on_windows_it_is_said_on_screen_and_the_shop_is_served(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(web, "_why_no_gunicorn", lambda: "gunicorn does not run on Windows")
    with served(lab) as shop:
        [line] = capsys.readouterr().out.splitlines()
        assert line.startswith("Server    waitress ")
        assert line.endswith(": gunicorn does not run on Windows")
        assert load(shop.url(web.NONE, LIGHT), seconds=60, requests=10).requests == 10


@pytest.mark.parametrize("server", SERVERS)
def test_the_shop_listens_on_loopback_only(lab: Lab, server: str) -> None:
    with served(lab, workers=2, server=server) as shop:
        port = port_of(shop.url(web.NONE, LIGHT))
        children = psutil.Process().children(recursive=True)
        open_ = [each for child in children for each in child.net_connections("inet")]
        listening = [each for each in open_ if each.laddr.port == port]
        assert {each.laddr.ip for each in listening} == {"127.0.0.1"}


# What the caches of the workers say of themselves.


def test_the_caches_count_what_was_asked(lab: Lab, shop: Served) -> None:
    shop.warm(web.QUERY_CACHE, LIGHT)
    before, sql = shop.cache_counts, shop.sql
    hit, miss = (shop.path(web.QUERY_CACHE, LIGHT, visit) for visit in (0, "{}"))
    found = load(shop.url(web.QUERY_CACHE, LIGHT), 60, paths=mixed(hit, miss, 0.8), requests=50)
    told = shop.cache_counts - before

    assert found.failed == 0
    assert told == {"hits": 40, "misses": 10, "loads": 10}
    assert shop.sql - sql == told["loads"]


def test_with_writes_every_statement_is_a_load_or_a_write(lab: Lab, shop: Served) -> None:
    pages, writes = 3, 6
    paths = [shop.path(web.QUERY_CACHE, LIGHT, visit) for visit in range(pages)]
    before, sql = shop.cache_counts, shop.sql

    def write() -> None:
        for _ in range(writes):
            shop.write()

    found = load(shop.url(web.QUERY_CACHE, LIGHT), 60, paths=paths, requests=400, meanwhile=write)
    told = shop.cache_counts - before

    assert (found.requests, found.failed) == (400, 0)
    assert told["hits"] + told["misses"] == 400
    assert told["bypasses"] == 0
    assert shop.sql - sql == told["loads"] + writes
    assert told["loads"] - told["refused_fills"] <= pages * (writes + 1)
    assert told["loads"] <= told["misses"]  # one that waited, or came too late, has another's


# The article's application.


@pytest.mark.parametrize("server", SERVERS)
def test_the_articles_application_fails_behind_a_server(server: str) -> None:
    with served_article(workers=2, server=server) as site:
        assert [site.status() for _ in range(4)] == [500] * 4
        assert site.first_error == "sqlite3.OperationalError: no such table: user"


def test_it_works_in_the_process_that_has_seeded_it() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(article_app, "USERS", 30)
        article_app.seed()
    got = article_app.app.test_client().get("/users/us")

    assert got.status_code == 200
    assert len(got.get_json()) == 20


# Who is killed leaves nothing.

KERNEL = """
import threading, labkit
from labkit.concurrency.web import served
from labkit.measure.load import load
lab = labkit.start(users=300, orders=2_000)
with served(lab, server={server!r}) as shop:
    url = shop.url("none", "US")
    print("kernel", url, flush=True)
    load(url, seconds=600)
"""


@pytest.mark.parametrize("server", SERVERS)
def test_a_load_test_that_is_killed_leaves_no_process_no_port_and_no_folder(server: str) -> None:
    kernel = start_python(KERNEL.format(server=server))
    try:
        assert kernel.stdout is not None
        url = next(line.split()[1] for line in kernel.stdout if line.startswith("kernel"))
        others = psutil.Process(kernel.pid).children

        def sends() -> bool:
            return any("labkit.measure.sender" in each.cmdline() for each in _all(others))

        assert wait_until(sends, 20)
        assert wait_until(lambda: _connections(port_of(url)) >= 4, 20)  # in mid-run
        started = [each.pid for each in _all(others)]
        folders = {Path(each) for pid in started for each in _folders(pid)}
        assert len(started) >= (8 if server == web.GUNICORN else 4)
        kernel.kill()
        assert wait_until(lambda: not any(map(is_running, started)), 5)
        assert wait_until(lambda: not any(folder.exists() for folder in folders), 5)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port_of(url))) != 0
    finally:
        end(kernel)


def _all(children: object) -> list[psutil.Process]:
    found: list[psutil.Process] = children(recursive=True)  # type: ignore[operator]
    return found


def _folders(pid: int) -> list[str]:
    """Return the keepers' folders that a process's command line names."""
    words = psutil.Process(pid).cmdline()
    return [word for word in words if "labkit-" in word and Path(word).is_dir()]


def _connections(port: int) -> int:
    return sum(
        each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port
        for each in psutil.net_connections("tcp")
    )


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])


def command_of(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:  # one of an earlier test, which has just ended
        return ""


def test_the_end_of_the_block_ends_it_all(lab: Lab) -> None:
    with served(lab) as shop:
        folder, port = shop._log.parent, port_of(shop.url(web.NONE, LIGHT))
        started = [each.pid for each in psutil.Process().children(recursive=True)]
        mine = [pid for pid in started if str(folder) in command_of(pid)]
        assert len(mine) == 5
    # gunicorn kills its workers and ends, without waiting for their ends; nor can the keeper.
    assert wait_until(lambda: all(is_gone(pid, folder) for pid in mine), 5)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
