"""Lesson 13's parts: L1 in two processes, wrong addresses, TLS; and nothing of them is left."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import pytest
import redis

import labkit
from labkit.cache import QueryCache
from labkit.concurrency import addresses
from labkit.concurrency import near_copies as near_by
from labkit.concurrency.addresses import ANSWER, from_a_container, logged, try_address
from labkit.concurrency.near_copies import (
    DATABASE,
    L1,
    PATIENT,
    REDIS,
    Answer,
    Reader,
    Windows,
    ask_from,
    ask_until_far,
    drop_messages,
    reader,
    warm,
    wire,
)
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.servers import tls
from labkit.servers.failover import Node, alone, can_fail
from labkit.servers.redis import find_program
from labkit.servers.tls import tls_redis
from tests.helpers import mode
from tests.kills import killed_after

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Redis program")

KILLS = int(os.environ.get("LABKIT_KILLS", "4"))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with labkit.start(users=300, orders=2_000) as lab:
        if not can_fail(lab.server):
            pytest.skip("no Redis program here")
        yield lab


@pytest.fixture(scope="module")
def node(lab: Lab) -> Iterator[Node]:
    with alone(lab.server) as node:
        yield node


class Asked:
    """A cache over a node, and a question whose answer can be changed."""

    def __init__(self, stack: ExitStack, client: redis.Redis, **settings: Any) -> None:
        self.answer = 1

        def load() -> int:
            return self.answer

        self.cache = stack.enter_context(closing(QueryCache(client, namespace="shop", **settings)))
        self.ask: Callable[..., Any] = self.cache.query(
            ttl=60, tags=("things",), by_table=False, name=f"thing-{uuid.uuid4().hex}"
        )(load)


@pytest.fixture
def opened(node: Node) -> Iterator[Callable[..., Asked]]:
    with ExitStack() as stack:
        yield lambda client=None, **settings: Asked(stack, client or node.client(), **settings)


# L1, in this process.


def test_an_answer_says_where_it_is_from(opened: Callable[..., Asked]) -> None:
    near = opened(**PATIENT)

    assert ask_from(near.cache, near.ask) == Answer(1, DATABASE)
    assert ask_from(near.cache, near.ask).source == REDIS
    warm(near.cache, near.ask)
    assert ask_from(near.cache, near.ask) == Answer(1, L1)


def test_a_warm_answer_stays_warm(opened: Callable[..., Asked]) -> None:
    near = opened(**PATIENT)
    for _ in range(20):
        warm(near.cache, near.ask)
        assert ask_from(near.cache, near.ask).source == L1
        near.cache.invalidate("things")
    l1 = near.cache._l1
    assert l1 is not None
    # After all that Redis has said of its own fills.
    assert f"shop:v:heard:{os.getpid()}:{id(near.cache)}" in l1._named


def test_without_l1_nothing_gets_warm(
    opened: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_by, "wait_until", lambda holds, words: _soon(holds, words))
    far = opened(timeout_ms=10_000)
    with pytest.raises(LabError, match="L1 keeps nothing"):
        warm(far.cache, far.ask)


def _soon(holds: Callable[[], bool], words: str) -> None:
    if not any(holds() for _ in range(20)):
        raise LabError(words)


def test_what_is_dropped_is_asked_for_again(node: Node, opened: Callable[..., Asked]) -> None:
    near = opened(**PATIENT)
    warm(near.cache, near.ask)
    drop_messages(node, near.cache)

    assert ask_from(near.cache, near.ask) == Answer(1, REDIS)
    assert near.cache.stats.l1_lost.total() == 1


def test_messages_that_are_held_up_make_old_answers_and_not_for_ever(
    node: Node, opened: Callable[..., Asked]
) -> None:
    far = opened(timeout_ms=10_000)
    with wire(node) as way, logged() as log:
        slow = opened(way.client(), l1_entries=10, l1_stale_ms=2_000, timeout_ms=1_500)
        warm(slow.cache, slow.ask)
        way.hold()
        slow.answer = 2
        far.cache.invalidate("things")
        late = ask_until_far(slow.cache, slow.ask)
        assert late.values == {1}
        # The last proof was at most 667 ms old when nothing came any more.
        assert 300 < late.last_ms <= 2_000
        assert late.then == Answer(2, DATABASE)
        assert any("Timeout" in line for line in log)
        way.release()
        warm(slow.cache, slow.ask)
        assert slow.ask() == 2


def test_a_frozen_redis_ends_answers_from_l1(node: Node, opened: Callable[..., Asked]) -> None:
    brief = opened(l1_entries=10)
    warm(brief.cache, brief.ask)
    node.freeze()
    try:
        with logged():
            last = ask_until_far(brief.cache, brief.ask)
    finally:
        node.thaw()
    assert last.last_ms <= near_by.STALE_MS + 50
    assert last.then == Answer(1, DATABASE)


def test_the_stale_time_is_that_of_the_settings() -> None:
    from labkit.cache.settings import Settings

    assert Settings().l1_stale_ms == near_by.STALE_MS


# ... and in another one.


@pytest.fixture(scope="module")
def other(lab: Lab, node: Node) -> Iterator[Reader]:
    with reader(lab, node) as other:
        yield other


def test_another_process_has_its_own_and_is_told(other: Reader) -> None:
    other.warm()
    before = other.ask()
    other.write()
    other.hear()
    after = [other.ask() for _ in range(5)]

    assert before.source == L1
    assert after[0].source == DATABASE
    assert {abs(each.value - before.value) for each in after} == {1}


def test_windows_are_of_answers_after_the_write(
    other: Reader, opened: Callable[..., Asked], lab: Lab
) -> None:
    far, regions = opened(timeout_ms=10_000), itertools.cycle(["US", "EU"])
    with lab.app.app_context():
        from labkit.shop import User, db

        def move() -> None:
            db.session.execute(db.update(User).filter_by(id=42).values(region=next(regions)))
            db.session.commit()
            far.cache.invalidate("users")

        move()
        move()
        found = other.windows(move, rounds=6)
    assert len(found.ms) == 6
    assert all(each >= 0 for each in found.ms)
    assert (found.answers == 0) == (max(found.ms) == 0)


def test_windows_in_words() -> None:
    assert str(Windows([0.0, 1.0, 3.0], 7)) == (
        "after 2 of 3 writes an old answer came, 7 in all\n"
        "the last one 1.00 ms after its write in the median, 3.00 ms at most"
    )
    assert str(Windows([0.0, 0.0], 0)) == "after none of 2 writes an old answer came"


def test_a_reader_whose_answer_does_not_change_says_so(lab: Lab, node: Node) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        reader(lab, node) as stuck,
    ):
        patch.setattr(Reader, "warm", lambda self: None)
        stuck._process.ask("warm")
        threading.Timer(0.2, os.kill, (stuck._process.pid, signal.SIGKILL)).start()
        with pytest.raises(LabError, match="ended before its work"):
            stuck.windows(lambda: None, rounds=1)


# Addresses.


@pytest.mark.parametrize("may", [True, False], ids=["namespace", "stand-in"])
def test_a_container_without_a_redis(may: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if may and not addresses._may_unshare():
        pytest.skip("no network namespace may be made here")
    if not may:
        monkeypatch.setattr(addresses, "_may_unshare", lambda: False)
    boxed = from_a_container()

    assert boxed.place == (addresses.NAMESPACE if may else addresses.STAND_IN)
    # The second, where localhost has an IPv6 address, and there is no IPv6, as in Docker.
    said = ("Connection refused.", "Cannot assign requested address.")
    assert boxed.localhost.error.endswith(said)
    assert "connecting to redis" in boxed.name.error
    assert "refused" not in boxed.name.error
    for each in (boxed.localhost, boxed.name):
        assert each.site_works
        assert (each.hits, len(each.log)) == (0, 1)
        assert each.error.partition(": ")[2] in each.log[0]


def test_in_the_namespace_nobody_listens_at_6379(monkeypatch: pytest.MonkeyPatch) -> None:
    if not addresses._may_unshare():
        pytest.skip("no network namespace may be made here")
    [local] = addresses._tried_elsewhere(["redis://localhost:6379/0"], addresses.UNSHARE)
    assert local.error.endswith("connecting to localhost:6379. Connection refused.")


def test_an_address_that_is_right_and_a_password_that_is_wrong(node: Node) -> None:
    right = try_address(node.url)
    assert (right.error, right.answers, right.hits, right.log) == ("", [ANSWER] * 3, 2, [])

    wrong = try_address(f"redis://:guessed@127.0.0.1:{node.port}/0")
    none = try_address(f"redis://127.0.0.1:{node.port}/0")
    assert wrong.error.startswith("AuthenticationError: invalid username-password pair")
    assert none.error.startswith("AuthenticationError: HELLO must be called with the client alrea")
    for each in (wrong, none):
        assert each.site_works
        assert (each.hits, len(each.log)) == (0, 1)


def test_what_is_logged_is_collected_and_shown_to_nobody(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    log = logging.getLogger("labkit.cache")
    with logged() as lines:
        log.warning("one %s", "line")
    log.warning("another")

    assert lines == ["one line"]
    assert caplog.messages == ["another"]


# TLS.


@pytest.fixture(scope="module")
def encrypted() -> Iterator[tls.TlsRedis]:
    with tls_redis() as server:
        if server is None:
            pytest.skip("no openssl, or no Redis that is built with TLS")
        yield server


def test_only_who_can_check_the_server_gets_through(encrypted: tls.TlsRedis) -> None:
    right = try_address(encrypted.url())
    unknown = try_address(encrypted.url(authority=False))
    misnamed = try_address(encrypted.url(host="localhost"))
    plain = try_address(encrypted.url("redis"))

    assert (right.error, right.hits) == ("", 2)
    assert "CERTIFICATE_VERIFY_FAILED" in unknown.error
    assert "not valid for 'localhost'" in misnamed.error
    assert plain.error
    assert all(each.site_works and not each.hits for each in (unknown, misnamed, plain))


def test_nothing_turns_the_check_off(encrypted: tls.TlsRedis) -> None:
    with redis.Redis.from_url(encrypted.url()) as client:
        connection: Any = client.connection_pool.make_connection()
    assert connection.cert_reqs == ssl.CERT_REQUIRED
    assert connection.check_hostname
    assert "cert_reqs" not in encrypted.url()


def test_a_strict_python_takes_its_certificates(encrypted: tls.TlsRedis) -> None:
    """As Python does by itself from 3.13 on."""
    context = ssl.create_default_context(cafile=str(encrypted.authority))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    import socket

    with (
        socket.create_connection(("127.0.0.1", encrypted.port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        assert wrapped.version() in ("TLSv1.2", "TLSv1.3")


def test_its_keys_are_for_this_user_alone(encrypted: tls.TlsRedis) -> None:
    folder = encrypted.authority.parent
    assert mode(folder) == 0o700
    assert encrypted._password not in repr(encrypted)


def test_where_there_is_no_openssl_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with tls_redis() as server:
        assert server is None


def test_an_openssl_that_fails_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], 1)

    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    with tls_redis() as server:
        assert server is None


def test_a_redis_without_tls_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    wheel = find_program("wheel")

    def only_the_wheel(kind: str) -> Any:
        if kind == "server":
            raise LabError("none")
        return wheel

    monkeypatch.setattr(tls, "find_program", only_the_wheel)
    with tls_redis() as server:
        if server is not None:
            pytest.skip("this wheel is built with TLS")


# Nothing outlives who started it.

KERNEL = """
import contextlib
import labkit
from labkit.concurrency import addresses, near_copies
from labkit.servers.failover import alone
from labkit.servers.tls import tls_redis
lab = labkit.start("wheel", users=300, orders=2_000)
blocks = contextlib.ExitStack()
print("begun", flush=True)
node = blocks.enter_context(alone(lab.server))
other = blocks.enter_context(near_copies.reader(lab, node))
other.warm()
with tls_redis() as server:
    addresses.from_a_container()
    node.freeze()
    print("frozen", flush=True)
    other._process.ask("watch")
    other._process.said()
"""
LIFE = 3.0  # seconds: a little more than all of it takes until it only waits


def test_a_kernel_that_is_killed_at_any_moment_leaves_nothing() -> None:
    labkit.start("wheel", users=300, orders=2_000).close()  # seeded once, for all of them
    moments = [LIFE * (number + 0.5) / KILLS for number in range(KILLS)]
    with ThreadPoolExecutor(2) as pool:
        most = list(pool.map(partial(killed_after, code=KERNEL), moments))
    assert max(most) >= 4  # two servers, a reader, a keeper
