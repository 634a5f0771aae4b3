"""What this machine has of what the course needs: `labkit doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement

from labkit.command import in_a_line
from labkit.errors import LabError
from labkit.servers import Keeper, choose_redis, start_redis
from labkit.shop.database import probe_database
from labkit.shop.stored import MANIFEST, data_folder

EXTRAS = ("lab", "audit")  # of the course: the first takes in the second
OLDEST_PYTHON = (3, 11)
DISK_NEEDED = 300  # MB: the kept database, and working copies of a few lessons at once
PROGRAMS = {
    "wrk": "lesson 11 then has nothing to hold labkit's own load against",
    "memcached": "lesson 12 then compares the other backends only",
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        thing: what was looked at.
        status: "OK", "missing, optional" or "FAIL".
        words: what was found; what you lose; or what to do.
    """

    thing: str
    status: str
    words: str


def doctor() -> int:
    """Print a line for each thing the course needs, and return how many of them fail."""
    findings = list(_examine())
    width = max(len(finding.thing) for finding in findings)
    for finding in findings:
        separator = " " if finding.status == "OK" else ": "
        print(f"{finding.thing:{width}}  {finding.status}{separator}{finding.words}")
    return sum(finding.status == "FAIL" for finding in findings)


def _examine() -> Iterator[Finding]:
    yield _python()
    yield from _packages()
    yield _redis()
    yield _database()
    for program, loss in PROGRAMS.items():
        if shutil.which(program):
            yield Finding(program, "OK", "on PATH")
        else:
            yield Finding(program, "missing, optional", loss)
    yield _disk()
    yield _data_folder()


def _python() -> Finding:
    if sys.version_info < OLDEST_PYTHON:
        return Finding("Python", "FAIL", "install Python 3.11 or newer, then run `make lab` again")
    return Finding("Python", "OK", platform.python_version())


def _packages() -> Iterator[Finding]:
    for line in importlib.metadata.requires("labkit") or []:
        requirement = Requirement(line)
        if requirement.name == "labkit":  # an extra that takes in another
            continue
        marker = requirement.marker
        is_needed = marker is None or any(marker.evaluate({"extra": each}) for each in EXTRAS)
        is_extra = not is_needed and marker is not None and marker.evaluate({"extra": "postgres"})
        if not (is_needed or is_extra):
            continue
        name = requirement.name
        requirement.marker = None  # what is left is what pip takes: name, extras, versions
        mend = f"run `make lab`, or pip install '{requirement}'"
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if is_extra:
                yield Finding(name, "missing, optional", 'no database="postgres"')
            else:
                yield Finding(name, "FAIL", mend)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield Finding(name, "OK", version)
        else:
            yield Finding(name, "FAIL", f"version {version} is too old: {mend}")


def _redis() -> Finding:
    """Start the Redis that a lab would start, and stop it again."""
    keeper = Keeper()
    try:
        choice = os.environ.get("LABKIT_REDIS") or "auto"
        kind, reason = choose_redis(choice)
        server = start_redis(choice, keeper)
    except LabError as error:
        return Finding("Redis", "FAIL", in_a_line(error))
    finally:
        keeper.close()
    words = f"{server.name} {server.version} ({kind}: {reason})"
    if server.is_real:
        return Finding("Redis", "OK", words)
    return Finding("Redis", "missing, optional", f"{words}; its timings are not Redis's")


def _database() -> Finding:
    try:
        words = probe_database(os.environ.get("LABKIT_DATABASE") or "sqlite")
    except LabError as error:
        return Finding("database", "FAIL", in_a_line(error))
    return Finding("database", "OK", words)


def _disk() -> Finding:
    free = shutil.disk_usage(tempfile.gettempdir()).free // 10**6
    if free < DISK_NEEDED:
        return Finding("free disk", "FAIL", f"{free:,} MB: make room for {DISK_NEEDED} MB")
    return Finding("free disk", "OK", f"{free:,} MB")


def _data_folder() -> Finding:
    folder = data_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if any(folder.glob("shop-*/" + MANIFEST)):  # of a hub, which somebody has filled for all
            return Finding("data folder", "OK", "can be read, and holds a seeded shop")
        words = f"{folder}: {error.strerror}. Set LABKIT_DATA to a folder that you can write to"
        return Finding("data folder", "FAIL", words)
    return Finding("data folder", "OK", "can be written to")
