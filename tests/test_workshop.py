"""The workshop around the lessons: timetables that add up, reveals that exist, true thumbnails."""

from __future__ import annotations

import io
import re
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image, ImageChops

from scripts import thumbnails, timetable
from scripts.minutes import measured
from scripts.thumbnails import FOLDER, README, Picture, picture_of, pictures
from scripts.timetable import DAYS, HALF_DAY, INSTRUCTOR, Lesson, lessons, rows, written

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IDS = [path.stem for path in NOTEBOOKS]
TEXT = INSTRUCTOR.read_text(encoding="utf-8")
MOST_BYTES = 15_000  # of a thumbnail
CLEARLY = 32  # of 255 levels
UNLIKE = 0.005  # of the pixels of a thumbnail, against one that this Pillow makes

read_notebook = {path.stem: nbformat.read(path, as_version=4) for path in NOTEBOOKS}


# Timetables, read as a person reads them: by their text alone.


class Line(NamedTuple):
    begins: int
    ends: int
    minutes: int
    what: str
    how: str

    @property
    def lesson(self) -> str:
        link = re.search(r"\]\((\d\d_\w+)\.ipynb\)", self.what)
        return link[1] if link else ""


def clock(time: str) -> int:
    hours, minutes = map(int, time.split(":"))
    return 60 * hours + minutes


def days() -> dict[str, tuple[str, list[Line]]]:
    """Return each day's sentence and rows, by its title."""
    found = {}
    [part] = re.findall(r"<!-- timetables: .*?-->(.*?)<!-- /timetables -->", TEXT, re.DOTALL)
    for day in part.split("### ")[1:]:
        title, _, rest = day.partition("\n")
        cells = re.findall(
            r"^\| (\d\d:\d\d) \| (\d\d:\d\d) \| (\d+) \| (.*) \| (.*) \|$", rest, re.MULTILINE
        )
        lines = [Line(clock(a), clock(b), int(c), what, how) for a, b, c, what, how in cells]
        found[title] = (rest.strip().splitlines()[0], lines)
    return found


def stated(lesson: str) -> tuple[int, int, int]:
    """Return a lesson's minutes as its first cell says them: core, reading, all of it."""
    opening = read_notebook[lesson].cells[0].source
    takes = re.search(r"about (\d+) minutes to read and run, (\d+) with the exercises", opening)
    core = re.search(r"The core takes about (\d+) minutes", opening)
    assert takes
    return int(core[1]) if core else int(takes[1]), int(takes[1]), int(takes[2])


def needs(lesson: str) -> set[str]:
    """Return the numbers of the lessons that one needs, by the first sentence that says so."""
    opening = read_notebook[lesson].cells[0].source
    sentence = re.search(r"\*\*You need\*\* (.*?)(?:\.\s|\.$|: )", opening, re.DOTALL)
    assert sentence
    found = re.findall(r"\]\((\d\d)_", sentence[1])
    if ") to [" in sentence[1]:
        found = [f"{number:02}" for number in range(int(found[0]), int(found[1]) + 1)]
    return set(found)


def test_the_tables_are_what_the_script_writes() -> None:
    assert written(TEXT) == TEXT


def test_there_are_half_a_day_a_day_and_two_days() -> None:
    assert [*days()] == [day.title for day in DAYS]
    assert [title.split(":")[0] for title in days()] == [
        "Half a day",
        "A full day",
        "Two days",
        "Two days",
    ]


@pytest.mark.parametrize("title", [day.title for day in DAYS])
def test_each_row_begins_where_the_last_has_ended_and_the_end_is_as_said(title: str) -> None:
    sentence, lines = days()[title]
    begins, ends = re.findall(r"\d\d:\d\d", sentence)

    assert (lines[0].begins, lines[-1].ends) == (clock(begins), clock(ends))
    assert all(line.minutes == line.ends - line.begins > 0 for line in lines)
    assert all(a.ends == b.begins for a, b in pairwise(lines))


