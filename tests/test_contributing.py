"""CONTRIBUTING.md's steps, followed to the letter in a copy: what they add works.

The steps that take minutes are followed with LABKIT_ALL_STEPS=1.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest

from labkit.shop.stored import data_folder
from scripts.cells import as_notebook, as_text
from tests.helpers import REPOSITORY, environment

GUIDE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = ["Add a lesson", "Add a pitfall", "Add a probe"]
ALL = bool(os.environ.get("LABKIT_ALL_STEPS"))
GIT = shutil.which("git")
needs_a_shell = pytest.mark.skipif(
    os.name == "nt" or GIT is None, reason="the commands are for a shell, and git lists the files"
)

# What stands before a block says what to do with it.
NEW = re.compile(r"In `([^`]+)`, new:$")
AT_ITS_END = re.compile(r"In `([^`]+)`, at its end:$")
BELOW = re.compile(r"In `([^`]+)`, below the line that begins with `([^`]+)`:$")
RUN = re.compile(r"Run(, in minutes)?:$")
PRINTS = re.compile(r"It prints:$")
STEP = re.compile(r"^(\d+)\. ", re.MULTILINE)
BLOCK = re.compile(r"^   ```(\w+)\n(.*?)^   ```$", re.MULTILINE | re.DOTALL)


@dataclass
class Action:
    """One block of a step, and what to do with it."""

    step: str
    asked: str
    block: str


@dataclass
class Copy:
    """The repository's tracked files, in a folder where a step may do what it likes."""

    root: Path
    printed: dict[str, str] = field(default_factory=dict)

    def follow_all(self, wanted: list[Action]) -> None:
        """Do what steps ask, one after the other.

        Raises:
            AssertionError: one cannot be done, or what is printed is not what it says.
        """
        for action in wanted:
            self.follow(action)

    def follow(self, action: Action) -> None:
        """Do what a step asks.

        Raises:
            AssertionError: it cannot be done, or what is printed is not what the step says.
        """
        if match := NEW.search(action.asked):
            path = self.root / match[1]
            assert not path.exists(), f"{action.step}: {match[1]} is there already"
            path.write_text(action.block, encoding="utf-8")
        elif match := AT_ITS_END.search(action.asked):
            path = self.root / match[1]
            between = "\n\n" if path.suffix == ".py" else ""
            text = path.read_text(encoding="utf-8")
            path.write_text(text + between + action.block, encoding="utf-8")
        elif match := BELOW.search(action.asked):
            self.insert(self.root / match[1], match[2], action.block)
        elif match := RUN.search(action.asked):
            if ALL or not match[1]:
                self.printed[action.step] = "".join(map(self.run, action.block.splitlines()))
        elif PRINTS.search(action.asked):
            if action.step in self.printed:
                assert_printed(action.block, self.printed[action.step])
        else:
            raise AssertionError(f"{action.step}: nothing says what to do with\n{action.block}")

    def insert(self, path: Path, beginning: str, block: str) -> None:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        [place] = (n for n, line in enumerate(lines) if line.lstrip().startswith(beginning))
        lines.insert(place + 1, block)
        path.write_text("".join(lines), encoding="utf-8")

    def run(self, command: str) -> str:
        """Run one line in a shell, and return what it prints."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.root,
            env=environment(PYTHONPATH=str(self.root), LABKIT_DATA=str(data_folder().resolve())),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def assert_printed(expected: str, printed: str) -> None:
    """Find each expected line in what was printed, in this order, whatever the blanks."""
    rest = " ".join(printed.split())
    for line in expected.splitlines():
        words = " ".join(line.split())
        assert words in rest, f"{words!r} was not printed, or not in this place:\n{printed}"
        rest = rest.partition(words)[2]


def actions(section: str, guide: str = GUIDE) -> list[Action]:
    """Return what a section of the guide asks for, in order."""
    text = guide.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = []
    _, *parts = STEP.split(text)
    for number, step in zip(parts[::2], parts[1::2], strict=True):
        end = 0
        for match in BLOCK.finditer(step):
            asked = " ".join(step[end : match.start()].split())
            block = re.sub("^   ", "", match[2], flags=re.MULTILINE)
            found.append(Action(f"{section}, {number}", asked, block))
            end = match.end()
    return found


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Give a copy in which all steps of all sections were followed."""
    made = Copy(tmp_path_factory.mktemp("contributing") / "checkout")
    copy_tracked_files(made.root)
    for section in SECTIONS:
        made.follow_all(actions(section))
    return made


