"""No stale entry at quiescence: QueryCache itself, on real servers, in every order there is.

What takes too long for each time is marked `whole`: LABKIT_ALL_SCHEDULES=1 runs it as well.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import redis
from greenlet import getcurrent
from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import scoped_session, sessionmaker

import labkit
from labkit import Lab
from labkit.cache import QueryCache, invalidation, loading, tokens
from labkit.cache.codec import loads
from labkit.concurrency.schedule import Actor, Exploration, explore
from labkit.shop import Order, User
from labkit.shop.app import prepare_engine
from tests.caches import PATIENT, PATIENT_APP
from tests.helpers import LONG, wait_until
from tests.stepped import (
    States,
    World,
    clock,
    explore_states,
    see,
    stop_at_commands,
    stop_at_statements,
    stop_in_flights,
)

TTL = 60  # seconds
ALL = bool(os.environ.get("LABKIT_ALL_SCHEDULES"))
whole = pytest.mark.skipif(not ALL, reason="minutes: LABKIT_ALL_SCHEDULES=1 runs it")
READ_ONE = select(User.id, User.region).where(User.id == 1)
READ_BOTH = (
    select(User.id, User.region, Order.user_id)
    .join(Order, Order.id == User.id)
    .where(User.id.in_([1, 2]))
    .order_by(User.id)
)
# What time does: the deadline of each writer that has crashed is over.
AGE = """
for _, key in ipairs(redis.call('KEYS', 'token:*')) do
    local marker = redis.call('GET', key)
    if marker:sub(1, 1) == '!' then
        redis.call('SET', key, (marker:gsub(':%d+', ':1')))
    end
end
"""


class Faults(NamedTuple):
    """What may happen beside what the actors do.

    Attributes:
        crash: the writers that may crash, by their letters.
        evict: what may be evicted, each once: "entry", "lease", or the tag of a token.
    """

    crash: str = ""
    evict: tuple[str, ...] = ()


class Shop:
    """Two users and their orders, in a database and behind a Redis, both real."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.world = World()
        url = lab.app.config["SQLALCHEMY_DATABASE_URI"]
        self.engine = create_engine(url)
        prepare_engine(self.engine)
        self.stops_at_writes = True
        stop_at_statements(self.engine, self.stops_at)
        self.sessions = scoped_session(sessionmaker(self.engine), scopefunc=getcurrent)
        # Not by SQLAlchemy's way: it is not watched.
        self.beside = create_engine(url, isolation_level="AUTOCOMMIT").raw_connection()
        self.client = lab.server.connect()
        self.age = self.client.register_script(AGE)

    def stops_at(self, sql: str) -> bool:
        # Until it is committed, nobody sees a write, and no other writer waits for it here.
        return self.stops_at_writes or sql.startswith("SELECT")

    def close(self) -> None:
        self.client.close()
        self.beside.close()
        self.engine.dispose()

    def reset(self) -> None:
        self.world.reset()
        cursor = self.beside.cursor()
        cursor.execute("UPDATE users SET region = 'old' WHERE id IN (1, 2)")
        cursor.execute("UPDATE orders SET user_id = 1 WHERE id IN (1, 2)")
        cursor.close()

    def select(self, statement: Any) -> list[list[Any]]:
        """Return what the database has, without the cache and without a stop."""
        cursor = self.beside.cursor()
        cursor.execute(str(statement.compile(self.engine, compile_kwargs={"literal_binds": True})))
        rows = [list(row) for row in cursor.fetchall()]
        cursor.close()
        return rows


