"""What a learner has solved: noted in their own folder, by many kernels at once, and shown."""

from __future__ import annotations

import errno
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

import labkit
from labkit import LabError
from labkit.cli import main
from labkit.lessons import progress
from tests.helpers import REPOSITORY, environment

TOGETHER = os.environ.get("LABKIT_PROGRESS", "")  # as this process was started with
posix = pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="XDG's folders are those of Linux")


@pytest.fixture(autouse=True)
def kept(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LABKIT_PROGRESS", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_at_first_nothing_is_solved_and_to_look_makes_nothing(kept):
    assert progress.solved() == set()
    assert progress.forget() == 0
    assert not kept.exists()


def test_what_is_noted_is_found_again(kept):
    for name in ("05.2", "00.1", "05.2"):
        progress.record(name)
    assert progress.solved() == {"00.1", "05.2"}
    assert sorted(os.listdir(kept / "solved")) == ["00.1", "05.2"]


def test_nothing_is_kept_but_the_exercises_name(kept):
    progress.record("05.2")
    assert (kept / "solved" / "05.2").read_bytes() == b""


@posix
def test_no_other_user_can_look(kept):
    before = os.umask(0)
    try:
        progress.record("05.2")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (kept, kept / "solved", kept / "solved/05.2")]
    assert [oct(mode) for mode in modes] == ["0o700", "0o700", "0o600"]


