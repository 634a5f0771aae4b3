"""Write the timetables of a workshop into notebooks/INSTRUCTOR.md, from the lessons' own minutes.

    python -m scripts.timetable

`make notebooks` does it too. A lesson that says other minutes than before moves all that comes
after it. Where a day no longer fits, an error says by how much, and DAYS is to be changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from scripts.lessons import lesson_title
from scripts.marks import parted
from scripts.minutes import Minutes, measured

ROOT = Path(__file__).parents[1]
INSTRUCTOR = ROOT / "notebooks" / "INSTRUCTOR.md"
LEAST_QUESTIONS = 10  # minutes at the end of each day
READ, CORE = "read and run", "read and run the core"
ALL, CORE_AND_EXERCISES = "all of it", "the core and the exercises"


@dataclass(frozen=True)
class Part:
    """A part of a day that is no lesson.

    Attributes:
        words: what it is.
        minutes: how long it takes.
        teaches: whether it is no break.
    """

    words: str
    minutes: int
    teaches: bool = False


@dataclass(frozen=True)
class Lesson:
    """A lesson of a day.

    Attributes:
        number: which one, such as "05".
        how: how much of it: READ, CORE, ALL or CORE_AND_EXERCISES.
    """

    number: str
    how: str


@dataclass(frozen=True)
class Day:
    """A day, or half of one. What is left at its end is for questions.

    Attributes:
        title: what it is called.
        begins: at which time, such as "09:00".
        ends: at which time.
        parts: in their order.
        last: what the time that is left is for.
    """

    title: str
    begins: str
    ends: str
    parts: Sequence[Part | Lesson]
    last: str = "Questions, and what each of you will look at on Monday"


@dataclass(frozen=True)
class Row:
    """A row of a timetable. Times are minutes since midnight."""

    begins: int
    ends: int
    what: str
    how: str
    teaches: bool

    @property
    def minutes(self) -> int:
        """How long it takes."""
        return self.ends - self.begins


WELCOME = Part("Welcome: everybody has lesson 00 open, and its first cell has run", 10, True)
MORNING = Part("Good morning: what was the best surprise of yesterday?", 10, True)
COFFEE, PAUSE, LUNCH = Part("Coffee", 15), Part("A break", 10), Part("Lunch", 60)

HALF_DAY = Day(
    "Half a day",
    "09:00",
    "12:30",
    [
        *(WELCOME, Lesson("00", ALL), Lesson("01", READ), Lesson("02", ALL), COFFEE),
        *(Lesson("04", CORE), Lesson("05", CORE_AND_EXERCISES), PAUSE, Lesson("11", READ)),
    ],
)
FULL_DAY = Day(
    "A full day",
    "09:00",
    "17:00",
    [
        *(WELCOME, Lesson("00", ALL), Lesson("01", ALL), Lesson("02", ALL), COFFEE),
        *(Lesson("03", READ), Lesson("04", CORE_AND_EXERCISES), LUNCH),
        *(Lesson("05", CORE_AND_EXERCISES), Lesson("06", READ), Lesson("07", READ), COFFEE),
        *(Lesson("08", CORE), Lesson("09", READ), PAUSE, Lesson("10", CORE), Lesson("14", READ)),
    ],
)
FIRST_DAY = Day(
    "Two days: the first",
    "09:00",
    "16:30",
    [
        *(WELCOME, Lesson("00", ALL), Lesson("01", ALL), Lesson("02", ALL), COFFEE),
        *(Lesson("03", ALL), Lesson("04", ALL), LUNCH, Lesson("05", ALL), COFFEE),
        *(Lesson("06", ALL), PAUSE, Lesson("07", ALL)),
    ],
    last="Questions",
)
SECOND_DAY = Day(
    "Two days: the second",
    "09:00",
    "17:00",
    [
        *(MORNING, Lesson("08", ALL), COFFEE, Lesson("09", ALL), Lesson("10", ALL), LUNCH),
        *(Lesson("11", ALL), Lesson("12", ALL), COFFEE, Lesson("13", ALL), PAUSE),
        Lesson("14", ALL),
    ],
)
DAYS = [HALF_DAY, FULL_DAY, FIRST_DAY, SECOND_DAY]


def lessons() -> dict[str, Minutes]:
    """Return what each lesson takes, by its number."""
    return {each.lesson[:2]: each for each in measured()}


def minutes_of(lesson: Lesson, of: dict[str, Minutes]) -> int:
    """Return the minutes of as much of a lesson as is taught."""
    minutes = of[lesson.number]
    reading, all_of_it = minutes.stated
    exercises = all_of_it - reading
    return {
        READ: reading,
        ALL: all_of_it,
        CORE: minutes.core,
        CORE_AND_EXERCISES: minutes.core + exercises,
    }[lesson.how]


def rows(day: Day, of: dict[str, Minutes]) -> Iterator[Row]:
    """Give a day's rows, the last of them for questions.

    Raises:
        ValueError: if the day is too short for its parts.
    """
    now, end = clock(day.begins), clock(day.ends)
    for part in day.parts:
        if isinstance(part, Lesson):
            row = Row(now, now + minutes_of(part, of), link(part, of), how(part, of), True)
        else:
            row = Row(now, now + part.minutes, part.words, "", part.teaches)
        yield row
        now = row.ends
    if end - now < LEAST_QUESTIONS:
        raise ValueError(f"{day.title}: {LEAST_QUESTIONS - end + now} minutes too long")
    yield Row(now, end, day.last, "", True)


def link(lesson: Lesson, of: dict[str, Minutes]) -> str:
    """Return a link to a lesson, with its title."""
    name = of[lesson.number].lesson
    return f"[{lesson.number} · {title_of(name)}]({name}.ipynb)"


def title_of(name: str) -> str:
    """Return what a lesson is called, by its notebook's name."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)  # type: ignore[no-untyped-call]
    return lesson_title(notebook)


