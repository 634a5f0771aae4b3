"""The short way of a hit: what it leaves out must not be missed."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from labkit.baselines import article
from labkit.cache import NotCacheable, QueryCache, codec, tokens
from labkit.cache.client import OwnRedis, _packed_mget, own_client
from labkit.cache.questions import Function, refuse_entities
from labkit.servers import Keeper, start_redis
from labkit.shop import User, db
from tests.caches import PATIENT

NAMES = ("server", "token:*")


@pytest.fixture(scope="module", params=["server", "wheel"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    keeper = Keeper()
    yield start_redis(request.param, keeper).connect()
    keeper.close()


@pytest.fixture
def own(client: redis.Redis) -> Iterator[OwnRedis]:
    client.flushdb()
    client.mset({"a": "1", "b": "2"})
    own: Any = own_client(client, 5, NAMES)
    yield own
    own.close()


def test_an_mget_is_packed_as_redis_py_packs_it():
    keys = ("a", "with space", "naïve", "", "x" * 1000, "two\r\nlines")

    assert _packed_mget(keys) == b"".join(redis.Connection().pack_command("MGET", *keys))


def test_values_come_in_the_order_of_the_keys(own):
    assert own.mget("b", "none", "a") == [b"2", None, b"1"]


def test_two_who_ask_at_once_have_two_connections(own):
    pool = own.connection_pool
    first = pool.get_connection()
    second = pool.get_connection()

    assert first is not second
    pool.release(first)
    assert pool.get_connection() is first
    for each in (first, second):
        pool.release(each)


def test_one_after_the_other_share_one_connection_whatever_they_send(client, own):
    for _ in range(5):
        own.mget("a")
        own.eval("return 1", 0)

    assert len(own.connection_pool._available_connections) == 1
    assert own.connection_pool._in_use_connections == set()


def test_a_connection_that_the_server_has_closed_is_opened_again(client, own):
    own.mget("a")
    connection = own.connection_pool._available_connections[0]
    client.client_kill_filter(_type="normal", skipme=True)

    assert own.mget("a") == [b"1"]
    assert own.connection_pool._available_connections == [connection]


def test_what_somebody_has_left_unread_is_nobodys_answer(own):
    own.mget("a")
    connection = own.connection_pool.get_connection()
    connection.send_command("MGET", "b")
    assert connection.can_read(timeout=5)
    own.connection_pool.release(connection)

    assert own.mget("a") == [b"1"]


def test_a_connection_that_is_to_be_opened_anew_is(own):
    own.mget("a")
    connection = own.connection_pool.get_connection()
    connection.mark_for_reconnect()
    own.connection_pool.release(connection)

    assert not connection.is_connected
    assert own.mget("a") == [b"1"]


def test_a_hit_after_the_server_has_closed_all_connections_is_a_hit(client):
    client.flushdb()
    cache = QueryCache(client, **PATIENT)
    calls: list[int] = []

    @cache.query(ttl=60, name="answer")
    def answer() -> str:
        calls.append(1)
        return "answer"

    answer()
    client.client_kill_filter(_type="normal", skipme=True)

    assert [answer(), answer()] == ["answer", "answer"]
    assert (calls, cache.stats.hits, cache.stats.errors) == ([1], 2, {})
    cache.close()


def of(value: Any, other: Any = None) -> Any:
    return value, other


def test_keys_that_are_remembered_tell_equal_values_apart_by_their_types():
    question = Function(of, 60, (), True, ignore=(), version=1, name="")
    calls: list[tuple[Any, Any]] = [
        ((1,), {}),
        ((True,), {}),
        ((1, None), {}),
        ((1, False), {}),
        ((1, 0), {}),
    ]
    calls += [((1.0,), {}), (("1",), {}), ((b"1",), {}), ((None,), {}), (((1,),), {})]
    keys = [question.key("shop", args, kwargs, None) for args, kwargs in calls]

    assert keys[0] == keys[2]  # the default is the same question
    assert len(set(keys)) == len(keys) - 1
    assert question.key("shop", (), {"other": None, "value": 1}, None) == keys[0]
    assert keys == [question.key("shop", args, kwargs, None) for args, kwargs in calls]


@pytest.mark.parametrize("context", [1, True, "1", None, [1]])
def test_keys_that_are_remembered_have_the_context_and_the_namespace(context):
    question = Function(of, 60, (), True, ignore=(), version=1, name="")
    others = [each for each in (1, True, "1", None, [1]) if repr(each) != repr(context)]
    key = question.key("shop", (1,), {}, context)

    assert key not in [question.key("shop", (1,), {}, each) for each in others]
    assert question.key("other", (1,), {}, context) != key
    assert question.key("shop", (1,), {}, context) == key


def test_an_entity_is_refused_each_time():
    for _ in range(2):
        with pytest.raises(NotCacheable):
            refuse_entities(db.select(User))


def test_the_articles_way_asks_redis_once_for_a_hit(client):
    client.flushdb()
    calls: list[int] = []

    @article.cached(client, 60)
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    client.config_resetstat()
    assert [double(2), double(2), double(3)] == [4, 4, 6]
    assert calls == [2, 3]
    sent: Any = client.info("commandstats")
    assert (sent["cmdstat_get"]["calls"], sent["cmdstat_set"]["calls"]) == (3, 2)


@pytest.mark.parametrize("value", [[{"id": 1}], {"day": datetime.date(2025, 7, 1)}, "$", None])
def test_a_value_is_read_in_place_behind_its_tokens(client, value):
    client.flushdb()
    found = tokens.lookup(client, "entry", "users", "orders")
    assert (found.entry, found.view, found.value) == (None, None, None)
    assert tokens.fill(client, "entry", codec.dumps(value), 60, found, "users", "orders")

    found = tokens.look(client, "entry", "users", "orders")
    assert type(found.value) is bytes
    assert found.value == codec.dumps(value)
    assert found.view is not None
    assert found.view.obj is found.entry
    assert codec.loads(found.view) == codec.loads(found.value) == value


def test_a_view_of_something_that_may_change_is_not_read():
    with pytest.raises(TypeError, match="memoryview"):
        codec.loads(memoryview(bytearray(b"1")))
