"""The small key that lesson 10 builds: what it tells apart, what it refuses, never a collision."""

from __future__ import annotations

import ast
import enum
import hashlib
import itertools
from collections import namedtuple
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Mapper, raiseload, selectinload
from sqlalchemy.sql import visitors
from sqlalchemy.sql.functions import GenericFunction

from labkit.cache.keys import encode
from labkit.cache.statements import NotCacheable
from labkit.lessons.exercises import Outcome, judge
from labkit.shop import Order, User
from tests.helpers import defined_in_notebook

PARTS = ["key_of", "sql", "values", "words", "structure", "beside", "names", "only_known"]
Asked = namedtuple("Asked", "statement params context", defaults=({}, {}))


class Tea(enum.Enum):
    ASSAM = "Assam"


class Loud(sa.TypeDecorator[str]):
    impl = sa.String
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value.upper()


class Dice(GenericFunction[int]):
    """A function that is called like one which is known, and is another."""

    name = "count"
    _register = False
    inherit_cache = True


REGION = sa.select(User.id).where(User.region == sa.bindparam("region", "US"))
COUNT = sa.select(sa.func.count(User.id))
BY_ID = sa.select(User).where(User.id == 1)


def coerced(kind: Any) -> Any:
    return sa.select(sa.type_coerce(User.username, kind).label("name"))


HARMLESS = [
    Asked(BY_ID),
    Asked(sa.select(*User.__table__.columns).where(User.id == 1).limit(1)),
    Asked(BY_ID.options(selectinload(User.orders))),
    Asked(sa.select(User.name).where(User.id.in_([1, 2])).order_by(User.id)),
    Asked(coerced(Loud())),
    Asked(sa.select(sa.literal(b"x", sa.LargeBinary()))),
    Asked(REGION),
    Asked(COUNT),
    Asked(sa.select(User.name).join(User.orders).where(Order.id > 3)),
]

DIFFERENT = [
    *HARMLESS,
    Asked(sa.select(User).where(User.id == 2)),
    Asked(sa.select(User).where(User.id == "1")),
    Asked(sa.select(User).where(User.id == 1.0)),
    Asked(sa.select(User).where(User.id > 1)),
    Asked(sa.select(User).limit(1)),
    Asked(sa.select(User).limit(2)),
    Asked(sa.select(User).offset(1)),
    Asked(BY_ID.options(selectinload(User.orders).raiseload(Order.user))),
    Asked(BY_ID.options(raiseload(User.orders))),
    Asked(BY_ID.options(selectinload(User.orders.and_(Order.id > 3)))),
    Asked(BY_ID.options(selectinload(User.orders.and_(Order.id > 4)))),
    Asked(coerced(sa.String())),
    Asked(coerced(sa.String(3))),
    Asked(coerced(sa.JSON())),
    Asked(coerced(sa.Enum("a", "b"))),
    Asked(coerced(sa.Enum("a", "c"))),
    Asked(coerced(sa.Enum(Tea))),
    Asked(coerced(sa.String().with_variant(Loud(), "sqlite"))),
    Asked(sa.select(sa.literal("x", sa.String()))),
    Asked(sa.select(User.name.label("a"))),
    Asked(sa.select(User.name.label("b"))),
    Asked(sa.select(User.name).where(User.id.in_([1, 3])).order_by(User.id)),
    Asked(sa.select(User.name).where(User.id.not_in([1, 2])).order_by(User.id)),
    Asked(sa.select(User.name).where(User.id.in_(["1", "2"])).order_by(User.id)),
    Asked(REGION, {"region": "EU"}),
    Asked(REGION, {"region": "APAC"}),
    Asked(COUNT, {}, {"tenant": "EU"}),
    Asked(COUNT, {}, {"tenant": "US"}),
    Asked(COUNT.execution_options(every_tenant=True)),
    Asked(COUNT.execution_options(schema_translate_map={None: "a"})),
    Asked(COUNT.execution_options(schema_translate_map={None: "b"})),
    Asked(sa.select(Dice(User.id))),
    Asked(sa.select(User.name).join(User.orders)),
    Asked(sa.select(User.id).where(User.id.in_(sa.select(Order.user_id).join(Order.lines)))),
    Asked(sa.select(User.id).where(User.id.in_(sa.select(Order.user_id).join(Order.user)))),
]  # fmt: skip


@pytest.fixture(scope="module")
def small_key() -> Any:
    defined = defined_in_notebook("10_statement_keys")
    namespace: dict[str, Any] = {
        "sa": sa, "hashlib": hashlib, "encode": encode, "Mapper": Mapper, "visitors": visitors,
        "NotCacheable": NotCacheable, "dialect": sqlite.dialect(),
    }  # fmt: skip
    parts = ast.Module([defined[name] for name in PARTS], [])
    exec(compile(ast.fix_missing_locations(parts), "notebook", "exec"), namespace)
    for asked in HARMLESS:
        namespace["sql"](asked)  # as in the notebook, where they have been compiled before
    words = (namespace["names"](namespace["structure"](asked)) for asked in HARMLESS)
    namespace["KNOWN"] = set().union(*words)
    exec(ast.unparse(defined["small_key"]), namespace)
    return namespace["small_key"]


def key_or_none(small_key: Any, asked: Any) -> str | None:
    try:
        return str(small_key(asked))
    except TypeError:  # NotCacheable is one
        return None


def test_two_questions_never_share_a_key(small_key):
    keys = [(asked, key_or_none(small_key, asked)) for asked in DIFFERENT]

    collisions = [
        (str(one.statement), str(other.statement))
        for (one, key), (other, same) in itertools.combinations(keys, 2)
        if key is not None and key == same
    ]
    assert collisions == []


def test_what_it_has_looked_at_has_a_key_and_one_question_one(small_key):
    for asked in HARMLESS:
        assert small_key(asked) == small_key(asked)
    assert small_key(Asked(sa.select(User).where(User.id == 1))) == small_key(HARMLESS[0])


REFUSED = {
    "random": sa.select(User.id).order_by(sa.func.random()),
    "now": sa.select(sa.func.now()),
    "another count": sa.select(Dice(User.id)),
    "text": sa.select(User.id).where(sa.text("region = 'US'")),
    "literal_column": sa.select(sa.literal_column("random()")),
    "prefix": sa.select(User.id).prefix_with("DISTINCT"),
    "for update": sa.select(User.id).with_for_update(),
    "a write": sa.select(sa.insert(User).values(name="a").returning(User.id).cte().c.id),
    "lambda": sa.lambda_stmt(lambda: sa.select(User.id)),
    "a lambda inside": sa.select(User.id).where(lambda: User.id == 3),
    "callable": sa.select(User.id).where(
        User.id == sa.bindparam("me", callable_=lambda: 7, type_=sa.Integer)
    ),
    "a value": sa.select(User.id).where(User.name == sa.bindparam("who", object())),
    "an operator": sa.select(User.name.op("@@")("a")),
    "out of order": sa.select(User.id).where(User.id.in_([2, 1])),
    "a row": sa.select(User.id).where(
        sa.tuple_(User.id, User.name) == sa.bindparam("row", [1, "a"], expanding=True)
    ),
    "a type with variants": coerced(sa.String().with_variant(Loud(), "sqlite")),
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_what_may_change_or_cannot_be_seen_is_refused(small_key, statement):
    with pytest.raises(TypeError):
        small_key(Asked(statement))


def test_a_text_by_the_key_function_of_lesson_04_is_right_and_may_refuse():
    outcome, message = judge("10.3", lambda params: encode(params).hex())

    assert outcome is Outcome.RIGHT, message
