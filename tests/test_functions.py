"""What is known of SQL's functions is what servers say of them; and what is keyed, and refused."""

from __future__ import annotations

import datetime
import enum
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.engine.interfaces import Dialect

import labkit
from labkit.cache import NotCacheable, refusals, statement_key, tables_read
from labkit.cache.functions import KNOWN, MOMENTS, POSTGRESQL, PURE, SETTINGS_DECIDE, SQLITE, SYNTAX

POSTGRES_DIALECT, SQLITE_DIALECT = postgresql.dialect(), sqlite.dialect()
DETERMINISTIC = (
    0x800  # SQLite's flag of a function (https://www.sqlite.org/c3ref/c_deterministic.html)
)


@pytest.fixture(scope="module")
def volatility(own_data: None) -> Iterator[dict[str, set[str]]]:
    """What a live PostgreSQL says of each function, for all of its kinds of arguments."""
    with labkit.start("fake", "postgres", users=5, orders=5) as lab, lab.app.app_context():
        said: dict[str, set[str]] = defaultdict(set)
        query = "SELECT proname, provolatile::text FROM pg_proc JOIN pg_namespace n ON n.oid = "
        query += "pronamespace WHERE nspname = 'pg_catalog'"
        for name, volatile in lab.db.session.execute(sa.text(query)):
            said[name].add(volatile)
        yield dict(said)


def test_postgresql_calls_none_of_those_that_are_known_volatile(volatility):
    known = KNOWN["postgresql"] | set(MOMENTS["postgresql"])
    assert {name for name in known if "v" in volatility.get(name, ())} == set()


def test_those_that_postgresql_calls_stable_are_said_to_hang_on_settings(volatility):
    stable = {name for name in KNOWN["postgresql"] if "s" in volatility.get(name, ())}
    # length(bytes, encoding): conversions between encodings can be defined anew.
    assert stable - SETTINGS_DECIDE == {"length"}


def test_postgresql_knows_all_that_are_said_to_be_its_own(volatility):
    assert {name for name in POSTGRESQL - SYNTAX if name not in volatility} == set()
    assert {name for name in SETTINGS_DECIDE | set(MOMENTS["postgresql"])} <= set(volatility)


def test_what_is_refused_is_what_postgresql_calls_volatile_or_stable(volatility):
    for name in ("random", "nextval", "clock_timestamp", "gen_random_uuid", "setval", "pg_sleep"):
        assert "v" in volatility[name]
        assert name not in KNOWN["postgresql"]
    for name in ("now", "current_setting", "txid_current_snapshot", "pg_backend_pid"):
        assert volatility[name] & {"s", "v"}
        assert name not in KNOWN["postgresql"]


def test_sqlite_calls_deterministic_all_those_that_are_known():
    with sqlite3.connect(":memory:") as connection:
        flags: dict[str, int] = {}
        for name, flag in connection.execute(
            "SELECT name, flags FROM pragma_function_list WHERE type = 's'"
        ):
            flags[name] = flags.get(name, DETERMINISTIC) & flag
    found = {name: flags[name] for name in SQLITE | PURE if name in flags}
    assert len(found) > 30
    assert [name for name, flag in found.items() if not flag & DETERMINISTIC] == []
    assert not flags["random"] & DETERMINISTIC


# Everyday statements, compiled for PostgreSQL. Each is asked of the table `posts`.

posts = sa.table(
    "posts",
    sa.column("id", sa.Integer),
    sa.column("title", sa.String),
    sa.column("extra", JSONB),
    sa.column("tags", ARRAY(sa.String)),
    sa.column("words", TSVECTOR),
    sa.column("made", sa.DateTime),
    sa.column("score", sa.Numeric),
)
c = posts.c
NOON = datetime.datetime(2025, 7, 1, 12)


class Colour(enum.Enum):
    RED = "red"


def where(*criteria: Any) -> Any:
    return sa.select(c.id).where(*criteria)


