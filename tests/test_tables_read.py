"""The tables that a statement reads, held to SQLite's own word for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flask
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.pagination import SelectPagination
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
    statements,
)
from tests.witness import reading

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
    "selectinload, and its order": (
        sa.select(Cat).options(selectinload(Cat.ordered)),
        {"cat", "post", "vote", "log"},
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
    max_examples=200,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@MANY
@given(statement=statements())
def test_no_table_is_missed_that_sqlite_reads(engine, statement):
    assert tables_read(statement, SQLITE) >= witnessed(engine, statement)
