"""A notebook is restored from where it can be known, and the learner's is never lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from labkit import LabError
from labkit.cli import main
from labkit.lessons import reset as module
from labkit.lessons.reset import reset
from tests.helpers import REPOSITORY

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git on PATH")
root_only = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away"
)
FILE = "05_races.ipynb"


def notebook(*sources: str) -> bytes:
    cells = [{"cell_type": "code", "source": source, "outputs": []} for source in sources]
    return json.dumps({"cells": cells, "nbformat": 4}, indent=1).encode()


DELIVERED = notebook("answer = ...")
MINE = notebook("answer = 42")


def git(folder: Path, *words: str) -> None:
    name = ["-c", "user.name=any", "-c", "user.email=any@example.org"]
    subprocess.run(["git", *name, *words], cwd=folder, check=True, capture_output=True)


def fill(folder: Path) -> None:
    """Make a course of two lessons, and a third whose notebook is not written yet."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / "labkit" / "lessons").mkdir(parents=True)
    for name in (FILE, "06_missing_ttl.ipynb"):
        (folder / "notebooks" / name).write_bytes(DELIVERED)
        (folder / "labkit" / "lessons" / f"lesson_{name[:2]}.py").touch()
    (folder / "labkit" / "lessons" / "lesson_07.py").touch()


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("committed") / "a course"  # a path with a space
    fill(folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "any")
    return folder


@pytest.fixture(autouse=True)
def labkit_has_no_history(monkeypatch, tmp_path):
    """Have labkit run from where no git is: it is told otherwise in the tests of that."""
    (tmp_path / "installed").mkdir()
    monkeypatch.setattr(module, "LABKITS", tmp_path / "installed")


