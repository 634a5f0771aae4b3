"""Seeded databases, kept in data/ and copied for each lab.

A database is built beside its final place and renamed when it is complete, so a folder with the
right name is a whole database. Its manifest holds a checksum, which every copy is checked against.
Each lab works on a copy of its own: what one lesson writes, no other lesson sees. SQLite's may be
read by everybody, so that the users of one machine can share a folder that one of them has filled.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from labkit.errors import LabError
from labkit.shop.rows import SCHEMA_VERSION

CHUNK = 1 << 20  # bytes
MANIFEST = "manifest.json"
BUILDING = ".seeding"  # the prefix of what is not complete yet
SHARED = ("sqlite",)  # PostgreSQL wants its files for its owner alone

Counts = dict[str, int]
Build = Callable[[Path], Counts]


def data_folder() -> Path:
    """Return where seeded databases are kept: LABKIT_DATA, the checkout's, or a user cache."""
    if chosen := os.environ.get("LABKIT_DATA"):
        return Path(chosen).expanduser()
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").exists():
        return checkout / "data"
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "labkit"


def copy_seeded(kind: str, users: int, orders: int, target: Path, build: Build) -> Counts:
    """Copy a seeded database to `target`, building it first where there is none yet.

    Args:
        kind: "sqlite" or "postgres": databases are keyed by it, by size and schema version.
        users: number of users.
        orders: number of orders.
        target: a folder that does not exist yet.
        build: fills the new folder that it is given with a seeded database, and returns the
            number of rows of each table.

    Returns:
        The number of rows of each table.

    Raises:
        LabError: the stored database is damaged or another user's, or the disk is full or not to
            be written to.
    """
    folder = data_folder()
    stored = folder / f"shop-{kind}-{users}-{orders}-v{SCHEMA_VERSION}"
    with _disk_errors(folder):
        if not stored.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # The lock goes with its process: a killed seeding leaves a folder, never a lock.
            with FileLock(folder / ".lock"):
                if not stored.exists():
                    _remove_unfinished(folder)
                    _build(stored, build, mode=0o755 if kind in SHARED else 0o700)
    _expect_readable(stored)
    manifest = _read_manifest(stored)
    with _disk_errors(target.parent):
        copy_folder(stored, target)
        checksum = _checksum(target)
    if checksum != manifest["checksum"]:
        raise _damaged(stored)
    counts: Counts = manifest["rows"]
    return counts


def remove_seeded() -> list[str]:
    """Remove every seeded database, whole or not, from data/; return the names removed.

    Raises:
        LabError: the folder is not to be written to.
    """
    folder = data_folder()
    if not folder.exists():
        return []
    with _disk_errors(folder), FileLock(folder / ".lock"):
        removed = sorted(path.name for path in folder.glob("shop-*"))
        for name in removed:
            shutil.rmtree(folder / name)
        _remove_unfinished(folder)
    (folder / ".lock").unlink(missing_ok=True)
    return removed


def _build(stored: Path, build: Build, mode: int) -> None:
    unfinished = stored.with_name(f"{BUILDING}-{stored.name}")
    unfinished.mkdir(mode=0o700)
    try:
        counts = build(unfinished)
        manifest = {"rows": counts, "checksum": _checksum(unfinished)}
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        unfinished.chmod(mode)
        unfinished.rename(stored)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _remove_unfinished(folder: Path) -> None:
    for leftover in folder.glob(f"{BUILDING}-*"):
        shutil.rmtree(leftover)


def _expect_readable(stored: Path) -> None:
    if not all(os.access(path, os.R_OK) for path in (stored, *stored.rglob("*"))):
        raise LabError(
            f"the seeded database {stored.name} in {stored.parent} is another user's, and is not "
            "to be read.\nSet LABKIT_DATA to a folder of yours: it will be seeded there."
        )


def _read_manifest(stored: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((stored / MANIFEST).read_text())
        return {"rows": manifest["rows"], "checksum": manifest["checksum"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise _damaged(stored) from None


def _damaged(stored: Path) -> LabError:
    return LabError(
        f"the seeded database {stored.name} in {stored.parent} is damaged.\n"
        "Run `labkit clean` (or make clean) and start again: it will be seeded anew."
    )


def _files(folder: Path) -> list[Path]:
    return sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    )


def _checksum(folder: Path) -> int:
    checksum = 0
    for name in _files(folder):
        checksum = zlib.crc32(name.as_posix().encode(), checksum)
        with open(folder / name, "rb") as source:
            while chunk := source.read(CHUNK):
                checksum = zlib.crc32(chunk, checksum)
    return checksum


def copy_folder(source: Path, target: Path) -> None:
    """Copy folders and files, but no manifest, so that only this user can read and write them.

    shutil.copytree would go on after an error, forget which it was, and copy a read-only mode.
    """
    target.mkdir(mode=0o700, exist_ok=True)
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(mode=0o700)
        elif path.is_file() and path.name != MANIFEST:
            shutil.copyfile(path, copy)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn what a full or read-only disk raises into one line for people."""
    try:
        yield
    except OSError as error:
        problem = f"{folder} cannot be written to ({error.strerror or error})"
        if error.errno is None:  # from the database, which has words of its own for it
            problem = f"the shop's database cannot be made ({error.strerror or error})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = f"no space is left in {folder} (the default shop needs 100 MB)"
        raise LabError(
            f"{problem}.\nFree some space, or set LABKIT_DATA (kept databases) or TMPDIR "
            "(working copies) to a folder of yours."
        ) from None
