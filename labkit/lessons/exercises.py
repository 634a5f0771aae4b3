"""Exercises: `check` an answer, ask for a `hint`, read the `solution`.

A lesson's exercises are in its module, `lesson_01.py` for lesson 01, in a dictionary `EXERCISES`.
What is solved is noted (`progress`); a wrong answer given three times brings a hint by itself.
"""

from __future__ import annotations

import importlib
import inspect
import math
import numbers
import re
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from labkit.errors import LabError
from labkit.lessons import progress
from labkit.lessons.replies import bytes_against_text

PATIENCE = 3  # wrong answers before a hint comes unasked

# Of this kernel.
_hints_given: Counter[str] = Counter()
_wrong_since_hint: Counter[str] = Counter()
_troubles_said: set[str] = set()


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        ask: what to do, in a sentence.
        examine: takes an answer, and raises `Wrong` with the case that shows it to be wrong.
        praise: what a right answer has shown.
        hints: from a nudge to nearly everything.
        solution: a reference answer, which its own check calls right.
    """

    ask: str
    examine: Callable[[Any], None]
    praise: str
    hints: tuple[str, ...]
    solution: Any


class Outcome(Enum):
    """What can come of a check."""

    NOT_ATTEMPTED = "·"
    RAISED = "!"
    WRONG = "✗"
    RIGHT = "✓"


class Wrong(Exception):
    """The answer is wrong; the message is the case that shows it."""


class NotAttempted(Exception):
    """The answer is still the stub."""


class Raised(Exception):
    """The learner's function raised; the message says what, and for which call."""


def check(exercise_id: str, answer: object) -> None:
    """Print what comes of an answer: not attempted, raised, wrong (with the case), or right.

    A right answer is noted in the learner's progress. Where that cannot be, one line says so, once.

    The third wrong answer since the last hint brings the next one, unasked. It need not be a new
    answer: who runs the same cell again is as stuck as who guesses, and a case that the answer
    fails tells no more at the third time. Code that raises does not count, as its message says what
    to mend; nor does a stub. A right answer begins the count anew.

    Raises:
        LabError: there is no such exercise.
    """
    outcome, message = judge(exercise_id, answer)
    print(f"{outcome.value} {exercise_id} {message}")
    if outcome is Outcome.RIGHT:
        _wrong_since_hint[exercise_id] = 0
        _note_solved(exercise_id)
    elif outcome is Outcome.WRONG:
        _wrong_since_hint[exercise_id] += 1
        if _wrong_since_hint[exercise_id] == PATIENCE:
            print(f"Three times not yet, so here is help. {_next_hint(exercise_id)}")


def judge(exercise_id: str, answer: object) -> tuple[Outcome, str]:
    """Return the outcome of a check and the words for it.

    Raises:
        LabError: there is no such exercise.
    """
    exercise = _find(exercise_id)
    try:
        if answer is ...:
            raise NotAttempted
        exercise.examine(answer)
    except NotAttempted:
        return Outcome.NOT_ATTEMPTED, (
            "not attempted yet. Replace the ... above, and run the cell again. "
            f'Stuck? labkit.hint("{exercise_id}")'
        )
    except Raised as raised:
        return Outcome.RAISED, f"your code raised {raised}"
    except Wrong as wrong:
        return Outcome.WRONG, f"not yet: {wrong}{bytes_against_text(exercise.examine, answer)}"
    return Outcome.RIGHT, f"right: {exercise.praise}"


def hint(exercise_id: str) -> None:
    """Print the next hint of an exercise; after the last one, where to find the solution.

    Raises:
        LabError: there is no such exercise.
    """
    print(_next_hint(exercise_id))


def _next_hint(exercise_id: str) -> str:
    hints = _find(exercise_id).hints
    given = _hints_given[exercise_id]
    _wrong_since_hint[exercise_id] = 0
    if given == len(hints):
        return f'No more hints. labkit.solution("{exercise_id}") shows one way to do it.'
    _hints_given[exercise_id] += 1
    return f"Hint {given + 1} of {len(hints)}: {hints[given]}"


def solution(exercise_id: str) -> None:
    """Print one right answer to an exercise.

    Raises:
        LabError: there is no such exercise.
    """
    answer = _find(exercise_id).solution
    if inspect.isroutine(answer):
        source = textwrap.dedent(inspect.getsource(answer)).strip()
        print(re.sub(r"  # type: ignore.*", "", source))  # a note to mypy, not to learners
    else:
        print(f"answer = {answer!r}")


def call(function: Any, *arguments: Any, shown: str = "", may_be_none: bool = False) -> Any:
    """Call a learner's function on behalf of a check.

    Args:
        function: the learner's answer.
        arguments: what to call it with.
        shown: how to write the arguments for people, where they do not print well.
        may_be_none: whether None can be an answer, rather than a forgotten `return`.

    Raises:
        Wrong: the answer is not a function, or it returned None.
        NotAttempted: the function is still the stub: it returned `...`.
        Raised: the function raised.
    """
    if not callable(function):
        raise Wrong(f"a function is asked for, and this is {function!r}.")
    shown = shown or f"({', '.join(map(repr, arguments))})"
    try:
        result = function(*arguments)
    except Exception as error:
        reason = f": {error}" if str(error) else ""
        raise Raised(f"{type(error).__name__}{reason}, when it was called with {shown}.") from error
    if result is ...:
        raise NotAttempted
    if result is None and not may_be_none:
        raise Wrong(f"{shown} gave None. Does your function end with `return`?")
    return result


def letters(answer: Any, among: str) -> set[str]:
    """Return the letters that an answer names: a set of them, or a text such as "b, d".

    Raises:
        Wrong: it is no set of letters, or has one that is not among them.
    """
    if not isinstance(answer, set | frozenset | list | tuple | str):
        raise Wrong(f"the answer is a set of letters, and this is {answer!r}.")
    named = set(map(str, answer))
    if isinstance(answer, str):
        named -= set("{}'\", ")
    if unknown := named - set(among):
        raise Wrong(f"the letters are {among[0]} to {among[-1]}, and {min(unknown)!r} is not one.")
    return named


def is_close(got: Any, expected: float) -> bool:
    """Whether an answer is the number that is expected, but for how floats are rounded."""
    is_number = isinstance(got, numbers.Real) and not isinstance(got, bool)
    return is_number and math.isclose(got, expected, rel_tol=1e-6, abs_tol=1e-9)


def _note_solved(exercise_id: str) -> None:
    try:
        progress.record(exercise_id)
    except LabError as error:
        if (trouble := str(error)) not in _troubles_said:
            _troubles_said.add(trouble)
            print(f"Your progress is not kept: {trouble} Checks work all the same.")


def _find(exercise_id: str) -> Exercise:
    lesson = str(exercise_id).partition(".")[0]
    name = f"labkit.lessons.lesson_{lesson}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise  # the lesson is there, and lacks something itself
        raise LabError(
            f"there is no exercise {exercise_id!r}.\n"
            'An exercise is named by its lesson and a number, such as "01.2".'
        ) from None
    exercises: dict[str, Exercise] = module.EXERCISES
    if exercise_id not in exercises:
        raise LabError(
            f"there is no exercise {exercise_id!r}.\nLesson {lesson} has {', '.join(exercises)}."
        )
    return exercises[exercise_id]