@pytest.fixture
def course(committed: Path, tmp_path: Path, monkeypatch) -> Path:
    """A checkout of the course, whose lesson 05 the learner has edited, and where they are."""
    folder = tmp_path / "a course"
    shutil.copytree(committed, folder)
    (folder / "notebooks" / FILE).write_bytes(MINE)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def copied(tmp_path: Path, monkeypatch) -> Path:
    """A learner's copy of the notebooks, with no git, where they are."""
    folder = tmp_path / "copied"
    folder.mkdir()
    (folder / FILE).write_bytes(MINE)
    monkeypatch.chdir(folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Return what is below a folder of notebooks, unfinished files too."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def refused(wish: str, *more: str) -> str:
    """Return the one line that a refusal says; that it is status 2 is a test of its own."""
    with pytest.raises(LabError) as caught:
        reset(wish, *more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "wish", ["05", "5", "05_races", "5_races", FILE, f"notebooks/{FILE}", f"./notebooks/{FILE}"]
)
def test_a_lesson_is_restored_and_the_learners_kept(course, wish):
    said = reset(wish).splitlines()

    assert files(course / "notebooks") == {
        FILE: DELIVERED,
        "06_missing_ttl.ipynb": DELIVERED,
        "mine/05_races.mine.ipynb": MINE,
    }
    assert said[0].startswith(f"{Path('notebooks', FILE)} is restored from git ")
    assert said[1] == f"Yours is kept: {Path('notebooks', 'mine', '05_races.mine.ipynb')}"
    assert "Reload Notebook from Disk" in said[2]


def test_no_earlier_copy_is_overwritten(course):
    contents = [notebook(f"answer = {n}") for n in range(3)]
    for content in contents:
        (course / "notebooks" / FILE).write_bytes(content)
        reset("05")

    names = ["05_races.mine.ipynb", "05_races.mine-2.ipynb", "05_races.mine-3.ipynb"]
    kept = files(course / "notebooks" / "mine")
    assert kept == dict(zip(names, contents, strict=True))


@pytest.mark.parametrize("same", [DELIVERED, DELIVERED.replace(b"\n", b"\r\n"),
                                  json.dumps(json.loads(DELIVERED)).encode()])  # fmt: skip
def test_a_notebook_that_is_the_same_is_said_to_be_and_not_copied(course, same):
    (course / "notebooks" / FILE).write_bytes(same)

    first, second = reset("05").splitlines()
    assert first.endswith(": nothing was changed.")
    assert "`--from FOLDER`" in second  # for who has committed the answers
    assert files(course / "notebooks") == {FILE: same, "06_missing_ttl.ipynb": DELIVERED}


def test_a_notebook_that_is_broken_is_kept_as_it_is(course):
    (course / "notebooks" / FILE).write_bytes(MINE[:20])
    reset("05")

    assert files(course / "notebooks")["mine/05_races.mine.ipynb"] == MINE[:20]


def test_a_notebook_that_is_missing_comes_back(course):
    (course / "notebooks" / FILE).unlink()
    said = reset("05")

    assert len(said.splitlines()) == 1
    assert files(course / "notebooks") == {FILE: DELIVERED, "06_missing_ttl.ipynb": DELIVERED}


def test_its_permissions_stay(course):
    path = course / "notebooks" / FILE
    path.chmod(0o600)
    reset("05")

    assert path.stat().st_mode & 0o777 == 0o600
    assert (path.parent / "mine" / "05_races.mine.ipynb").stat().st_mode & 0o777 == 0o600


def test_the_notebooks_folder_will_do_to_be_in(course, monkeypatch):
    monkeypatch.chdir(course / "notebooks")
    said = reset("05")

    assert said.startswith(f"{FILE} is restored")
    assert files(course / "notebooks")[FILE] == DELIVERED


def test_a_course_may_be_a_folder_of_a_larger_repository(tmp_path, monkeypatch):
    fill(tmp_path / "teaching" / "caches")
    git(tmp_path / "teaching", "init", "-q")
    git(tmp_path / "teaching", "add", ".")
    git(tmp_path / "teaching", "commit", "-q", "-m", "any")
    (tmp_path / "teaching" / "caches" / "notebooks" / FILE).write_bytes(MINE)
    monkeypatch.chdir(tmp_path / "teaching" / "caches")
    reset("05")

    assert files(tmp_path / "teaching" / "caches" / "notebooks")[FILE] == DELIVERED


def test_a_variable_of_git_does_not_lead_elsewhere(course, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    reset("05")

    assert files(course / "notebooks")[FILE] == DELIVERED


# Where the notebooks have no history of their own.


def test_copies_are_restored_from_the_checkout_that_labkit_runs_from(
    committed, copied, monkeypatch
):
    monkeypatch.setattr(module, "LABKITS", committed / "labkit" / "lessons")
    reset("05")

    assert files(copied) == {FILE: DELIVERED, "mine/05_races.mine.ipynb": MINE}
    assert files(committed / "notebooks")[FILE] == DELIVERED


@pytest.fixture
def for_all(committed: Path, monkeypatch) -> Path:
    """The checkout that labkit runs from on a hub, where learners may only read."""
    may = os.access  # root may write everywhere
    monkeypatch.setattr(module, "LABKITS", committed / "labkit" / "lessons")
    monkeypatch.setattr(
        os, "access", lambda path, mode: committed not in Path(path).parents and may(path, mode)
    )
    return committed


def test_where_a_learner_has_no_notebooks_the_hubs_own_are_not_meant(
    for_all, tmp_path, monkeypatch
):
    """They are as delivered, of course: that would say nothing of the learner's."""
    monkeypatch.chdir(tmp_path)

    assert refused("05").startswith(f"there is no {FILE} here: go to the folder of your notebooks")


def test_a_learners_folder_may_be_below_where_the_terminal_opens(for_all, tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / FILE).write_bytes(MINE)
    monkeypatch.chdir(tmp_path)
    reset("05")

    kept = {FILE: DELIVERED, "mine/05_races.mine.ipynb": MINE}
    assert files(tmp_path / "notebooks") == kept


def test_a_notebook_that_a_learner_has_removed_comes_back_among_theirs(for_all, copied):
    reset("06")

    assert files(copied) == {FILE: MINE, "06_missing_ttl.ipynb": DELIVERED}


def test_a_repository_of_the_learners_own_is_not_the_course(committed, copied, monkeypatch):
    git(copied, "init", "-q")
    git(copied, "add", ".")
    git(copied, "commit", "-q", "-m", "my answers")
    assert "no git history of the course" in refused("05")

    monkeypatch.setattr(module, "LABKITS", committed / "labkit" / "lessons")
    reset("05")
    assert (copied / FILE).read_bytes() == DELIVERED


@root_only
def test_a_checkout_of_another_user_is_asked_only_if_labkit_runs_from_it(course, monkeypatch):
    for path in [course, *course.rglob("*")]:
        os.chown(path, 1000, 1000)
    assert "no git history of the course" in refused("05")

    monkeypatch.setattr(module, "LABKITS", course / "labkit" / "lessons")
    reset("05")
    assert (course / "notebooks" / FILE).read_bytes() == DELIVERED


@root_only
def test_a_history_further_up_is_not_trusted_that_another_user_has_made(course, monkeypatch):
    """It could have git run commands of that user."""
    lessons = course / "labkit" / "lessons"
    for path in (course / ".git", *(course / ".git").rglob("*")):
        os.chown(path, 1000, 1000)
    monkeypatch.setattr(module, "LABKITS", lessons)

    assert "no git history of the course" in refused("05")


def test_without_a_history_it_is_said_what_to_do(copied):
    line = refused("05")

    assert "no git history of the course is here" in line
    assert line.endswith("download the course anew, unpack it elsewhere, and say "
                         "`labkit reset 05 --from FOLDER`.")  # fmt: skip
    assert files(copied) == {FILE: MINE}


def test_without_git_it_is_said_what_to_do(course, monkeypatch):
    monkeypatch.setenv("PATH", str(course))

    assert "git, which knows it, is not on PATH: install it." in refused("05")


@pytest.mark.parametrize("fresh", ["", "notebooks", f"notebooks/{FILE}"])
def test_a_download_will_do(copied, tmp_path, fresh):
    fill(tmp_path / "download")
    said = reset("05", str(tmp_path / "download" / fresh))

    assert f"restored from {tmp_path / 'download'}" in said
    assert files(copied) == {FILE: DELIVERED, "mine/05_races.mine.ipynb": MINE}


def test_a_download_that_has_it_not_is_refused(copied, tmp_path):
    (tmp_path / "download").mkdir()

    assert "there is no notebook of lesson 05" in refused("05", str(tmp_path / "download"))
    assert "there is no notebook of lesson 05" in refused("05", str(tmp_path / "nowhere"))
    (tmp_path / "download" / FILE).write_bytes(b"<html>")
    assert "is no notebook that can be read" in refused("05", str(tmp_path / "download"))
    assert files(copied) == {FILE: MINE}


# What is refused.


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("99", "there is no lesson 99. Say its number, 00 to "),
        ("races", "'races' is no lesson. Say its number, 00 to "),
        ("", "'' is no lesson."),
        ("05_locks", "there is no lesson 05_locks: lesson 05 is 05_races."),
        ("07", "there is no notebook of lesson 07."),
        ("elsewhere/05_races.ipynb", "there is no notebook elsewhere/05_races.ipynb: say"),
        ("notebooks", "'notebooks' is no lesson."),
        ("notebooks/mine/05_races.mine.ipynb", "is no lesson."),
        ("notebooks/05_races-Copy1.ipynb", "is no lesson."),
        ("../05", "is no lesson."),
    ],
)
def test_what_is_no_lesson_is_one_line_and_status_2(course, capsys, wish, words):
    assert main(["reset", wish]) == 2
    printed = capsys.readouterr()

    assert printed.out == ""
    [line] = printed.err.splitlines()
    assert line.startswith("labkit: ")
    assert words in line
    assert files(course / "notebooks") == {FILE: MINE, "06_missing_ttl.ipynb": DELIVERED}


