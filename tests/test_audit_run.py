"""The audit answers whatever a cache does, and leaves nothing behind: not even if it is killed."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from labkit.audit import PROBES, NotAuditable, audit, run
from labkit.audit.adapters import query_cache
from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.probe import Probe, Trial
from labkit.cache import QueryCache
from labkit.errors import LabError
from labkit.shop.models import User
from tests.caches import PATIENT
from tests.clients import client_of
from tests.helpers import LONG, end, start_python, wait_until
from tests.kills import GONE

CACHES = PROBES["caches"]
MARK = "LABKIT_AUDIT_TEST"  # a variable that every process has which a test's audit starts
# What is killed: probes with a cluster, or a frozen server and a child. They hang until then.
AUDIT = """
import os, time
from labkit.audit import audit, guard, run
from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.probe import Probe
from labkit.servers import RedisServer, spare_cluster

def have_a_cluster(trial):
    with guard.trusted(), spare_cluster(RedisServer(trial.site.server.kind, "", "")):
        time.sleep(60)

def hang(trial):
    trial.site.server.freeze()
    os.fork()
    time.sleep(60)

run.PROBE_SECONDS, run.AT_ONCE = 60, 3
ways = [have_a_cluster, hang, hang]
probes = [Probe(f"hanging{number}", "", "02", way) for number, way in enumerate(ways)]
audit(QueryCacheAdapter, probes=probes)
"""
# One after the other: the audit and its watchdog; a probe, its keeper and its Redis; two with a
# child as well; the cluster's keeper and three nodes.
PROCESSES = 2 + 3 + 2 * 4 + 4
CACHE_THAT_STAYS = """
import os, threading, time
from labkit.audit import PROBES, audit

def cached(function):
    threading.Thread(target=time.sleep, args=(60,)).start()
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    known = {}
    def ask(user):
        if user not in known:
            known[user] = function(user)
        return known[user]
    return ask

print(audit(cached, probes=[PROBES["caches"]]).passed, flush=True)
input()
"""


def remembering(
    at_first: Callable[[], object] = int, later: Callable[[], object] = int
) -> Callable[..., Any]:
    """Return a decorator that caches in memory, and does something at the first call, or others."""

    def cached(function: Callable[..., Any]) -> Callable[..., Any]:
        known: dict[Any, Any] = {}
        calls: list[Any] = []

        def ask(*args: Any) -> Any:
            (later if calls else at_first)()
            calls.append(args)
            if args not in known:
                known[args] = function(*args)
            return known[args]

        return ask

    return cached


def asking_once(trial: Trial) -> str:
    from labkit.audit.questions import region_of

    return str(trial.cached(region_of)(1))


ASKS_ONCE = Probe("asks_once", "one call is answered", "02", asking_once)


def sleep(trial: Trial) -> str:
    time.sleep(LONG)
    return ""


def hang() -> None:
    time.sleep(LONG)


def leave_a_child() -> None:
    if os.fork() == 0:
        hang()
        os._exit(0)


def end_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave_a_child_and_end() -> None:
    leave_a_child()
    end_process()


def test_a_cache_that_hangs_at_its_first_call_is_ended(monkeypatch) -> None:
    monkeypatch.setattr(run, "PROBE_SECONDS", 0.5)

    with pytest.raises(NotAuditable, match=r"cached does not answer .* ended after 0\.5 s\.$"):
        audit(remembering(at_first=hang), probes=[CACHES])


def test_a_cache_that_hangs_in_one_probe_fails_that_row(monkeypatch) -> None:
    class InAHurry(run.Child):
        def __init__(self, work: Any, dog: Any) -> None:
            super().__init__(work, dog)
            if CACHES in getattr(work, "args", ()):  # the other ones have their time
                self.deadline = time.monotonic() + 1

    monkeypatch.setattr(run, "Child", InAHurry)

    board = audit(remembering(later=hang), probes=[CACHES, ASKS_ONCE])

    assert board.failed == ["caches"]
    assert board.rows[0].evidence == f"did not end within {run.PROBE_SECONDS:g} s"
    assert board.passed == ["asks_once"]


def test_an_audit_that_takes_too_long_is_ended_and_says_where(monkeypatch) -> None:
    monkeypatch.setattr(run, "AUDIT_SECONDS", 0.5)
    slow = [Probe(f"slow{number}", "", "02", CACHES.run) for number in range(run.AT_ONCE + 2)]
    at = ", ".join(each.name for each in slow[: run.AT_ONCE + 1])

    with pytest.raises(NotAuditable, match=re.escape(f"ended after 0.5 s, at: {at}.")):
        audit(remembering(later=hang), probes=slow)


@pytest.mark.parametrize("ending", [end_process, leave_a_child_and_end])
def test_a_cache_that_ends_its_process(ending: Callable[[], None]) -> None:
    with pytest.raises(NotAuditable, match="ends its process at its first call"):
        audit(remembering(at_first=ending), probes=[CACHES])

    board = audit(remembering(later=ending), probes=[CACHES, ASKS_ONCE])

    assert [row.evidence for row in board.rows] == [
        "its process ended before it had an answer",
        "old",
    ]


def test_a_cache_that_raises_at_its_first_call() -> None:
    def refuse() -> None:
        raise KeyError("no such thing")

    with pytest.raises(NotAuditable, match="cached raises at its first call: KeyError: 'no such"):
        audit(remembering(at_first=refuse), probes=[CACHES])


def test_a_cache_that_leaves_python_at_its_first_call() -> None:
    def leave() -> None:
        raise SystemExit(0)

    with pytest.raises(NotAuditable, match="ends its process at its first call"):
        audit(remembering(at_first=leave), probes=[CACHES])


def test_what_a_cache_prints_is_not_seen(capfd) -> None:
    def chatter() -> None:
        for _ in range(1_000):
            print("x" * 1_000)
        logging.getLogger("chatter").error("x" * 1_000)
        os.write(1, b"x" * 100_000)
        os.write(2, b"x" * 100_000)

    assert audit(remembering(later=chatter), probes=[CACHES]).passed == ["caches"]

    assert capfd.readouterr() == ("", "")


def test_a_cache_that_connects_elsewhere_is_told_so() -> None:
    def elsewhere() -> None:
        socket.create_connection(("127.0.0.1", 1))

    with pytest.raises(NotAuditable, match=r"cached connects to 127\.0\.0\.1:1, which is not"):
        audit(remembering(at_first=elsewhere), probes=[CACHES])


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no cache take a busy machine's Redis for one that is away."""
    monkeypatch.setattr(query_cache, "TIMEOUT_MS", PATIENT["timeout_ms"])


