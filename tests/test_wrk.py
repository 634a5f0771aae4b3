"""wrk as a second opinion: its figures are read whole, and it leaves nothing behind."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from labkit.errors import LabError
from labkit.measure.wrk import wrk
from labkit.servers import Keeper
from tests.helpers import end, is_running, start_python, wait_until

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="no wrk on PATH")
SITE = """
import http.server
class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        known = self.path == "/secret/a?b=%C3%BC"
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
print(site.server_address[1], flush=True)
site.serve_forever()
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    keeper = Keeper()
    log = keeper.directory / "log"
    keeper.spawn([sys.executable, "-c", SITE], log=log)
    assert wait_until(lambda: log.read_text().endswith("\n"), 20)
    yield f"http://127.0.0.1:{int(log.read_text())}"
    keeper.close()


@needs_wrk
def test_wrk_measures_what_it_was_told_to(url: str) -> None:
    found = wrk(f"{url}/secret/a?b=ü", seconds=1.5, connections=3)

    assert found is not None
    assert (found.failed, found.connections, found.numbered) == (0, 3, 0)
    assert found.requests > 10
    assert 2 <= found.seconds < 10  # it takes whole ones
    assert found.latency.get_total_count() >= found.requests  # it adds to correct, see the module
    assert 0 < found.ms(50) <= found.ms(95) <= found.ms(99)


@needs_wrk
def test_other_answers_are_failures(url: str) -> None:
    found = wrk(f"{url}/elsewhere", seconds=2)

    assert found is not None
    assert found.requests == 0
    assert found.failed > 10


def test_where_there_is_no_wrk_there_is_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert wrk(url, seconds=1) is None


@pytest.mark.parametrize(
    ("target", "seconds", "connections", "told"),
    [
        ("http://192.0.2.1/", 1, 1, "nowhere else"),
        ("http://127.0.0.1:1/", 1, 1, "nobody answers"),
        ("http://127.0.0.1:1/", 0, 1, "wrk needs some seconds"),
        ("http://127.0.0.1:1/", 1, 0, "wrk needs some seconds"),
    ],
)
def test_what_cannot_be_is_refused(
    target: str, seconds: float, connections: int, told: str
) -> None:
    with pytest.raises(LabError, match=told):
        wrk(target, seconds, connections)


def test_a_wrk_that_does_not_come_to_its_end_is_told(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrk").write_text("#!/bin/sh\necho 'unable to do it'\n")
    (tmp_path / "wrk").chmod(0o700)
    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / name))

    with pytest.raises(LabError, match=r"did not come to its end\. unable to do it"):
        wrk(url, seconds=1)


@needs_wrk
def test_the_path_is_not_among_the_arguments_and_wrk_ends_with_its_kernel(url: str) -> None:
    code = f"from labkit.measure.wrk import wrk; wrk({url + '/secret'!r}, seconds=60)"
    kernel = start_python(code)
    try:
        children = psutil.Process(kernel.pid).children

        def started() -> list[psutil.Process]:
            return [each for each in children(recursive=True) if each.name() == "wrk"]

        assert wait_until(lambda: bool(started()), 20)
        [other] = started()
        assert "secret" not in " ".join(other.cmdline())
        kernel.kill()
        assert wait_until(lambda: not is_running(other.pid))
    finally:
        end(kernel)