def test_a_missing_notebook_without_a_place_is_one_line(committed, copied, tmp_path):
    (copied / FILE).unlink()
    fill(tmp_path / "download")

    assert refused("05", str(tmp_path / "download")).startswith(f"there is no {FILE} here")


def fails(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("what", ["write_bytes", "mkdir", "replace"])
def test_where_nothing_can_be_written_all_is_as_it_was(course, monkeypatch, what):
    monkeypatch.setattr(Path, what, lambda *_, **__: fails())

    assert refused("05").endswith("cannot be restored: No space left on device.")
    monkeypatch.undo()
    left = files(course / "notebooks")
    left.pop("mine/05_races.mine.ipynb", None)  # a copy too many does no harm
    assert left == {FILE: MINE, "06_missing_ttl.ipynb": DELIVERED}


def test_half_a_copy_is_not_left(course, monkeypatch):
    monkeypatch.setattr(shutil, "copymode", lambda source, target: (
        fails() if "mine" in str(target) else None))  # fmt: skip

    assert "cannot be restored" in refused("05")
    assert files(course / "notebooks") == {FILE: MINE, "06_missing_ttl.ipynb": DELIVERED}


def test_a_read_only_notebook_is_left(course, monkeypatch):
    may = os.access  # root may write to it, whatever its mode
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != FILE and may(path, mode)
    )

    assert refused("05").endswith("cannot be restored: it is read-only.")
    assert files(course / "notebooks") == {FILE: MINE, "06_missing_ttl.ipynb": DELIVERED}


def test_the_command_restores(course, capsys):
    assert main(["reset", "05"]) == 0
    assert "is restored from git" in capsys.readouterr().out
    assert main(["reset", "05"]) == 0
    assert "nothing was changed" in capsys.readouterr().out


# This repository.


def test_learners_copies_are_no_tests_and_not_committed(request):
    conftest = request.config.pluginmanager.get_plugin(str(REPOSITORY / "conftest.py"))
    aside = f"notebooks/{module.ASIDE}"

    assert aside in conftest.collect_ignore_glob
    assert f"{aside}/" in (REPOSITORY / ".gitignore").read_text().splitlines()
