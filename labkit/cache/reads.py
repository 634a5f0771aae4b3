"""What a load reads, and whether what it has read may be kept for others.

While a load runs, every statement is seen that passes through SQLAlchemy. Its tables are those that
the compiler writes. Its connection says whether the rows can be kept: not if it holds writes that
are not committed, which others must not see; and not if it reads from a snapshot that is older than
the load, since the tokens which the entry would carry are younger.

A snapshot lasts for a transaction under REPEATABLE READ and SERIALIZABLE, and for a statement under
READ COMMITTED. SQLite's lasts from the first statement after BEGIN.
(https://www.postgresql.org/docs/current/transaction-iso.html, https://sqlite.org/isolation.html)
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from flask_sqlalchemy.session import Session as FlaskSession
from sqlalchemy import Connection, Engine, SelectBase, TableClause, UpdateBase, event
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.selectable import TextualSelect

from labkit.cache.commits import WAITING
from labkit.cache.elements import written
from labkit.cache.refusal import NotCacheable
from labkit.cache.writes import BEGINNING, name_of, tables_written

BEGUN = "labkit.cache.reads.begun"
LEVEL = "labkit.cache.reads.level"
SCHEMA_MAP = "schema_translate_map"  # an execution option of SQLAlchemy's
EACH_STATEMENT = ("READ COMMITTED", "AUTOCOMMIT")  # levels at which each statement reads anew
KNOWN_STARTS = (Session.__init__, FlaskSession.__init__)
# What begins and ends transactions and SAVEPOINTs reads nothing. To send SQLite's BEGIN as text is
# what SQLAlchemy advises: https://docs.sqlalchemy.org/en/20/dialects/sqlite.html
NO_READ = re.compile(
    BEGINNING + r"(?:begin|start transaction|savepoint|release|rollback)\b", re.I | re.S
)

_moments = itertools.count()
_tables: WeakKeyDictionary[Any, frozenset[str] | None] = WeakKeyDictionary()
_current: ContextVar[Load | None] = ContextVar("labkit.cache.load", default=None)


@dataclass
class Load:
    """What is known of a load.

    Attributes:
        tables: the names of the tables, and tags, that it has read.
        unfit: why its answer is not for others; empty if it is.
        by_text: whether it reads by SQL written by hand, of which nobody knows the tables.
        by_schema_map: whether a `schema_translate_map` says which tables it reads.
    """

    tables: set[str] = field(default_factory=set)
    unfit: str = ""
    by_text: bool = False
    by_schema_map: bool = False
    begun: int = field(default_factory=lambda: next(_moments))


@contextmanager
def observed() -> Iterator[Load]:
    """Give a `Load` that sees what runs in this thread, within the `with` block."""
    load, outer = Load(), _current.get()
    token = _current.set(load)
    try:
        yield load
    finally:
        _current.reset(token)
        if outer is not None:  # it is made of this one's answer
            outer.tables |= load.tables
            outer.by_text |= load.by_text
            outer.by_schema_map |= load.by_schema_map
            outer.unfit = outer.unfit or load.unfit


def is_loading() -> bool:
    """Whether a load is under way in this thread, which will be stored for others."""
    return _current.get() is not None


def depends_on(tags: Collection[str]) -> None:
    """Say that the load which is under way in this thread uses an entry of these tags."""
    load = _current.get()
    if load is not None:
        load.tables.update(tags)


def unused_session(session: Any) -> Any:
    """Return a session as a scoped_session makes them, with the listeners that all of them have.

    None where one may have listeners that another has not: where not a sessionmaker makes them, or
    their class does more at their start than SQLAlchemy's or Flask-SQLAlchemy's.
    """
    make = session.session_factory if isinstance(session, scoped_session) else None
    if type(make) is not sessionmaker or make.class_.__init__ not in KNOWN_STARTS:
        return None
    return make()


def has_pending_writes(session: Any) -> bool:
    """Whether a session has something to flush, or has sent writes that are not committed."""
    if not session._is_clean():  # what `new`, `dirty` and `deleted` say, at a thirtieth of the cost
        return True
    transaction = session.get_transaction()
    if transaction is None:  # as it is in most requests that begin with a hit
        return False
    return any(WAITING in each.info for each in transaction.connections if not each.closed)


def reads_an_old_snapshot(session: Any) -> bool:
    """Whether the session's next SELECT may show what was there some time ago."""
    return any(_keeps_its_snapshot(connection) for connection in _connections(session))


def _connections(session: Any) -> list[Connection]:
    transaction = session.get_transaction()
    if transaction is None:
        return []
    return [each for each in transaction.connections if not each.closed]


def _keeps_its_snapshot(connection: Connection) -> bool:
    driver: Any = connection.connection.dbapi_connection
    if hasattr(driver, "in_transaction"):  # SQLite's, which may not have sent its BEGIN
        return bool(driver.in_transaction)
    begun = connection.info.get(BEGUN)
    if connection.info.get(LEVEL, (None,))[0] != begun or begun is None:
        try:
            level = str(connection.get_isolation_level())
        except NotImplementedError:
            level = "unknown"
        connection.info[LEVEL] = begun, level  # a transaction keeps it from its first statement on
    return connection.info[LEVEL][1] not in EACH_STATEMENT


@event.listens_for(Engine, "begin")
def _note_begin(connection: Connection) -> None:
    connection.info[BEGUN] = next(_moments)


@event.listens_for(Engine, "before_cursor_execute")
def _see(connection: Connection, _: Any, sql: str, __: Any, context: Any, ___: Any) -> None:
    compiled = getattr(context, "compiled", None)
    made = _is_made(compiled)
    if not made:
        connection.info.pop(LEVEL, None)  # it may have ended the transaction, and begun another
    load = _current.get()
    if load is None or NO_READ.match(sql):
        return
    if WAITING in connection.info or tables_written(sql, compiled):
        load.unfit = load.unfit or "its own writes are not committed"
    elif connection.info.get(BEGUN, -1) < load.begun and _keeps_its_snapshot(connection):
        load.unfit = load.unfit or "an older transaction"
    if not made:
        connection.info.pop(LEVEL, None)  # as noted just now
    if context is not None and context.execution_options.get(SCHEMA_MAP):
        load.by_schema_map = True
    tables = _tables_of(compiled)
    if tables is None:
        load.by_text = True
    else:
        load.tables |= tables


def _is_made(compiled: Any) -> bool:
    """Whether SQLAlchemy has made a statement that leaves its transaction as it is."""
    statement = getattr(compiled, "statement", None)
    return isinstance(statement, SelectBase | UpdateBase) and not isinstance(
        statement, TextualSelect
    )


def _tables_of(compiled: Any) -> frozenset[str] | None:
    """Return the tables that a compiled statement names; None if it is text."""
    if compiled is None:
        return None
    if compiled not in _tables:  # SQLAlchemy keeps what it has compiled, and uses it again
        _tables[compiled] = _named(compiled)
    return _tables[compiled]


def _named(compiled: Any) -> frozenset[str] | None:
    statement = compiled.statement
    if not isinstance(statement, SelectBase) or isinstance(statement, TextualSelect):
        return None
    try:
        elements = written(statement, compiled.dialect)
    except NotCacheable:
        return None
    if any(isinstance(each, TextClause | TextualSelect) for each in elements):
        return None
    return frozenset(name_of(each) for each in elements if isinstance(each, TableClause))
