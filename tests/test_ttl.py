"""TTLs that are checked and jittered, a spare server that can be full, and what Redis does."""

from __future__ import annotations

import ast
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import nbformat
import numpy
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import OutOfMemoryError

from labkit.cache.ttl import LONGEST, SHORTEST, checked_ttl, jittered_ms
from labkit.servers import Keeper, RedisServer, choose_redis, spare_redis, start_redis, used_memory

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "06_missing_ttl.ipynb"
NUMBERS = st.integers(1, LONGEST) | st.floats(SHORTEST, LONGEST)
CHANCES = st.floats(0, 1, exclude_max=True)
ROOM = 500_000  # bytes
VALUE = "x" * 10_000
NO_NUMBERS = [None, True, False, "60", b"60", "", [60], Decimal(60), Fraction(60), 60j]
OUT_OF_RANGE = [
    0, 0.0, -0.0, -1, -0.5, math.nan, math.inf, -math.inf, SHORTEST / 2,
    LONGEST + 1, 1_900_000_000, 2**63,
]  # fmt: skip


@pytest.fixture(params=["server", "wheel"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    from labkit import LabError

    keeper = Keeper()
    try:
        try:
            started = start_redis(request.param, keeper)
        except LabError as error:
            pytest.skip(str(error).splitlines()[0])
        yield started
    finally:
        keeper.close()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.connect() as client:
        yield client


# A TTL is a number of seconds.


@pytest.mark.parametrize("ttl", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_no_ttl(ttl):
    for check in (checked_ttl, jittered_ms):
        with pytest.raises(TypeError, match="is a number of seconds"):
            check(ttl)


@pytest.mark.parametrize("ttl", OUT_OF_RANGE, ids=repr)
def test_a_ttl_out_of_range_is_refused(ttl):
    for check in (checked_ttl, jittered_ms):
        with pytest.raises(ValueError, match="a TTL of"):
            check(ttl)


@pytest.mark.parametrize("digits", [20, 400, 5000])  # a float has 309, decimals at most 4,300
@pytest.mark.parametrize(("sign", "words"), [(1, "is over a year"), (-1, "would leave nothing")])
def test_an_integer_beyond_all_floats_is_out_of_range_too(digits, sign, words):
    for check in (checked_ttl, jittered_ms):
        with pytest.raises(ValueError, match=rf"a TTL of (more|less) than -?10\^20 .*{words}"):
            check(sign * (10**digits + 1))


@pytest.mark.parametrize("ttl", [numpy.float64(60), numpy.float64("nan"), numpy.float64("inf")])
def test_a_float_of_numpy_is_a_float_and_its_other_numbers_are_refused(ttl):
    if ttl == 60:
        assert 54_000 <= jittered_ms(ttl) <= 60_000
    else:
        with pytest.raises(ValueError, match="a TTL of"):
            checked_ttl(ttl)
    others: list[Any] = [numpy.float32(60), numpy.int64(60)]
    for other in others:
        with pytest.raises(TypeError, match="is a number of seconds"):
            checked_ttl(other)


@given(NUMBERS)
def test_a_ttl_is_returned_as_it_is(ttl):
    assert checked_ttl(ttl) is ttl


@pytest.mark.parametrize("ttl", [1, 0.5, SHORTEST, LONGEST, 300])
def test_every_ttl_that_passes_is_one_for_redis(client, ttl):
    client.set("entry", "x", px=jittered_ms(ttl))

    assert client.pttl("entry") != -1


# Jitter.


@given(NUMBERS, st.floats(0, 1, exclude_max=True), CHANCES)
def test_jitter_shortens_and_by_no_more_than_the_spread(ttl, spread, chance):
    got = jittered_ms(ttl, spread, lambda: chance)

    assert type(got) is int
    assert 1 <= got <= max(1, 1000 * ttl)
    assert got >= 1000 * ttl * (1 - spread) - 1.001


@given(NUMBERS)
def test_without_a_spread_only_the_unit_changes(ttl):
    assert jittered_ms(ttl, 0) == max(1, int(1000 * ttl))


@pytest.mark.parametrize("spread", [-0.1, 1, 1.5, math.nan, math.inf])
def test_a_spread_out_of_range_is_refused(spread):
    with pytest.raises(ValueError, match="a spread"):
        jittered_ms(300, spread)


def test_jitter_uses_all_of_the_spread_evenly():
    chance = random.Random(6).random
    tenths = Counter(int((jittered_ms(300, 0.5, chance) - 150_000) / 15_000) for _ in range(10_000))

    assert set(tenths) == set(range(10))
    assert all(800 < count < 1200 for count in tenths.values())


def busiest(spread: float) -> int:
    chance = random.Random(6).random
    seconds = Counter(jittered_ms(300, spread, chance) // 1000 for _ in range(1000))
    return max(seconds.values())


def test_entries_stored_together_expire_together_without_jitter_and_apart_with_it():
    assert busiest(0) == 1000
    assert busiest(0.1) < 100
    assert busiest(0.5) < 33


# What Redis does alone: why a TTL is checked.


@pytest.mark.parametrize("ttl", [0, -5])
def test_redis_refuses_zero_and_less_with_set_and_deletes_with_expire(client, ttl):
    with pytest.raises(redis.ResponseError):
        client.set("entry", "x", ex=ttl)
    client.set("entry", "x")
    client.expire("entry", ttl)

    assert client.exists("entry") == 0


def test_redis_takes_none_for_no_ttl_at_all(client):
    client.set("entry", "x", ex=None)

    assert client.ttl("entry") == -1


def test_a_plain_set_loses_the_ttl_and_keepttl_keeps_it(client):
    client.set("entry", "x", ex=300)
    client.set("entry", "y", keepttl=True)
    kept = client.ttl("entry")
    client.set("entry", "z")

    assert kept > 0
    assert client.ttl("entry") == -1


# A spare server, which can be full.


def store(client: redis.Redis, count: int, ttl: int | None, name: str = "entry") -> int:
    """Store entries until one is refused; return how many were stored."""
    for n in range(count):
        try:
            client.set(f"{name}:{n}", VALUE, ex=ttl)
        except OutOfMemoryError:
            return n
    return count


def test_a_full_spare_refuses_to_store_and_still_reads(server):
    with spare_redis(server, ROOM) as spare:
        stored = store(spare, 100, 3600)

        assert 30 < stored < 60
        assert spare.get("entry:0") is not None
        assert spare.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_spare_without_a_limit_takes_all(server):
    with spare_redis(server) as spare:
        assert store(spare, 100, None) == 100


def test_a_spare_evicts_by_its_policy(server):
    with spare_redis(server, ROOM, "allkeys-lfu") as spare:
        assert store(spare, 100, None) == 100
        assert 30 < spare.dbsize() < 60


def test_under_a_volatile_policy_entries_without_a_ttl_drive_out_the_others(server):
    left = {}
    for ttl in (None, 3600):
        with spare_redis(server, ROOM, "volatile-lfu") as spare:
            spare.config_set("maxmemory-samples", 64)  # among all entries, not among five
            spare.config_set("lfu-decay-time", 0)  # else each new minute lowers all counts
            store(spare, 30, 3600, "report")
            for _ in range(20):
                for n in range(30):
                    spare.get(f"report:{n}")
                store(spare, 100, ttl, "search")
            left[ttl] = spare.exists(*(f"report:{n}" for n in range(30)))

    assert left[None] == 0
    assert left[3600] == 30


def test_a_spare_is_another_server_and_ends_with_its_block(server, client):
    client.set("entry", "x")
    with spare_redis(server, ROOM) as spare:
        assert spare.dbsize() == 0
        assert spare.info()["process_id"] != server.pid
        assert client.config_get("maxmemory") == {"maxmemory": "0"}
    with pytest.raises(redis.ConnectionError):
        spare.ping()
    assert client.get("entry") == b"x"


def test_a_spare_ends_when_its_block_raises(server):
    with pytest.raises(ZeroDivisionError), spare_redis(server) as spare:
        raise ZeroDivisionError
    with pytest.raises(redis.ConnectionError):
        spare.ping()


def test_a_server_given_by_url_is_never_limited(server, client):
    by_url = RedisServer("url", server.name, server.version, None, server.url)
    with spare_redis(by_url, ROOM, "allkeys-lru") as spare:
        if choose_redis("auto")[0] != "fake":
            assert spare.info()["process_id"] != server.pid

    assert client.config_get("maxmemory") == {"maxmemory": "0"}
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_fakeredis_has_a_spare_too_without_a_limit_and_cannot_say_its_memory():
    keeper = Keeper()
    try:
        fake = start_redis("fake", keeper)
        with spare_redis(fake, ROOM) as spare:
            assert store(spare, 100, 3600) == 100
            assert used_memory(spare) == 0
    finally:
        keeper.close()


def test_memory_grows_with_what_is_stored(client):
    before = used_memory(client)
    store(client, 50, None)

    assert used_memory(client) - before > 50 * len(VALUE)


# The notebook's functions are labkit's.


@pytest.fixture(scope="module")
def lesson() -> dict[str, Callable[..., Any]]:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    wanted = {"checked_ttl", "jittered_ms"}
    nodes = [node for node in ast.parse(code).body if getattr(node, "name", "") in wanted]
    namespace: dict[str, Any] = {}
    exec("import math\n" + "\n".join(map(ast.unparse, nodes)), namespace)
    return namespace


@pytest.mark.parametrize("ttl", [*NO_NUMBERS, *OUT_OF_RANGE, 1, 0.5, SHORTEST, LONGEST], ids=repr)
def test_the_notebook_refuses_what_labkit_refuses_in_the_same_words(lesson, ttl):
    outcomes = []
    for check in (checked_ttl, lesson["checked_ttl"]):
        try:
            outcomes.append(check(ttl))
        except (TypeError, ValueError) as error:
            outcomes.append((type(error), str(error)))

    assert outcomes[0] == outcomes[1]


@given(ttl=NUMBERS, spread=CHANCES, chance=CHANCES)
def test_the_notebook_jitters_as_labkit_does(lesson, ttl, spread, chance):
    theirs = lesson["jittered_ms"](ttl, spread, lambda: chance)

    assert theirs == jittered_ms(ttl, spread, lambda: chance)
