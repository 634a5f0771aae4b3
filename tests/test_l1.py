"""L1 as a dictionary: what it holds, what it answers, and what it lets in."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from labkit.cache import l1 as module
from labkit.cache.l1 import L1, OVERHEAD

TAGS, TOKENS = ("*", "users"), ("token:shop:*", "token:shop:users")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def l1(clock: Clock) -> L1:
    return trusted(L1(3, 100_000))


def trusted(l1: L1) -> L1:
    l1.trust_until(1e9)
    return l1


def put(l1: L1, key: str, value: bytes = b"1", begun: Any = None, **options: Any) -> bool:
    given: dict[str, Any] = {"tags": TAGS, "tokens": TOKENS, "ttl_ms": 60_000} | options
    return l1.put(begun or l1.begin(), key, value, **given)


def test_what_was_put_is_found_until_it_is_named(l1):
    assert l1.get("a", TAGS) is None
    assert put(l1, "a")
    assert l1.get("a", TAGS) == b"1"
    for name in ("other", "token:shop:orders", "lease:a"):
        l1.forget([name])
    assert l1.get("a", TAGS) == b"1"


@pytest.mark.parametrize("name", ["a", *TOKENS])
def test_what_is_named_is_out_and_what_was_asked_for_before_stays_out(l1, name):
    begun = l1.begin()
    assert put(l1, "a")
    l1.forget(["other", name])

    assert l1.get("a", TAGS) is None
    assert (len(l1), l1.size, l1._by_token) == (0, 0, {})
    assert not put(l1, "a", begun=begun)
    assert put(l1, "a")


def test_a_token_takes_out_all_its_entries_and_no_other(l1):
    put(l1, "a")
    put(l1, "b", tags=("*", "orders"), tokens=("token:shop:*", "token:shop:orders"))
    l1.forget(["token:shop:users"])

    assert [l1.get("a", TAGS), l1.get("b", ("*", "orders"))] == [None, b"1"]
    l1.forget(["token:shop:*"])
    assert (len(l1), l1._by_token) == (0, {})


def test_what_was_asked_for_before_everything_was_cleared_stays_out(l1):
    begun = l1.begin()
    put(l1, "a")
    l1.clear()

    assert l1.get("a", TAGS) is None
    assert not put(l1, "a", begun=begun)
    assert put(l1, "a")


def test_nothing_is_answered_or_kept_without_a_proof(l1, clock):
    put(l1, "a")
    l1.trust_until(clock.now + 0.1)
    clock.now += 0.05
    assert l1.get("a", TAGS) == b"1"
    clock.now += 0.05
    assert (l1.get("a", TAGS), l1.is_trusted, put(l1, "b")) == (None, False, False)
    l1.trust_until(clock.now + 0.1)  # late, and on the same connection: nothing was missed
    assert l1.get("a", TAGS) == b"1"


def test_distrust_ends_all_of_it(l1):
    begun = l1.begin()
    put(l1, "a")
    l1.distrust()
    assert (len(l1), l1.is_trusted) == (0, False)
    trusted(l1)
    assert (l1.get("a", TAGS), put(l1, "a", begun=begun)) == (None, False)


def test_an_entry_lives_no_longer_than_redis_says(l1, clock):
    begun = l1.begin()
    clock.now += 2  # that Redis took to answer: the TTL may be as old
    assert put(l1, "a", begun=begun, ttl_ms=10_000)
    clock.now += 7.9
    assert l1.get("a", TAGS) == b"1"
    clock.now += 0.1
    assert l1.get("a", TAGS) is None
    assert put(l1, "a")
    assert l1.get("a", TAGS) == b"1"


@pytest.mark.parametrize("ttl_ms", [0, -1, -2])
def test_without_a_ttl_nothing_is_kept(l1, ttl_ms):
    assert not put(l1, "a", ttl_ms=ttl_ms)


def test_a_question_that_has_learnt_a_tag_is_another(l1):
    put(l1, "a")
    assert l1.get("a", ("*", "orders", "users")) is None


def test_the_one_not_asked_for_for_longest_makes_room(l1):
    for key in ("a", "b", "c"):
        put(l1, key)
    l1.get("a", TAGS)
    put(l1, "d")

    assert [key for key in "abcd" if l1.get(key, TAGS)] == ["a", "c", "d"]
    assert l1._by_token["token:shop:*"] == {"a", "c", "d"}


def test_bytes_have_a_limit_too(clock):
    l1 = trusted(L1(1_000, 10 * (OVERHEAD + 1_001)))
    for number in range(25):
        assert put(l1, chr(97 + number), bytes(1_000))
    assert (len(l1), l1.size) == (10, 10 * (OVERHEAD + 1_001))
    assert not put(l1, "z", bytes(100_000))
    assert len(l1) == 10
    for number in range(25):
        l1.forget([chr(97 + number)])
    assert (len(l1), l1.size, l1._by_token) == (0, 0, {})


def test_an_entry_that_comes_again_counts_once(l1):
    put(l1, "a", b"1", tags=("*", "x"), tokens=("token:shop:*", "token:shop:x"))
    put(l1, "a", b"22")
    assert (l1.get("a", TAGS), len(l1), l1.size) == (b"22", 1, OVERHEAD + 3)
    assert set(l1._by_token) == set(TOKENS)


def test_of_what_was_named_long_ago_nothing_is_known_and_nothing_kept(l1, monkeypatch):
    monkeypatch.setattr(module, "MOST_RECENT", 3)
    begun = l1.begin()
    l1.forget(["token:shop:users"])
    now = l1.begin()
    for number in range(4):
        l1.forget([f"other {number}"])

    assert len(l1._named) == 3
    assert not put(l1, "a", begun=begun)
    assert not put(l1, "b", begun=now)  # one of those was forgotten, and could have been "b"
    assert put(l1, "a", begun=l1.begin())


def test_while_a_writer_tells_redis_nothing_comes_in_and_nothing_of_before_after_it(l1):
    put(l1, "a")
    before = l1.begin()
    with l1.writing(["token:shop:users"]):
        assert l1.get("a", TAGS) is None
        during = l1.begin()
        assert not put(l1, "a")
    assert not put(l1, "a", begun=before)
    assert not put(l1, "a", begun=during)  # Redis may have answered before it was told
    assert put(l1, "a")


def test_a_writer_that_fails_leaves_no_door_shut(l1):
    with pytest.raises(ValueError, match="x"), l1.writing(["token:shop:users"]):
        raise ValueError("x")
    assert put(l1, "a")


def test_threads_at_once_leave_it_consistent(clock):
    l1 = trusted(L1(20, 10 * (OVERHEAD + 10)))
    keys = [f"k{number}" for number in range(40)]
    together = threading.Barrier(4)

    def work(seed: int) -> None:
        together.wait()
        for step in range(3_000):
            key = keys[(step * (seed + 7)) % len(keys)]
            if step % 5 == seed:
                l1.forget([key] if step % 2 else [TOKENS[1]])
            elif not l1.get(key, TAGS):
                put(l1, key, bytes(8))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert l1.size == sum(each.size for each in l1._entries.values())
    assert len(l1) <= 10
    assert all(set(l1._entries) == l1._by_token.get(each, set()) for each in TOKENS)