class Scenario:
    """Readers and writers, each in a process of its own, of one question.

    Args:
        shop: what they read and write.
        readers: a letter for each.
        writers: a letter for each. With one the question has one tag, with two it has two tags, and
            both write to both.
        together: whether the readers are threads of one process, with one cache.
        settings: of each cache.
    """

    def __init__(
        self, shop: Shop, readers: str, writers: str, together: bool = False, **settings: Any
    ) -> None:
        self.shop, self.settings = shop, settings
        shop.world = World()
        self.statement = READ_ONE if len(writers) == 1 else READ_BOTH
        self.tags = ["users"] if len(writers) == 1 else ["orders", "users"]
        self.caches: list[QueryCache] = []
        self.probe_cache, self.probe = self.reader()
        self.actors: dict[str, Actor] = {}
        for name in readers:
            if not self.actors or not together:
                cache, report = self.reader()
                stop_at_commands(cache._opened()._client)
            process = "readers" if together else name
            self.actors[name] = shop.world.actor(name, self.ending(report), process)
        self.writing = self.cache()
        stop_at_commands(self.writing._opened()._client)
        for number, name in enumerate(writers, 1):
            self.actors[name] = shop.world.actor(
                name, self.ending(self.writer(number)), writes=True
            )
        question: Any = self.probe
        self.key: str = question.question.key("querycache", (), {}, None)
        self.qualified = [f"querycache:{tag}" for tag in question.question.tags]
        self.lease = tokens.lease_key(self.key)
        self.token = {tag: tokens.token_key(f"querycache:{tag}") for tag in question.question.tags}
        self.filled = 0  # schedules, or states, that end with an entry that counts

    def close(self) -> None:
        self.writing.close()

    def cache(self) -> QueryCache:
        cache = QueryCache(
            self.shop.client,
            session=self.shop.sessions,
            timeout_ms=60_000,  # of a machine that has other things to do
            lease_ms=600_000,
            mark_ms=600_000,
            **self.settings,
        )
        self.caches.append(cache)
        return cache

    def reader(self) -> tuple[QueryCache, Callable[[], list[list[Any]]]]:
        cache = self.cache()
        cache.close()  # it is in another process, and does not see this one's writes

        @cache.query(ttl=TTL, tags=self.tags, name="report")
        def report() -> list[list[Any]]:
            rows = [list(row) for row in self.shop.sessions.execute(self.statement)]
            see(f"rows {rows}")
            return rows

        return cache, report

    def writer(self, number: int) -> Callable[[], None]:
        def write() -> None:
            session = self.shop.sessions
            session.execute(update(User).where(User.id == number).values(region="new"))
            if "orders" in self.tags:
                session.execute(update(Order).where(Order.id == number).values(user_id=2))
            session.commit()

        return write

    def ending(self, run: Callable[[], object]) -> Callable[[], None]:
        def run_and_end() -> None:
            try:
                run()
            finally:
                self.shop.sessions.remove()

        return run_and_end

    def entry(self) -> list[list[Any]] | None:
        """Return what a reader would be served from the cache now."""
        value = tokens.look(self.shop.client, self.key, *self.qualified).value
        return None if value is None else loads(value)

    def check(self) -> str | None:
        served, truth = self.entry(), self.shop.select(self.statement)
        self.filled += served is not None
        if served not in (None, truth):
            return f"Redis serves {served}, the database has {truth}"
        if served is None:  # perhaps because of somebody who has crashed: time goes by
            self.shop.age()
            answers = [self.ask() for _ in range(2)]
            if answers != [truth, truth]:
                return f"then Redis serves {answers}, the database has {truth}"
        return None

    def ask(self) -> list[list[Any]]:
        """Return what one more process is answered."""
        try:
            return self.probe()
        finally:
            self.shop.sessions.remove()

    def reset(self) -> None:
        self.shop.reset()

    def reset_warm(self) -> None:
        self.shop.reset()
        self.ask()
        assert self.entry() is not None

    def how(self, faults: Faults, warm: bool) -> dict[str, Any]:
        return {
            "lab": self.shop.lab,
            "reset": self.reset_warm if warm else self.reset,
            "evict": [self.named(each) for each in faults.evict],
            "crash": list(faults.crash),
        }

    def named(self, key: str) -> str:
        """Return the key that is meant by "entry", "lease" or a tag."""
        named = {"entry": self.key, "lease": self.lease, **self.token}
        return named[key]

    def explore(self, faults: Faults, warm: bool = False) -> Exploration:
        found = explore(self.actors, self.check, **self.how(faults, warm))
        self.assert_nothing_failed()
        return found

    def states(self, faults: Faults, warm: bool = False) -> States:
        how = self.how(faults, warm)
        found = explore_states(self.actors, self.check, world=self.shop.world, **how)
        self.assert_nothing_failed()
        return found

    def ends_stale(self, faults: Faults) -> bool:
        """Whether any schedule does."""
        how = self.how(faults, warm=False)
        return (
            explore_states(
                self.actors, self.check, world=self.shop.world, stop_at_first=True, **how
            ).stale
            > 0
        )

    def assert_nothing_failed(self) -> None:
        assert self.filled > 0
        for cache in self.caches:
            counted = cache.stats.as_dict()
            assert (counted["errors"], counted["bypasses"], counted["owed"]) == ({}, {}, 0)


