"""An independent witness of the tables that a statement reads: SQLite's own authorizer.

While SQLite prepares a statement, it asks for leave to read each column of each table.
(https://www.sqlite.org/c3ref/set_authorizer.html)
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, SelectBase, event

from labkit.cache import NotCacheable, tables_read

SQLITE_READ = 20


@contextlib.contextmanager
def reading(connection: Any, views: Collection[str] = ()) -> Iterator[set[str]]:
    """Give the set of names that grows as a DBAPI connection prepares statements.

    What is read behind one of these views is left out.
    """
    names: set[str] = set()

    def authorise(action: int, first: str | None, *others: str | None) -> int:
        if action == SQLITE_READ and first and others[-1] not in views:
            names.add(first)
        return sqlite3.SQLITE_OK

    connection.set_authorizer(authorise)  # and whatever was prepared is prepared again
    try:
        yield names
    finally:
        connection.set_authorizer(None)


def tables_witnessed(connection: Any, sql: str, parameters: Any = ()) -> set[str]:
    """Return the tables that SQLite reads for a SELECT, which it prepares and does not run.

    Names of CTEs and of subqueries are left out, and so are SQLite's own tables, and what stands
    behind a view's name: docs/query_cache.md says that nobody looks there.
    """
    kinds = dict(connection.execute("SELECT name, type FROM sqlite_master").fetchall())
    tables, views = set(kinds), [name for name, kind in kinds.items() if kind == "view"]
    with reading(connection, views) as names:
        connection.execute(f"EXPLAIN {sql}", parameters).close()
    return {name for name in names & tables if not name.startswith("sqlite_")}


class Witness:
    """Holds `tables_read` to SQLite's word, for every SELECT that any engine of a process sends.

    Attributes:
        missed: the SQL of each statement that reads a table which `tables_read` does not name.
        seen: how many statements were "witnessed", "refused" or "missed".
    """

    def __init__(self) -> None:
        self.missed: list[str] = []
        self.seen: Counter[str] = Counter()
        self._known: WeakSet[Any] = WeakSet()  # SQLAlchemy keeps what it has compiled

    def __enter__(self) -> Witness:
        event.listen(Engine, "before_cursor_execute", self._look)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._look)

    def _look(
        self, connection: Connection, _: Any, sql: str, parameters: Any, context: Any, many: bool
    ) -> None:
        compiled = getattr(context, "compiled", None)
        statement = getattr(compiled, "statement", None)
        if connection.dialect.name != "sqlite" or not isinstance(statement, SelectBase) or many:
            return
        if compiled in self._known:
            return
        self._known.add(compiled)
        try:
            named = tables_read(statement, connection.dialect)
        except NotCacheable:
            self.seen["refused"] += 1
            return
        told = self._told(connection, sql, parameters) - {str(name) for name in named}
        self.seen["missed" if told else "witnessed"] += 1
        if told:
            self.missed.append(f"{', '.join(sorted(told))} not named by tables_read: {sql}")

    def _told(self, connection: Connection, sql: str, parameters: Any) -> set[str]:
        """Ask a database in memory with the same tables: the connection's authorizer is its own."""
        for _ in range(2):
            with contextlib.suppress(KeyError, sqlite3.OperationalError):
                return tables_witnessed(connection.info["witness"], sql, parameters)
            connection.info["witness"] = _with_the_tables_of(connection.connection)
        self.seen["not prepared"] += 1  # such as with a function of one's own
        return set()


def _with_the_tables_of(connection: Any) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    made = connection.execute("SELECT sql FROM sqlite_master WHERE sql > '' ORDER BY rowid")
    for (statement,) in made.fetchall():
        if "sqlite_sequence" not in statement:
            copy.execute(statement)
    return copy
