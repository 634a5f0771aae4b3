"""Filling an empty database with the shop's rows, in bulk."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import AddConstraint, CreateIndex, CreateTable
from tqdm import tqdm

from labkit.shop import rows
from labkit.shop.models import Order, OrderLine, User, db

BATCH = 10_000  # rows handed to the driver at once

Row = tuple[Any, ...]


def seed(connection: Connection, users: int, orders: int) -> dict[str, int]:
    """Create the shop's tables and fill them, with a progress bar where somebody watches.

    Rows go to the driver in batches, past the ORM; to PostgreSQL through COPY.

    Args:
        connection: inside a transaction, which the caller commits.
        users: how many users.
        orders: how many orders; each has one to five lines.

    Returns:
        The number of rows of each table, by its name.
    """
    is_postgres = connection.dialect.name == "postgresql"
    if is_postgres:
        _create_bare_tables(connection)
    else:
        db.metadata.create_all(connection)
    generated: list[tuple[type, Iterator[Row]]] = [
        (User, rows.user_rows(users)),
        (Order, rows.order_rows(users, orders)),
        (OrderLine, rows.line_rows(orders)),
    ]
    counts: dict[str, int] = {}
    with _progress(users, orders) as bar:
        for model, table_rows in generated:
            table: Table = model.__table__  # type: ignore[attr-defined]
            counts[table.name] = 0
            for batch in _batches(table_rows):
                _insert(connection, table, batch)
                counts[table.name] += len(batch)
                bar.update(len(batch))
    if is_postgres:
        _add_foreign_keys_and_indexes(connection)
        _advance_sequences(connection)
        connection.execute(text("ANALYZE"))  # or the planner guesses sizes until autovacuum comes
    return counts


def _batches(table_rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(table_rows)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _insert(connection: Connection, table: Table, batch: list[Row]) -> None:
    if connection.dialect.driver == "psycopg":
        columns = ", ".join(column.name for column in table.columns)
        statement = f"COPY {table.name} ({columns}) FROM STDIN"
        try:
            with connection.connection.cursor().copy(statement) as copy:
                # No generated value needs escaping: no tabs, no newlines, no backslashes.
                copy.write("".join("\t".join(map(str, row)) + "\n" for row in batch))
        except connection.dialect.loaded_dbapi.Error as error:
            # As SQLAlchemy does: who catches its errors catches this one, too.
            raise DBAPIError(statement, None, error) from error
    else:
        connection.exec_driver_sql(str(table.insert().compile(connection)), batch)


def _create_bare_tables(connection: Connection) -> None:
    """Create the tables without what PostgreSQL would look up again for each row."""
    for table in db.metadata.sorted_tables:
        connection.execute(CreateTable(table, include_foreign_key_constraints=[]))


def _add_foreign_keys_and_indexes(connection: Connection) -> None:
    """Add what the bare tables lack: all rows are now checked and sorted at once."""
    for table in db.metadata.sorted_tables:
        for foreign_key in table.foreign_key_constraints:
            # Not isolated: create_all has to know of it as before, for other databases.
            connection.execute(AddConstraint(foreign_key, isolate_from_table=False))
        for index in table.indexes:
            connection.execute(CreateIndex(index))


def _advance_sequences(connection: Connection) -> None:
    """Have PostgreSQL number new rows after the seeded ones."""
    for table in ("users", "orders"):
        connection.execute(
            text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
        )


def _progress(users: int, orders: int) -> tqdm[Any]:
    """Return a progress bar, shown on a terminal or in a notebook, and nowhere else."""
    lines_expected = orders * (1 + rows.MOST_LINES) // 2
    return tqdm(
        desc="Seeding the shop",
        total=users + orders + lines_expected,
        unit=" rows",
        leave=False,
        file=sys.stdout,
        disable=not (sys.stdout.isatty() or _in_notebook()),
    )


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
