"""`labkit load`: what it prints, and the one line that it says where it cannot."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from labkit.cli import main
from tests.test_load import Site, site

__all__ = ["site"]  # the fixture


def test_it_prints_what_came(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", f"{site.url}/a", "--seconds", "0.5", "--connections", "2"]) == 0

    [line] = capsys.readouterr().out.splitlines()
    figures = r"p50 [\d.]+ ms, p95 [\d.]+ ms, p99 [\d.]+ ms"
    found = re.fullmatch(rf"([\d,]+) requests, 0 failed, [\d,]+/s, {figures}", line)
    assert found
    assert int(found[1].replace(",", "")) == len(site.paths) - 1  # it has asked once before
    assert set(site.paths) == {"/a"}


@pytest.mark.parametrize(("path", "mark"), [("/a", "?"), ("/a?b=1", "&")])
def test_with_hits_each_miss_has_a_parameter_of_its_own(
    site: Site, capsys: pytest.CaptureFixture[str], path: str, mark: str
) -> None:
    assert main(["load", site.url + path, "--hits", "0.75", "--seconds", "0.5"]) == 0

    _, said = capsys.readouterr().out.splitlines()
    asked = Counter(site.paths[1:])  # the first was before
    same = asked.pop(path)
    assert site.paths[0] == path
    assert set(asked.values()) == {1}
    assert all(each.startswith(f"{path}{mark}visit=") for each in asked)
    assert said == f"{len(asked):,} of them carried a visit= of their own"
    assert abs(same - 3 * len(asked)) <= 3


def test_a_redirect_is_said_to_be_what_is_measured(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load", f"{site.url}/moved", "--seconds", "0.2"]) == 0

    said, figures = capsys.readouterr().out.splitlines()
    assert said == "It redirects to /login: that is what is measured, not what is there."
    assert " 0 failed, " in figures
    assert set(site.paths) == {"/moved"}
    assert len(site.hosts) == 1  # the load's own


def test_failures_are_an_exit_status(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", f"{site.url}/broken", "--seconds", "0.2"]) == 1
    assert "0 requests, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["http://192.0.2.1/"], "192.0.2.1 is not this machine's loopback, and labkit sends load"),
        (["http://0.0.0.0:5000/"], "nowhere else: write 127.0.0.1."),
        (["http://127.0.0.1:1/"], "nobody answers at http://127.0.0.1:1/"),
        (["localhost:5000"], "is no URL of HTTP"),
        (["http://127.0.0.1:1/", "--hits", "80"], "a hit ratio is between 0 and 1, and this is 80"),
        (["SITE", "--seconds", "0"], "a load needs some seconds"),
        (["SITE", "--connections", "0"], "a load needs some seconds"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    site: Site, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load", *(word.replace("SITE", site.url) for word in words)]) == 1

    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("labkit: ")
    assert told in line


def test_help_says_what_a_miss_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["load", "--help"])
    words = " ".join(capsys.readouterr().out.split())

    assert "each of the others carries a query parameter of its own, visit=NUMBER" in words
    assert "only if your cache's key holds the query string" in words


def test_without_the_extra_it_says_what_to_install() -> None:
    code = (
        'import sys; sys.modules["httptools"] = None; '
        'from labkit.cli import main; main(["load", "x"])'
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    [line] = (done.stdout + done.stderr).splitlines()
    assert line.startswith("labkit: labkit load belongs to the course and needs httptools")
