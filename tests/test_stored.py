"""Seeded databases are kept, whole or not at all, whatever is killed, full or read-only."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from sqlalchemy import create_engine, select

import labkit
from labkit import LabError
from labkit.cli import main
from labkit.shop import db
from labkit.shop.rows import SCHEMA_VERSION, line_rows, order_rows, user_rows
from labkit.shop.stored import copy_seeded, remove_seeded
from tests.helpers import end, start_python, wait_until

USERS, ORDERS = 50, 500
MANY_USERS, MANY_ORDERS = 2000, 40_000  # takes a second or so: long enough to be killed in
PATIENCE = 60.0  # seconds; a deadline, not a delay


@pytest.fixture(autouse=True)
def data(monkeypatch, tmp_path) -> Path:
    """The folder that databases are kept in: one of this test's own."""
    folder: Path = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("LABKIT_DATA", str(folder))
    return folder


def name_of(kind: str, users: int = USERS, orders: int = ORDERS) -> str:
    return f"shop-{kind}-{users}-{orders}-v{SCHEMA_VERSION}"


def kept(folder: Path) -> list[str]:
    """The names in the folder, but for the lock's."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def stored_digest(url: str) -> str:
    """Digest every row of the shop, in the order of its key."""
    engine = create_engine(url)
    digest = hashlib.sha256()
    with engine.connect() as connection:
        for table in db.metadata.sorted_tables:
            for row in connection.execute(select(table).order_by(*table.primary_key)):
                digest.update("\t".join(map(str, row)).encode() + b"\n")
    engine.dispose()
    return digest.hexdigest()


def expected_digest(users: int = USERS, orders: int = ORDERS) -> str:
    digest = hashlib.sha256()
    for rows in (user_rows(users), order_rows(users, orders), line_rows(orders)):
        for row in rows:
            digest.update("\t".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()


def lab_digest(kind: str, users: int = USERS, orders: int = ORDERS) -> str:
    """Start a lab, digest its database, and close it."""
    with labkit.start("fake", kind, users, orders) as lab, lab.app.app_context():
        return stored_digest(lab.db.engine.url.render_as_string(hide_password=False))


# Kept, and used again.


class Builder:
    """Builds what stands for a database, and counts how often."""

    def __init__(self) -> None:
        self.built = 0

    def __call__(self, folder: Path) -> dict[str, int]:
        self.built += 1
        (folder / "empty").mkdir()
        (folder / "database").write_text("rows")
        return {"users": 4}


def test_a_second_start_copies_what_the_first_has_built(tmp_path):
    build = Builder()
    for target in ("first", "second"):
        assert copy_seeded("sqlite", 5, 5, tmp_path / target, build) == {"users": 4}
        assert (tmp_path / target / "database").read_text() == "rows"
        assert (tmp_path / target / "empty").is_dir()
    assert build.built == 1


@pytest.mark.parametrize("other", [("sqlite", 6, 5), ("sqlite", 5, 6), ("postgres", 5, 5)])
def test_another_size_or_kind_is_another_database(data, tmp_path, other):
    build = Builder()
    copy_seeded("sqlite", 5, 5, tmp_path / "first", build)
    kind, users, orders = other
    copy_seeded(kind, users, orders, tmp_path / "second", build)
    assert build.built == 2
    assert kept(data) == sorted([name_of("sqlite", 5, 5), name_of(*other)])


def test_another_version_of_the_schema_is_another_database(data, tmp_path, monkeypatch):
    build = Builder()
    copy_seeded("sqlite", 5, 5, tmp_path / "first", build)
    monkeypatch.setattr("labkit.shop.stored.SCHEMA_VERSION", SCHEMA_VERSION + 1)
    copy_seeded("sqlite", 5, 5, tmp_path / "second", build)
    assert build.built == 2


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_real_database_is_seeded_once(data, monkeypatch, kind):
    assert lab_digest(kind) == expected_digest()

    def seed_again(*_: object) -> None:
        raise AssertionError("seeded again")

    monkeypatch.setattr("labkit.shop.database.seed", seed_again)
    assert lab_digest(kind) == expected_digest()
    assert kept(data) == [name_of(kind)]


def test_a_working_copy_is_private_and_apart(data):
    with labkit.start("fake", "sqlite", USERS, ORDERS) as lab, lab.app.app_context():
        copy = Path(str(lab.db.engine.url.database))
        assert copy.parent.stat().st_mode & 0o077 == 0
        assert data not in copy.parents
    assert not copy.exists()


def change_a_byte(stored: Path) -> None:
    file = stored / "database"
    file.write_text(file.read_text().swapcase())


@pytest.mark.parametrize(
    "damage",
    [
        change_a_byte,
        lambda stored: (stored / "database").unlink(),
        lambda stored: (stored / "database").rename(stored / "renamed"),
        lambda stored: (stored / "more").touch(),
        lambda stored: (stored / "manifest.json").unlink(),
        lambda stored: (stored / "manifest.json").write_text('{"rows": {}'),
        lambda stored: (stored / "manifest.json").write_text("[]"),
    ],
)
def test_a_damaged_database_is_not_used(data, tmp_path, damage):
    build = Builder()
    copy_seeded("sqlite", 5, 5, tmp_path / "first", build)
    damage(data / name_of("sqlite", 5, 5))
    with pytest.raises(LabError, match=r"is damaged\.\nRun `labkit clean`"):
        copy_seeded("sqlite", 5, 5, tmp_path / "second", build)
    remove_seeded()
    copy_seeded("sqlite", 5, 5, tmp_path / "third", build)
    assert build.built == 2


def test_a_build_that_fails_leaves_nothing(data, tmp_path):
    def build(folder: Path) -> dict[str, int]:
        (folder / "database").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        copy_seeded("sqlite", 5, 5, tmp_path / "copy", build)
    assert kept(data) == []


# Killed in the middle.

SEEDING = "import labkit; labkit.start('fake', {kind!r}, {users}, {orders})"
# The last moment at which a kill can leave half a database: all is built, nothing has its name.
STOP_BEFORE_THE_END = """
import time
from labkit.shop import stored

