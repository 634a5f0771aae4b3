"""The scoreboard of a notebook: as text, as HTML, and where there is none."""

from __future__ import annotations

from functools import lru_cache

import pytest

import labkit
from labkit.audit import ONE_A_LESSON, PROBES, NotAuditable, Scoreboard, run
from labkit.audit.probe import FAIL, NOT_APPLICABLE, PASS, Row
from labkit.errors import LabError
from tests.small_probes import use

ROWS = [
    Row("caches", "a second call runs no SQL", "02", PASS, "1 SQL for 1 expected"),
    Row("types_survive", "types survive", "03", FAIL, "<script>alert('a & b')</script>"),
    Row("no_scan", "nothing is searched for", "08", NOT_APPLICABLE, "it cannot invalidate"),
]
BOARD = Scoreboard("mine <1.0>", ROWS)


def test_counts_and_names() -> None:
    assert BOARD.summary() == "1 pass, 1 fail, 1 do not apply"
    assert (BOARD.passed, BOARD.failed) == (["caches"], ["types_survive"])
    assert BOARD.was_run
    assert not BOARD.passes


def test_a_narrow_terminal_has_the_evidence_on_a_line_of_its_own() -> None:
    wide, narrow = BOARD.as_text(100), BOARD.as_text(60)

    assert wide == BOARD.as_text() == str(BOARD)
    assert max(map(len, narrow.splitlines())) <= 60
    assert narrow.splitlines()[1:3] == [
        "✓ 02  a second call runs no SQL",
        "        1 SQL for 1 expected",
    ]


def test_html_escapes_what_it_shows() -> None:
    html = BOARD._repr_html_()

    assert "<strong>mine &lt;1.0&gt;</strong>: 1 pass" in html
    assert "&lt;script&gt;alert(&#x27;a &amp; b&#x27;)&lt;/script&gt;" in html
    assert "<script" not in html


def test_html_takes_its_colours_from_the_page_but_for_the_marks() -> None:
    html = BOARD._repr_html_()

    assert "background" not in html
    assert html.count("color:#") == 2
    assert "lesson 05" not in html
    assert "lesson 08" in html


# labkit.scoreboard


def twice(function):
    """Cache nothing."""
    return lambda *args: function(*args) and function(*args)


def test_rows_are_chosen_by_the_names_of_probes() -> None:
    board = labkit.scoreboard(twice, rows=["caches"])

    assert board.name == "twice"
    assert board.failed == ["caches"]
    assert labkit.scoreboard(lru_cache, rows=["caches"]).passes


def test_all_rows_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "lacks", "holds")

    assert [row.probe for row in labkit.scoreboard(lru_cache).rows] == ["holds", "lacks"]


def test_a_name_that_no_probe_has() -> None:
    with pytest.raises(LabError, match="there is no probe 'cashes'"):
        labkit.scoreboard(lru_cache, rows=["caches", "cashes"])


def test_what_cannot_be_audited_is_an_error() -> None:
    with pytest.raises(NotAuditable, match="raises at its first call: ZeroDivisionError"):
        labkit.scoreboard(lambda function: lambda *args: 1 / 0, rows=["caches"])


def test_a_system_that_cannot_audit_claims_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "CAN_FORK", False)
    board = labkit.scoreboard(twice, rows=["caches"])

    assert (board.was_run, board.passes, board.passed, board.failed) == (False, False, [], [])
    assert str(board).startswith("twice: not run here: the audit runs each probe in a forked ")
    assert len(str(board).splitlines()) == 1
    assert "<table" not in board._repr_html_()
    labkit.claim("it caches", "caches" in board.passed, board.was_run)
    assert capsys.readouterr().out == "– not measured here: it caches\n"


@pytest.mark.skipif(not set(ONE_A_LESSON) <= set(PROBES), reason="probes are being written")
def test_each_lesson_has_its_row() -> None:
    assert [PROBES[name].lesson for name in ONE_A_LESSON] == [f"{n:02}" for n in range(2, 11)]