def lab_with(database: str) -> Iterator[Shop]:
    with labkit.start(database=database, users=5, orders=5) as lab:
        shop = Shop(lab)
        yield shop
        shop.close()


@pytest.fixture(scope="module")
def sqlite(own_data: None) -> Iterator[Shop]:
    yield from lab_with("sqlite")


@pytest.fixture(scope="module")
def postgres(own_data: None) -> Iterator[Shop]:
    """Two writers at once need a database that locks rows."""
    yield from lab_with("postgres")


@contextmanager
def scenario(
    shop: Shop,
    readers: str,
    writers: str,
    polls: float = 1,
    stops_at_writes: bool = True,
    **options: Any,
) -> Iterator[Scenario]:
    """Set a scene.

    Args:
        shop: where.
        readers: as of `Scenario`.
        writers: as of `Scenario`.
        polls: how often who waits for another's load looks again, before time is up.
        stops_at_writes: whether there is a step for each UPDATE, which nobody sees.
        options: of `Scenario`.
    """

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "time", clock(polls))
        patch.setattr(shop, "stops_at_writes", stops_at_writes)
        if options.get("together"):  # what threads of one process share are steps as well
            stop_in_flights(patch, polls)
        played = Scenario(shop, readers, writers, **options)
        try:
            yield played
        finally:
            played.close()


def evictions(*tags: str) -> list[Faults]:
    """Return the eviction of each key."""
    return [Faults(evict=(key,)) for key in ("entry", "lease", "*", *tags)]


WITH_A_TTL = ("entry", "lease")
NONE = Faults()
ONE_WRITER = [NONE, Faults("W"), *evictions("users"), Faults("W", WITH_A_TTL)]
TWO_WRITERS = [NONE, Faults("VW"), *evictions("users", "orders"), Faults("VW", WITH_A_TTL)]


def named(faults: Faults) -> str:
    evicted = [f"{each}-evicted" for each in faults.evict]
    return "-".join([*(f"{name}-crashes" for name in faults.crash), *evicted]) or "no-fault"


def cases(*faults: Faults, only_whole: Sequence[Faults] = ()) -> pytest.MarkDecorator:
    marked = [pytest.param(each, marks=whole, id=named(each)) for each in only_whole]
    return pytest.mark.parametrize(
        "faults", [*(pytest.param(each, id=named(each)) for each in faults), *marked]
    )


# Whether an entry that counts is there already.
COLD_OR_WARM = [
    pytest.param(False, id="cold"),
    pytest.param(True, marks=whole, id="warm"),
]


@cases(*ONE_WRITER, Faults("W", ("*",)))
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_reader_and_a_writer(sqlite: Shop, faults: Faults, warm: bool) -> None:
    with scenario(sqlite, "R", "W") as played:
        found = played.states(faults, warm)

    assert_none_ends_stale(found)
    assert_what_has_a_ttl(found)


@cases(NONE, only_whole=ONE_WRITER[1:])
@pytest.mark.parametrize("warm", COLD_OR_WARM)
def test_two_readers_and_a_writer(sqlite: Shop, faults: Faults, warm: bool) -> None:
    with scenario(sqlite, "RS", "W", stops_at_writes=ALL) as played:
        found = played.states(faults, warm)

    assert_none_ends_stale(found)
    assert_what_has_a_ttl(found)


@cases(NONE, Faults("VW"), only_whole=TWO_WRITERS[2:])
@pytest.mark.parametrize("warm", COLD_OR_WARM)
def test_a_reader_and_two_writers_at_once(postgres: Shop, faults: Faults, warm: bool) -> None:
    with scenario(postgres, "R", "VW", stops_at_writes=ALL) as played:
        found = played.states(faults, warm)

    assert_none_ends_stale(found)
    assert_what_has_a_ttl(found)


def assert_none_ends_stale(found: States) -> None:
    print(found)  # with -s, or -rP, a run can be quoted
    assert found.stale == 0, found


