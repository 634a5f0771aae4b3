"""docs/claims.md: what the article says, and which claims of the committed lessons test it."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from scripts import claims
from scripts.claims import PAGE, ROOT, Drifted, Figure, Lesson, article, lessons, page

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IDS = [path.stem for path in NOTEBOOKS]
DIGESTS = "among keys that are digests, user:* finds nothing"


@pytest.fixture(scope="module")
def ran() -> dict[str, Lesson]:
    return lessons()


def in_other_words(ran: dict[str, Lesson], number: str, words: str, instead: str):
    """Return the lessons, one of which claims something in other words."""
    lesson = ran[number]
    assert words in dict(lesson.claims)
    changed = tuple((instead if each == words else each, mark) for each, mark in lesson.claims)
    return {**ran, number: replace(lesson, claims=changed)}


def test_the_page_is_that_of_the_notebooks() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m scripts.claims writes it anew"


def test_a_claim_that_tests_the_article_in_other_words_is_an_error(ran) -> None:
    changed = in_other_words(ran, "08", DIGESTS, "user:* finds nothing among digests")

    with pytest.raises(Drifted, match=r"lesson 08 no longer claims\n +among keys that are digests"):
        page(ran=changed)


def test_any_other_claim_in_other_words_changes_the_page(ran) -> None:
    words = "two columns are faster than five"

    assert "two of five" in page(ran=in_other_words(ran, "01", words, "two of five"))
    assert "two of five" not in page(ran=ran)


def test_a_claim_that_is_gone_or_has_no_lesson_is_an_error(ran) -> None:
    with pytest.raises(Drifted, match="lesson 01 no longer claims"):
        page(ran={**ran, "01": replace(ran["01"], claims=())})
    with pytest.raises(Drifted, match="lesson 11 no longer claims"):
        page(ran={number: lesson for number, lesson in ran.items() if number != "11"})


def test_a_printed_line_that_is_gone_is_an_error(ran) -> None:
    with pytest.raises(Drifted, match=r"lesson 11 no longer prints\n +no cache +3\.5 a second"):
        page(ran={**ran, "11": replace(ran["11"], lines=frozenset())})


def test_a_claim_that_was_not_measured_is_shown_as_such(ran) -> None:
    marks = tuple((words, "– not measured here:") for words, _ in ran["08"].claims)
    shown = page(ran={**ran, "08": replace(ran["08"], claims=marks)})

    assert "– not measured here: among keys that are digests" in shown
    assert "✓ among keys that are digests" not in shown


@pytest.mark.parametrize(
    ("came_out", "tests", "note", "words"),
    [
        ("perhaps", (("01", "any"),), "", "is none of confirmed, in part"),
        ("confirmed", (), "it is so", "its claims say otherwise"),
        ("not tested", (("01", "any"),), "why", "its claims say otherwise"),
        ("not tested", (), "", "no note says why"),
    ],
)
def test_a_figure_does_not_contradict_itself(came_out, tests, note, words) -> None:
    with pytest.raises(Drifted, match=words):
        Figure("it is so", came_out, tests, note=note)


# Every numeral of the article that is a figure, in the order in which they come first.
NUMERALS = (
    "200 to 500 ms", "5 times", "250 ms", "1 ms", "80 %", "280 ms", "55 ms", "3.5", "18 requests",
    "Redis 7", "6379", "2.3", "80, 10 and 120", "10,000 users", "1,000 rows", "4 workers", "5000",
    "4 threads", "100 connections", "30 seconds", "SHA-256", "300 seconds", "v42", "100 %", "20 %",
    "65 ms", "15 requests",
)  # fmt: skip


def test_every_numeral_of_the_article_is_on_the_page() -> None:
    said = [figure.says for figures in article().values() for figure in figures]

    assert [each for each in NUMERALS if not any(each in words for words in said)] == []


def test_no_figure_is_listed_twice_and_each_outcome_comes_up() -> None:
    figures = [figure for part in article().values() for figure in part]
    said = [figure.says for figure in figures]

    assert len(set(said)) == len(said)
    assert {figure.came_out for figure in figures} == set(claims.OUTCOMES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_every_claim_of_a_lesson_is_listed(path: Path, ran) -> None:
    calls = 0
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            nodes = (n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Call))
            calls += sum(ast.unparse(node.func) == "labkit.claim" for node in nodes)
    listed = ran[path.name[:2]].claims

    assert 0 < calls <= len(listed)  # one that stands in a loop makes several
    assert not [words for words, _ in listed if re.match(r"\d\d\.\d", words)]  # an exercise's


def test_the_pages_links_lead_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    targets = set(re.findall(r"\]\(([^)#]+)\)", text))

    assert len(targets) == len(NOTEBOOKS)
    assert all((PAGE.parent / target).exists() for target in targets)
    assert "](#every-claim-by-lesson)" in text
    assert "\n## Every claim, by lesson\n" in text


def test_a_page_that_cannot_be_written_is_left_as_it_was(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "claims.md").write_text("as it was")
    monkeypatch.setattr(claims, "PAGE", tmp_path / "claims.md")
    monkeypatch.setattr(claims, "lessons", dict)

    assert claims.main() == 1
    assert "no longer claims" in capsys.readouterr().out
    assert (tmp_path / "claims.md").read_text() == "as it was"