@pytest.mark.parametrize("title", [day.title for day in DAYS])
def test_what_is_said_of_teaching_and_breaks_is_their_sum(title: str) -> None:
    sentence, lines = days()[title]
    pauses = sum(line.minutes for line in lines if line.what in ("Coffee", "A break", "Lunch"))
    taught = lines[-1].ends - lines[0].begins - pauses
    said = [
        60 * int(hours or 0) + int(minutes)
        for hours, minutes in re.findall(r"(?:(\d+) h )?(\d+) min", sentence)
    ]

    assert said == [taught, pauses]


@pytest.mark.parametrize("title", [day.title for day in DAYS])
def test_a_lesson_has_the_minutes_that_it_states(title: str) -> None:
    for line in days()[title][1]:
        if line.lesson:
            core, reading, all_of_it = stated(line.lesson)
            expected = {
                "read and run": reading,
                "all of it": all_of_it,
                "read and run the core": core,
                "the core and the exercises": core + all_of_it - reading,
            }
            assert line.minutes == expected[line.how.partition(":")[0]], line


@pytest.mark.parametrize("title", [day.title for day in DAYS])
def test_what_is_skipped_is_marked_further_and_saves_what_is_said(title: str) -> None:
    for line in days()[title][1]:
        if ": without " in line.how:
            core, reading, _ = stated(line.lesson)
            marked = re.findall(r"^#+ (.*) \(further\)$", prose(line.lesson), re.MULTILINE)
            assert re.findall(r"\*(.+?)\*", line.how) == marked
            assert line.how.endswith(f", {reading - core} minutes less")


def test_lessons_come_after_those_that_they_need() -> None:
    taught: dict[str, list[str]] = {}
    for title, (_, lines) in days().items():
        plan = taught.setdefault(title.split(":")[0], [])
        plan += [line.lesson[:2] for line in lines if line.lesson]

    for plan in taught.values():
        for place, number in enumerate(plan):
            [lesson] = [name for name in IDS if name.startswith(number)]
            assert needs(lesson) <= set(plan[:place]), (number, needs(lesson), plan)
    assert taught["Two days"] == [name[:2] for name in IDS]


def test_needs_are_read_from_the_lessons() -> None:
    assert needs("00_start_here") == set()
    assert needs("08_lua_invalidation") == {"04", "07"}
    assert needs("11_load_test") == {"02"}
    assert needs("14_capstone") == {f"{number:02}" for number in range(2, 11)}


def test_days_are_as_long_as_they_should_be() -> None:
    length = {title: lines[-1].ends - lines[0].begins for title, (_, lines) in days().items()}
    lunch = {
        title: sum(x.minutes for x in lines if x.what == "Lunch")
        for title, (_, lines) in days().items()
    }

    assert length["Half a day"] <= 3.5 * 60
    assert all(6 * 60 <= length[title] - lunch[title] <= 7 * 60 for title in length if lunch[title])
    for _, lines in days().values():
        for line in lines:
            assert line.minutes <= 60  # and then something else
    assert all(line.how == "all of it" for title, (_, lines) in days().items()
               for line in lines if line.lesson and title.startswith("Two days"))  # fmt: skip


def test_a_longer_lesson_moves_what_comes_after_it_and_too_long_a_day_is_refused() -> None:
    of = lessons()
    reading, all_of_it = of["02"].stated
    before = list(rows(HALF_DAY, of))
    later = list(rows(HALF_DAY, of | {"02": replace(of["02"], stated=(reading, all_of_it + 5))}))
    place = [isinstance(part, Lesson) and part.number == "02" for part in HALF_DAY.parts].index(
        True
    )

    assert [row.begins for row in later[: place + 1]] == [row.begins for row in before[: place + 1]]
    assert [row.begins - 5 for row in later[place + 1 :]] == [x.begins for x in before[place + 1 :]]
    assert later[-1].ends == before[-1].ends
    with pytest.raises(ValueError, match="Half a day: 21 minutes too long"):
        list(rows(HALF_DAY, of | {"02": replace(of["02"], stated=(reading, all_of_it + 30))}))


