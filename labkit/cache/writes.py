"""Which tables a statement writes to, foreign keys of the database's own doing included.

What is read is the statement that was compiled, not the objects that led to it: a flush, a bulk
call, an orphan's cascade and `session.execute(update(...))` all end as INSERT, UPDATE or DELETE.
Text written by hand is not understood. Unless it is plainly a SELECT, it counts as a write to
`EVERYTHING`. In doubt one more table is named: a needless miss costs less than a stale answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Delete, Insert, SelectBase, Table, TableClause, Update, UpdateBase
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.ddl import TableDropDDL
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.selectable import TextualSelect

EVERYTHING = "*"  # the tag that every entry must carry beside its tables

_Write = tuple[TableClause, str]  # a table, and what is done to its rows: one of these:
INSERTED, UPDATED, DELETED = "inserted", "updated", "deleted"

BEGINNING = r"(?:[\s(]|--[^\n]*\n|/\*(?!!).*?\*/)*"  # white space, brackets and comments
READS = re.compile(
    BEGINNING + r"(?:select|with|values|table|explain|show|pragma|set|use|begin|start|savepoint|"
    r"save|release|rollback|prepare transaction|commit prepared|xa)\b",
    re.I | re.S,
)
# FOR UPDATE only locks. A semicolon may be followed by another statement.
HOLDS_A_WRITE = re.compile(
    r"\b(?:insert|(?<!for )(?<!no key )update|delete|merge|truncate|into|call|exec|execute|analyze"
    r"|analyse)\b|;(?!\s*$)",
    re.I,
)
# All other statements may commit by themselves: COMMIT, CALL, and in MySQL and Oracle all DDL.
LEAVES_OPEN = re.compile(
    BEGINNING + r"(?:select|with|values|table|explain|show|pragma|savepoint|save|release|rollback|"
    r"prepare transaction|commit prepared|xa|insert|update|delete|merge|replace)\b",
    re.I | re.S,
)

_known: WeakKeyDictionary[Any, frozenset[_Write] | None] = WeakKeyDictionary()


def tables_written(sql: str, compiled: Any = None) -> set[str]:
    """Return the names of the tables that a statement writes to, or `EVERYTHING`.

    Args:
        sql: its text, as it is sent.
        compiled: what SQLAlchemy has made the text from; None if somebody has written it by hand.
    """
    if compiled is None:
        writes = _of_text(sql)
    else:
        if compiled not in _known:  # SQLAlchemy keeps what it has compiled, and uses it again
            _known[compiled] = _of_compiled(compiled, sql)
        writes = _known[compiled]
    if writes is None:
        return {EVERYTHING}
    return {name_of(table) for table, _ in _with_foreign_keys(writes)} if writes else set()


def name_of(table: TableClause) -> str:
    """Return a table's name, without a schema that somebody has written into it."""
    name = str(table.name)
    return name if getattr(table.name, "quote", None) is not False else name.split(".")[-1]


def may_commit(sql: str) -> bool:
    """Whether the database may have committed all that was written before, without being asked."""
    return not LEAVES_OPEN.match(sql)


def _of_text(sql: str) -> frozenset[_Write] | None:
    reads = READS.match(sql)
    return frozenset() if reads and not HOLDS_A_WRITE.search(sql, reads.end()) else None


def _of_compiled(compiled: Any, sql: str) -> frozenset[_Write] | None:
    """Return what a statement writes, or None if nobody can say."""
    state = getattr(compiled, "compile_state", None)
    statement = getattr(state, "statement", None)  # what the ORM has made of it
    statement = compiled.statement if statement is None else statement
    if isinstance(statement, ExecutableDDLElement):
        return _of_ddl(statement)
    if isinstance(statement, TextualSelect) or not isinstance(statement, (SelectBase, UpdateBase)):
        return _of_text(sql)
    ctes = [each.element for each in getattr(compiled, "ctes", None) or ()]
    parts = [part for each in (statement, *ctes) for part in visitors.iterate(each)]
    if any(isinstance(part, TextClause) and HOLDS_A_WRITE.search(part.text) for part in parts):
        return None
    writes: set[_Write] = set()
    for part in parts:
        if isinstance(part, UpdateBase):
            if not isinstance(part, (Insert, Update, Delete)):
                return None
            writes.update(_of_dml(part, compiled.dialect.name))
    return frozenset(writes)


def _of_dml(statement: Any, dialect_name: str) -> Iterator[_Write]:
    done = UPDATED
    if isinstance(statement, Insert):
        upsert = statement._post_values_clause is not None
        done = DELETED if statement._prefixes else UPDATED if upsert else INSERTED  # OR REPLACE
    elif isinstance(statement, Delete):
        done = DELETED
    parts: list[Any] = list(visitors.iterate(statement.table))
    if isinstance(statement, Update) and dialect_name in ("mysql", "mariadb"):
        # Theirs may set columns of each table that it joins.
        parts += [getattr(part, "table", None) for part in visitors.iterate(statement)]
    yield from ((part, done) for part in parts if isinstance(part, TableClause))


def _of_ddl(statement: Any) -> frozenset[_Write] | None:
    element = getattr(statement, "element", None)
    tables = [element, *(getattr(each, "table", None) for each in (element, statement))]
    done = DELETED if isinstance(statement, TableDropDDL) else INSERTED
    found = [each for each in tables if isinstance(each, TableClause)]
    return frozenset({(found[0], done)}) if found else None


def _with_foreign_keys(writes: frozenset[_Write]) -> set[_Write]:
    """Add what the database does by itself: ON DELETE and ON UPDATE, and what follows of that."""
    found: set[_Write] = set()
    waiting = list(writes)
    while waiting:
        write = waiting.pop()
        if write not in found:
            found.add(write)
            waiting.extend(_that_follow(*write))
    return found


def _that_follow(table: TableClause, done: str) -> Iterator[_Write]:
    if done == INSERTED or not isinstance(table, Table):
        return
    for child in list(table.metadata.tables.values()):
        for key in child.foreign_key_constraints:
            rule = ((key.ondelete if done == DELETED else key.onupdate) or "").upper()
            if rule in ("", "NO ACTION", "RESTRICT") or not _refers_to(key, table):
                continue
            yield child, DELETED if done == DELETED and rule == "CASCADE" else UPDATED


def _refers_to(key: Any, table: Table) -> bool:
    """Whether a foreign key is to a table of this name, in whichever schema."""
    try:
        return name_of(key.referred_table).lower() == name_of(table).lower()
    except SQLAlchemyError:  # to a table that is not defined yet, or not in that schema
        return any(
            each.target_fullname.lower().split(".")[-2:-1] == [name_of(table).lower()]
            for each in key.elements
        )