EVERYDAY: dict[str, Any] = {
    "a column": sa.select(c.id),
    "a value": where(c.id == 1),
    "IN": where(c.id.in_([1, 2])),
    "LIKE": where(c.title.like("a%")),
    "ILIKE": where(c.title.ilike("a%")),
    "startswith": where(c.title.startswith("a")),
    "contains": where(c.title.contains("a", autoescape=True)),
    "icontains": where(c.title.icontains("a")),
    "regexp_match": where(c.title.regexp_match("a.*")),
    "BETWEEN": where(c.made.between(NOON, NOON)),
    "IS NULL": where(c.title.is_(None)),
    "NOT": where(~(c.id == 1) | (c.id > 5)),
    "ORDER BY, LIMIT": sa.select(c.id).order_by(c.title.desc().nulls_last()).limit(3),
    "DISTINCT ON": sa.select(c.id).ext(postgresql.distinct_on(c.title)).order_by(c.title),
    "GROUP BY, HAVING": sa.select(c.title, sa.func.count()).group_by(c.title).having(c.title > "a"),
    "CASE": sa.select(sa.case((c.id > 1, "a"), else_="b")),
    "CAST": sa.select(sa.cast(c.id, sa.String)),
    "coalesce": sa.select(sa.func.coalesce(c.title, "")),
    "arithmetic": sa.select(c.id * 2 + c.score),
    "concatenation": sa.select(c.title + "!"),
    "a window": sa.select(sa.func.rank().over(partition_by=c.title, order_by=c.id)),
    "FILTER": sa.select(sa.func.count().filter(c.id > 1)),
    "EXISTS": where(sa.exists(sa.select(1).where(c.id == 2))),
    "a CTE": sa.select(sa.select(c.id).cte().c.id),
    "a recursive CTE": sa.select(
        (base := sa.select(c.id).cte(recursive=True)).union_all(sa.select(base.c.id + 1)).c.id
    ),
    "UNION": sa.union(sa.select(c.id), sa.select(c.id + 1)),
    "LATERAL": sa.select(sa.select(c.id).lateral().c.id),
    "an Enum": where(sa.type_coerce(c.title, sa.Enum(Colour)) == Colour.RED),
    "extract": sa.select(sa.extract("month", c.made)),
    # From here on: what had no key, and wrongly.
    "JSONB contains": where(c.extra.contains({"a": 1})),
    "JSONB has_key": where(c.extra.has_key("a")),
    "JSONB astext": sa.select(c.extra["a"].astext),
    "ARRAY contains": where(c.tags.contains(["a"])),
    "an operator of its own": where(c.words.op("@@")(sa.func.to_tsquery("a"))),
    "date_trunc": sa.select(sa.func.date_trunc("day", c.made)),
    "string_agg": sa.select(sa.func.string_agg(c.title, ",")),
    "array_agg": sa.select(sa.func.array_agg(c.id)),
    "json_agg": sa.select(sa.func.json_agg(c.extra)),
    "percentile_cont": sa.select(sa.func.percentile_cont(0.5).within_group(c.score)),
    "rollup": sa.select(c.title, sa.func.count()).group_by(sa.func.rollup(c.title)),
    "date": sa.select(sa.func.date(c.made)),
    "aggregate_strings": sa.select(sa.func.aggregate_strings(c.title, ",")),
    "VALUES": sa.select(
        sa.values(sa.column("n", sa.Integer), name="v").data([(1,), (2,)]).c.n
    ).select_from(posts),
}
TRUSTED: dict[str, tuple[Any, str]] = {
    "order_by(text)": (sa.select(c.id).order_by(sa.text("id")), "id"),
    "literal_column": (
        sa.select(sa.literal_column("upper(title)")).select_from(posts),
        "upper(title)",
    ),
}
NEVER: dict[str, Any] = {
    "now": where(c.made > sa.func.now()),
    "random": sa.select(c.id).order_by(sa.func.random()),
    "uuid": sa.select(sa.func.gen_random_uuid()),
    "nextval": sa.select(sa.func.nextval("s")),
    "a Sequence": sa.select(sa.Sequence("s").next_value()),
    "txid": sa.select(sa.func.txid_current()),
    "current_setting": sa.select(sa.func.current_setting("TimeZone")),
    "TABLESAMPLE": sa.select(sa.tablesample(posts, 10).c.id),
    "current_date": sa.select(sa.func.current_date()),
    "a text as a date": sa.select(sa.cast("now", sa.Date)),
    "date('now')": sa.select(sa.func.date("now")),
    "date_trunc of 'now'": sa.select(sa.func.date_trunc("day", sa.literal("now"))),
}  # fmt: skip


@pytest.mark.parametrize("name", EVERYDAY)
def test_an_everyday_statement_has_a_key_and_its_tables(name):
    assert statement_key(EVERYDAY[name], POSTGRES_DIALECT)
    assert tables_read(EVERYDAY[name], POSTGRES_DIALECT) == {"posts"}


def test_they_have_a_key_each():
    assert len({statement_key(each, POSTGRES_DIALECT) for each in EVERYDAY.values()}) == len(
        EVERYDAY
    )