def test_without_its_marks_the_text_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks <!-- timetables"):
        written("no marks")


# What to say.


def prose(lesson: str) -> str:
    cells = read_notebook[lesson].cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def section(lesson: str) -> str:
    """Return what INSTRUCTOR.md says of a lesson."""
    heading = read_notebook[lesson].cells[0].source.partition("\n")[0].removeprefix("# ")
    [found] = re.findall(rf"^### {re.escape(heading)}$(.*?)^##", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def shown(cell: NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def predictions(lesson: str) -> list[tuple[str, str, str | None]]:
    """Return each question of a lesson, its guess, and what came out, unless that is free."""
    open_ones: list[tuple[str, str]] = []
    found: list[tuple[str, str, str | None]] = []
    for cell in read_notebook[lesson].cells:
        if cell.cell_type != "code":
            continue
        if "labkit.predict(" in cell.source:
            asked = re.search(r"^(.*)\nYour guess: (.*)\n", shown(cell), re.MULTILINE)
            assert asked, cell.source
            open_ones.append((asked[1], asked[2]))
        if ".reveal(" in cell.source:
            question, guess = open_ones.pop()
            began = re.escape(f"You said {guess}. It was ")
            came = re.search(rf"^{began}(.*)\.$", shown(cell), re.MULTILINE)
            is_free = "nbval-ignore-output" in cell.metadata.get("tags", [])
            assert came, cell.source
            found.append((question, guess, None if is_free else came[1]))
    assert open_ones == []
    return found


@pytest.mark.parametrize("lesson", IDS)
def test_each_prediction_is_named_with_its_guess_and_what_came_out(lesson: str) -> None:
    named = re.findall(
        r"^- \*\*(.+)\*\* Guess: (.+)\. It is (.+)\.\n  \*Say:\* (.+)$",
        section(lesson),
        re.MULTILINE,
    )
    asked = predictions(lesson)
    free = "for the run to say"

    assert len(named) == len(asked) > 0
    for (question, guess, came, _), (asked_for, guessed, out) in zip(named, asked, strict=True):
        assert question.replace("\\", "") == asked_for
        assert guess.replace("\\", "") == guessed
        assert came == (free if out is None else out)
        assert came != guess


@pytest.mark.parametrize("lesson", IDS)
def test_each_reveal_has_two_or_three_sentences_to_say(lesson: str) -> None:
    for said in re.findall(r"\*Say:\* (.+)", section(lesson)):
        assert 2 <= len(re.findall(r"[.?!](?= [A-Z`]|$)", said)) <= 4, said


@pytest.mark.parametrize("lesson", IDS)
def test_where_it_gets_stuck_names_exercises_that_there_are(lesson: str) -> None:
    _, _, stuck = section(lesson).partition("Where it gets stuck:")
    named = re.findall(r"^- (\d\d\.\d):", stuck, re.MULTILINE)

    assert named
    assert all(f"**{name}**" in prose(lesson) for name in named)


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target.removeprefix("#") in headings, target
        else:
            assert (INSTRUCTOR.parent / target).exists(), target


def test_the_scripts_that_it_names_are_there() -> None:
    for name in re.findall(r"python -m scripts\.(\w+)", TEXT):
        assert (ROOT / "scripts" / f"{name}.py").exists()


def test_shops_to_seed_are_those_that_lessons_start() -> None:
    started = {
        call
        for lesson in IDS
        for cell in read_notebook[lesson].cells
        for call in re.findall(r"labkit\.start\([^)]*\)", cell.source)
        if cell.cell_type == "code"
    }

    assert started == {"labkit.start()", "labkit.start(orders=60_000)"}
    assert all(f"{call}.close()" in TEXT for call in started)


# The README's table.


def test_the_readmes_table_is_what_the_script_writes() -> None:
    text = README.read_text(encoding="utf-8")

    assert thumbnails.with_table(text) == text


def test_the_table_has_each_lesson_with_its_minutes() -> None:
    text = README.read_text(encoding="utf-8")
    for each in measured():
        _, reading, all_of_it = stated(each.lesson)
        assert f"](notebooks/{each.lesson}.ipynb) | {reading} | {all_of_it} | " in text


@pytest.fixture(scope="module", params=IDS)
def picture(request: pytest.FixtureRequest) -> Picture:
    return picture_of(read_notebook[request.param], request.param)


def test_each_picture_has_its_thumbnail_small_and_described(picture: Picture) -> None:
    assert thumbnails.is_of(picture)
    assert picture.file.stat().st_size < MOST_BYTES
    assert picture.alt.endswith(".")
    assert f'src="docs/thumbnails/{picture.lesson[:2]}.png"' in README.read_text(encoding="utf-8")


def test_a_thumbnail_looks_like_its_picture(picture: Picture) -> None:
    """By what is to be seen: another Pillow may compress it in other bytes."""
    fresh = thumbnails.thumbnail(picture.png).convert("RGB")
    with Image.open(picture.file) as kept:
        assert differing(kept.convert("RGB"), fresh) < UNLIKE
    empty = Image.new("RGB", fresh.size, "white")
    assert differing(empty, fresh) > 5 * UNLIKE  # else the test above would see nothing


def differing(one: Image.Image, other: Image.Image) -> float:
    """Return which share of the pixels differs clearly."""
    assert one.size == other.size
    seen = ImageChops.difference(one, other).convert("L").histogram()
    return sum(seen[CLEARLY:]) / sum(seen)


def test_no_thumbnail_is_left_over() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == [f"{name[:2]}.png" for name in IDS]


def test_another_picture_makes_another_thumbnail(picture: Picture) -> None:
    with Image.open(io.BytesIO(picture.png)) as drawn:
        small = drawn.crop((0, 0, 100, 50))
    other = io.BytesIO()
    small.save(other, "PNG")

    assert not thumbnails.is_of(replace(picture, png=other.getvalue()))


def test_a_lesson_without_its_picture_is_refused() -> None:
    notebook = deepcopy(read_notebook["05_races"])
    [cell] = [x for x in notebook.cells if thumbnails.DRAWN_BY["05_races"] in x.source]
    cell.outputs = []

    with pytest.raises(ValueError, match="1 cells, 0 pictures"):
        picture_of(notebook, "05_races")
    cell.source = "pass"
    with pytest.raises(ValueError, match="0 cells, 0 pictures"):
        picture_of(notebook, "05_races")


def test_what_surprises_is_kept_when_the_table_is_written_anew() -> None:
    old = "| 05 | [Races](notebooks/05_races.ipynb) | the stale value |"
    new = '| 05 | [Races](notebooks/05_races.ipynb) | 31 | 49 | the stale value | <img alt="x"> |'

    assert thumbnails.surprises_in(old) == thumbnails.surprises_in(new) == {"05": "the stale value"}


def test_a_readme_that_does_not_say_what_surprises_is_refused() -> None:
    text = README.read_text(encoding="utf-8").replace("| 05 |", "| xx |")

    with pytest.raises(ValueError, match=r"\['05'\]"):
        thumbnails.with_table(text)


def test_descriptions_are_cut_after_two_sentences() -> None:
    assert thumbnails.beginning("five bars: one a\ncall. The first, a miss. More.") == (
        "Five bars: one a call. The first, a miss."
    )


def test_titles_are_the_lessons_own() -> None:
    assert [picture.title for picture in pictures()] == [timetable.title_of(name) for name in IDS]