@pytest.mark.usefixtures("patient")
def test_an_audit_in_a_process_with_other_threads() -> None:
    with busy_threads():
        board = audit(QueryCacheAdapter, probes=[CACHES, ASKS_ONCE])

    assert board.failed == []


@pytest.mark.usefixtures("patient")
def test_caches_of_the_process_that_audits_have_no_part_in_it() -> None:

    class Writes(QueryCacheAdapter):
        def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
            session = self.place.db.session
            session.get_one(User, 1).name = "another"
            session.commit()
            return super().wrap(function, ttl)

    with client_of("auto") as client:
        cache = QueryCache(client, **PATIENT)
        cache.invalidate("users")
        token = client.get("token:querycache:users")

        assert audit(Writes, probes=[CACHES]).passed == ["caches"]

        assert client.get("token:querycache:users") == token
        assert token is not None
        cache.close()


def test_an_error_of_the_caller_ends_the_probes() -> None:
    others = psutil.Process().children()
    begun: list[Any] = []

    def all_begun() -> list[Any]:
        return [*psutil.Process().children(recursive=True)]

    def refuse(row: object) -> None:  # the watchdog, the slow probe, and what that has started
        assert wait_until(lambda: len(all_begun()) > len(others) + 2, LONG)
        begun.extend(all_begun())
        raise LabError("enough")

    slow = Probe("slow", "", "02", sleep)
    with pytest.raises(LabError, match="enough"):
        audit(remembering(), probes=[ASKS_ONCE, slow], on_row=refuse)

    assert len(begun) > len(others) + 2
    assert psutil.Process().children() == others  # they have been waited for, too
    assert wait_until(lambda: not any(is_alive(each) for each in begun if each not in others), GONE)


def test_what_a_cache_has_started_does_not_stay(tmp_path: Path) -> None:
    auditing = start_audit(CACHE_THAT_STAYS, tmp_path)
    try:
        assert auditing.stdout is not None
        assert auditing.stdout.readline() == "['caches']\n"
        assert wait_until(lambda: [each.pid for each in marked(tmp_path)] == [auditing.pid], GONE)
        assert list(tmp_path.iterdir()) == []
    finally:
        end(auditing)


@pytest.mark.parametrize("processes", [2, 4, 6, 10, PROCESSES])
def test_nothing_is_left_of_an_audit_that_is_killed(processes: int, tmp_path: Path) -> None:
    auditing = start_audit(AUDIT, tmp_path)
    try:
        assert wait_until(lambda: len(marked(tmp_path)) >= processes, LONG)
        auditing.kill()
        assert wait_until(lambda: marked(tmp_path) == [], GONE)
        assert wait_until(lambda: list(tmp_path.iterdir()) == [], GONE)
    finally:
        end(auditing)


def start_audit(code: str, directory: Path) -> Any:
    return start_python(code, **{MARK: str(directory), "TMPDIR": str(directory)})


def marked(directory: Path) -> list[Any]:
    """Return the processes that were started, by whatever way, from one with this mark.

    A Redis writes its title over its environment, and is known by the folder that it works in.
    """
    found = []
    for each in psutil.process_iter():
        try:
            started = each.environ().get(MARK) == str(directory)
            if (started or Path(each.cwd()).is_relative_to(directory)) and is_alive(each):
                found.append(each)
        except psutil.Error:  # it has ended, or is somebody else's
            continue
    return found


def is_alive(process: Any) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


@contextmanager
def busy_threads() -> Iterator[None]:
    """Have threads that log, write and query all the time, as those of a notebook's kernel do."""
    over = threading.Event()
    log = logging.getLogger("busy")
    log.addHandler(logging.StreamHandler(io.StringIO()))
    log.propagate = False

    def work() -> None:
        database = sqlite3.connect(":memory:")
        while not over.is_set():
            log.warning("%s", database.execute("SELECT 1").fetchone())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in threads:
            each.join()
        log.handlers.clear()