def assert_what_has_a_ttl(found: States) -> None:
    """Assert that a policy which evicts keys with a TTL leaves tokens and markers alone."""
    assert set(found.kinds) <= {("token", False), ("querycache", True), ("lease", True)}


@pytest.mark.parametrize("marks", [False, pytest.param(True, marks=whole)])
def test_two_threads_of_one_process_and_a_writer(sqlite: Shop, marks: bool) -> None:
    """One loads for both: where they meet, and where one waits for the other, are steps too."""
    with scenario(
        sqlite, "RS", "W", stops_at_writes=False, together=True, mark_writes=marks
    ) as played:
        assert_none_ends_stale(played.states(NONE))


@whole
@cases(*ONE_WRITER[1:])
def test_two_threads_of_one_process_and_every_fault(sqlite: Shop, faults: Faults) -> None:
    with scenario(sqlite, "RS", "W", stops_at_writes=False, together=True) as played:
        assert_none_ends_stale(played.states(faults))


@cases(*evictions("users"))
def test_without_marks_an_eviction_is_no_loss_either(sqlite: Shop, faults: Faults) -> None:
    with scenario(sqlite, "R", "W", mark_writes=False) as played:
        assert_none_ends_stale(played.states(faults))


@whole
@cases(NONE, *evictions("orders", "users"))
def test_two_writers_without_marks(postgres: Shop, faults: Faults) -> None:
    with scenario(postgres, "R", "VW", mark_writes=False) as played:
        assert_none_ends_stale(played.states(faults))


@whole
@pytest.mark.parametrize("polls", [2, math.inf])
@cases(NONE, Faults("W", WITH_A_TTL))
def test_who_waits_may_look_again_and_again(sqlite: Shop, polls: float, faults: Faults) -> None:
    with scenario(sqlite, "RS", "W", polls=polls, stops_at_writes=False) as played:
        found = played.states(faults)

    assert not any(found.problems.values())  # schedules without an end cannot be counted


@whole
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_every_key_may_be_evicted_in_one_schedule(sqlite: Shop, warm: bool) -> None:
    with scenario(sqlite, "RS", "W", stops_at_writes=False) as played:
        assert played.states(Faults(evict=(*WITH_A_TTL, *played.token)), warm).stale == 0


# What it stands on: each schedule that `explore` runs, and the same steps.


def test_the_states_stand_for_each_schedule_that_explore_runs(sqlite: Shop) -> None:
    with scenario(sqlite, "R", "W", stops_at_writes=False) as played:
        states, one_by_one = played.states(NONE), played.explore(NONE)

    assert (one_by_one.schedules, len(one_by_one.stale)) == (states.schedules, 0)


@whole
def test_each_schedule_of_two_readers_and_a_writer_one_by_one(sqlite: Shop) -> None:
    with scenario(sqlite, "RS", "W") as played:
        one_by_one, states = played.explore(NONE), played.states(NONE)

    assert (one_by_one.schedules, len(one_by_one.stale)) == (states.schedules, 0)


def test_a_step_is_one_command_or_one_statement(sqlite: Shop) -> None:
    with scenario(sqlite, "R", "W") as played:
        run = played.explore(NONE).replay("R1 R2 R3 R4 W1 W2 W3 W4")
        done = {
            name: [note.split()[0] for note in seen] for name, seen in sqlite.world.seen.items()
        }

    assert len(run.steps) == 8
    assert done["R"] == ["MGET", "EVAL", "SELECT", "rows", "EVAL"]
    assert done["W"] == ["UPDATE", "EVAL", "COMMIT", "EVAL"]


# What is lost all the same, where the policy evicts keys without a TTL as well.


LOST = Faults("W", ("users",))
EVICTED = "~token:querycache:users"


def test_a_crash_and_the_eviction_of_its_marker_leave_a_stale_answer(sqlite: Shop) -> None:
    """It is on the list of docs/query_cache.md: 9 of 509 schedules, until the entry's TTL ends."""
    with scenario(sqlite, "R", "W", stops_at_writes=False) as played:
        states, one_by_one = played.states(LOST), played.explore(LOST)

    assert str(one_by_one) == "509 schedules, 9 end stale"
    assert (states.schedules, states.stale) == (509, 9)
    for run in one_by_one.stale:  # evicted before the COMMIT, whose writer never came back
        order = [run.schedule.split().index(step) for step in ("W1", EVICTED, "W2", "W!")]
        assert order == sorted(order)


