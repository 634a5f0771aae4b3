"""Tokens in values: no entry of an invalidated tag counts, whatever happens in which order."""

from __future__ import annotations

import ast
import re
import secrets
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit import LabError
from labkit.cache import tokens
from labkit.servers import Keeper, spare_cluster, start_redis
from tests.clients import KINDS, client_of
from tests.helpers import defined_in_notebook, wait_until

TAGS = ["users", "orders", "lines"]


@pytest.fixture(scope="module", params=KINDS)
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with client_of(request.param) as client:
        yield client


@pytest.fixture(autouse=True)
def empty(client: redis.Redis) -> None:
    client.flushdb()


def ask(client: redis.Redis, key: str, answer: bytes, *tags: str) -> bytes:
    """Cache-aside: what is cached, or else this answer, which is then cached."""
    found = tokens.lookup(client, key, *tags)
    if found.value is not None:
        return found.value
    assert tokens.fill(client, key, answer, 60, found, *tags)
    return answer


def test_an_entry_is_found_until_one_of_its_tags_is_invalidated(client):
    assert ask(client, "report", b"1", "users", "orders") == b"1"
    tokens.invalidate(client, "lines")
    assert ask(client, "report", b"2", "users", "orders") == b"1"
    for number, tag in enumerate(["users", "orders"]):
        tokens.invalidate(client, tag)
        assert ask(client, "report", b"%d" % (3 + number), "users", "orders") == b"%d" % (
            3 + number
        )


@pytest.mark.parametrize("value", [b"", b"\n", b"x\ny", bytes(range(256))])
def test_any_value_comes_back(client, value):
    ask(client, "entry", value, "users")

    assert tokens.lookup(client, "entry", "users").value == value


def test_an_entry_without_tags_counts_until_its_ttl_ends(client):
    assert ask(client, "entry", b"1") == b"1"
    assert ask(client, "entry", b"2") == b"1"
    assert 0 < client.ttl("entry") <= 60


def test_a_fill_with_a_look_from_before_an_invalidation_stores_nothing(client):
    found = tokens.lookup(client, "entry", "users", "orders")
    tokens.invalidate(client, "orders")

    assert not tokens.fill(client, "entry", b"old", 60, found, "users", "orders")
    assert client.exists("entry") == 0


def test_a_fill_after_the_tokens_were_evicted_stores_nothing(client):
    found = tokens.lookup(client, "entry", "users")
    client.delete("token:users")

    assert not tokens.fill(client, "entry", b"old", 60, found, "users")


def test_an_entry_does_not_come_back_when_its_token_is_evicted(client):
    ask(client, "entry", b"old", "users")
    tokens.invalidate(client, "users")
    client.delete("token:users")

    assert tokens.lookup(client, "entry", "users").value is None


def test_a_look_that_makes_a_token_leaves_the_other_tags_alone(client):
    ask(client, "entry", b"1", "users")
    tokens.lookup(client, "other", "users", "orders")

    assert tokens.lookup(client, "entry", "users").value == b"1"


def test_a_tagged_entry_has_its_ttl(client):
    ask(client, "entry", b"1", "users")

    assert 0 < client.ttl("entry") <= 60


def test_without_tags_nothing_is_sent(client):
    tokens.invalidate(client)

    assert client.dbsize() == 0


def test_tokens_are_never_used_twice():
    assert len({tokens.new_token() for _ in range(10_000)}) == 10_000


# Markers: a writer enters itself before its commit.


def test_while_a_writer_is_under_way_no_entry_counts_and_nobody_fills(client):
    ask(client, "entry", b"old", "users", "orders")
    before = tokens.lookup(client, "entry", "users", "orders")
    tokens.mark(client, "first", "orders")
    found = tokens.lookup(client, "entry", "users", "orders")

    assert (before.busy, found.busy, found.value) == (False, True, None)
    for look in (before, found):
        assert not tokens.fill(client, "entry", b"late", 60, look, "users", "orders")


def test_when_it_has_ended_others_fill_again_and_its_own_look_does_not(client):
    tokens.mark(client, "first", "users")
    meanwhile = tokens.lookup(client, "entry", "users")
    tokens.invalidate(client, "users", writer="first")

    assert not tokens.fill(client, "entry", b"late", 60, meanwhile, "users")
    assert ask(client, "entry", b"new", "users") == b"new"
    assert ask(client, "entry", b"newer", "users") == b"new"
    assert client.ttl("token:users") == -1


@pytest.mark.parametrize("ends", [{"writer": "second"}, {"writer": "a stranger"}, {}])
def test_a_marker_stands_until_the_last_of_its_writers_has_ended(client, ends):
    tokens.mark(client, "first", "users")
    tokens.mark(client, "second", "users")
    tokens.invalidate(client, "users", **ends)
    assert tokens.lookup(client, "entry", "users").busy

    for writer in ("first", "second"):
        tokens.invalidate(client, "users", writer=writer)
    assert not tokens.lookup(client, "entry", "users").busy


