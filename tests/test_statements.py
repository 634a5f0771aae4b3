"""Statement keys: two statements with one key have the same rows, and what has none is refused."""

from __future__ import annotations

import datetime
import enum
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import (
    DeclarativeBase,
    Load,
    aliased,
    joinedload,
    lazyload,
    load_only,
    mapped_column,
    raiseload,
    relationship,
    selectinload,
    subqueryload,
    with_loader_criteria,
)
from sqlalchemy.sql.functions import FunctionElement

import labkit
from labkit import Lab
from labkit.cache import statements
from labkit.cache.statements import PURE, NotCacheable, statement_key, tables_read
from labkit.lessons.exercises import Outcome, judge
from labkit.shop import Order, OrderLine, User, db

SQLITE = sqlite.dialect()
POSTGRES = postgresql.dialect()
USERS, ORDERS, LINES = User.__table__, Order.__table__, OrderLine.__table__


def key(statement: Any, params: Any = None, **options: Any) -> str:
    return statement_key(statement, SQLITE, params, **options)


class Tea(enum.Enum):
    ASSAM = "Assam"
    LAPSANG = "Lapsang"


class Loud(sa.TypeDecorator[str]):
    impl = sa.String
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value.upper()


class Silent(sa.TypeDecorator[str]):
    impl = sa.String
    cache_ok = False


def where(*criteria: Any) -> Any:
    return sa.select(User.name).where(*criteria)


def chosen_by(function: Callable[[], Any]) -> Any:
    return where(User.id == sa.bindparam("n", callable_=function, type_=sa.Integer))


# One question in two spellings.

