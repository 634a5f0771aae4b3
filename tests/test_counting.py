"""A check's own client: its scripts see the check's clock, and loading them is not counted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from labkit.lessons.counting import Counting
from tests.clients import KINDS, client_of

TIME = "local time = redis.call('TIME') return time[1] .. '.' .. time[2]"


@pytest.fixture(scope="module", params=KINDS)
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with client_of(request.param) as client:
        yield client


@pytest.fixture
def counting(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Counting:
    client.script_flush()
    monkeypatch.setattr(time, "time_ns", lambda: 7_000_012_000)
    counting = Counting(connection_pool=client.connection_pool)
    counting.sent = []
    return counting


@pytest.mark.parametrize(
    "script",
    [
        TIME,
        TIME.encode(),
        TIME.replace("'TIME'", "'time'"),
        TIME.replace("redis.call", "redis.pcall"),
        "local call = redis.call " + TIME.replace("redis.call", "call"),
        "-- TIME is asked for below\n" + TIME,
    ],
)
def test_a_script_is_told_our_time(counting, script):
    assert counting.eval(script, 0) == b"7.12"
    assert counting.register_script(script)() == b"7.12"


def test_so_is_one_with_a_shebang(counting):
    try:
        redis.Redis.eval(counting, "#!lua\nreturn 1", 0)
    except redis.ResponseError:
        pytest.skip("this server takes no shebang")

    assert counting.eval("#!lua\n" + TIME, 0) == b"7.12"


def test_the_rest_of_redis_is_as_it_was(counting):
    script = "redis.call('TIME') redis.call('SET', KEYS[1], ARGV[1]) return redis.status_reply('x')"

    assert counting.eval(script, 1, "key", "value") == b"x"
    assert counting.get("key") == b"value"


def test_a_script_that_the_server_had_to_load_counts_as_one_command(counting):
    script = counting.register_script("return 1")

    assert [script(), script()] == [1, 1]
    assert counting.sent == ["EVALSHA", "EVALSHA"]


def test_loading_it_each_time_does_not(counting):
    counting.evalsha(counting.script_load("return 1"), 0)

    assert counting.sent == ["SCRIPT LOAD", "EVALSHA"]


def test_a_pipeline_is_noted(counting):
    counting.pipeline().set("key", "value").execute()

    assert counting.sent == ["a pipeline"]