def test_a_name_that_begins_like_another_is_another(client):
    tokens.mark(client, "w1", "users")
    tokens.mark(client, "w12", "users")
    tokens.invalidate(client, "users", writer="w1")

    assert tokens.lookup(client, "entry", "users").busy


SOON = 200  # milliseconds


def test_after_a_crash_there_are_misses_until_the_deadline_and_then_a_new_token(client):
    ask(client, "entry", b"old", "users")
    tokens.mark(client, "crashed", "users", deadline_ms=600_000)
    assert tokens.lookup(client, "entry", "users").busy
    tokens.mark(client, "crashed", "users", deadline_ms=SOON)
    assert wait_until(lambda: not tokens.lookup(client, "entry", "users").busy, 60)

    assert ask(client, "entry", b"new", "users") == b"new"


def test_a_marker_has_no_ttl_by_which_a_server_could_evict_it(client):
    tokens.mark(client, "crashed", "users", deadline_ms=SOON)

    assert client.ttl("token:users") == -1


def deadlines(client: redis.Redis) -> dict[str, int]:
    """Return how many milliseconds each writer in the marker has left, by the server's clock."""
    seconds, microseconds = client.time()
    now = 1000 * seconds + microseconds // 1000
    marker = str(client.get("token:users"))
    return {name: int(end) - now for name, end in re.findall(r"!(\w+):(\d+)", marker)}


def test_other_writers_neither_prolong_a_crashed_ones_deadline_nor_shorten_it(client):
    tokens.mark(client, "first", "users", deadline_ms=30_000)
    tokens.mark(client, "second", "users", deadline_ms=60_000)
    tokens.mark(client, "third", "users", deadline_ms=10_000)
    tokens.invalidate(client, "users", writer="second")

    left = deadlines(client)
    assert list(left) == ["first", "third"]
    assert 20_000 < left["first"] <= 30_000
    assert 0 < left["third"] <= 10_000


def test_a_marker_counts_while_one_of_its_writers_does(client):
    now = int(time.time() * 1000)
    client.set("token:users", f"!crashed:{now - 1000}!alive:{now + 60_000}")

    assert tokens.lookup(client, "entry", "users").busy


def test_a_marker_forgets_those_whose_deadline_has_passed(client):
    passed = int(time.time() * 1000) - 1000
    client.set("token:users", f"!crashed:{passed}!crashed2:{passed}")
    tokens.mark(client, "second", "users")

    assert client.get("token:users").count(b"!") == 1
    tokens.invalidate(client, "users", writer="second")
    assert client.ttl("token:users") == -1


def test_a_writer_whose_marker_was_evicted_gives_a_new_token_all_the_same(client):
    tokens.mark(client, "first", "users")
    client.delete("token:users")
    ask(client, "entry", b"old", "users")
    tokens.invalidate(client, "users", writer="first")

    assert tokens.lookup(client, "entry", "users").value is None


def test_marking_and_ending_are_one_command_each(client):
    sent: list[str] = []
    client = Counting(sent, client)
    tokens.mark(client, "first", *TAGS)
    tokens.invalidate(client, *TAGS, writer="first")

    assert sent == ["EVAL", "EVAL"]


class Counting(redis.Redis):
    """A client that notes its commands."""

    def __init__(self, sent: list[str], other: redis.Redis) -> None:
        super().__init__(connection_pool=other.connection_pool)
        self.sent = sent

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self.sent.append(str(args[0]))
        return super().execute_command(*args, **options)


@pytest.mark.parametrize("name", ["", "a b", "a:1", "a!b", "\u00e9"])
def test_a_name_that_a_marker_cannot_hold_is_refused(client, name):
    with pytest.raises(ValueError, match="letters and digits"):
        tokens.mark(client, name, "users")


def test_a_marker_that_would_not_count_is_refused(client):
    with pytest.raises(ValueError, match="a millisecond at least"):
        tokens.mark(client, "first", "users", deadline_ms=0)


