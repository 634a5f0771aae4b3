"""Load over HTTP: every request is counted, a stall shows in an open loop, nothing leaves here."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from labkit.errors import LabError
from labkit.measure.load import Load, load, target_of


class Recorded(BaseHTTPRequestHandler):
    """Answers what a test says, and notes each path."""

    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:  # noqa: N802  (its name in http.server)
        with self.server.lock:
            self.server.paths.append(self.path)
            number = len(self.server.paths)
        self.server.before_answer(number)
        status = 500 if "broken" in self.path else 200
        self.send_response(status)
        self.send_header("Content-Length", "5")
        if "close" in self.path:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"hello")
        if "close" in self.path:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


class Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Recorded)
        self.lock = threading.Lock()
        self.paths: list[str] = []
        self.before_answer: Any = lambda number: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield site
        site.shutdown()


def test_every_request_is_counted_and_answered_by_the_server(site: Site) -> None:
    found = load(f"{site.url}/report?region=US", seconds=30, connections=3, requests=60)

    assert (found.requests, found.failed) == (60, 0)
    assert site.paths == ["/report?region=US"] * 60
    assert found.latency.get_total_count() == found.service.get_total_count() == 60
    assert found.ms(50) <= found.ms(95) <= found.ms(99)


def test_a_load_ends_with_its_time_and_drops_no_request(site: Site) -> None:
    found = load(site.url, seconds=0.3, connections=4)

    assert found.failed == 0
    assert found.requests == len(site.paths) > 4
    assert found.seconds >= 0.3


def test_paths_are_asked_for_in_turn(site: Site) -> None:
    load(site.url, seconds=30, connections=1, paths=["/a", "/b", "/b"], requests=7)

    assert site.paths == ["/a", "/b", "/b", "/a", "/b", "/b", "/a"]


def test_errors_are_counted_and_have_no_latency(site: Site) -> None:
    found = load(site.url, seconds=30, connections=2, paths=["/", "/broken"], requests=20)

    assert (found.requests, found.failed) == (10, 10)
    assert found.latency.get_total_count() == 10


@pytest.mark.parametrize("rate", [None, 400])
def test_a_connection_that_the_server_closes_is_opened_anew(site: Site, rate: float | None) -> None:
    found = load(f"{site.url}/close", seconds=30, connections=2, requests=20, rate=rate)

    assert (found.requests, found.failed) == (20, 0)


def test_who_is_cut_off_has_failed_and_the_load_goes_on(site: Site) -> None:
    def cut_off_the_third(number: int) -> None:
        if number == 3:
            raise ConnectionAbortedError

    site.handle_error = lambda *_: None  # type: ignore[method-assign]
    site.before_answer = cut_off_the_third
    found = load(site.url, seconds=30, connections=1, requests=10)

    assert (found.requests, found.failed) == (9, 1)


def test_a_stall_is_in_an_open_loop_and_hardly_in_a_closed_one(site: Site) -> None:
    """The server stops for a second, once: whoever was due meanwhile has waited."""
    stall, both = 1.0, {}
    for name, rate in (("closed", None), ("open", 100)):
        stalled = threading.Event()

        def stop_once(number: int, stalled: threading.Event = stalled) -> None:
            with site.lock:
                first = not stalled.is_set() and number > 10
                if first:
                    stalled.set()
                    threading.Event().wait(stall)  # all others wait for the lock

        site.paths.clear()
        site.before_answer = stop_once
        both[name] = load(site.url, seconds=3, connections=2, rate=rate)

    assert both["open"].failed == both["closed"].failed == 0
    waited = {name: _slower_than(found, stall / 4) for name, found in both.items()}
    assert waited["closed"] <= 2  # one for each connection
    assert waited["open"] >= 25  # of 100 that were due in that second
    assert both["open"].ms(95) > 1000 * stall / 4 > both["closed"].ms(95)


def _slower_than(found: Load, seconds: float) -> int:
    return sum(
        each.count_added_in_this_iter_step
        for each in found.latency.get_recorded_iterator()
        if each.value_iterated_to > seconds * 1e6
    )


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://192.0.2.1/", "192.0.2.1 is another machine"),
        ("http://[2001:db8::1]/", "is another machine"),
        ("https://127.0.0.1/", "no URL of HTTP"),
        ("127.0.0.1:8000", "no URL of HTTP"),
        ("http://127.0.0.1:port/", "is no URL"),
        ("http://nowhere.invalid/", "there is no host"),
    ],
)
def test_only_this_machine_is_loaded(url: str, told: str) -> None:
    with pytest.raises(LabError, match=told):
        load(url, seconds=1)


def test_the_path_and_the_query_are_kept() -> None:
    assert target_of("http://127.0.0.1:8000") == ("127.0.0.1", 8000, "/")
    assert target_of("http://127.0.0.1/a/b?c=d&e") == ("127.0.0.1", 80, "/a/b?c=d&e")


def test_nobody_who_answers_is_said_in_a_line() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    with pytest.raises(LabError, match="nobody answers at"):
        load(f"http://127.0.0.1:{port}/", seconds=1)


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"connections": 0}, {"rate": 0}])
def test_figures_that_make_no_sense_are_refused(site: Site, wrong: dict[str, Any]) -> None:
    with pytest.raises(LabError, match="a load needs"):
        load(site.url, **({"seconds": 1} | wrong))
    assert site.paths == []


def test_the_process_that_asks_ends_with_the_one_that_told_it_to(site: Site) -> None:
    asked = threading.Event()
    site.before_answer = lambda number: asked.set()
    child = os.fork()
    if child == 0:
        try:
            load(site.url, seconds=60)
        finally:
            os._exit(0)
    assert asked.wait(20)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    counts = [-1, len(site.paths)]
    while counts[-1] != counts[-2] and len(counts) < 100:  # the last ones are still on their way
        threading.Event().wait(0.3)
        counts.append(len(site.paths))
    assert counts[-1] == counts[-2]