def test_what_was_solved_before_is_not_noted_again_as_on_a_read_only_disk(kept, monkeypatch):
    progress.record("05.2")

    def touch(path: Path, mode: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", touch)
    progress.record("05.2")
    with pytest.raises(LabError) as caught:
        progress.record("05.3")
    assert str(caught.value) == (f"{kept / 'solved'} cannot be written to (Read-only file system).")


def test_files_of_others_in_the_folder_are_left_alone(kept):
    progress.record("05.2")
    for name in (".DS_Store", "05.2.bak", "notes"):
        (kept / "solved" / name).touch()
    assert progress.solved() == {"05.2"}
    assert progress.forget() == 1
    assert sorted(os.listdir(kept / "solved")) == [".DS_Store", "05.2.bak", "notes"]


@linux
def test_it_is_kept_in_the_users_folder_for_data(monkeypatch, tmp_path):
    monkeypatch.delenv("LABKIT_PROGRESS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    progress.record("05.2")
    assert (tmp_path / "data" / "labkit" / "solved" / "05.2").is_file()


@linux
def test_without_xdg_it_is_below_home(monkeypatch, tmp_path):
    monkeypatch.delenv("LABKIT_PROGRESS")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert progress.folder() == tmp_path / ".local" / "share" / "labkit"


def test_a_folder_that_depends_on_where_the_kernel_runs_is_refused(monkeypatch):
    monkeypatch.setenv("LABKIT_PROGRESS", "kept")
    with pytest.raises(LabError, match="LABKIT_PROGRESS, a full path, not 'kept'"):
        progress.record("05.2")


NOTER = """
import sys
from labkit.lessons.progress import record
print("ready", flush=True)
sys.stdin.readline()
for exercise in sys.argv[1:]:
    record(exercise)
"""
KERNELS, EACH = 8, 25


def test_kernels_that_solve_at_once_lose_nothing(kept):
    """The folder is not there before, and neighbours solve some of the same exercises."""
    every = [f"{number:02}.{n}" for number in range(KERNELS) for n in range(1, EACH + 1)]
    shares = [(every + every)[n * EACH : n * EACH + EACH + 5] for n in range(KERNELS)]
    kernels = [
        subprocess.Popen(
            [sys.executable, "-c", NOTER, *share],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(LABKIT_PROGRESS=str(kept)),
            cwd=REPOSITORY,
        )
        for share in shares
    ]
    for kernel in kernels:
        assert kernel.stdout is not None
        assert kernel.stdout.readline() == "ready\n"
    assert not kept.exists()
    for kernel in kernels:
        assert kernel.stdin is not None
        kernel.stdin.write("go\n")
        kernel.stdin.flush()
    for kernel in kernels:
        kernel.communicate()
    assert [kernel.returncode for kernel in kernels] == [0] * KERNELS
    assert progress.solved() == set(every)


# The table.


def every_exercise() -> list[str]:
    modules = (importlib.import_module(f"labkit.lessons.lesson_{n}") for n in progress.numbers())
    return [name for module in modules for name in module.EXERCISES]


def line_of(lesson: str, *names: str) -> list[str]:
    [line] = [each for each in progress.table(set(names)).splitlines() if each[:2] == lesson]
    return line.split("  ", 1)[1].split()


def last_words(*names: str) -> str:
    return progress.table(set(names)).splitlines()[-1]


def test_each_lesson_has_a_line_with_its_title_and_what_is_open():
    notebooks = (REPOSITORY / "notebooks").glob("*.ipynb")
    assert progress.numbers() == sorted(path.name[:2] for path in notebooks)
    for number in progress.numbers():
        assert line_of(number)[0][0].isalpha(), "the module's docstring names the lesson"
    assert line_of("05") == ["Races", "0", "of", "3", "05.1", "05.2", "05.3"]
    assert line_of("05", "05.2") == ["Races", "1", "of", "3", "05.1", "05.3"]
    assert line_of("05", "05.1", "05.2", "05.3") == ["Races", "3", "of", "3"]


def test_exercises_that_this_labkit_does_not_have_do_not_count():
    assert progress.table({"05.9", "77.1"}) == progress.table(set())


@pytest.mark.parametrize(
    ("names", "next_one"),
    [
        ([], "00.1"),
        (["00.1"], "00.2"),
        (["00.1", "01.1"], "01.2"),  # 00.2 was left out
        (["14.3"], "00.1"),
        (["00.1", "14.3"], "00.2"),
    ],
)
def test_the_next_is_the_first_open_one_after_the_last_solved(names, next_one):
    total = len(every_exercise())
    assert last_words(*names) == f"Solved: {len(names)} of {total}. Next: {next_one}"


def test_at_the_end_there_is_no_next():
    every = every_exercise()
    assert last_words(*every) == f"All {len(every)} exercises are solved."


def test_in_a_notebook_it_is_printed(capsys):
    progress.record("05.2")
    assert labkit.progress() is None  # type: ignore[func-returns-value]
    assert capsys.readouterr().out == progress.table({"05.2"}) + "\n"


def test_a_notebook_runs_on_where_it_cannot_be_read(capsys, kept):
    kept.write_text("no folder")
    labkit.progress()
    assert capsys.readouterr().out == (
        f"Your progress is not known: {kept / 'solved'} cannot be read (Not a directory).\n"
    )


# The command.


def test_the_command_prints_the_table(capsys):
    progress.record("05.2")
    assert main(["progress"]) == 0
    assert capsys.readouterr().out == progress.table({"05.2"}) + "\n"


def test_it_forgets_all_and_says_how_many(capsys):
    for name in ("05.2", "77.1"):
        progress.record(name)
    assert [main(["progress", "--forget"]), main(["progress", "--forget"])] == [0, 0]
    assert capsys.readouterr().out == "Forgotten: 2 solved exercises.\nNothing to forget.\n"
    assert progress.solved() == set()


@pytest.mark.parametrize("words", [["progress"], ["progress", "--forget"]])
def test_what_cannot_be_read_is_one_line_and_status_2(capsys, kept, words):
    kept.write_text("no folder")
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"labkit: {kept / 'solved'} cannot be read (Not a directory).\n"


# Tests and committed notebooks know nobody's progress.


def test_tests_and_the_kernels_that_they_start_have_a_folder_of_their_own():
    assert Path(TOGETHER).parent == Path(tempfile.gettempdir())


def test_the_committed_table_of_lesson_00_is_that_of_who_has_solved_nothing():
    cells = nbformat.read(REPOSITORY / "notebooks" / "00_start_here.ipynb", as_version=4).cells
    [cell] = [cell for cell in cells if cell.source == "labkit.progress()"]
    [output] = cell.outputs
    assert output.text == progress.table(set()) + "\n"
