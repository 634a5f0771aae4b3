"""Which exercises a learner has solved: kept in their own folder for data, and sent nowhere.

The store is an empty file for each solved exercise, `solved/05.2`; when it was solved is the file's
own time. To make a file that may be there already is one step of the file system, so that kernels
which solve exercises at once need no lock and lose nothing, and no file can be left half written.
An exercise that another labkit has changed, or does not have, stays as it is.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from labkit.errors import LabError

VARIABLE = "LABKIT_PROGRESS"
LESSON = re.compile(r"lesson_(\d\d)")  # the name of a module
TITLE = re.compile(r"Exercises of lesson \d\d, (.+)\.")  # the first line of its docstring
EXERCISE = re.compile(r"\d\d\.\d+")


def progress() -> None:
    """Print which exercises you have solved, lesson by lesson, and which is the next.

    Where that cannot be read, a line says so: a notebook with this cell runs on.
    """
    try:
        print(table(solved()))
    except LabError as error:
        print(f"Your progress is not known: {error}")


def folder() -> Path:
    """Return the folder that progress is kept in: LABKIT_PROGRESS, or the user's own for data.

    Raises:
        LabError: no full path comes of either.
    """
    if chosen := os.environ.get(VARIABLE):
        path = Path(os.path.expanduser(chosen))
    else:
        path = platformdirs.user_data_path("labkit", appauthor=False)
    if not path.is_absolute():  # it would be another one in each folder that a kernel runs in
        raise LabError(
            f"progress is kept in the folder {VARIABLE}, a full path, not {str(path)!r}."
        )
    return path


def record(exercise_id: str) -> None:
    """Note that an exercise is solved. No other user can read that.

    Raises:
        LabError: it cannot be written.
    """
    marks = _marks()
    try:
        if (marks / exercise_id).exists():
            return
        for each in (marks.parent, marks):  # `parents` would make the first by the umask
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        (marks / exercise_id).touch(mode=0o600)
    except OSError as error:
        raise LabError(f"{marks} cannot be written to ({error.strerror}).") from None


def solved() -> set[str]:
    """Return the names of all solved exercises, also of those that this labkit does not have.

    Raises:
        LabError: the folder cannot be read.
    """
    marks = _marks()
    try:
        return {name for name in os.listdir(marks) if EXERCISE.fullmatch(name)}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise LabError(f"{marks} cannot be read ({error.strerror}).") from None


def forget() -> int:
    """Start over: forget every solved exercise, and return how many there were.

    Raises:
        LabError: the folder cannot be read, or not be written to.
    """
    marks, names = _marks(), solved()
    try:
        for name in names:
            (marks / name).unlink(missing_ok=True)
    except OSError as error:
        raise LabError(f"{marks} cannot be written to ({error.strerror}).") from None
    return len(names)


def numbers() -> list[str]:
    """Return the lessons' numbers, in their order, such as "05"."""
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(match[1] for each in modules if (match := LESSON.fullmatch(each.name)))


def table(names: set[str]) -> str:
    """Return a line for each lesson, how many of its exercises are solved and which are open.

    Args:
        names: of the exercises that are solved. Others than the lessons' do not count.
    """
    titles, exercises = _lessons()
    width = max(map(len, titles.values()))
    lines = [f"{'Lesson':{width + 4}}  Solved  Open"]
    for number, title in titles.items():
        opened = [name for name in exercises[number] if name not in names]
        count = f"{len(exercises[number]) - len(opened)} of {len(exercises[number])}"
        lines.append(f"{number}  {title:{width}}  {count}  {' '.join(opened)}".rstrip())
    return "\n".join([*lines, "", _summary(exercises, names)])


def _summary(exercises: Mapping[str, list[str]], names: set[str]) -> str:
    """Return how many are solved of all, and the next: the first open one after the last solved.

    Whoever has left one out on the way is led on, and back to it at the end.
    """
    every = [name for each in exercises.values() for name in each]
    count = sum(name in names for name in every)
    if count == len(every):
        return f"All {count} exercises are solved."
    last = max((place for place, name in enumerate(every) if name in names), default=-1)
    following = next(name for name in every[last + 1 :] + every if name not in names)
    return f"Solved: {count} of {len(every)}. Next: {following}"


def _lessons() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the title of each lesson, and the names of its exercises, by its number."""
    titles, exercises = {}, {}
    for number in numbers():
        module = importlib.import_module(f"labkit.lessons.lesson_{number}")
        match = TITLE.match(module.__doc__ or "")
        titles[number] = match[1] if match else ""
        exercises[number] = list(module.EXERCISES)
    return titles, exercises


def _marks() -> Path:
    return folder() / "solved"
