"""An open loop that tells of each request: when it was due, what came; it ends when told."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.errors import LabError
from labkit.measure.load import SENDER
from labkit.measure.paced import Paced
from tests.sites import Handler, LocalSite, served

LONG = 60.0  # seconds: no load here lasts as long, unless nobody ends it


class Noting(Handler):
    """Notes method, path and length of each request; answers with the status at its path's end."""

    server: Site

    def do_GET(self) -> None:  # noqa: N802  (the name that http.server looks for)
        length = self.headers.get("Content-Length")
        with self.server.lock:
            self.server.seen.append((self.command, self.path, length))
        self.server.gate.wait(LONG)
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815  (the name that http.server looks for)


class Site(LocalSite):
    def __init__(self) -> None:
        super().__init__(Noting)
        self.seen: list[tuple[str, str, str | None]] = []
        self.gate = threading.Event()
        self.gate.set()


@pytest.fixture
def site() -> Iterator[Site]:
    with served(Site()) as site:
        yield site


def wait_for(site: Site, requests: int) -> None:
    deadline = time.monotonic() + LONG
    while len(site.seen) < requests:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_each_request_is_told_in_the_order_in_which_it_was_due(site: Site, tmp_path: Path) -> None:
    with Paced(site.url, 200, tmp_path) as sender:
        began = sender.begin(["/a/200", "POST /b/204", "/c/404", "/d/500"], LONG)
        wait_for(site, 40)
        answers = sender.end()

    assert len(answers) == len(site.seen) >= 40
    assert [each.path for each in answers[:4]] == ["/a/200", "POST /b/204", "/c/404", "/d/500"]
    assert [each.status for each in answers[:4]] == [200, 204, 404, 500]
    for number, each in enumerate(answers):
        assert each.due == pytest.approx(began + number / 200)
        assert 0 < each.seconds < LONG
    assert began <= time.perf_counter()  # it is one clock


def test_what_is_asked_for_at_first_is_asked_for_until_it_is_to_be_calm(
    site: Site, tmp_path: Path
) -> None:
    with Paced(site.url, 200, tmp_path) as sender:
        for once in (["/once/200"], []):  # the second load is not calm at once
            before = len(site.seen)
            sender.begin(["/later/200"], LONG, once=once, at_first=["/a/200", "/b/200"])
            wait_for(site, before + 5)
            sender.calm()
            wait_for(site, len(site.seen) + 5)
            paths = [each.path for each in sender.end()]
            first = paths.index("/later/200")

            assert first >= 5
            assert paths[:first] == [*once, *(["/a/200", "/b/200"] * first)][:first]
            assert set(paths[first:]) == {"/later/200"}


def test_a_write_is_a_post_without_a_body(site: Site, tmp_path: Path) -> None:
    with Paced(site.url, 100, tmp_path, connections=1) as sender:
        sender.begin(["/read/200", "POST /write/200"], LONG)
        wait_for(site, 2)
        sender.end()

    assert site.seen[:2] == [("GET", "/read/200", None), ("POST", "/write/200", "0")]


def test_who_waits_for_a_connection_has_waited_since_it_was_due(site: Site, tmp_path: Path) -> None:
    site.gate.clear()
    with Paced(site.url, 100, tmp_path, connections=1) as sender:
        began = sender.begin(["/read/200"], LONG)
        wait_for(site, 1)
        while time.perf_counter() < began + 0.3:
            time.sleep(0.01)
        opened = time.perf_counter()
        site.gate.set()
        wait_for(site, 31)  # all that were due by then, however late the sender was
        answers = sender.end()

    late = [each for each in answers if each.due < opened]
    assert len(late) >= 30
    assert all(each.due + each.seconds >= opened for each in late)


def test_one_process_sends_one_load_after_the_other(site: Site, tmp_path: Path) -> None:
    with Paced(site.url, 100, tmp_path) as sender:
        loads = []
        for number in (1, 2):
            before = len(site.seen)
            sender.begin([f"/{number}/200"], LONG)
            wait_for(site, before + 5)
            loads.append(sender.end())

    assert [{each.path for each in answers} for answers in loads] == [{"/1/200"}, {"/2/200"}]
    assert sum(map(len, loads)) == len(site.seen)


def test_what_is_asked_once_comes_first(site: Site, tmp_path: Path) -> None:
    with Paced(site.url, 100, tmp_path) as sender:
        sender.begin(["/b/200", "/c/200"], LONG, once=["/a/200", "POST /a/204"])
        wait_for(site, 6)
        answers = sender.end()

    paths = ["/a/200", "POST /a/204", "/b/200", "/c/200", "/b/200", "/c/200"]
    assert [each.path for each in answers[:6]] == paths


def test_a_sender_that_is_given_half_a_task_ends() -> None:
    command = [sys.executable, "-m", SENDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as sender:
        assert sender.stdin is not None
        sender.stdin.write(b'{"paths": ["/a')  # and whoever wrote it is killed
        sender.stdin.close()
        assert sender.wait(LONG) == 1


def test_it_ends_by_itself_too(site: Site, tmp_path: Path) -> None:
    with Paced(site.url, 100, tmp_path) as sender:
        sender.begin(["/a/200"], 0.2)

        assert len(sender._told()["log"]) == len(site.seen) == 20


def test_nobody_there_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as held:  # it is bound and does not listen: nobody else's either
        held.bind(("127.0.0.1", 0))
        with pytest.raises(LabError, match="nobody answers"):
            Paced(f"http://127.0.0.1:{held.getsockname()[1]}", 10, tmp_path)