def copy_tracked_files(root: Path) -> None:
    """Copy what git knows of, and put the Python that runs this test where a checkout has its."""
    assert GIT is not None
    listed = subprocess.run(
        [GIT, "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, target)
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)


@needs_a_shell
def test_the_steps_can_be_followed_and_print_what_they_say(copy: Copy) -> None:
    assert {step.partition(",")[0] for step in copy.printed} == set(SECTIONS)


@needs_a_shell
def test_the_new_lesson_is_wherever_lessons_are(copy: Copy) -> None:
    def text(name: str) -> str:
        return (copy.root / name).read_text(encoding="utf-8")

    assert "](notebooks/15_results.ipynb)" in text("README.md")
    assert "\n| 15_results |" in text("tests/minutes.md")
    assert "\n### 15 · Results\n" in text("docs/claims.md")
    assert "of a cached result, the first visitor alone gets rows" in text("docs/claims.md")
    assert not (copy.root / "15_results.py").exists()


@needs_a_shell
def test_the_new_pitfall_is_reproduced_and_mended_in_the_executed_notebook(copy: Copy) -> None:
    notebook = nbformat.read(copy.root / "notebooks" / "15_results.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)

    assert "You said 3. It was 0." in printed
    assert "✓ of a cached list, both do\n" in printed
    assert printed.count("not attempted yet") == 3


ASKED = """
import json
from labkit.audit import every_probe
from labkit.lessons.lesson_15 import EXERCISES
from labkit.lessons.exercises import judge
from tests.answers.lesson_15 import WRONG

solutions = [(name, exercise.solution, "right: ") for name, exercise in EXERCISES.items()]
told = [(name, *judge(name, answer), words) for name, answer, words in [*solutions, *WRONG]]
answers = [(name, outcome.name, words in message) for name, outcome, message, words in told]
print(json.dumps({"answers": answers, "probes": [each.name for each in every_probe()]}))
"""


@needs_a_shell
def test_the_new_exercises_tell_right_from_wrong_and_the_new_probe_is_the_last_row(
    copy: Copy,
) -> None:
    told = json.loads(copy.run(shlex.join([".venv/bin/python", "-c", ASKED])))
    outcomes = [outcome for _, outcome, has_its_words in told["answers"] if has_its_words]

    assert outcomes == ["RIGHT"] * 3 + ["WRONG"] * 9
    assert [name for name, *_ in told["answers"]].count("15.3") == 1 + 3
    assert told["probes"][-1] == "read_once"
    assert told["probes"].count("read_once") == 1


@needs_a_shell
def test_what_the_steps_add_is_formatted_and_clean(copy: Copy) -> None:
    copy.run(".venv/bin/python -m ruff check --no-cache .")
    copy.run(".venv/bin/python -m ruff format --no-cache --check .")


# The guide itself, and how it is read.


@pytest.mark.parametrize("section", SECTIONS)
def test_steps_are_numbered_and_each_has_something_to_do(section: str) -> None:
    text = GUIDE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    numbers = [int(number) for number in STEP.findall(text)]

    assert numbers == list(range(1, len(numbers) + 1))
    assert {action.step for action in actions(section)} == {f"{section}, {n}" for n in numbers}
    assert len(actions(section)) == text.count("```") / 2


EXAMPLE = """
## Any section

1. In `new.txt`, new:

   ```text
   one
   three
   ```

2. In `new.txt`, below the line that begins with `one`:

   ```text
   two
   ```

   In `new.txt`, at its end:

   ```text
   four
   ```

3. Run:

   ```sh
   cat new.txt
   echo five
   ```

   It prints:

   ```text
   two
   five
   ```
"""


@needs_a_shell
def test_files_are_written_as_the_steps_say(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    copy.follow_all(actions("Any section", EXAMPLE))

    assert (tmp_path / "new.txt").read_text() == "one\ntwo\nthree\nfour\n"
    assert copy.printed == {"Any section, 3": "one\ntwo\nthree\nfour\nfive\n"}


@needs_a_shell
@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("   two\n   five", "   five\n   two", "'two' was not printed, or not in this place"),
        ("echo five", "exit 3", "exit 3"),
        ("1. In `new.txt`, new:", "1. Somewhere:", "nothing says what to do"),
        ("at its end:", "new:", "is there already"),
    ],
)
def test_a_step_that_does_not_hold_is_noticed(
    tmp_path: Path, right: str, wrong: str, words: str
) -> None:
    assert EXAMPLE.count(right) == 1
    copy, wanted = Copy(tmp_path), actions("Any section", EXAMPLE.replace(right, wrong))

    with pytest.raises(AssertionError, match=re.escape(words)):
        copy.follow_all(wanted)


# scripts.cells, which the steps use


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_a_notebook_comes_back_from_its_text(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    back = as_notebook(as_text(notebook))

    for cell, other in zip(notebook.cells, back.cells, strict=True):
        assert (cell.cell_type, cell.source) == (other.cell_type, other.source)
        assert cell.metadata.get("tags") == other.metadata.get("tags")  # slides are marked by rule
    nbformat.validate(back)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n# %%\n", "line 1 stands above the first cell: x = 1"),
        ("# %% [markdown]\n# one\ntwo\n", "line 3 is prose"),
    ],
)
def test_a_text_that_is_no_notebook_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        as_notebook(text)
