"""Where each claim comes from: docs/claims.md, from the article's figures and the lessons' claims.

scripts/article.toml lists, by hand, every figure of the article, and which claim of which lesson
tests it. What the claims say, and that they hold, is read from the committed notebooks' outputs. A
claim that is gone, or says it in other words, is an error here, so the page cannot drift.
`make notebooks` writes the page; a test holds it to the notebooks. `python -m scripts.claims`
writes it alone.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from scripts.lessons import lesson_title

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "claims.md"
ARTICLE = ROOT / "scripts" / "article.toml"
CLAIMED = re.compile(r"^(✓|– not measured here:) (?!\d\d\.\d )(.+)$")  # and no exercise's outcome
NOT_TESTED = "not tested"
OUTCOMES = {
    "confirmed": "the run shows it",
    "in part": "the run shows it, and where it ends",
    "not so": "the run shows otherwise",
    "cannot be": "its own figures contradict it",
    NOT_TESTED: "no lesson can say: each line has the reason",
}
TOP = """\
# Where each claim comes from

Every figure of the article, *Caching Flask-SQLAlchemy Queries with Redis*, and what else in it
can be checked: what it says, what came out, and the claims that show it, word for word as the
committed lessons print them. Behind a tick stands an assertion, which each run of the lesson
repeats. [Below](#every-claim-by-lesson) are all claims of all lessons.

Written by `make notebooks`, from the notebooks' outputs and `scripts/article.toml`. A claim that
changes its words stops it.

"""


class Drifted(Exception):
    """The list of the article's figures and the notebooks do not agree. The message says where."""


@dataclass(frozen=True)
class Lesson:
    """What a committed notebook's run has printed.

    Attributes:
        name: the notebook's, such as "01_baseline_query".
        title: its heading, such as "The baseline query".
        claims: the words of each, and how its run has marked them, in order.
        lines: all lines of its outputs.
    """

    name: str
    title: str
    claims: tuple[tuple[str, str], ...]
    lines: frozenset[str]

    @property
    def link(self) -> str:
        """The lesson's number, as a link from docs/."""
        return f"[{self.name[:2]}](../notebooks/{self.name}.ipynb)"


@dataclass(frozen=True)
class Figure:
    """Something that the article says.

    Attributes:
        says: what.
        came_out: one of `OUTCOMES`.
        claims: what tests it: the lesson's number and the claim's words.
        printed: lines of outputs that do.
        note: what has to be added.
    """

    says: str
    came_out: str
    claims: tuple[tuple[str, str], ...] = ()
    printed: tuple[tuple[str, str], ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if self.came_out not in OUTCOMES:
            raise Drifted(f"{self.says!r}: {self.came_out!r} is none of {', '.join(OUTCOMES)}")
        if bool(self.claims or self.printed) == (self.came_out == NOT_TESTED):
            raise Drifted(f"{self.says!r} is {self.came_out}, and its claims say otherwise")
        if self.came_out == NOT_TESTED and not self.note:
            raise Drifted(f"{self.says!r} is not tested, and no note says why")


def lessons() -> dict[str, Lesson]:
    """Return what each committed notebook has printed, by the lesson's number."""
    return {path.name[:2]: _lesson(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def _lesson(path: Path) -> Lesson:
    notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    lines: list[str] = []
    claims: list[tuple[str, str]] = []
    for cell in notebook.cells:
        texts = (output.get("text", "") for output in cell.get("outputs", []))
        printed = "".join(texts).splitlines()
        lines += printed
        if "labkit.claim(" in cell.source:
            found = filter(None, map(CLAIMED.match, printed))
            claims += ((match[2], match[1]) for match in found)
    return Lesson(path.stem, lesson_title(notebook), tuple(claims), frozenset(lines))


def article() -> dict[str, list[Figure]]:
    """Return what the article says, by its parts.

    Raises:
        Drifted: an entry contradicts itself.
    """
    parts = tomllib.loads(ARTICLE.read_text(encoding="utf-8"))["part"]
    return {part["name"]: [_figure(entry) for entry in part["figures"]] for part in parts}


def _figure(entry: dict[str, Any]) -> Figure:
    tests: dict[str, Any] = {
        kind: tuple((text[:2], text[4:]) for text in entry.pop(kind, []))
        for kind in ("claims", "printed")
    }
    return Figure(**entry, **tests)


def page(parts: dict[str, list[Figure]] | None = None, ran: dict[str, Lesson] | None = None) -> str:
    """Return the page, in Markdown.

    Args:
        parts: what the article says; what scripts/article.toml has by default.
        ran: what the lessons have printed; that of the committed notebooks by default.

    Raises:
        Drifted: a claim that is named is not among those that its lesson has printed.
    """
    parts = article() if parts is None else parts
    ran = lessons() if ran is None else ran
    counts = Counter(figure.came_out for part in parts.values() for figure in part)
    lines = [TOP + "| what came out | | how many |", "| --- | --- | ---: |"]
    lines += [f"| {each} | {means} | {counts[each]} |" for each, means in OUTCOMES.items()]
    lines += ["", "## What the article says"]
    for name, figures in parts.items():
        lines += ["", f"### {name}", ""]
        lines += (line for figure in figures for line in _told(figure, ran))
    return "\n".join([*lines, *_by_lesson(parts, ran)]) + "\n"


def _told(figure: Figure, ran: dict[str, Lesson]) -> Iterator[str]:
    """Give the lines about one figure."""
    note = f" *{_plain(figure.note)}*" if figure.note else ""
    yield f"- **{figure.came_out.capitalize()}**: {_plain(figure.says)}.{note}"
    for number, words in figure.claims:
        lesson = ran.get(number)
        if lesson is None or words not in (marks := dict(lesson.claims)):
            raise Drifted(_gone(figure, number, words, "claims"))
        yield f"  - {lesson.link} {marks[words]} {_plain(words)}"
    for number, line in figure.printed:
        lesson = ran.get(number)
        if lesson is None or line not in lesson.lines:
            raise Drifted(_gone(figure, number, line, "prints"))
        yield f"  - {lesson.link} prints `{' '.join(line.split())}`"


def _gone(figure: Figure, number: str, words: str, does: str) -> str:
    return (
        f"{figure.says!r} of the article: lesson {number} no longer {does}\n"
        f"    {words}\nPut right scripts/article.toml, and what came out."
    )


def _by_lesson(parts: dict[str, list[Figure]], ran: dict[str, Lesson]) -> Iterator[str]:
    """Give the lines about each lesson's claims."""
    used = {claim for part in parts.values() for figure in part for claim in figure.claims}
    total = sum(len(lesson.claims) for lesson in ran.values())
    yield from ("", "## Every claim, by lesson", "")
    yield f"{total} claims. In bold: those that test what the article says."
    yield from ("", "| lesson | claims | that test the article |", "| --- | ---: | ---: |")
    for number, lesson in ran.items():
        tests = sum((number, words) in used for words, _ in lesson.claims)
        yield f"| {lesson.link} {lesson.title} | {len(lesson.claims)} | {tests} |"
    for number, lesson in ran.items():
        yield from ("", f"### {number} · {lesson.title}", "")
        for words, mark in lesson.claims:
            text = _plain(words)
            yield f"- {mark} {f'**{text}**' if (number, words) in used else text}"


def _plain(text: str) -> str:
    """Return a text in which Markdown takes no star for emphasis and no bracket for a link."""
    return re.sub(r"([*<\[])", r"\\\1", text)


def main() -> int:
    """Write the page; return 1 if it cannot be, with the reason."""
    try:
        PAGE.write_text(page(), encoding="utf-8")
    except Drifted as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