def how(lesson: Lesson, of: dict[str, Minutes]) -> str:
    """Say how much of a lesson is taught, and what is skipped for that."""
    minutes = of[lesson.number]
    if lesson.how in (READ, ALL):
        return lesson.how
    saved = minutes.stated[0] - minutes.core
    return f"{lesson.how}: without {skipped(minutes)}, {saved} minutes less"


def skipped(minutes: Minutes) -> str:
    """Name the parts of a lesson that are marked *further*."""
    return ", ".join(f"*{title}*" for title in minutes.further)


def timetable(day: Day, of: dict[str, Minutes]) -> str:
    """Return a day's timetable, in Markdown."""
    found = list(rows(day, of))
    taught = sum(row.minutes for row in found if row.teaches)
    breaks = sum(row.minutes for row in found if not row.teaches)
    lines = [
        f"### {day.title}",
        "",
        f"From {day.begins} to {day.ends}: {said(taught)} of teaching, {said(breaks)} of breaks.",
        "",
        "| from | to | minutes | what | how much of it |",
        "| --- | --- | ---: | --- | --- |",
    ]
    for row in found:
        times = f"{at(row.begins)} | {at(row.ends)} | {row.minutes}"
        lines.append(f"| {times} | {row.what} | {row.how or '–'} |")
    return "\n".join(lines) + "\n"


def timetables() -> str:
    """Return all timetables, in Markdown."""
    of = lessons()
    return "\n".join(timetable(day, of) for day in DAYS)


def shorter() -> str:
    """Return a table of the minutes of each lesson, and of what can be left out."""
    lines = [
        "| lesson | read and run | the exercises | without what is marked *further* | that is |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for number, minutes in lessons().items():
        reading, all_of_it = minutes.stated
        left = f"{minutes.core} (-{reading - minutes.core})" if minutes.further else "–"
        title = f"[{number} · {title_of(minutes.lesson)}]({minutes.lesson}.ipynb)"
        rest = f"{all_of_it - reading} | {left} | {skipped(minutes) or '–'}"
        lines.append(f"| {title} | {reading} | {rest} |")
    return "\n".join(lines) + "\n"


def clock(time: str) -> int:
    """Return the minutes since midnight of a time such as "09:30"."""
    hours, minutes = time.split(":")
    return 60 * int(hours) + int(minutes)


def at(minutes: int) -> str:
    """Return a time such as "09:30"."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def said(minutes: int) -> str:
    """Return a duration in words, such as "3 h 05 min"."""
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def written(text: str) -> str:
    """Return INSTRUCTOR.md with its tables anew.

    Raises:
        ValueError: if it lacks the marks between which they stand, or a day is too short.
    """
    for name, table in (("timetables", timetables()), ("shorter", shorter())):
        before, _, after = parted(text, name)
        text = f"{before}\n{table}\n{after}"
    return text


def main() -> int:
    """Write the tables into INSTRUCTOR.md."""
    INSTRUCTOR.write_text(written(INSTRUCTOR.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