@pytest.mark.parametrize("name", TRUSTED)
def test_text_has_a_key_where_its_owner_vouches_for_it_word_for_word(name):
    statement, text = TRUSTED[name]
    with pytest.raises(NotCacheable):
        statement_key(statement, POSTGRES_DIALECT)
    with pytest.raises(NotCacheable):
        statement_key(statement, POSTGRES_DIALECT, trusted={text + " ": ()})
    assert statement_key(statement, POSTGRES_DIALECT, trusted={text: ()})
    tables = tables_read(statement, POSTGRES_DIALECT, trusted={text: ["authors"]})
    assert tables == {"posts", "authors"}


@pytest.mark.parametrize("name", NEVER)
def test_what_may_be_another_tomorrow_has_none(name):
    with pytest.raises(NotCacheable):
        statement_key(NEVER[name], POSTGRES_DIALECT)


@pytest.mark.parametrize("function", ["date", "time", "datetime", "julianday", "strftime"])
def test_sqlites_dates_may_not_say_now(function):
    call = getattr(sa.func, function)
    form = ["%Y"] if function == "strftime" else []
    assert statement_key(sa.select(call(*form, c.made)), SQLITE_DIALECT)
    assert statement_key(sa.select(call(*form, "2025-07-01", "+1 day")), SQLITE_DIALECT)
    present: list[list[Any]] = [[], ["now"], ["NOW"], ["2025-07-01", "localtime"], [c.title]]
    for arguments in present:
        with pytest.raises(NotCacheable):
            statement_key(sa.select(call(*form, *arguments)), SQLITE_DIALECT)


def test_the_data_of_values_tell_them_apart():
    def made(*rows: tuple[Any, ...]) -> Any:
        return sa.select(sa.values(sa.column("n", sa.Integer), name="v").data(rows).c.n)

    keys = [statement_key(made(*rows), POSTGRES_DIALECT) for rows in ([(1,)], [(2,)], [(1,), (2,)])]
    assert len(set(keys)) == 3
    assert keys[0] == statement_key(made((1,)), POSTGRES_DIALECT)


def test_refusals_are_counted_by_reason():
    before = refusals.copy()
    for name in ("now", "random", "now"):
        with pytest.raises(NotCacheable):
            statement_key(NEVER[name], POSTGRES_DIALECT)
    assert refusals - before == {"function now()": 2, "function random()": 1}


# Types that turn what they read into something else.


class A(enum.Enum):
    X = "x"


class B(enum.Enum):
    X = "x"


class Loud(sa.TypeDecorator[str]):
    impl = sa.String
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return value.upper()


TYPES: dict[str, list[sa.types.TypeEngine[Any]]] = {
    "two Enum classes": [sa.Enum(A), sa.Enum(B)],
    "two lists of words": [sa.Enum("a", "b"), sa.Enum("a", "c")],
    "names and values": [sa.Enum(A), sa.Enum(A, values_callable=lambda kind: ["x"])],
    "in an ARRAY": [sa.ARRAY(sa.Enum("a", "b")), sa.ARRAY(sa.Enum("a", "c"))],
    "in a variant": [
        sa.String().with_variant(sa.Enum("a", "b"), "postgresql"),
        sa.String().with_variant(sa.Enum("a", "c"), "postgresql"),
    ],
    "a variant, and none": [sa.String().with_variant(Loud(), "postgresql"), sa.String()],
    "decimals, and floats": [sa.Numeric(asdecimal=True), sa.Numeric(asdecimal=False)],
    "none_as_null": [sa.JSON(none_as_null=True), sa.JSON()],
    "Boolean and Integer": [sa.Boolean(), sa.Integer()],
    "a date, and a moment": [sa.Date(), sa.DateTime()],
    "uuid, and its text": [sa.Uuid(), sa.Uuid(as_uuid=False)],
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("place", ["type_coerce", "cast", "literal", "nested"])
def test_two_types_have_two_keys(name, place):
    def made(kind: Any) -> Any:
        if place == "type_coerce":
            return sa.select(sa.type_coerce(c.title, kind))
        if place == "cast":
            return sa.select(sa.cast(c.title, kind))
        if place == "literal":
            return sa.select(sa.literal(None, kind))
        return sa.select(sa.select(sa.type_coerce(c.title, kind).label("t")).subquery().c.t)

    keys: set[object] = set()
    for kind in TYPES[name]:
        try:
            keys.add(statement_key(made(kind), POSTGRES_DIALECT))
        except NotCacheable:
            keys.add(object())  # refused: nothing is shared
    assert len(keys) == 2
