"""What counts as written is what was written: held to SQLite's authorizer, which SQLAlchemy is not.

The authorizer is told each table that a prepared statement writes to, those included that foreign
keys and triggers write to. (https://www.sqlite.org/c3ref/set_authorizer.html)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import event as seen_event
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, event
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.sql import ClauseElement, Executable

from labkit.cache.commits import watch_writes
from labkit.cache.writes import EVERYTHING, tables_written

WRITES = {9, 18, 23}  # SQLITE_DELETE, SQLITE_INSERT, SQLITE_UPDATE


class Watched:
    """A database in memory: what the watcher names, and what the authorizer has seen."""

    def __init__(self, metadata: sa.MetaData) -> None:
        self.engine = sa.create_engine("sqlite://", connect_args={"cached_statements": 0})
        self.named: list[tuple[str, ...]] = []
        self.written: set[str] = set()
        event.listen(self.engine, "connect", self._on_connect)
        event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        metadata.create_all(self.engine)
        self.written.clear()
        self.stop = watch_writes(self.engine, lambda *tables: self.named.append(tables))

    def _on_connect(self, connection: Any, _: Any) -> None:
        connection.isolation_level = None  # a savepoint is one: SQLAlchemy begins by hand
        connection.execute("PRAGMA foreign_keys=ON")
        connection.set_authorizer(self._on_access)

    def _on_access(self, action: int, table: str, *_: Any) -> int:
        if action in WRITES and not table.startswith("sqlite_"):
            self.written.add(table)
        return 0

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.engine.dispose()


# Mappings and changes, made up.

CASCADES = ["save-update, merge", "all", "all, delete-orphan", "save-update, merge, delete"]
ON_DELETE = [None, "CASCADE", "SET NULL"]
rules = st.sampled_from(ON_DELETE)


@st.composite
def mappings(draw: Callable[..., Any]) -> tuple[Any, list[Any]]:
    """Return a declarative base with two to four classes and the tables between them.

    The base itself would not keep its classes alive.
    """

    class Base(DeclarativeBase):
        pass

    classes: list[Any] = []
    for number in range(draw(st.integers(2, 4))):
        kinds = ["none", "none", "single", "joined", "concrete"] if classes else ["none"]
        kind = draw(st.sampled_from(kinds))
        base = draw(st.sampled_from(classes)) if kind != "none" else Base
        body: dict[str, Any] = {"__mapper_args__": {"polymorphic_identity": str(number)}}
        if kind in ("none", "concrete"):
            body |= {
                "id": mapped_column(sa.Integer, primary_key=True),
                "value": mapped_column(sa.Integer, default=0),
                "note": mapped_column(sa.JSON, nullable=True),
                "kind": mapped_column(sa.String, default=str(number)),
            }
        if kind == "none":
            body["__mapper_args__"]["polymorphic_on"] = "kind"
        if kind == "concrete":
            body["__mapper_args__"]["concrete"] = True
        if kind == "joined":
            key = ForeignKey(base.__table__.c.id, ondelete=draw(st.sampled_from(ON_DELETE[:2])))
            body["id"] = mapped_column(sa.Integer, key, primary_key=True)
            body[f"own{number}"] = mapped_column(sa.Integer, default=0)
        if kind != "single":
            body["__tablename__"] = f"t{number}"
        classes.append(type(f"T{number}", (base,), body))
    for number in range(draw(st.integers(1, 4))):
        parent, child = draw(st.sampled_from(classes)), draw(st.sampled_from(classes))
        link = draw(st.sampled_from([one_to_many, many_to_many]))
        link(draw, Base, parent, child, f"r{number}")
    return Base, classes


def one_to_many(draw: Callable[..., Any], base: Any, parent: Any, child: Any, name: str) -> None:
    key = ForeignKey(
        parent.__table__.c.id,
        name=name,
        ondelete=draw(rules),
        onupdate=draw(st.sampled_from([None, "CASCADE"])),
    )
    column: Any = mapped_column(f"{name}_id", sa.Integer, key, nullable=True)
    setattr(child, f"{name}_id", column)
    children = relationship(
        child,
        foreign_keys=[getattr(child, f"{name}_id")],
        primaryjoin=parent.__table__.c.id == getattr(child, f"{name}_id"),
        cascade=draw(st.sampled_from(CASCADES)),
        passive_deletes=draw(st.booleans()),
        post_update=draw(st.booleans()),
    )
    setattr(parent, name, children)


def many_to_many(draw: Callable[..., Any], base: Any, parent: Any, child: Any, name: str) -> None:
    left: Any = sa.Column("l", ForeignKey(parent.__table__.c.id, ondelete=draw(rules)))
    right: Any = sa.Column("r", ForeignKey(child.__table__.c.id, ondelete=draw(rules)))
    between = sa.Table(name, base.metadata, left, right)
    peers = relationship(
        child,
        secondary=between,
        primaryjoin=parent.__table__.c.id == left,
        secondaryjoin=child.__table__.c.id == right,
        cascade=draw(st.sampled_from(CASCADES[:2])),
        passive_deletes=draw(st.booleans()),
    )
    setattr(parent, name, peers)


def lists_of(thing: Any) -> list[Any]:
    return [getattr(thing, each.key) for each in sa.inspect(type(thing)).relationships]


def table_of(thing: Any) -> Any:
    return type(thing).__table__


def expression(session: Session, thing: Any, ids: Iterator[int]) -> None:
    thing.value = type(thing).value + 1


def sql_null(session: Session, thing: Any, ids: Iterator[int]) -> None:
    thing.note = sa.null()


def delete(session: Session, thing: Any, ids: Iterator[int]) -> None:
    session.delete(thing)


def remove(session: Session, thing: Any, ids: Iterator[int]) -> None:
    for each in filter(None, lists_of(thing)):
        each.pop()


def append(session: Session, thing: Any, ids: Iterator[int]) -> None:
    for each in sa.inspect(type(thing)).relationships:
        getattr(thing, each.key).append(each.mapper.class_(id=next(ids)))


def replace(session: Session, thing: Any, ids: Iterator[int]) -> None:
    for each in sa.inspect(type(thing)).relationships:
        setattr(thing, each.key, [each.mapper.class_(id=next(ids))])


def rekey(session: Session, thing: Any, ids: Iterator[int]) -> None:
    thing.id = next(ids)


def bulk_save(session: Session, thing: Any, ids: Iterator[int]) -> None:
    session.bulk_save_objects([type(thing)(id=next(ids)), type(thing)(id=next(ids))])


def bulk_update(session: Session, thing: Any, ids: Iterator[int]) -> None:
    session.bulk_update_mappings(sa.inspect(type(thing)), [{"id": thing.id, "value": 3}])


def update_many(session: Session, thing: Any, ids: Iterator[int]) -> None:
    session.execute(sa.update(type(thing)), [{"id": thing.id, "value": 4}])


def delete_where(session: Session, thing: Any, ids: Iterator[int]) -> None:
    session.execute(sa.delete(type(thing)).where(type(thing).id == thing.id))


def from_statement(session: Session, thing: Any, ids: Iterator[int]) -> None:
    kind = type(thing)
    update = sa.update(kind).values({table_of(thing).c.id: table_of(thing).c.id})
    session.scalars(sa.select(kind).from_statement(update.returning(kind))).all()


def insert_from_select(session: Session, thing: Any, ids: Iterator[int]) -> None:
    table = table_of(thing)
    rows = sa.select(table.c.id + next(ids))
    session.connection().execute(sa.insert(table).from_select(["id"], rows, False))


def upsert(session: Session, thing: Any, ids: Iterator[int]) -> None:
    upsert = sqlite.insert(table_of(thing)).values(id=thing.id)
    changed = {"id": upsert.excluded.id}
    session.execute(upsert.on_conflict_do_update(index_elements=["id"], set_=changed))


def or_replace(session: Session, thing: Any, ids: Iterator[int]) -> None:
    session.execute(sa.insert(table_of(thing)).prefix_with("OR REPLACE").values(id=thing.id))


def savepoint_kept(session: Session, thing: Any, ids: Iterator[int]) -> None:
    with session.begin_nested():
        expression(session, thing, ids)


def savepoint_rolled_back(session: Session, thing: Any, ids: Iterator[int]) -> None:
    savepoint = session.begin_nested()
    update_many(session, thing, ids)
    savepoint.rollback()


CHANGES = [expression, sql_null, delete, remove, append, replace, rekey, bulk_save, bulk_update,
           update_many, delete_where, from_statement, insert_from_select, upsert, or_replace,
           savepoint_kept, savepoint_rolled_back]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Cannot correctly sort tables")
@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    mapped=mappings(),
    changes=st.lists(
        st.tuples(st.sampled_from(CHANGES), st.integers(0, 9)), min_size=1, max_size=4
    ),
)
def test_what_is_named_is_what_sqlite_says_was_written(mapped, changes):
    base, classes = mapped
    ids = itertools.count(1)
    with Watched(base.metadata) as database, Session(database.engine) as session:
        things = [kind(id=next(ids)) for kind in (*classes, *classes)]
        session.add_all(things)
        session.flush()
        for thing in things:
            append(session, thing, ids)
        session.commit()
        assert set(*database.named) == database.written
        database.named.clear()
        database.written.clear()

        try:
            for change, number in changes:
                change(session, things[number % len(things)], ids)
            session.commit()
        except (SQLAlchemyError, AssertionError) as error:
            seen_event(type(error).__name__)
            session.rollback()
            assert database.named == []
        else:
            seen_event("committed")
            named = {table for tables in database.named for table in tables}
            # An UPDATE that leaves a key alone updates none of its children. That is not looked at.
            followed = {
                table.name
                for table in base.metadata.tables.values()
                if any(key.onupdate for key in table.foreign_keys)
            }
            assert database.written <= named
            assert named <= database.written | followed


# Changes that no object in the session shows, or not in time.


class Shelf(DeclarativeBase):
    pass


class Post(Shelf):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    views: Mapped[int] = mapped_column(default=0)
    extra: Mapped[Any] = mapped_column(sa.JSON(), nullable=True)
    comments: Mapped[list[Comment]] = relationship(cascade="all, delete-orphan")
    labels: Mapped[list[Label]] = relationship(
        secondary=lambda: sa.join(Comment.__table__, comment_labels),
        primaryjoin="Post.id == Comment.post_id",
        secondaryjoin=lambda: Label.id == comment_labels.c.label_id,
        viewonly=True,
    )


comment_labels: sa.Table = sa.Table(
    "comment_labels",
    Shelf.metadata,
    sa.Column("comment_id", ForeignKey("comments.id"), primary_key=True),
    sa.Column("label_id", ForeignKey("labels.id"), primary_key=True),
)


class Label(Shelf):
    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True)


class Comment(Shelf):
    __tablename__ = "comments"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    post_id: Mapped[int] = mapped_column(ForeignKey("posts.id"))
    likes: Mapped[list[Like]] = relationship(cascade="all, delete-orphan")
    labels: Mapped[list[Label]] = relationship(secondary=comment_labels)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "plain"}  # noqa: RUF012


class Review(Comment):
    __tablename__ = "reviews"
    id: Mapped[int] = mapped_column(ForeignKey("comments.id"), primary_key=True)
    stars: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "review"}  # noqa: RUF012


class Like(Shelf):
    __tablename__ = "likes"
    id: Mapped[int] = mapped_column(primary_key=True)
    comment_id: Mapped[int] = mapped_column(ForeignKey("comments.id"))


def count_up(session: Session, post: Post) -> None:
    post.views = Post.views + 1


def to_null(session: Session, post: Post) -> None:
    post.extra = sa.null()


def orphans(session: Session, post: Post) -> None:
    post.comments.clear()


def without_comments(session: Session, post: Post) -> None:
    session.delete(session.get(Post, 2))


def returning_update(session: Session, post: Post) -> None:
    changed = sa.update(Post).values(views=7).returning(Post)
    assert session.scalars(sa.select(Post).from_statement(changed)).all()


def bulk_calls(session: Session, post: Post) -> None:
    session.bulk_save_objects([Post(id=3)])
    session.bulk_insert_mappings(sa.inspect(Label), [{"id": 2}])


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        (count_up, {"posts"}),
        (to_null, {"posts"}),
        (orphans, {"comments", "reviews", "likes", "comment_labels"}),
        (without_comments, {"posts"}),
        (returning_update, {"posts"}),
        (bulk_calls, {"posts", "labels"}),
    ],
)
def test_a_change_is_named_by_the_statement_that_is_sent(change, tables):
    with Watched(Shelf.metadata) as database, Session(database.engine) as session:
        label, likes = Label(id=1), [Like(id=1)]
        review = Review(id=1, stars=5, likes=likes, labels=[label])
        session.add_all([Post(id=1, extra={"a": 1}, comments=[review]), Post(id=2)])
        session.commit()
        database.named.clear()
        database.written.clear()
        change(session, session.get(Post, 1))
        session.commit()
        assert set(*database.named) == database.written == tables


# What remains: writes that SQLAlchemy does not send, or does not know of.

AUDIT = "CREATE TRIGGER audit AFTER UPDATE ON posts BEGIN INSERT INTO labels VALUES (NULL); END"
shelves = sa.Table(
    "shelves",
    other := sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True, sqlite_on_conflict_primary_key="REPLACE"),
)
books = sa.Table("books", other, sa.Column("id", ForeignKey("shelves.id", ondelete="CASCADE")))
leaflets = sa.Table(
    "leaflets", sa.MetaData(), sa.Column("id", ForeignKey(shelves.c.id, ondelete="CASCADE"))
)


def with_a_trigger(connection: sa.Connection) -> None:
    connection.execute(sa.update(Post).values(views=1))


def past_sqlalchemy(connection: sa.Connection) -> None:
    connection.connection.execute("DELETE FROM labels")


def another_metadata(connection: sa.Connection) -> None:
    connection.execute(sa.delete(shelves))


def replaced_by_definition(connection: sa.Connection) -> None:
    connection.execute(sa.insert(shelves).values(id=1))


@pytest.mark.parametrize(
    ("change", "named", "missed"),
    [
        (with_a_trigger, {"posts"}, {"labels"}),
        (past_sqlalchemy, set(), {"labels"}),
        (another_metadata, {"shelves", "books"}, {"leaflets"}),
        (replaced_by_definition, {"shelves"}, {"books", "leaflets"}),
    ],
)
def test_what_it_cannot_know(change, named, missed):
    with Watched(Shelf.metadata) as database:
        with database.engine.begin() as connection:
            connection.exec_driver_sql(AUDIT)
            for each in (other, leaflets.metadata):
                each.create_all(connection)
        database.named.clear()
        database.written.clear()
        with database.engine.begin() as connection:
            change(connection)
        assert set(*database.named) == named
        assert database.written - named == missed


# What a statement says.

metadata = sa.MetaData()
parents = sa.Table("parents", metadata, sa.Column("id", sa.Integer, primary_key=True))
ON_PARENTS = ForeignKey("parents.id", ondelete="CASCADE", onupdate="CASCADE")
children = sa.Table(
    "children",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent_id", ON_PARENTS),
)
pets = sa.Table(
    "pets",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("child_id", ForeignKey("children.id", ondelete="SET NULL")),
)
schools = sa.Table(
    "schools",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("pet_id", ForeignKey("pets.id", ondelete="RESTRICT", onupdate="SET DEFAULT")),
    sa.Column("city_id", ForeignKey("cities.id", ondelete="CASCADE")),  # there is no such table
)
POSTGRES, MYSQL = postgresql.dialect(), mysql.dialect()


def written(statement: Any, dialect: Any = POSTGRES) -> set[str]:
    compiled = statement.compile(dialect=dialect)
    return tables_written(str(compiled), compiled)


GONE = sa.delete(pets).returning(pets.c.id).cte("gone")
MOVED = sa.update(children).values(parent_id=1).returning(children.c.id)
HANDMADE = sa.text("DELETE FROM pets RETURNING id").columns(pets.c.id)


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        (sa.select(parents), set()),
        (sa.select(parents).with_for_update(), set()),
        (sa.union(sa.select(parents.c.id), sa.select(pets.c.id)), set()),
        (sa.select(sa.func.now()), set()),
        (sa.values(sa.column("n", sa.Integer), name="v").data([(1,)]).select(), set()),
        (sa.select(sa.text("id")).select_from(sa.text("parents")), set()),
        (sa.select(sa.literal("DELETE FROM pets")), set()),
        (sa.insert(parents), {"parents"}),
        (sa.insert(sa.table("loose", sa.column("id"))), {"loose"}),
        (sa.delete(pets).where(sa.text("id = 1")), {"pets"}),
        (sa.select(GONE.c.id), {"pets"}),
        (sa.select(1).add_cte(GONE), {"pets"}),
        (sa.select(sa.select(GONE.c.id).subquery()), {"pets"}),
        (sa.select(1).where(sa.exists(sa.select(GONE.c.id))), {"pets"}),
        (sa.select(MOVED.cte(nesting=True)), {"children"}),
        (sa.insert(schools).from_select(["id"], sa.select(GONE.c.id)), {"pets", "schools"}),
        (sa.update(pets).values(child_id=MOVED.cte().c.id), {"children", "pets", "schools"}),
        (sa.update(children).where(children.c.id == pets.c.id).values(parent_id=1), {"children"}),
        (sa.delete(schools).where(schools.c.pet_id == pets.c.id), {"schools"}),
        (sa.select(HANDMADE.cte()), {EVERYTHING}),
        (HANDMADE, {EVERYTHING}),
        (sa.text("SELECT id FROM pets").columns(pets.c.id), set()),
        (sa.select(sa.text("1; DELETE FROM pets")), {EVERYTHING}),
    ],
)
def test_the_tables_of_a_statement(statement, tables):
    assert written(statement) == tables


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        (sa.insert(parents), {"parents"}),
        (sa.update(parents), {"parents", "children"}),
        (sa.delete(parents), {"parents", "children", "pets", "schools"}),
        (sa.delete(children), {"children", "pets", "schools"}),
        (sa.delete(pets), {"pets"}),
        (sa.schema.DropTable(children), {"children", "pets", "schools"}),
        (
            postgresql.insert(parents).on_conflict_do_update(index_elements=["id"], set_={"id": 1}),
            {"parents", "children"},
        ),
        (sa.insert(children).prefix_with("OR REPLACE"), {"children", "pets", "schools"}),
    ],
)
def test_foreign_keys_are_followed_as_far_as_the_database_does(statement, tables):
    assert written(statement) == tables


def test_a_table_that_is_defined_later_is_followed_too():
    own = sa.MetaData()
    owner = sa.Table("owner", own, sa.Column("id", sa.Integer, primary_key=True))
    compiled = sa.delete(owner).compile()
    assert tables_written(str(compiled), compiled) == {"owner"}
    sa.Table("owned", own, sa.Column("id", ForeignKey("owner.id", ondelete="CASCADE")))
    assert tables_written(str(compiled), compiled) == {"owner", "owned"}


def test_mysql_may_update_each_table_that_it_joins():
    statement = sa.update(children).where(children.c.id == schools.c.id)
    statement = statement.values({schools.c.pet_id: None})
    assert written(statement, MYSQL) == {"children", "schools"}


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        (sa.schema.CreateTable(pets), {"pets"}),
        (sa.schema.CreateIndex(sa.Index("by_child", pets.c.child_id)), {"pets"}),
        (sa.schema.AddConstraint(sa.CheckConstraint("id > 0", table=parents)), {"parents"}),
        (sa.schema.CreateSequence(sa.Sequence("numbers")), {EVERYTHING}),
        (sa.DDL("TRUNCATE pets"), {EVERYTHING}),
    ],
)
def test_the_tables_of_ddl(statement, tables):
    assert written(statement) == tables


class Refill(Executable, ClauseElement):
    """A statement of somebody's own, as SQLAlchemy's documentation shows how to make one."""

    inherit_cache = False


@compiles(Refill)
def refill(element: Refill, compiler: Any, **_: Any) -> str:
    return "INSERT INTO pets SELECT * FROM schools"


def test_a_statement_of_an_unknown_kind_is_judged_by_its_text():
    assert written(Refill()) == {EVERYTHING}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "  -- UPDATE later\n/* and\nDELETE */ select updated, replace(a, 'b', 'c') FROM t;",
        "(SELECT 1) UNION (SELECT 2)",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "SELECT id FROM t FOR UPDATE",
        "SELECT id FROM t FOR NO KEY UPDATE",
        "VALUES (1)",
        "TABLE t",
        "EXPLAIN QUERY PLAN SELECT 1",
        "SHOW search_path",
        "PRAGMA main.table_info(t)",
        "SET TIME ZONE 'UTC'",
        "BEGIN",
        "SAVEPOINT a",
        "RELEASE SAVEPOINT a",
        "ROLLBACK TO SAVEPOINT a",
        "PREPARE TRANSACTION 'a'",
    ],
)
def test_text_that_plainly_reads(sql):
    assert tables_written(sql) == set()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE t SET a = 1",
        "/*! DELETE FROM t */",
        "SELECT 1; DELETE FROM t",
        "SELECT * INTO u FROM t",
        "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
        "EXPLAIN ANALYZE SELECT f()",
        "BEGIN UPDATE t SET a = 1 END",
        "COMMIT",
        "CALL f()",
        "DO $$ begin end $$",
        "COPY t FROM stdin",
        "TRUNCATE t",
        "VACUUM",
        "SELECTED",
        "",
    ],
)
def test_text_that_may_write(sql):
    assert tables_written(sql) == {EVERYTHING}