SAME = {
    "built twice": (where(User.id == 1), where(User.id == 1)),
    "in_ in another order": (where(User.id.in_([1, 2])), where(User.id.in_([2, 1]))),
    "in_ with a value twice": (where(User.id.in_([1, 2, 1])), where(User.id.in_([1, 2]))),
    "not in, another order": (where(User.id.not_in([1, 2])), where(User.id.not_in([2, 1]))),
    "in_ of a set": (where(User.region.in_({"US", "EU"})), where(User.region.in_(["EU", "US"]))),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_one_question_has_one_key(pair):
    assert key(pair[0]) == key(pair[1])


# Two questions.

BOUND = where(User.region == sa.bindparam("region", "US"))
NOON = datetime.datetime(2025, 7, 1, 12)
DIFFERENT: dict[str, tuple[Any, ...]] = {
    "a value": (where(User.id == 1), where(User.id == 2)),
    "1 and '1'": (where(User.id == 1), where(User.id == "1")),
    "1 and True": (where(User.id == 1), where(User.id == True)),  # noqa: E712
    "1 and 1.0": (sa.select(sa.literal(1)), sa.select(sa.literal(1.0))),
    "0.0 and -0.0": (sa.select(sa.literal(0.0)), sa.select(sa.literal(-0.0))),
    "text and bytes": (
        sa.select(sa.literal("x")), sa.select(sa.literal(b"x", sa.LargeBinary()))
    ),
    "naive and aware": (
        sa.select(sa.literal(NOON)), sa.select(sa.literal(NOON.replace(tzinfo=datetime.UTC)))
    ),
    "two decimals": (sa.select(sa.literal(Decimal("1.0"))), sa.select(sa.literal(Decimal("1.00")))),
    "limits": (where().limit(1), where().limit(2)),
    "offsets": (where().offset(1), where().offset(2)),
    "limit and offset": (where().limit(1).offset(2), where().limit(2).offset(1)),
    "orders": (where().order_by(User.id), where().order_by(User.id.desc())),
    "entity and columns": (sa.select(User), sa.select(*USERS.c)),
    "selectinload": (sa.select(User), sa.select(User).options(selectinload(User.orders))),
    "raiseload": (sa.select(User), sa.select(User).options(raiseload(User.orders))),
    "two strategies": (
        sa.select(User).options(selectinload(User.orders)),
        sa.select(User).options(joinedload(User.orders)),
    ),
    "types of a column": (
        sa.select(sa.type_coerce(User.name, sa.String()).label("name")),
        sa.select(sa.type_coerce(User.name, Loud()).label("name")),
    ),
    "JSON and text": (
        sa.select(sa.type_coerce(User.name, sa.JSON()).label("name")),
        sa.select(sa.type_coerce(User.name, sa.String()).label("name")),
    ),
    "two labels": (sa.select(User.name.label("a")), sa.select(User.name.label("b"))),
    "execute": ((BOUND, {"region": "US"}), (BOUND, {"region": "EU"})),
    "execute, and not": ((BOUND, {"region": "EU"}), BOUND),
    "distinct": (where(), where().distinct()),
    "schema maps": tuple(
        where().execution_options(schema_translate_map={None: name}) for name in ("a", "b")
    ),
    "in_ of one, of two": (where(User.id.in_([1])), where(User.id.in_([1, 2]))),
    "in_ of 1, of '1'": (where(User.id.in_([1])), where(User.id.in_(["1"]))),
    "in and not in": (where(User.id.in_([1])), where(User.id.not_in([1]))),
    "tables": (sa.select(USERS.c.id), sa.select(ORDERS.c.id)),
    "a row, not a set": tuple(
        where(sa.tuple_(User.id, User.name) == sa.bindparam("row", values, expanding=True))
        for values in ((1, 2), (2, 1))
    ),
    "pairs in a set": tuple(
        where(sa.tuple_(User.id, Order.id).in_(values)) for values in ([(1, 2)], [(2, 1)])
    ),
    "params()": tuple(
        where(User.id == sa.bindparam("n")).params(n=number) for number in (1, 2)
    ),
    "raiseload of all": (sa.select(User).options(raiseload("*")), sa.select(User)),
    "two ways to load none": tuple(
        sa.select(User).options(option("*")) for option in (raiseload, lazyload)
    ),
    "load_only": tuple(
        sa.select(User).options(load_only(column)) for column in (User.name, User.region)
    ),
}  # fmt: skip


def asked(question: Any) -> str:
    return key(*question) if isinstance(question, tuple) else key(question)


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_two_questions_have_two_keys(pair):
    assert asked(pair[0]) != asked(pair[1])


def test_what_is_not_in_the_statement_is_said_as_context():
    keys = {key(where(), context=context) for context in (None, {"tenant": 1}, {"tenant": "1"})}
    assert len(keys) == 3


def test_dialects_namespaces_and_versions_have_keys_of_their_own():
    keys = {
        statement_key(where(), dialect, namespace=namespace, version=version)
        for dialect in (SQLITE, POSTGRES)
        for namespace in ("shop", "billing")
        for version in (1, 2)
    }
    assert len(keys) == 8


@pytest.mark.parametrize(
    "value",
    [None, True, 7, 1.5, "x", b"x", Decimal("1.5"), NOON, NOON.date(), NOON.time(),
     datetime.timedelta(1), uuid.UUID(int=7)],
    ids=repr,
)  # fmt: skip
def test_every_usual_type_of_value_has_a_key(value):
    assert key(where(User.name == sa.bindparam("value", value))).startswith("shop:v1:select:")


def test_another_namespace_than_letters_is_refused():
    with pytest.raises(ValueError, match="a namespace has letters"):
        key(where(), namespace="my shop")


# Refusals.


class count(FunctionElement[int]):  # noqa: N801  (as a function is called in SQL)
    """Named as one that is known, and nobody knows what it is compiled to."""

    inherit_cache = True
    name = "count"


@compiles(count)
def _(*_: Any, **__: Any) -> str:
    return "random()"


class Numbered:
    """Its repr is another one in each process."""


class Marked(sa.types.UserDefinedType[Any]):
    cache_ok = True

    def __init__(self, mark: Any) -> None:
        self.mark = mark

    def __repr__(self) -> str:
        return f"Marked({self.mark!r})"

    def get_col_spec(self, **_: Any) -> str:
        return "MARKED"


MARKED = sa.Table("marked", sa.MetaData(), sa.Column("it", Marked(Numbered())))

number = 7
REFUSED = {
    "hides its values in a closure": sa.lambda_stmt(
        lambda: sa.select(User).where(User.id == number)
    ),
    "FOR UPDATE locks": sa.select(User.id).with_for_update(),
    "FOR UPDATE": sa.select(sa.select(User.id).with_for_update().subquery().c.id),
    "now()": sa.select(sa.func.now()),
    "random()": where().order_by(sa.func.random()),
    "current_timestamp()": where(sa.func.current_timestamp() > NOON),
    "my_function()": sa.select(sa.func.my_function(User.id)),
    "nextval": sa.select(sa.func.nextval("ids")),
    "in place of a date": sa.select(sa.func.date("now")),
    "text() may hold": where(sa.text("region = 'US'")),
    "may hold anything: 'now()": sa.select(sa.literal_column("now()")),
    "no SELECT": sa.text("SELECT 1"),
    "a Insert is no SELECT": sa.insert(User),
    "no cache key": sa.select(sa.cast(User.name, Silent())),
    "not known until it is run": chosen_by(lambda: 7),
    "a builtins.object has no key": where(User.name == sa.bindparam("x", object())),
    "a value is required for": where(User.name == sa.bindparam("x")),
    "criteria in a loader option": sa.select(User).options(
        selectinload(User.orders.and_(Order.id > 5))
    ),
    "criteria in a loader": sa.select(User).options(subqueryload(User.orders.and_(Order.id > 5))),
    "a LoaderCriteriaOption": sa.select(User).options(
        selectinload(User.orders), with_loader_criteria(Order, Order.id > 5)
    ),
    "for all relationships": sa.select(User).options(selectinload("*")),
    "for all relationships does": sa.select(User).options(Load(User).joinedload("*")),
    "it writes": sa.select(sa.insert(USERS).values(name="x").returning(USERS.c.id).cte().c.id),
    "it writes, and": sa.select(User.id).add_cte(sa.update(USERS).values(name="x").cte()),
    "in a prefix, a suffix or a hint": where().suffix_with("FOR UPDATE"),
    "in a prefix, a suffix": where().prefix_with("SQL_NO_CACHE"),
    "in a prefix": where().with_statement_hint("FOR UPDATE"),
    "mine.lower()": sa.select(sa.func.mine.lower(User.name)),
    "count() may": sa.select(count()),
    "system()": sa.select(sa.tablesample(USERS, 10).c.id),
    "in place of a date or time": sa.select(sa.cast("now", sa.Date())),
    "place of a date or time": sa.select(sa.cast(sa.literal("now", sa.String()), sa.Date())),
    "is no operator": where(User.id.op("+ random() >")(1)),
    "a FromStatement is no SELECT": sa.select(User).from_statement(sa.select(User)),
    "it holds a Numbered": sa.select(sa.func.count()).select_from(MARKED),
    "has no name in other processes": sa.select(
        sa.type_coerce(
            User.name, type("Local", (Loud,), {"cache_ok": True, "__qualname__": "f.<locals>.A"})()
        )
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_has_no_key_is_refused_with_its_reason(words):
    with pytest.raises(NotCacheable) as refused:
        key(REFUSED[words])
    assert words in str(refused.value)


@pytest.mark.parametrize("again", range(2))  # a refusal is not remembered as a key
def test_a_refusal_stays_a_refusal(again):
    with pytest.raises(NotCacheable):
        key(REFUSED["now()"])


def test_functions_of_ones_own_can_be_named():
    statement = REFUSED["my_function()"]
    pure = PURE | {"my_function"}

    assert key(statement, pure=pure).startswith("shop:v1:select:")
    assert tables_read(statement, SQLITE, pure=pure) == {"users"}
    with pytest.raises(NotCacheable):
        key(statement)


def test_what_a_query_of_the_article_does_is_said():
    with pytest.raises(NotCacheable, match="a Query is no SELECT"):
        key(sa.orm.Query(User))


def test_structures_are_remembered_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(statements, "MOST_STRUCTURES", 3)
    statements._structures.clear()
    made = [sa.select(User.name.label(f"name_{number}")) for number in range(8)]

    first = [key(statement) for statement in made]

    assert len(statements._structures) <= 3
    assert [key(statement) for statement in made] == first


def test_a_remembered_structure_takes_the_values_of_each_statement():
    statements._structures.clear()
    keys = [key(where(User.id == value)) for value in (1, 2, 1)]

    assert len(statements._structures) == 1
    assert keys[0] == keys[2] != keys[1]


IN_A_PROCESS = """
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import selectinload
from labkit.cache.statements import statement_key
from labkit.shop import User
for statement in [
    sa.select(User).options(selectinload(User.orders)),
    sa.select(User.name).where(User.region.in_({"US", "EU", "APAC", "LATAM"})),
    sa.select(sa.func.count()).select_from(sa.select(User).subquery()),
]:
    print(statement_key(statement, sqlite.dialect(), context={"tenant": {"a", "b", "c"}}))
"""


def test_processes_with_different_hash_seeds_make_the_same_keys():
    keys = {
        subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(keys) == 1


def test_what_a_value_of_another_statement_was_does_not_count():
    """Neither whether it was required: the same structure is remembered for all of them."""
    required = where(User.name == sa.bindparam("x", type_=sa.String))
    optional = where(User.name == sa.bindparam("x", "Kim", type_=sa.String))
    for first, second in ((required, optional), (optional, required)):
        statements._structures.clear()
        key(first, {"x": "Ada"})

        assert key(second, {"x": "Kim"}) == key(optional)
        with pytest.raises(NotCacheable, match="a value is required"):
            key(required)


class Forgetful(dict[Any, Any]):
    """As if another thread had cleared it right after each entry."""

    def __setitem__(self, known: Any, structure: Any) -> None:
        self.clear()


def test_a_structure_that_another_thread_forgets_is_used_all_the_same(monkeypatch):
    expected = key(where())
    monkeypatch.setattr(statements, "_structures", Forgetful())

    assert key(where()) == expected


# Tables.


class Base(DeclarativeBase):
    """Classes that the shop has none of: a many-to-many relationship, and subclasses."""


TAGGED = sa.Table(
    "tagged",
    Base.metadata,
    sa.Column("post", sa.ForeignKey("posts.id")),
    sa.Column("tag", sa.ForeignKey("tags.id")),
)


class Tag(Base):
    __tablename__ = "tags"
    id = mapped_column(sa.Integer, primary_key=True)


class Post(Base):
    __tablename__ = "posts"
    id = mapped_column(sa.Integer, primary_key=True)
    kind = mapped_column(sa.String)
    tags = relationship(Tag, secondary=TAGGED)
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "post"}  # noqa: RUF012


class Video(Post):
    __tablename__ = "videos"
    id = mapped_column(sa.ForeignKey("posts.id"), primary_key=True)
    __mapper_args__ = dict(polymorphic_identity="video", polymorphic_load="selectin")  # noqa: RUF012


READ: dict[str, tuple[Any, set[str]]] = {
    "a column": (sa.select(USERS.c.id), {"users"}),
    "an alias": (sa.select(aliased(User)), {"users"}),
    "a join": (
        sa.select(LINES.c.product).join(ORDERS, ORDERS.c.id == LINES.c.order_id),
        {"orders", "order_lines"},
    ),
    "a subquery in WHERE": (
        sa.select(USERS.c.id).where(USERS.c.id.in_(sa.select(ORDERS.c.user_id))),
        {"users", "orders"},
    ),
    "EXISTS": (where(User.orders.any(Order.id == 3)), {"users", "orders"}),
    "a scalar subquery": (
        sa.select(USERS.c.id, sa.select(sa.func.count(ORDERS.c.id)).scalar_subquery()),
        {"users", "orders"},
    ),
    "a CTE": (sa.select(sa.select(ORDERS.c.id).cte().c.id), {"orders"}),
    "a union": (sa.union_all(sa.select(USERS.c.id), sa.select(ORDERS.c.id)), {"users", "orders"}),
    "ORDER BY a subquery": (
        sa.select(ORDERS.c.id).order_by(sa.select(sa.func.max(USERS.c.id)).scalar_subquery()),
        {"users", "orders"},
    ),
    "CASE": (
        sa.select(
            sa.case((USERS.c.id > 1, sa.select(sa.func.max(LINES.c.quantity)).scalar_subquery()))
        ),
        {"users", "order_lines"},
    ),
    "a window": (sa.select(sa.func.row_number().over(order_by=LINES.c.quantity)), {"order_lines"}),
    "an eager relationship": (sa.select(Order), {"orders", "order_lines"}),
    "selectinload": (
        sa.select(User).options(selectinload(User.orders)),
        {"users", "orders", "order_lines"},
    ),
    "many to many": (
        sa.select(Video).options(selectinload(Video.tags)),
        {"posts", "videos", "tagged", "tags"},
    ),
    "subclasses, loaded apart": (sa.select(Post), {"posts", "videos"}),
    "raiseload of all": (sa.select(User).options(raiseload("*")), {"users"}),
    "columns of a class alone": (sa.select(Post.id), {"posts"}),
    "joinedload": (
        sa.select(User).options(joinedload(User.orders).selectinload(Order.lines)),
        {"users", "orders", "order_lines"},
    ),
    "a table that is only named": (sa.select(sa.table("users", sa.column("id")).c.id), {"users"}),
    "no table": (sa.select(sa.literal(1)), set()),
}


@pytest.mark.parametrize(("statement", "tables"), READ.values(), ids=READ)
@pytest.mark.parametrize("dialect", [SQLITE, POSTGRES], ids=["sqlite", "postgresql"])
def test_the_tables_that_a_statement_reads(dialect, statement, tables):
    assert tables_read(statement, dialect) == tables


def test_text_reads_nobody_knows_what():
    with pytest.raises(NotCacheable):
        tables_read(where(sa.text("id IN (SELECT user_id FROM orders)")), SQLITE)


# Two statements with one key have the same rows, on real data.


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def lab(request: pytest.FixtureRequest, own_data: None) -> Iterator[Lab]:
    with labkit.start("fake", request.param, users=40, orders=120) as started:
        yield started


REGION, USERNAME = USERS.c.region, USERS.c.username
PLACES: dict[str, list[Callable[[Any], Any]]] = {
    "columns": [
        lambda made: made.add_columns(USERNAME),
        lambda made: made.add_columns(sa.type_coerce(USERNAME, sa.String()).label("username")),
        lambda made: made.add_columns(sa.type_coerce(USERNAME, Loud()).label("username")),
        lambda made: made.add_columns(USERNAME.label("b")),
        lambda made: made.add_columns(sa.func.upper(USERNAME).label("username")),
        lambda made: made.add_columns(sa.literal("x", sa.String()).label("x")),
        lambda made: made.add_columns(sa.literal(b"x", sa.LargeBinary()).label("x")),
    ],
    "criterion": [
        lambda made: made,
        lambda made: made.where(REGION == "US"),
        lambda made: made.where(REGION == "EU"),
        lambda made: made.where(REGION != "US"),
        lambda made: made.where(REGION.in_(["US", "EU"])),
        lambda made: made.where(REGION.in_(["EU", "US"])),
        lambda made: made.where(REGION.in_([])),
        lambda made: made.where(USERS.c.id.not_in([1, 2])),
        lambda made: made.where(USERS.c.id.not_in([1, 3])),
        lambda made: made.where(
            USERS.c.id.in_(sa.select(ORDERS.c.user_id).where(ORDERS.c.id < 3))
        ),
        lambda made: made.where(
            USERS.c.id.in_(sa.select(ORDERS.c.user_id).where(ORDERS.c.id < 9))
        ),
    ],
    "parameter": [
        lambda made: made,
        lambda made: made.where(sa.bindparam("wanted", "US") == REGION),
        lambda made: made.where(sa.bindparam("wanted", "EU") == REGION),
    ],
    "page": [
        lambda made: made,
        lambda made: made.limit(1).offset(2),
        lambda made: made.limit(2).offset(1),
        lambda made: made.limit(2),
    ],
}  # fmt: skip
PARAMS: list[dict[str, Any]] = [{}, {"wanted": "US"}, {"wanted": "EU"}]
RECIPE = {place: st.integers(0, len(choices) - 1) for place, choices in PLACES.items()}
RECIPE["params"] = st.integers(0, len(PARAMS) - 1)


@st.composite
def twins(draw: st.DrawFn) -> list[tuple[Any, Any]]:
    """Two statements and their parameters, which differ in the choice made at one place at most."""
    one = {place: draw(choice) for place, choice in RECIPE.items()}
    place = draw(st.sampled_from(list(RECIPE)))
    return [prepared(one), prepared(one | {place: draw(RECIPE[place])})]


def prepared(recipe: dict[str, int]) -> tuple[Any, dict[str, Any]]:
    made: Any = sa.select(USERS.c.id).order_by(USERS.c.id)
    for place, choices in PLACES.items():
        made = choices[recipe[place]](made)
    return made, PARAMS[recipe["params"]]


QUESTIONS = st.lists(twins(), min_size=5, max_size=20).map(
    lambda pairs: [question for pair in pairs for question in pair]
)


def rows_of(lab: Lab, statement: Any, params: Any) -> list[Any]:
    with lab.app.app_context(), db.engine.connect() as connection:
        result = connection.execute(statement, params)
        return [list(result.keys()), *map(tuple, result)]


def colliding(lab: Lab, key_of: Callable[[Any, Any], Any], questions: Any) -> list[str]:
    """Return the statements that have the key of an earlier one, and other rows."""
    served: dict[Any, Any] = {}
    wrong = []
    for statement, params in questions:
        rows = rows_of(lab, statement, params)
        if served.setdefault(key_of(statement, params), rows) != rows:
            wrong.append(str(statement))
    return wrong


MANY = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # each example is dozens of statements; the same ones in every run


@MANY
@given(questions=QUESTIONS)
def test_two_statements_with_one_key_have_the_same_rows(lab, questions):
    with lab.app.app_context():
        dialect = db.engine.dialect

    assert (
        colliding(lab, lambda each, params: statement_key(each, dialect, params), questions) == []
    )


def without(part: str) -> Callable[[Any, Any], str]:
    """Return statement_key as it would be without one of the parts it is made of."""

    def weaker(statement: Any, params: Any) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(statements, "_structures", {})
            if part == "types":
                patch.setattr(statements, "stable", lambda part: "")
                patch.setattr(statements, "types_of", lambda elements: [])
            if part == "values":
                patch.setattr(statements, "_values", lambda *_: [])
            return key(statement, None if part == "params" else params)

    return weaker


WEAKER: dict[str, Callable[[Any, Any], Any]] = {
    "literal text": lambda each, params: str(each.compile(compile_kwargs={"literal_binds": True})),
    "SQL without values": lambda each, params: str(each),
    "SQL and values": lambda each, params: f"{each} {each.compile().params | params}",
    "offline string": lambda each, params: each._generate_cache_key().to_offline_string(
        {}, each, params
    ),
    "statement_key without types": without("types"),
    "statement_key without values": without("values"),
    "statement_key without params": without("params"),
}


@pytest.mark.parametrize("key_of", WEAKER.values(), ids=WEAKER)
@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_the_same_search_finds_what_is_wrong_with_weaker_keys(lab, key_of):
    found: list[str] = []

    @MANY
    @given(questions=QUESTIONS)
    def search(questions):
        if not found:
            found.extend(colliding(lab, key_of, questions))

    search()
    assert found


@pytest.mark.parametrize("answer", [{"f", "d", "b"}, "bdf", ["b", "d", "f"], "b, d, f"])
def test_the_right_letters_are_right_in_any_form(answer):
    assert judge("10.1", answer)[0] is Outcome.RIGHT