def stop(folder):
    print("built", flush=True)
    time.sleep(600)

stored._checksum = stop
"""


def has_grown_to(size: int, data: Path) -> bool:
    """Whether a seeding has begun, and its database has this many bytes or more."""
    files = data.glob(".seeding-*/shop.sqlite")
    return any(data.glob(".seeding-*")) and sum(file.stat().st_size for file in files) >= size


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    end(process)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_seeding_killed_at_any_moment_leaves_nothing_that_is_trusted(data, monkeypatch):
    # It stops before its end: a test that stood still meanwhile would find nothing to kill.
    seeding = SEEDING.format(kind="sqlite", users=MANY_USERS, orders=MANY_ORDERS)
    code = STOP_BEFORE_THE_END + seeding
    name = name_of("sqlite", MANY_USERS, MANY_ORDERS)
    for size in (0, 1, 1_000_000):
        folder = data / str(size)
        process = start_python(code, LABKIT_DATA=str(folder))
        grew = wait_until(partial(has_grown_to, size, folder), PATIENCE)
        kill(process)
        assert grew
        assert kept(folder) == [f".seeding-{name}"]
    monkeypatch.setenv("LABKIT_DATA", str(folder))
    whole = expected_digest(MANY_USERS, MANY_ORDERS)
    assert lab_digest("sqlite", MANY_USERS, MANY_ORDERS) == whole
    assert kept(folder) == [name]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_seeding_killed_at_the_last_moment_leaves_nothing_that_is_trusted(data, kind):
    code = STOP_BEFORE_THE_END + SEEDING.format(kind=kind, users=USERS, orders=ORDERS)
    process = start_python(code, LABKIT_DATA=str(data))
    assert process.stdout is not None
    built = process.stdout.readline()
    kill(process)
    assert built == "built\n"
    assert kept(data) == [f".seeding-{name_of(kind)}"]
    assert lab_digest(kind) == expected_digest()
    assert kept(data) == [name_of(kind)]


# Two at once.

SEED_AND_DIGEST = """
import sys
import labkit
from labkit.shop import database
from tests.test_stored import lab_digest

seeded = 0

def count(*arguments):
    global seeded
    seeded += 1
    return seed(*arguments)

seed, database.seed = database.seed, count
print("ready", file=sys.stderr, flush=True)
digest = lab_digest({kind!r})
print(digest, seeded, file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_that_seed_at_once_get_one_whole_database(data, kind):
    with FileLock(data / ".lock"):  # both come upon it, and wait
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", SEED_AND_DIGEST.format(kind=kind)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stderr is not None
            assert process.stderr.readline() == "ready\n"
        assert kept(data) == []
    told = [process.communicate(timeout=PATIENCE)[1].split() for process in processes]
    assert [digest for digest, _ in told] == [expected_digest()] * 2
    assert sorted(seeded for _, seeded in told) == ["0", "1"]
    assert kept(data) == [name_of(kind)]


# Full, and read-only.


@pytest.fixture
def mount() -> Iterator[Callable[[str, str], Path]]:
    """Mount a small file system of its own on a new folder; skip where one may not."""
    mounted: list[Path] = []
    parent = Path(tempfile.mkdtemp())
    parent.chmod(0o711)  # PostgreSQL runs as nobody there

    def mount(name: str, size: str) -> Path:
        folder = parent / name
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("only root on Linux may mount a small disk")
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
    shutil.rmtree(parent)


def expect_help(caught: pytest.ExceptionInfo[LabError], *words: str) -> None:
    """Expect at most two lines that a person can read, with what to do."""
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) < 250
    assert "LABKIT_DATA" in lines[1]
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(("kind", "size"), [("sqlite", "4m"), ("postgres", "8m")])
def test_a_full_disk_is_said_and_nothing_half_made_is_left(mount, monkeypatch, kind, size):
    disk = mount("disk", size)
    monkeypatch.setenv("LABKIT_DATA", str(disk))
    with pytest.raises(LabError) as caught:
        labkit.start("fake", kind, MANY_USERS, MANY_ORDERS)
    expect_help(caught)
    assert re.search("no space is left|disk is full", str(caught.value))
    assert kept(disk) == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_no_room_for_the_working_copy_is_said_and_nothing_is_left(mount, monkeypatch, kind):
    assert lab_digest(kind) == expected_digest()
    disk = mount("disk", "64k")
    monkeypatch.setenv("TMPDIR", str(disk))
    with pytest.raises(LabError) as caught:
        labkit.start("fake", kind, USERS, ORDERS)
    expect_help(caught, "space")
    assert "TMPDIR" in str(caught.value)
    assert kept(disk) == []


