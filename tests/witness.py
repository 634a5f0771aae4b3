"""An independent witness of the tables that a statement reads: SQLite's own authorizer.

While SQLite prepares a statement, it asks for leave to read each column of each table.
(https://www.sqlite.org/c3ref/set_authorizer.html)
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

SQLITE_READ = 20


@contextlib.contextmanager
def reading(connection: Any) -> Iterator[set[str]]:
    """Give the set of names that grows as a DBAPI connection prepares statements."""
    names: set[str] = set()

    def authorise(action: int, first: str | None, *_: Any) -> int:
        if action == SQLITE_READ and first:
            names.add(first)
        return sqlite3.SQLITE_OK

    connection.set_authorizer(authorise)  # and whatever was prepared is prepared again
    try:
        yield names
    finally:
        connection.set_authorizer(None)


def tables_witnessed(connection: Any, sql: str, parameters: Any = ()) -> set[str]:
    """Return the tables that SQLite reads for a SELECT, which it prepares and does not run.

    Names of CTEs and of subqueries are left out, and so are SQLite's own tables.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    with reading(connection) as names:
        connection.execute(f"EXPLAIN {sql}", parameters).close()
    return {name for name in names & tables if not name.startswith("sqlite_")}
