"""How long a lesson takes, against what it says: the table in tests/minutes.md.

`make notebooks` writes the table; a test holds it to the notebooks, and the statements to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tests" / "minutes.md"
WORDS_A_MINUTE = 200  # prose and code
MINUTES_A_PREDICTION = 1  # to guess, run and look
MINUTES_AN_EXERCISE = 6
APART = 1 / 3  # by how much of the estimate a statement may differ from it
STATED = re.compile(
    r"\*\*It takes\*\* about (\d+) minutes to read and run, (\d+) with the exercises"
)
CORE = re.compile(r"The core takes about (\d+) minutes")
FURTHER = re.compile(r"^#+ (.*) \(further\)$", re.MULTILINE)
HEADER = """\
What each lesson takes: {words} words a minute, prose and code; {prediction} minute for a
prediction; {exercise} minutes for an exercise. Written by `make notebooks`.

| lesson | words | cells | predictions | exercises | reading | stated | with exercises | stated |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""


@dataclass(frozen=True)
class Minutes:
    """What a lesson holds and says.

    Attributes:
        lesson: the notebook's name.
        words: in all of its cells.
        cells: how many.
        predictions: how many.
        exercises: how many.
        stated: its minutes as it says them, without the exercises and with them; 0 for nothing.
        core: its minutes without the exercises and what is marked *further*, as it says them; those
            without the exercises where nothing is.
        further: the titles of the parts that are marked so.
    """

    lesson: str
    words: int
    cells: int
    predictions: int
    exercises: int
    stated: tuple[int, int]
    core: int = 0
    further: tuple[str, ...] = ()

    @property
    def estimated(self) -> tuple[float, float]:
        """The minutes that it takes to read and run, without the exercises and with them."""
        reading = self.words / WORDS_A_MINUTE + MINUTES_A_PREDICTION * self.predictions
        return reading, reading + MINUTES_AN_EXERCISE * self.exercises

    def is_true(self) -> bool:
        """Whether both statements are within a third of their estimates."""
        pairs = zip(self.stated, self.estimated, strict=True)
        return all(abs(stated - minutes) <= APART * minutes for stated, minutes in pairs)


def measured() -> Iterator[Minutes]:
    """Give what each lesson takes, in their order."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells  # type: ignore[no-untyped-call]
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        stated, core = (each.search(cells[0].source) for each in (STATED, CORE))
        reading, all_of_it = (int(stated[1]), int(stated[2])) if stated else (0, 0)
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        yield Minutes(
            path.stem,
            sum(len(cell.source.split()) for cell in cells),
            len(cells),
            code.count("labkit.predict("),
            code.count("labkit.check("),
            (reading, all_of_it),
            int(core[1]) if core else reading,
            tuple(FURTHER.findall(prose)),
        )


def table() -> str:
    """Return the table, in Markdown."""
    header = HEADER.format(
        words=WORDS_A_MINUTE, prediction=MINUTES_A_PREDICTION, exercise=MINUTES_AN_EXERCISE
    )
    return header + "".join(_row(each) for each in measured())


def _row(each: Minutes) -> str:
    (reading, all_of_it), (stated, stated_in_all) = each.estimated, each.stated
    counts = f"{each.words:,} | {each.cells} | {each.predictions} | {each.exercises}"
    times = f"{reading:.0f} | {stated} | {all_of_it:.0f} | {stated_in_all}"
    return f"| {each.lesson} | {counts} | {times} |\n"
