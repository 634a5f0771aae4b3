"""Every exercise: its reference solution passes, each wrong answer gets its own message.

Where an exercise has right answers that are written in quite another way, they pass too.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit import lessons
from labkit.lessons.exercises import Exercise, Outcome, judge, solution

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LESSONS = sorted(path.stem for path in Path(lessons.__path__[0]).glob("lesson_*.py"))
EXERCISES: dict[str, Exercise] = {}
WRONG: list[tuple[str, Any, str]] = []
RIGHT: list[tuple[str, Any]] = []
for lesson in LESSONS:
    EXERCISES |= importlib.import_module(f"labkit.lessons.{lesson}").EXERCISES
    answers = importlib.import_module(f"tests.answers.{lesson}")
    WRONG += answers.WRONG
    RIGHT += getattr(answers, "RIGHT", [])


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_solution_is_right(name: str) -> None:
    outcome, message = judge(name, EXERCISES[name].solution)

    assert (outcome, message) == (Outcome.RIGHT, f"right: {EXERCISES[name].praise}")


@pytest.mark.parametrize("name", EXERCISES)
def test_the_printed_solution_works_when_it_is_pasted(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = NOTEBOOKS.glob(f"{name[:2]}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    imports = [
        ast.unparse(node)
        for node in ast.parse(code).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    solution(name)
    namespace: dict[str, Any] = {}
    exec("\n".join([*imports, capsys.readouterr().out]), namespace)
    answer = namespace.get(getattr(EXERCISES[name].solution, "__name__", ""), ...)

    assert judge(name, namespace["answer"] if answer is ... else answer)[0] is Outcome.RIGHT


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_is_not_attempted(name: str) -> None:
    stub = (lambda *_: ...) if inspect.isroutine(EXERCISES[name].solution) else ...

    assert judge(name, stub)[0] is Outcome.NOT_ATTEMPTED


@pytest.mark.parametrize("name", [n for n in EXERCISES if inspect.isroutine(EXERCISES[n].solution)])
def test_an_answer_that_raises_is_told_what_and_when(name: str) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("division by zero")

    outcome, message = judge(name, broken)

    assert outcome is Outcome.RAISED
    assert "ZeroDivisionError: division by zero, when it was called with (" in message


@pytest.mark.parametrize(
    ("name", "answer"), RIGHT, ids=lambda part: getattr(part, "__name__", part)
)
def test_a_right_answer_in_other_words_passes(name: str, answer: Any) -> None:
    assert judge(name, answer) == (Outcome.RIGHT, f"right: {EXERCISES[name].praise}")


IDS = [f"{name}: {words}" for name, _, words in WRONG]  # not of answers: sets have no order


@pytest.mark.parametrize(("name", "answer", "words"), WRONG, ids=IDS)
def test_a_wrong_answer_is_met_with_its_own_message(name: str, answer: Any, words: str) -> None:
    outcome, message = judge(name, answer)

    assert outcome is Outcome.WRONG
    assert message.startswith("not yet: ")
    assert words in message


@pytest.mark.parametrize("name", EXERCISES)
def test_every_exercise_has_wrong_answers_and_hints(name: str) -> None:
    assert sum(name == wrong for wrong, _, _ in WRONG) >= 3
    assert len(EXERCISES[name].hints) >= 2