@pytest.mark.parametrize(
    ("readers", "writers", "evict", "expected"),
    [
        pytest.param("R", "W", ("*",), False),  # no writer marks it
        pytest.param("R", "VW", ("users",), True, marks=whole),
        pytest.param("RS", "W", ("users",), True, marks=whole),
    ],
)
def test_which_tokens_it_takes(
    request: pytest.FixtureRequest,
    readers: str,
    writers: str,
    evict: tuple[str, ...],
    expected: bool,
) -> None:
    shop: Shop = request.getfixturevalue("sqlite" if writers == "W" else "postgres")
    with scenario(shop, readers, writers, stops_at_writes=False) as played:
        assert played.ends_stale(Faults(writers, evict)) == expected


def test_such_a_stale_answer_ends_with_its_ttl(sqlite: Shop) -> None:
    seen: list[Any] = []
    with scenario(sqlite, "R", "W", stops_at_writes=False) as played:

        def check() -> str:
            now = sqlite.select(played.statement)
            seen.extend([played.entry(), played.ask(), now])
            seen.append(sqlite.client.pttl(played.key))
            sqlite.client.pexpire(played.key, 1)  # that time goes by
            seen.append(wait_until(lambda: not sqlite.client.exists(played.key), 0.1 * TTL))
            seen.append(played.ask())
            return "seen"  # one schedule is enough to replay another

        how = played.how(LOST, warm=False)
        found = explore(played.actors, check, stop_at_first=True, **how)
        seen.clear()
        found.replay(f"R1 W1 {EVICTED} R2 R3 R4 W2 W!")

    old, new = [[1, "old"]], [[1, "new"]]
    assert (seen[:3], seen[4:]) == ([old, old, new], [True, new])
    assert 0 < seen[3] <= 1000 * TTL


POLICIES = [
    ("noeviction", 0),
    ("volatile-lru", 0),
    ("volatile-ttl", 0),
    ("allkeys-lru", 1),
    ("allkeys-lfu", 1),
    ("allkeys-random", 1),
]


@pytest.fixture
def policy(sqlite: Shop) -> Iterator[Callable[[str], None]]:
    def set_policy(name: str) -> None:
        sqlite.client.config_set("maxmemory-policy", name)

    yield set_policy
    sqlite.client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(("name", "warnings"), POLICIES)
def test_a_policy_that_evicts_markers_is_warned_of_once(
    sqlite: Shop,
    policy: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
    name: str,
    warnings: int,
) -> None:
    policy(name)
    cache = QueryCache(sqlite.client, session=sqlite.sessions, **PATIENT)
    cache.close()
    for number in range(3):
        cache.invalidate("users")
        cache.query(ttl=TTL, name=f"number{number}")(lambda: 1)()

    assert len([each for each in caplog.messages if name in each]) == warnings
    assert len([each for each in caplog.messages if "evicts by" in each]) == warnings