# An empty cluster takes 39 MB, and the rows some 10 MB more.
@pytest.mark.parametrize("size", ["20m", "44m"], ids=["initdb", "COPY"])
def test_no_room_to_seed_postgres_in_is_said_and_nothing_is_left(mount, monkeypatch, data, size):
    disk = mount("disk", size)
    monkeypatch.setenv("TMPDIR", str(disk))
    with pytest.raises(LabError) as caught:
        labkit.start("fake", "postgres", MANY_USERS, MANY_ORDERS)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 2
    assert re.search("initdb failed" if size == "20m" else "No space left on device", lines[0])
    assert kept(disk) == kept(data) == []


def test_a_folder_that_cannot_be_written_to_is_said_and_nothing_is_left(monkeypatch, tmp_path):
    if os.geteuid() == 0:
        folder = Path("/sys/labkit-data")  # not even root makes a folder there
    else:
        folder = tmp_path / "read-only"
        folder.mkdir()
        folder.chmod(0o555)
    monkeypatch.setenv("LABKIT_DATA", str(folder))
    with pytest.raises(LabError) as caught:
        labkit.start("fake", "sqlite", USERS, ORDERS)
    expect_help(caught, str(folder), "cannot be written to")
    assert not folder.exists() or kept(folder) == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_seeded_database_in_a_read_only_folder_can_be_used(mount, monkeypatch, kind):
    disk = mount("disk", "200m")
    monkeypatch.setenv("LABKIT_DATA", str(disk))
    assert lab_digest(kind) == expected_digest()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        (disk / "file").touch()
    assert caught.value.errno == errno.EROFS
    assert lab_digest(kind) == expected_digest()


def test_a_seeded_database_whose_files_are_read_only_can_be_used_and_written(data):
    assert lab_digest("sqlite") == expected_digest()
    stored = data / name_of("sqlite")
    for path in stored.iterdir():
        path.chmod(0o444)
    with labkit.start("fake", "sqlite", USERS, ORDERS) as lab, lab.app.app_context():
        copy = Path(str(lab.db.engine.url.database))
        assert copy.stat().st_mode & 0o200
        assert (stored / copy.name).stat().st_mode & 0o777 == 0o444


# Clean.


def test_clean_removes_databases_and_leftovers_and_nothing_else(data, capsys):
    (data / "README.md").write_text("The shop.")
    (data / "inputs").mkdir()
    (data / f".seeding-{name_of('postgres')}").mkdir()
    assert lab_digest("sqlite") == expected_digest()
    (data / f".seeding-{name_of('sqlite')}").mkdir()
    (data / f".seeding-{name_of('sqlite')}" / "shop.sqlite").touch()
    capsys.readouterr()
    assert main(["clean"]) == 0
    assert sorted(path.name for path in data.iterdir()) == ["README.md", "inputs"]
    assert name_of("sqlite") in capsys.readouterr().out


def test_clean_does_not_meddle_with_a_seeding(data, monkeypatch):
    (data / "shop-sqlite-1-1-v1").mkdir()
    removed: list[Path] = []

    def remove(folder: Path) -> None:
        # Who seeds holds the lock, so clean must hold it while it removes.
        with pytest.raises(Timeout):
            FileLock(data / ".lock").acquire(timeout=0)
        removed.append(folder)

    monkeypatch.setattr(shutil, "rmtree", remove)
    assert remove_seeded() == ["shop-sqlite-1-1-v1"]
    assert removed == [data / "shop-sqlite-1-1-v1"]


def test_a_lab_at_work_does_not_mind_clean(data):
    with labkit.start("fake", "sqlite", USERS, ORDERS) as lab, lab.app.app_context():
        remove_seeded()
        assert kept(data) == []
        assert len(lab.db.session.execute(select(db.metadata.tables["users"])).all()) == USERS


def test_a_working_copy_is_a_whole_sqlite_file(data):
    with labkit.start("fake", "sqlite", USERS, ORDERS) as lab, lab.app.app_context():
        file = str(lab.db.engine.url.database)
        with sqlite3.connect(file) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()
