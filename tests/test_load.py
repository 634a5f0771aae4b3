"""Load over HTTP: every request is counted, a stall shows in an open loop, nothing leaves here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from labkit.errors import LabError
from labkit.measure import load as module
from labkit.measure.histogram import histogram
from labkit.measure.load import (
    DRAIN,
    SENDER,
    Load,
    in_turn,
    load,
    mixed,
    read_load,
    run_seconds,
    target_of,
    written_load,
)
from labkit.measure.plots.load import percentile
from labkit.servers.processes import Worker
from tests.helpers import wait_until
from tests.sites import Handler, LocalSite, served


class Recorded(Handler):
    """Answers what a test says, and notes each path."""

    server: Site

    def do_GET(self) -> None:  # noqa: N802  (the name that http.server looks for)
        self.server.unused.discard(self.connection)
        with self.server.lock:
            self.server.paths.append(self.path)
            self.server.hosts.add(self.headers["Host"])
            number = len(self.server.paths)
        self.server.before_answer(number)
        status = 500 if "broken" in self.path else 302 if "moved" in self.path else 200
        if "garbage" in self.path:
            self.wfile.write(b"+PONG\r\n")
            self.close_connection = True
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/login")
        if "endless" not in self.path:
            self.send_header("Content-Length", "9" if "short" in self.path else "5")
        closes = any(word in self.path for word in ("close", "endless", "short"))
        if closes:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"hello")
        if closes:
            self.close_connection = True

    def setup(self) -> None:
        super().setup()
        self.server.unused.add(self.connection)

    def finish(self) -> None:
        self.server.unused.discard(self.connection)
        super().finish()


class Site(LocalSite):
    def __init__(self) -> None:
        super().__init__(Recorded)
        self.paths: list[str] = []
        self.hosts: set[str] = set()
        self.unused: set[socket.socket] = set()  # connections on which nobody has asked yet
        self.before_answer: Any = lambda number: None


@pytest.fixture
def site() -> Iterator[Site]:
    with served(Site()) as site:
        yield site


def test_every_request_is_counted_and_answered_by_the_server(site: Site) -> None:
    found = load(f"{site.url}/report?region=US", seconds=30, connections=3, requests=60)

    assert (found.requests, found.failed) == (60, 0)
    assert site.paths == ["/report?region=US"] * 60
    assert found.latency.get_total_count() == found.service.get_total_count() == 60
    assert found.ms(50) <= found.ms(95) <= found.ms(99)


def test_a_load_ends_with_its_time_and_drops_no_request(site: Site) -> None:
    found = load(site.url, seconds=1.5, connections=4)

    assert found.failed == 0
    assert found.requests == len(site.paths) >= 4
    assert found.seconds >= 1.5  # who has asked until then has done so again and again


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


@pytest.mark.parametrize("rate", [None, 200])
def test_an_answer_without_a_length_ends_with_its_connection(
    site: Site, rate: float | None
) -> None:
    found = load(f"{site.url}/endless", seconds=30, connections=2, requests=20, rate=rate)

    assert (found.requests, found.failed) == (20, 0)


@pytest.mark.parametrize("path", ["/short", "/garbage"])
def test_half_an_answer_is_none_and_neither_is_garbage(site: Site, path: str) -> None:
    found = load(site.url + path, seconds=30, connections=2, requests=20)

    assert (found.requests, found.failed) == (0, 20)


def test_a_server_that_ends_under_load_is_counted_and_the_load_ends_in_time(site: Site) -> None:
    def end_at_the_tenth(number: int) -> None:
        if number == 10:
            site.shutdown()
            site.socket.close()
        if number >= 10:
            raise ConnectionAbortedError

    site.handle_error = lambda *_: None  # type: ignore[method-assign]
    site.before_answer = end_at_the_tenth
    found = load(site.url, seconds=3, connections=2)

    assert found.requests < 12
    assert found.failed > 20  # each attempt, a hundredth of a second apart
    assert found.seconds < 3 + DRAIN / 2  # who waits for answers waits until the end of it


@pytest.mark.parametrize("rate", [40, 1.5])
def test_an_open_loop_ends_with_its_last_answer(site: Site, rate: float) -> None:
    """Its last request is due before its time is up; nobody waits for more."""
    began = time.monotonic()
    found = load(site.url, seconds=2, connections=2, rate=rate)

    assert (found.requests, found.failed) == (2 * rate, 0)
    assert found.seconds < 2 + DRAIN / 2
    assert time.monotonic() - began < 2 + DRAIN


def is_sender(process: psutil.Process) -> bool:
    return SENDER in (process.as_dict(["cmdline"])["cmdline"] or [])  # None: it has ended


def test_an_open_loop_goes_on_where_idle_connections_are_closed(site: Site) -> None:
    """They are closed while the sender is stopped: a request that crosses with that is lost."""
    asked = threading.Event()

    def close_idle() -> None:
        assert asked.wait(30)
        assert wait_until(lambda: len(site.unused) == 2, 30)
        [sender] = [each for each in psutil.Process().children() if is_sender(each)]
        sender.suspend()
        for connection in list(site.unused):
            connection.shutdown(socket.SHUT_RDWR)
        sender.resume()

    site.before_answer = lambda number: asked.set()
    found = load(site.url, seconds=1.5, connections=3, rate=1, meanwhile=close_idle)

    assert (found.requests, found.failed) == (2, 0)


def test_who_never_gets_an_answer_has_failed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.measure.load.DRAIN", 0.5)
    goes_on = threading.Event()
    site.before_answer = lambda number: goes_on.wait(30) if number > 3 else None
    found = load(site.url, seconds=2, connections=2)
    goes_on.set()

    assert (found.requests, found.failed) == (3, 2)
    assert found.seconds >= 2.5


def test_a_number_in_a_path_comes_once_in_all_loads(site: Site) -> None:
    for _ in range(2):
        found = load(
            site.url, seconds=30, connections=3, paths=["/a?visit=0", "/a?visit={}"], requests=31
        )
        assert found.numbered == 15

    asked = Counter(site.paths)
    assert asked.pop("/a?visit=0") == 32
    assert len(asked) == 30
    assert set(asked.values()) == {1}


def test_what_a_learner_typed_is_the_host_and_braces_of_a_url_are_no_number(site: Site) -> None:
    port = site.server_address[1]
    load(f"http://localhost:{port}/a{{}}?b=ü", seconds=30, connections=1, requests=2)

    assert site.paths == ["/a%7B%7D?b=%C3%BC"] * 2
    assert site.hosts == {f"localhost:{port}"}


@pytest.mark.parametrize(
    ("hits", "length", "are_hits"),
    [(0.8, 5, 4), (1, 1, 1), (0, 1, 0), (0.5, 2, 1), (0.995, 200, 199), (1 / 3, 3, 1)],
)
def test_hits_are_mixed_exactly(hits: float, length: int, are_hits: int) -> None:
    paths = mixed("/same", "/new?{}", hits)

    assert Counter(paths) == +Counter({"/same": are_hits, "/new?{}": length - are_hits})


def test_hits_are_spread_evenly_and_a_ratio_is_one() -> None:
    assert mixed("h", "m", 0.4) == ["m", "m", "h", "m", "h"]
    for wrong in (-0.1, 1.01, float("nan")):
        with pytest.raises(LabError, match="between 0 and 1"):
            mixed("h", "m", wrong)


def test_meanwhile_is_called_once_while_requests_are_sent(site: Site) -> None:
    """The sixth is answered only after the look, which waits for the sixth."""
    looks: list[int] = []
    sixth, looked = threading.Event(), threading.Event()

    def look() -> None:
        assert sixth.wait(30)
        looks.append(len(site.paths))
        looked.set()

    def wait_for_the_look(number: int) -> None:
        if number == 6:
            sixth.set()
            looked.wait(30)

    site.before_answer = wait_for_the_look
    found = load(site.url, seconds=60, connections=1, requests=20, meanwhile=look)

    assert looks == [6]
    assert found.requests == len(site.paths) == 20


def test_scenarios_take_turns_and_each_goes_on_where_it_was(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[tuple[str, float]] = []

    def noted(process: Worker, task: dict[str, Any]) -> Load:
        before, name = len(site.paths), "one" if task["paths"] == ["/one"] else "many"
        found = answer(process, task)
        assert {path == "/one" for path in site.paths[before:]} <= {name == "one"}
        assert task["seconds"] == pytest.approx(0.2)
        turns.append((name, found.seconds))
        return found

    answer = module._answer
    monkeypatch.setattr(module, "_answer", noted)
    many = 100_000  # more than are asked for
    scenarios = {"one": ["/one"], "many": [f"/{number}?{{}}" for number in range(many)]}
    runs = in_turn(
        site.url, scenarios, seconds=0.6, connections=1, rounds=3, count=lambda: len(site.paths)
    )

    assert [name for name, _ in turns] == ["one", "many", "many", "one", "one", "many"]
    own = [path.partition("?")[0] for path in site.paths if path != "/one"]
    assert own == [f"/{number}" for number in range(len(own))]
    assert len(own) < many
    assert len({path for path in site.paths if path != "/one"}) == len(own)
    assert runs["many"].numbered == runs["many"].requests == len(own)
    assert [*runs] == ["one", "many"]
    for name, run in runs.items():
        assert run.failed == 0
        assert run.counted == run.requests == run.latency.get_total_count()
        assert run.seconds == pytest.approx(sum(took for each, took in turns if each == name))


def test_littles_law_holds_in_a_closed_loop(site: Site) -> None:
    """Each of three connections waits a hundredth of a second for each answer."""
    site.before_answer = lambda number: threading.Event().wait(0.01)
    found = load(site.url, seconds=1, connections=3)

    assert 1.5 < found.in_flight <= 3.3
    assert found.mean_ms >= 10


def test_a_load_is_the_same_after_it_was_written(site: Site) -> None:
    found = load(site.url, seconds=30, connections=2, requests=50)
    again = read_load(json.loads(json.dumps(written_load(found))))

    assert again.counts == found.counts
    assert (str(again), again.in_flight) == (str(found), found.in_flight)


def test_a_percentile_is_the_nearest_rank_as_in_the_pictures() -> None:
    """Of 53, 95 % are 50.35: the 51st is the first that so many do not exceed."""
    taken = histogram()
    for ms in range(1, 54):
        taken.record_value(1000 * ms)
    found = Load(53, 0, 0, 4, 1.0, taken, taken)

    assert found.ms(95) == pytest.approx(51, rel=0.001)
    for percent in (0, 50, 95, 99, 100):
        assert found.ms(percent) == pytest.approx(percentile(found.counts, percent), rel=0.001)
    assert Load(0, 9, 0, 4, 1.0, histogram(), histogram()).ms(95) == 0


def test_a_load_that_came_to_no_request_has_no_rate_and_is_told() -> None:
    """Its process stood still for as long as it was to send: no second has passed."""
    found = Load(0, 0, 0, 4, 0.0, histogram(), histogram())

    assert (found.a_second, found.in_flight) == (0, 0)
    assert str(found).startswith("0 requests, 0 failed, 0/s, p50 0.0 ms")


def test_slower_than_counts_requests(site: Site) -> None:
    site.before_answer = lambda number: threading.Event().wait(0.4 if number <= 3 else 0)
    found = load(site.url, seconds=30, connections=1, requests=10)

    assert sum(found.counts.values()) == 10
    assert found.slower_than(ms=60_000) == 0
    assert 3 <= found.slower_than(ms=399) <= found.slower_than(ms=0) == 10


def test_the_environment_lengthens_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_LOAD_SECONDS", raising=False)
    assert run_seconds(1.5) == 1.5
    monkeypatch.setenv("LABKIT_LOAD_SECONDS", "20")
    assert run_seconds(1.5) == 20
    monkeypatch.setenv("LABKIT_LOAD_SECONDS", "1")
    assert run_seconds(1.5) == 1.5
    monkeypatch.setenv("LABKIT_LOAD_SECONDS", "long")
    with pytest.raises(LabError, match="is a number of seconds, not 'long'"):
        run_seconds(1.5)


def test_who_is_cut_off_has_failed_and_the_load_goes_on(site: Site) -> None:
    def cut_off_the_third(number: int) -> None:
        if number == 3:
            raise ConnectionAbortedError

    site.handle_error = lambda *_: None  # type: ignore[method-assign]
    site.before_answer = cut_off_the_third
    found = load(site.url, seconds=30, connections=1, requests=10)

    assert (found.requests, found.failed) == (9, 1)


def test_a_stall_is_in_an_open_loop_and_hardly_in_a_closed_one(site: Site) -> None:
    """The server stops for two seconds, once: whoever was due meanwhile has waited.

    What has waited for most of that, has waited for this: no busy machine stands still so long.
    """
    stall, long, both = 2.0, 1_500, {}
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
        both[name] = load(site.url, seconds=4, connections=2, rate=rate)

    assert both["open"].failed == both["closed"].failed == 0
    waited = {name: found.slower_than(long) for name, found in both.items()}
    assert waited["closed"] <= 2  # one for each connection
    assert waited["open"] >= 25  # of 50 that were due in the first half second of it
    assert both["open"].ms(95) > long > both["closed"].ms(95)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://192.0.2.1/", "192.0.2.1 is not this machine's loopback"),
        ("http://[2001:db8::1]/", "nowhere else: write 127.0.0.1"),
        ("https://127.0.0.1/", "no URL of HTTP"),
        ("127.0.0.1:8000", "no URL of HTTP"),
        ("http://127.0.0.1:port/", "is no URL"),
        ("http://nowhere.invalid/", "there is no host"),
    ],
)
def test_only_this_machine_is_loaded(url: str, told: str) -> None:
    with pytest.raises(LabError, match=told):
        load(url, seconds=1)


@pytest.mark.parametrize("path", ["", "report", "/a b", "/a\r\nX: y", "/ü"])
def test_what_is_no_path_is_not_sent(site: Site, path: str) -> None:
    with pytest.raises(LabError, match="is no path"):
        load(site.url, seconds=1, paths=["/", path])
    assert site.paths == []


def test_the_path_and_the_query_are_kept() -> None:
    assert target_of("http://127.0.0.1:8000") == ("127.0.0.1", 8000, "/")
    assert target_of("http://127.0.0.1/a/b?c=d&e") == ("127.0.0.1", 80, "/a/b?c=d&e")


def test_nobody_who_answers_is_said_in_a_line() -> None:
    with socket.socket() as held:  # it is bound and does not listen: nobody else's either
        held.bind(("127.0.0.1", 0))
        with pytest.raises(LabError, match="nobody answers at"):
            load(f"http://127.0.0.1:{held.getsockname()[1]}/", seconds=1)


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0}, {"connections": 0}, {"connections": 501}, {"rate": 0}]
)
def test_figures_that_make_no_sense_are_refused(site: Site, wrong: dict[str, Any]) -> None:
    with pytest.raises(LabError, match="a load "):
        load(site.url, **({"seconds": 1} | wrong))
    assert site.paths == []


def test_it_ends_where_its_task_is_cut_off_in_the_middle() -> None:
    """Whoever told it was killed while doing so: a task with many paths is longer than a pipe."""
    sender = subprocess.Popen(
        [sys.executable, "-m", "labkit.measure.sender"], stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert sender.stdin is not None
    sender.stdin.write(b'{"host": "127.0.0.1", "paths": ["/a", ')
    sender.stdin.close()

    assert sender.wait(30) == 1


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
