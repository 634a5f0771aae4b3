"""The tables that a statement reads, held to SQLite's own word for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flask
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import (
    Bundle,
    DeclarativeBase,
    Session,
    aliased,
    column_property,
    contains_eager,
    immediateload,
    joinedload,
    mapped_column,
    relationship,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
)

from labkit.cache.statements import NotCacheable, statement_key, tables_read
from tests.statement_generator import (
    SPOKEN_POST,
    Bar,
    Base,
    Cat,
    Comment,
    Hotel,
    Label,
    Like,
    Paper,
    Place,
    Post,
    Pub,
    Rest,
    filled,
    nests,
    statements,
)
from tests.witness import reading, tables_witnessed

SQLITE = sqlite.dialect()
POSTGRES = postgresql.dialect()
TABLES = set(Base.metadata.tables)


@pytest.fixture(scope="module")
def engine() -> Iterator[sa.Engine]:
    made = filled()
    yield made
    made.dispose()


def witnessed(engine: sa.Engine, statement: Any) -> set[str]:
    """Return the tables that are read while a statement runs, and its loaders after it."""
    with Session(engine) as session:
        raw = session.connection().connection.dbapi_connection
        with reading(raw) as names:
            result = session.execute(statement)
            if any(each.get("entity") for each in getattr(statement, "column_descriptions", ())):
                result = result.unique()
            result.all()
        return names & TABLES


# Examples, each with the tables that are read, no more and no fewer.

PLACES = {"place", "rest", "bar", "hotel", "cat", "dish"}
LIKED = {"liked", *PLACES}
JOINED = sa.select(Post).join(Post.comments)
HAS_COMMENTS = {"post", "comment"}
RESTS = {"rest", "place", "bar"}  # a Bar is loaded with each Rest, by an outer join
EXAMPLES: dict[str, tuple[Any, set[str]]] = {
    "a join by relationship in an IN": (
        sa.select(Cat.id).where(Cat.id.in_(sa.select(Post.cat_id).join(Post.comments))),
        {"cat", *HAS_COMMENTS},
    ),
    "in a subquery that is counted": (
        sa.select(sa.func.count()).select_from(sa.select(Post.id).join(Post.comments).subquery()),
        HAS_COMMENTS,
    ),
    "an entity with its column_property, counted": (
        sa.select(sa.func.count()).select_from(JOINED.subquery()),
        {"vote", *HAS_COMMENTS},
    ),
    "in a CTE": (sa.select(sa.select(Post.id).join(Post.comments).cte().c.id), HAS_COMMENTS),
    "in a union": (
        sa.union(sa.select(Post.id).join(Post.comments), sa.select(Cat.id)),
        {"cat", *HAS_COMMENTS},
    ),
    "many to many in an IN": (
        sa.select(Cat.id).where(Cat.id.in_(sa.select(Post.cat_id).join(Post.labels))),
        {"cat", "post", "label", "labelled"},
    ),
    "of_type in an EXISTS": (
        sa.select(Label.id).where(
            sa.select(Like.id).join(Like.place.of_type(aliased(Bar))).exists()
        ),
        {"label", "liked", "bar", *RESTS},
    ),
    "a subclass in a subquery": (sa.select(sa.select(Rest.id).subquery().c.id), RESTS),
    "in an EXISTS": (sa.select(Label.id).where(sa.select(Rest.id).exists()), {"label", *RESTS}),
    "in an IN": (sa.select(Label.id).where(Label.id.in_(sa.select(Rest.id))), {"label", *RESTS}),
    "a subclass in a CTE": (sa.select(sa.select(Rest.id).cte().c.id), RESTS),
    "in a scalar subquery": (sa.select(sa.select(Rest.id).limit(1).scalar_subquery()), RESTS),
    "a subclass in a union": (
        sa.union(sa.select(Rest.id), sa.select(Label.id)),
        {"label", *RESTS},
    ),
    "any() in a nested statement": (
        sa.select(Label.id).where(Label.id.in_(sa.select(Cat.id).where(Cat.rests.any()))),
        {"label", "cat", *RESTS},
    ),
    "a subclass without a table": (sa.select(Pub.id), {"place"}),
    "a concrete class and its subclass": (sa.select(Paper), {"paper", "map"}),
    "a concrete class in an IN": (
        sa.select(Label.id).where(Label.id.in_(sa.select(Paper.id))),
        {"label", "paper", "map"},
    ),
    "a subclass loaded apart": (sa.select(Hotel), {"hotel", "place", "cat"}),
    "contains_eager": (
        sa.select(Cat).join(Cat.posts).options(contains_eager(Cat.posts)),
        {"cat", "post", "vote"},
    ),
    "a bundle": (sa.select(Bundle("both", Post.votes, Rest.id)), {"post", "vote", *RESTS}),
    "selectinload, and a column_property": (
        sa.select(Cat).options(selectinload(Cat.posts)),
        {"cat", "post", "vote"},
    ),
    "and a deferred one": (
        sa.select(Cat).options(selectinload(Cat.posts).undefer(Post.logs)),
        {"cat", "post", "vote", "log"},
    ),
    "selectinload, and an aliased class over a join": (
        sa.select(Cat).options(selectinload(Cat.spoken)),
        {"cat", "vote", *HAS_COMMENTS},
    ),
    "selectinload of_type an aliased class over a join": (
        sa.select(Cat).options(selectinload(Cat.posts.of_type(SPOKEN_POST))),
        {"cat", "vote", *HAS_COMMENTS},
    ),
    "selectinload, and its order": (
        sa.select(Cat).options(selectinload(Cat.ordered)),
        {"cat", "post", "vote", "log"},
    ),
    "selectinload of a tree": (sa.select(Label).options(selectinload(Label.below)), {"label"}),
    "joinedload of a tree": (
        sa.select(Label).options(joinedload(Label.below).selectinload(Label.below)),
        {"label"},
    ),
    "subqueryload": (
        sa.select(Cat).options(subqueryload(Cat.posts)),
        {"cat", "post", "vote"},
    ),
    "immediateload": (
        sa.select(Cat).options(immediateload(Cat.posts)),
        {"cat", "post", "vote"},
    ),
    "joinedload": (sa.select(Cat).options(joinedload(Cat.posts)), {"cat", "post", "vote"}),
    "selectinload of a subclass": (
        sa.select(Cat).options(selectinload(Cat.places.of_type(Rest))),
        PLACES,
    ),
    "what its relationship loads by itself": (sa.select(Comment), {"comment", *LIKED}),
    "selectin_polymorphic": (
        sa.select(Place).options(selectin_polymorphic(Place, [Rest])),
        PLACES,
    ),
    "undefer": (sa.select(Post).options(undefer(Post.logs)), {"post", "vote", "log"}),
}


@pytest.mark.parametrize(("statement", "tables"), EXAMPLES.values(), ids=EXAMPLES)
def test_the_tables_of_an_example(engine, statement, tables):
    assert tables_read(statement, SQLITE) == tables
    assert tables_read(statement, POSTGRES) == tables
    assert tables >= witnessed(engine, statement)


MANY = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
FEW = settings(MANY, max_examples=20)


@MANY
@given(statement=statements())
def test_no_table_is_missed_that_sqlite_reads(engine, statement):
    assert tables_read(statement, SQLITE) >= witnessed(engine, statement)


def test_no_table_is_missed_by_a_page_of_flask_sqlalchemy():
    """It counts by a statement around another."""
    app = flask.Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    database = SQLAlchemy(app, model_class=Base)
    with app.app_context():
        Base.metadata.create_all(database.engine)
        read: list[tuple[set[str], set[str]]] = []

        @sa.event.listens_for(database.session, "do_orm_execute")
        def _(state: Any) -> None:
            raw = database.session.connection().connection.dbapi_connection
            sql = state.statement.compile(database.engine)
            read.append(
                (
                    tables_read(state.statement, database.engine.dialect),
                    tables_witnessed(raw, str(sql), [sql.params[name] for name in sql.positiontup]),
                )
            )

        database.paginate(JOINED)

    assert [tables for tables, _ in read] == 2 * [{"vote", *HAS_COMMENTS}]
    assert all(tables >= witnessed for tables, witnessed in read)


# What is refused, and what tells two statements apart, at the same depth.


class Odd(DeclarativeBase):
    """A class whose property gives another value each time."""


class Lot(Odd):
    __tablename__ = "lot"
    id = mapped_column(sa.Integer, primary_key=True)
    owner_id = mapped_column(sa.ForeignKey("owner.id"))
    drawn = column_property(sa.func.random())
    drawn_later = column_property(sa.func.random() + 1, deferred=True)


class Owner(Odd):
    __tablename__ = "owner"
    id = mapped_column(sa.Integer, primary_key=True)
    lots = relationship(Lot)
    latest = relationship(Lot, viewonly=True, order_by=sa.func.random())


@pytest.mark.parametrize("load", [selectinload, subqueryload, immediateload, joinedload])
@pytest.mark.parametrize("relation", [Owner.lots, Owner.latest])
def test_what_a_loader_sends_is_refused_as_the_statement_would_be(load, relation):
    with pytest.raises(NotCacheable, match=r"random\(\)"):
        statement_key(sa.select(Owner).options(load(relation)), SQLITE)


def test_what_is_not_loaded_is_not_refused():
    assert statement_key(sa.select(Owner), SQLITE)


REFUSED: dict[str, Any] = {
    "random": lambda made: made.where(sa.func.random() > 0),
    "text": lambda made: made.where(sa.text("1 = 1")),
    "for update": lambda made: made.with_for_update(),
    "a hint": lambda made: made.prefix_with("DISTINCT"),
    "a callable": lambda made: made.where(sa.bindparam("n", callable_=lambda: 1) == 1),
    "a write": lambda made: made.add_cte(sa.insert(Label).values(id=1).cte()),
}
APART: dict[str, list[Any]] = {
    "a value": [lambda made, n=n: made.where(sa.literal(n) == n) for n in (1, 2)],
    "a type": [
        lambda made, kind=kind: made.where(sa.type_coerce(sa.literal("a"), kind).is_not(None))
        for kind in (sa.Enum("a", "b"), sa.Enum("a", "c"))
    ],
    "an operator": [lambda made, op=op: made.where(sa.literal(1).op(op)(1)) for op in "|&"],
}


@FEW
@given(build=nests())
def test_what_is_refused_is_refused_at_any_depth(build):
    for change in REFUSED.values():
        with pytest.raises(NotCacheable):
            statement_key(build(change), SQLITE)


@FEW
@given(build=nests())
def test_what_tells_two_statements_apart_does_so_at_any_depth(build):
    for changes in APART.values():
        keys = [statement_key(build(change), SQLITE) for change in changes]
        assert keys == [statement_key(build(change), SQLITE) for change in changes]
        assert len(set(keys)) == len(changes)
