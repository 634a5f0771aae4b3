"""The committed notebooks, read as data: what strict nbval or a reader would stumble over."""

from __future__ import annotations

import importlib
import re
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from scripts.minutes import TABLE, Minutes, measured, table
from scripts.notebooks import blemishes, inputs, normalise

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
IDS = [path.stem for path in NOTEBOOKS]
LONGEST_CELL = 16  # lines: an idea
MEAN_CELL = 7  # lines
LONG_LESSON = 60  # cells: beyond that it says where to stop for the day
LONG_READING = 30  # minutes: beyond that it has parts for self-study
IN_PARTS = {"05_races", "08_lua_invalidation"}  # that have such parts however long they take
FURTHER = re.compile(r"^#+ .*\(further\)$", re.MULTILINE)
IGNORED = "nbval-ignore-output"
ALLOWED_TAGS = {IGNORED}
CHECKED = re.compile(r'labkit\.check\("(\d\d\.\d)"')


@pytest.fixture(params=NOTEBOOKS, ids=IDS)
def path(request: pytest.FixtureRequest) -> Path:
    chosen: Path = request.param
    return chosen


@pytest.fixture
def notebook(path: Path) -> NotebookNode:
    read: NotebookNode = nbformat.read(path, as_version=4)
    return read


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_lessons_are_numbered_and_no_number_comes_twice() -> None:
    numbers = [path.name[:2] for path in NOTEBOOKS]

    assert numbers == sorted(set(numbers))
    assert all(re.fullmatch(r"\d\d_[a-z_]+", name) for name in IDS)


def test_every_code_cell_was_executed_in_order(notebook: NotebookNode) -> None:
    counts = [cell.execution_count for cell in code_cells(notebook)]

    assert counts == list(range(1, len(counts) + 1))


def test_outputs_hold_no_error_no_warning_and_no_path(notebook: NotebookNode) -> None:
    assert blemishes(notebook) == []


def test_outputs_belong_to_the_code_that_is_committed(notebook: NotebookNode) -> None:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]

    assert outputs
    assert re.fullmatch("[0-9a-f]{16}", notebook.metadata["labkit"]["inputs"])


def test_metadata_is_the_same_on_every_machine(notebook: NotebookNode) -> None:
    before = deepcopy(notebook)
    normalise(notebook, notebook.metadata["labkit"]["inputs"])

    assert notebook == before


def test_a_changed_cell_makes_a_notebook_out_of_date(notebook: NotebookNode) -> None:
    before = inputs(notebook)
    code_cells(notebook)[0].source += "\n"

    assert inputs(notebook) != before


def test_prose_alone_does_not(notebook: NotebookNode) -> None:
    before = inputs(notebook)
    notebook.cells[0].source += "\n"

    assert inputs(notebook) == before


def test_code_cells_are_short(notebook: NotebookNode) -> None:
    lines = [len(cell.source.splitlines()) for cell in code_cells(notebook)]

    assert max(lines) <= LONGEST_CELL
    assert sum(lines) / len(lines) <= MEAN_CELL


def test_a_long_lesson_says_at_its_middle_where_to_stop(notebook: NotebookNode) -> None:
    count = len(notebook.cells)
    stops = [n for n, cell in enumerate(notebook.cells) if "to stop for the day" in cell.source]

    assert len(stops) == (count > LONG_LESSON)
    assert all(0.35 * count <= stop <= 0.65 * count for stop in stops)


def test_a_lesson_takes_the_minutes_that_it_states(path: Path) -> None:
    [minutes] = [each for each in measured() if each.lesson == path.stem]

    assert minutes.is_true(), minutes


def test_a_long_lesson_has_a_core_for_a_workshop(path: Path, notebook: NotebookNode) -> None:
    [minutes] = [each for each in measured() if each.lesson == path.stem]
    core = re.search(r"The core takes about (\d+) minutes", notebook.cells[0].source)

    if minutes.estimated[0] > LONG_READING or path.stem in IN_PARTS:
        assert FURTHER.search(prose(notebook))
    assert bool(core) == bool(FURTHER.search(prose(notebook)))
    assert core is None or int(core[1]) <= LONG_READING


def test_the_table_of_minutes_is_that_of_the_notebooks() -> None:
    assert TABLE.read_text() == table()


@pytest.mark.parametrize(
    ("stated", "holds"),
    [((20, 32), True), ((0, 0), False), ((13, 32), False), ((27, 32), False), ((20, 43), False)],
)
def test_minutes_are_true_within_a_third(stated: tuple[int, int], holds: bool) -> None:
    minutes = Minutes("any", words=3000, cells=50, predictions=5, exercises=2, stated=stated)

    assert minutes.estimated == (20, 32)
    assert minutes.is_true() is holds


def test_only_known_tags_are_used_and_no_cell_is_left_out(notebook: NotebookNode) -> None:
    assert {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])} <= ALLOWED_TAGS


def test_a_cell_whose_output_is_ignored_is_followed_by_a_claim(notebook: NotebookNode) -> None:
    cells = code_cells(notebook)
    ignored = [n for n, cell in enumerate(cells) if IGNORED in cell.metadata.get("tags", [])]

    for number in ignored:
        following = "\n".join(cell.source for cell in cells[number + 1 : number + 5])
        assert "labkit.claim(" in following, cells[number].source


def test_every_exercise_of_the_lesson_is_asked_once(path: Path, notebook: NotebookNode) -> None:
    lesson = importlib.import_module(f"labkit.lessons.lesson_{path.name[:2]}")
    code = "\n".join(cell.source for cell in code_cells(notebook))

    assert CHECKED.findall(code) == list(lesson.EXERCISES)
    assert 2 <= len(lesson.EXERCISES) <= 4
    assert all(f"**{name}**" in prose(notebook) for name in lesson.EXERCISES)


def test_a_lesson_opens_and_closes_as_all_do(notebook: NotebookNode) -> None:
    opening, closing = notebook.cells[0].source, notebook.cells[-1].source

    for part in ("**You will be able to**", "**You need**", "**It takes**"):
        assert part in opening
    assert closing.startswith("## What you have done")
    goals, done = (len(re.findall(r"^- ", part, re.MULTILINE)) for part in (opening, closing))
    assert goals == done
    assert "Scoreboard row" in closing or "scoreboard" in closing
    assert "Next:" in closing


def test_every_prediction_is_revealed_and_every_lesson_claims(notebook: NotebookNode) -> None:
    code = "\n".join(cell.source for cell in code_cells(notebook))

    assert code.count("labkit.predict(") == code.count(".reveal(") > 0
    assert code.count("labkit.claim(") >= code.count("labkit.predict(")


def test_every_picture_is_described(notebook: NotebookNode) -> None:
    pictures = [
        number
        for number, cell in enumerate(notebook.cells)
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    ]

    assert pictures
    for number in pictures:
        assert notebook.cells[number + 1].source.startswith("*The picture: ")


def test_links_lead_somewhere(path: Path, notebook: NotebookNode) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", prose(notebook)):
        assert target.startswith("https://") or (path.parent / target).exists(), target
