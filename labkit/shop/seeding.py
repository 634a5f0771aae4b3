"""Filling an empty database with the shop's rows, in bulk."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, text
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
    if connection.dialect.name == "postgresql":
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
        cursor = connection.connection.cursor()
        with cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
            # No generated value needs escaping: no tabs, no newlines, no backslashes.
            copy.write("".join("\t".join(map(str, row)) + "\n" for row in batch))
    else:
        connection.exec_driver_sql(str(table.insert().compile(connection)), batch)


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
        disable=not (sys.stdout.isatty() or "ipykernel" in sys.modules),
    )
