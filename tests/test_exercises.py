"""The machinery of exercises: four outcomes, hints in order, solutions, and ids that are not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from labkit import LabError, check, hint, solution
from labkit.lessons import exercises, progress
from labkit.lessons.exercises import Exercise, NotAttempted, Outcome, Raised, Wrong, call, judge


def double(number: int) -> int:
    # Adding is enough.
    return number + number


def examine_double(answer: Any) -> None:
    for number in (1, 2, 0):
        got = call(answer, number)
        if got != 2 * number:
            raise Wrong(f"double({number}) gave {got!r}, not {2 * number}.")


def examine_count(answer: Any) -> None:
    if answer != 3:
        raise Wrong(f"{answer!r} is not the number of commands.")


@pytest.fixture(autouse=True)
def lesson(monkeypatch, tmp_path) -> Iterator[None]:
    """A lesson 99, with an exercise that asks for a function and one that asks for a value."""
    monkeypatch.setenv("LABKIT_PROGRESS", str(tmp_path / "kept"))
    module: Any = ModuleType("labkit.lessons.lesson_99")
    module.EXERCISES = {
        "99.1": Exercise("Double.", examine_double, "it doubles.", ("Add.", "Twice."), double),
        "99.2": Exercise("Count.", examine_count, "three it is.", ("Look.",), 3),
    }
    monkeypatch.setitem(sys.modules, module.__name__, module)
    of_this_kernel = (
        exercises._hints_given,
        exercises._wrong_since_hint,
        exercises._troubles_said,
    )
    for each in of_this_kernel:
        each.clear()
    yield
    for each in of_this_kernel:
        each.clear()


def returns_stub(number: int) -> Any:
    return ...


def raises(number: int) -> int:
    return number // 0


def raises_without_words(number: int) -> int:
    raise KeyError


def squares(number: int) -> int:
    return number**2 + 1


def test_a_right_answer_is_praised(capsys):
    check("99.1", double)
    check("99.2", 3)
    assert capsys.readouterr().out == "✓ 99.1 right: it doubles.\n✓ 99.2 right: three it is.\n"


@pytest.mark.parametrize(("name", "answer"), [("99.1", ...), ("99.1", returns_stub), ("99.2", ...)])
def test_a_stub_is_not_attempted_and_is_told_of_the_hint(capsys, name, answer):
    check(name, answer)
    assert capsys.readouterr().out == (
        f"· {name} not attempted yet. Replace the ... above, and run the cell again. "
        f'Stuck? labkit.hint("{name}")\n'
    )


def test_a_wrong_answer_is_shown_the_case(capsys):
    check("99.1", squares)
    check("99.2", 4)
    assert capsys.readouterr().out.splitlines() == [
        "✗ 99.1 not yet: double(2) gave 5, not 4.",
        "✗ 99.2 not yet: 4 is not the number of commands.",
    ]


def test_code_that_raises_is_told_what_and_when(capsys):
    check("99.1", raises)
    check("99.1", raises_without_words)
    assert capsys.readouterr().out == (
        "! 99.1 your code raised ZeroDivisionError: integer division or modulo by zero, "
        "when it was called with (1).\n"
        "! 99.1 your code raised KeyError, when it was called with (1).\n"
    )


def test_what_is_no_function_is_wrong(capsys):
    check("99.1", 4)
    assert capsys.readouterr().out == ("✗ 99.1 not yet: a function is asked for, and this is 4.\n")


def test_the_outcomes_are_worded_apart():
    answers = [..., raises, squares, double]
    judged = [judge("99.1", answer) for answer in answers]
    assert [outcome for outcome, _ in judged] == [
        Outcome.NOT_ATTEMPTED,
        Outcome.RAISED,
        Outcome.WRONG,
        Outcome.RIGHT,
    ]
    assert len({message.split(":")[0] for _, message in judged}) == 4
    assert len({outcome.value for outcome, _ in judged}) == 4


def test_a_call_can_be_shown_in_other_words():
    with pytest.raises(Raised, match=r"^ZeroDivisionError: .*, when it was called with zero\.$"):
        call(raises, 0, shown="zero")
    with pytest.raises(NotAttempted):
        call(returns_stub, 0)
    assert call(double, 4) == 8


def test_interrupting_an_answer_interrupts_the_cell():
    def interrupted(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("99.1", interrupted)


def test_hints_come_in_order_and_then_the_way_to_the_solution(capsys):
    for _ in range(4):
        hint("99.1")
    end = 'No more hints. labkit.solution("99.1") shows one way to do it.'
    assert (
        capsys.readouterr().out.splitlines()
        == ["Hint 1 of 2: Add.", "Hint 2 of 2: Twice."] + [end] * 2
    )


def test_each_exercise_has_hints_of_its_own(capsys):
    hint("99.1")
    hint("99.2")
    hint("99.1")
    hint("99.2")
    assert [line[:14] for line in capsys.readouterr().out.splitlines()] == [
        "Hint 1 of 2: A",
        "Hint 1 of 1: L",
        "Hint 2 of 2: T",
        "No more hints.",
    ]


# A hint that comes by itself.


def helped(capsys) -> list[str]:
    """Return the lines since the last look that help unasked."""
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith("Three times not yet, so here is help. ")]


def test_the_third_wrong_answer_brings_a_hint_whether_it_is_a_new_one_or_not(capsys):
    for answer in (4, 5):
        check("99.2", answer)
        assert helped(capsys) == []
    check("99.2", 5)
    assert capsys.readouterr().out.splitlines() == [
        "✗ 99.2 not yet: 5 is not the number of commands.",
        "Three times not yet, so here is help. Hint 1 of 1: Look.",
    ]


def test_each_three_bring_the_next_hint_and_then_the_way_to_the_solution(capsys):
    said = []
    for _ in range(12):
        check("99.1", squares)
        said.append([line.removeprefix("Three times not yet, so here is help. ")
                     for line in helped(capsys)])  # fmt: skip
    end = 'No more hints. labkit.solution("99.1") shows one way to do it.'
    third = [["Hint 1 of 2: Add."], ["Hint 2 of 2: Twice."], [end], [end]]
    assert said == [each for help in third for each in ([], [], help)]


def test_a_hint_that_was_asked_for_begins_the_count_anew(capsys):
    check("99.1", squares)
    check("99.1", squares)
    hint("99.1")
    check("99.1", squares)
    check("99.1", squares)
    assert helped(capsys) == []
    check("99.1", squares)
    assert helped(capsys) == ["Three times not yet, so here is help. Hint 2 of 2: Twice."]


def test_a_right_answer_begins_it_anew_too(capsys):
    for answer in (squares, squares, double, squares, squares):
        check("99.1", answer)
    assert helped(capsys) == []


@pytest.mark.parametrize("answer", [..., returns_stub, raises])
def test_what_is_not_wrong_does_not_count(capsys, answer):
    for _ in range(4):
        check("99.1", answer)
    check("99.1", squares)
    check("99.1", squares)
    assert helped(capsys) == []


def test_each_exercise_is_counted_by_itself(capsys):
    for _ in range(2):
        check("99.1", squares)
        check("99.2", 4)
    assert helped(capsys) == []


# What is solved is noted.


def test_a_right_answer_is_noted_and_no_other(capsys):
    for answer in (..., raises, squares):
        check("99.1", answer)
    assert progress.solved() == set()
    check("99.1", double)
    assert progress.solved() == {"99.1"}
    check("99.1", squares)  # what was solved, was
    check("99.2", 3)
    assert progress.solved() == {"99.1", "99.2"}


def test_to_judge_alone_notes_nothing():
    judge("99.1", double)
    assert progress.solved() == set()


def test_progress_that_cannot_be_kept_is_said_once_and_checks_go_on(capsys, tmp_path):
    (tmp_path / "kept").write_text("no folder")
    check("99.1", double)
    check("99.2", 3)
    assert capsys.readouterr().out.splitlines() == [
        "✓ 99.1 right: it doubles.",
        f"Your progress is not kept: {tmp_path / 'kept' / 'solved'} cannot be written to "
        "(File exists). Checks work all the same.",
        "✓ 99.2 right: three it is.",
    ]


def test_the_solution_of_a_function_is_its_source(capsys):
    solution("99.1")
    assert capsys.readouterr().out == (
        "def double(number: int) -> int:\n    # Adding is enough.\n    return number + number\n"
    )


def test_the_solution_of_a_value_is_an_assignment(capsys):
    solution("99.2")
    assert capsys.readouterr().out == "answer = 3\n"


NO_EXERCISES = [
    "99.3",
    "98.1",
    "",
    "1",
    "99",
    "99.",
    ".1",
    "../x",
    "99.7",
    "99.1 ",
    "a b",
    "99.1.2",
]


@pytest.mark.parametrize("name", NO_EXERCISES)
@pytest.mark.parametrize(
    "function",
    [lambda name: check(name, 1), hint, solution, lambda name: check(name, ...)],
    ids=["check", "hint", "solution", "check of a stub"],
)
def test_an_id_that_is_not_gets_two_lines_at_most(function, name, capsys):
    with pytest.raises(LabError) as caught:
        function(name)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 2
    assert lines[0].startswith(f"there is no exercise {name!r}.")
    assert len(lines[1]) > 10
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", [99.1, 1, None, ["99.1"]])
def test_an_id_that_is_no_text_gets_two_lines_too(name):
    with pytest.raises(LabError) as caught:
        check(name, 1)
    assert len(str(caught.value).splitlines()) <= 2


def test_the_ids_of_a_known_lesson_are_listed():
    with pytest.raises(LabError, match=r"Lesson 99 has 99\.1, 99\.2\.$"):
        hint("99.7")


def test_an_error_inside_a_lesson_is_not_taken_for_a_missing_one(monkeypatch):
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        check("99.1", 1)