ACTIONS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from("abc"), st.none()),
    st.tuples(st.just("look"), st.sampled_from("abc"), st.none()),
    st.tuples(st.just("fill"), st.none(), st.integers(0, 5)),
    st.tuples(st.just("write"), st.sampled_from(TAGS), st.none()),
    st.tuples(
        st.just("evict"), st.sampled_from(["token:users", "token:orders", "a", "b"]), st.none()
    ),
)
DEPENDS = {"a": ["users"], "b": ["users", "orders"], "c": ["lines", "orders"]}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(ACTIONS, max_size=25))
def test_against_a_model_no_read_is_stale(client, actions):
    """Rows are counters. A fill may come long after its look, its rows are those of the look."""
    client.flushdb()
    rows = dict.fromkeys(TAGS, 0)
    looks: list[Any] = []

    def truth(key: str) -> bytes:
        return repr([rows[tag] for tag in DEPENDS[key]]).encode()

    for action, name, number in actions:
        if action == "write":
            rows[name] += 1
            tokens.invalidate(client, name)
        elif action == "evict":
            client.delete(name)
        elif action == "ask":
            assert ask(client, name, truth(name), *DEPENDS[name]) == truth(name)
        elif action == "look":
            looks.append((name, tokens.lookup(client, name, *DEPENDS[name]), truth(name)))
        elif looks:
            name, found, answer = looks[number % len(looks)]
            tokens.fill(client, name, answer, 60, found, *DEPENDS[name])


MARKED = st.one_of(
    st.tuples(st.sampled_from(["ask", "look"]), st.sampled_from("abc")),
    st.tuples(st.just("mark"), st.sampled_from(TAGS)),
    st.tuples(st.sampled_from(["fill", "commit", "end"]), st.integers(0, 5)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(MARKED, max_size=25))
def test_against_a_model_no_read_is_stale_whoever_of_the_writers_crashes(client, actions):
    """As above, but every writer is marked, and may stop for ever before or after its commit."""
    client.flushdb()
    rows = dict.fromkeys(TAGS, 0)
    looks: list[Any] = []
    writers: list[str] = []  # the tag of each; its name is its number
    ended: set[int] = set()

    def truth(key: str) -> bytes:
        return repr([rows[tag] for tag in DEPENDS[key]]).encode()

    for action, which in actions:
        if action == "mark":
            tokens.mark(client, str(len(writers)), which)
            writers.append(which)
        elif action in ("ask", "look"):
            found = tokens.lookup(client, which, *DEPENDS[which])
            assert found.value in (None, truth(which))
            looks.append((which, found, truth(which)))
        if looks and action in ("ask", "fill"):
            name, found, answer = looks[-1 if action == "ask" else which % len(looks)]
            tokens.fill(client, name, answer, 60, found, *DEPENDS[name])
        elif writers and action in ("commit", "end"):
            number = which % len(writers)
            if action == "commit" and number not in ended:
                rows[writers[number]] += 1
            elif action == "end":
                ended.add(number)
                tokens.invalidate(client, writers[number], writer=str(number))


def test_in_a_cluster_a_hash_tag_keeps_entry_and_tokens_together():
    keeper = Keeper()
    try:
        try:
            cluster_of = spare_cluster(start_redis("auto", keeper))
            with cluster_of as cluster:
                assert ask(cluster, "{shop}:report", b"1", "{shop}:users") == b"1"  # type: ignore[arg-type]
                assert ask(cluster, "{shop}:report", b"2", "{shop}:users") == b"1"  # type: ignore[arg-type]
                tokens.mark(cluster, "first", "{shop}:users")  # type: ignore[arg-type]
                tokens.invalidate(cluster, "{shop}:users", "{shop}:orders", writer="first")  # type: ignore[arg-type]
                assert ask(cluster, "{shop}:report", b"2", "{shop}:users") == b"2"  # type: ignore[arg-type]
        except LabError as error:
            pytest.skip(str(error).splitlines()[0])
    finally:
        keeper.close()


@pytest.fixture
def notebook(client: redis.Redis) -> dict[str, Any]:
    """What lesson 09 writes out, made for this client."""
    defined = defined_in_notebook("09_versioned_invalidation")
    names = ["stamp_of", "lookup", "invalidate", "fill"]
    namespace: dict[str, Any] = {"lab": SimpleNamespace(redis=client), "secrets": secrets}
    namespace["fill_script"] = client.register_script(tokens.FILL)
    exec("\n".join(ast.unparse(defined[name]) for name in names), namespace)
    return namespace


def test_the_notebooks_cache_and_labkits_are_one(client, notebook):
    tags = ("users", "orders")
    found = tokens.lookup(client, "a", *tags)
    assert notebook["lookup"]("a", *tags) == (None, list(found.tokens))
    assert tokens.fill(client, "a", b"1", 60, found, *tags)
    assert notebook["lookup"]("a", *tags) == (b"1", list(found.tokens))

    notebook["invalidate"]("orders")
    answer, current = notebook["lookup"]("a", *tags)
    assert (answer, tokens.lookup(client, "a", *tags).value) == (None, None)
    assert not tokens.fill(client, "a", b"late", 60, found, *tags)
    assert notebook["fill"]("a", b"2", 60, current, *tags) == 1
    found = tokens.lookup(client, "a", *tags)
    assert (found.value, found.tokens) == (b"2", tuple(current))

    tokens.invalidate(client, "users")
    assert notebook["fill"]("a", b"late", 60, current, *tags) == 0
    assert notebook["lookup"]("a", *tags)[0] is None
