"""The decorator so far: one row more is green each lesson, which shows the class that does it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from labkit.audit import ONE_A_LESSON, PROBES, audit, so_far
from tests.helpers import REPOSITORY, defined, defined_in_notebook

LESSONS = [f"{number:02}" for number in range(2, 11)]
EVER = ["invalidates_one", "invalidates_all"]  # what each of them can do from the first on
OURS = defined(Path(so_far.__file__).read_text())


def test_there_is_one_row_for_each_lesson() -> None:
    assert [PROBES[name].lesson for name in ONE_A_LESSON] == LESSONS


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_rows_are_green_up_to_the_lessons_own(lesson: str) -> None:
    green = LESSONS.index(lesson) + 1
    board = audit(
        getattr(so_far, f"Lesson{lesson}"), probes=[PROBES[name] for name in (*ONE_A_LESSON, *EVER)]
    )

    assert board.passed == [*ONE_A_LESSON[:green], *EVER]
    assert board.failed == [*ONE_A_LESSON[green:]]


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_lesson_shows_the_class(lesson: str) -> None:
    [notebook] = (REPOSITORY / "notebooks").glob(f"{lesson}_*.ipynb")
    shown = defined_in_notebook(notebook.stem)

    assert parts(shown["SoFar"]) == parts(OURS[f"Lesson{lesson}"])
    if lesson == "10":  # in two steps
        assert parts(shown["StatementKeys"]) == parts(OURS["StatementKeys"])


def parts(node: ast.stmt) -> tuple[str, ...]:
    """Return what a class inherits from, and each of its parts, in order."""
    assert isinstance(node, ast.ClassDef)
    return tuple(ast.unparse(each).replace("so_far.", "") for each in (*node.bases, *node.body))