def test_a_policy_that_was_not_told_in_time_is_asked_for_again(
    sqlite: Shop,
    policy: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy("allkeys-lru")
    info, asked = redis.Redis.info, list[Any]()

    def late_at_first(client: redis.Redis, *sections: str) -> Any:
        asked.append(sections)
        if len(asked) == 1:
            raise redis.TimeoutError
        return info(client, *sections)

    monkeypatch.setattr(redis.Redis, "info", late_at_first)
    cache = QueryCache(sqlite.client, session=sqlite.sessions, pause_ms=1, **PATIENT)
    function = cache.query(ttl=TTL, name="number")(lambda: 1)
    assert wait_until(lambda: function() == 1 and cache.stats.hits > 0, LONG)
    cache.close()

    assert asked == [("memory",)] * 2
    assert len([each for each in caplog.messages if "evicts by allkeys-lru" in each]) == 1


def test_init_app_warns_of_it_as_well(
    sqlite: Shop,
    policy: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy("allkeys-lru")
    for name, value in ({"QUERY_CACHE_URL": sqlite.lab.redis_url} | PATIENT_APP).items():
        monkeypatch.setitem(sqlite.lab.app.config, name, value)
    cache = QueryCache()
    cache.init_app(sqlite.lab.app, sqlite.lab.db)
    cache.close()

    [warning] = [each for each in caplog.messages if "allkeys-lru" in each]
    assert "until its TTL" in warning
    assert "volatile-" in warning


# That it would be found.


# Whatever the reader has seen before: the tokens of the moment at which it fills.
STAMP_AT_THE_FILL = """
local stamp = {}
for i = 2, #KEYS do
    local token = redis.call('GET', KEYS[i])
    if token and token:sub(1, 6) == 'lease:' then
        redis.call('DEL', KEYS[i])
    else
        stamp[#stamp + 1] = token or ''
    end
end
redis.call('SET', KEYS[1], table.concat(stamp, ' ') .. ARGV[1]:match('\\n.*'), 'PX', ARGV[2])
return 1
"""


def stamp_at_the_fill(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tokens, "FILL", STAMP_AT_THE_FILL)


def fill_without_comparing(patch: pytest.MonkeyPatch) -> None:
    fill = tokens.FILL.replace("token ~= ARGV[i + 1] or", "token and")
    assert fill != tokens.FILL
    patch.setattr(tokens, "FILL", fill)


def invalidate_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    def before_commit(self: Any, *tables: str) -> Callable[..., None]:
        self(*tables)
        return lambda *names: None

    patch.setattr(invalidation.Writes, "before_commit", before_commit)


def one_marker_for_all_writers(patch: pytest.MonkeyPatch) -> None:
    mark, invalidate = tokens.mark, tokens.invalidate

    def mark_all(client: Any, writer: str, *tags: str, **options: Any) -> None:
        mark(client, "BUSY", *tags, **options)

    def invalidate_all(client: Any, *tags: str, writer: str = "") -> None:
        invalidate(client, *tags, writer=writer and "BUSY")

    patch.setattr(tokens, "mark", mark_all)
    patch.setattr(tokens, "invalidate", invalidate_all)


def no_marks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tokens, "mark", lambda client, writer, *tags, **options: None)


def entries_that_count_whatever_their_tokens(patch: pytest.MonkeyPatch) -> None:
    def _lookup(found: list[bytes | None]) -> tokens.Lookup:
        look = own(found)
        _, _, value = (found[0] or b"").partition(b"\n")
        return look._replace(entry=tokens.stamp_of(look.tokens) + value) if found[0] else look

    own = tokens._lookup
    patch.setattr(tokens, "_lookup", _lookup)


@pytest.mark.parametrize(
    ("broken", "faults"),
    [
        (stamp_at_the_fill, NONE),
        (invalidate_before_the_commit, NONE),
        (entries_that_count_whatever_their_tokens, NONE),
        (no_marks, Faults("W")),
    ],
)
def test_what_is_broken_is_found(
    sqlite: Shop, monkeypatch: pytest.MonkeyPatch, broken: Any, faults: Faults
) -> None:
    broken(monkeypatch)
    with scenario(sqlite, "R", "W", stops_at_writes=False) as played:
        assert played.ends_stale(faults)


def test_a_fill_that_does_not_compare_stores_what_no_one_is_served(
    sqlite: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its entry carries the tokens that the reader has seen, so a look refuses it as well."""
    fill_without_comparing(monkeypatch)
    with scenario(sqlite, "R", "W", stops_at_writes=False) as played:
        assert_none_ends_stale(played.states(Faults("W")))


@whole
def test_one_marker_text_for_all_writers_is_found(
    postgres: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_marker_for_all_writers(monkeypatch)
    with scenario(postgres, "R", "VW", stops_at_writes=False) as played:
        assert played.ends_stale(Faults("V"))


def test_a_marker_with_a_ttl_is_found(sqlite: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could be evicted under a policy that docs/query_cache.md recommends."""
    set_marker = "redis.call('SET', KEYS[i], marker == '' and ARGV[i + 2] or marker)"
    with_a_ttl = f"{set_marker}; if marker ~= '' then redis.call('PEXPIRE', KEYS[i], 60000) end"
    monkeypatch.setattr(tokens, "MARK", tokens.MARK.replace(set_marker, with_a_ttl))
    with scenario(sqlite, "R", "W", stops_at_writes=False) as played:
        found = played.states(NONE)

    assert ("token", True) in found.kinds
    with pytest.raises(AssertionError):
        assert_what_has_a_ttl(found)
