"""Many learners at once: nobody fails, nobody looks at another's, nothing is left behind.

Here three of them execute the first part of lesson 05. LABKIT_LEARNERS=30 has thirty execute all of
05 and 08, at once and in turn: that takes the better part of an hour, and some 10 GB of memory.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from labkit.errors import LabError
from labkit.shop.stored import copy_seeded
from scripts import thirty
from scripts.thirty import FIGURES, NOTEBOOKS, PAGE, Figures, Room, page, run
from tests.helpers import LONG, wait_until
from tests.kills import MARK, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

ALL = "LABKIT_LEARNERS" in os.environ
LEARNERS = int(os.environ.get("LABKIT_LEARNERS", "3"))
CELLS = None if ALL else 25  # up to the claims about WATCH
RUNS = [("05", "once"), ("08", "once"), ("05", "turn"), ("08", "turn")] if ALL else [("05", "once")]
is_root = pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="only root can be others")


@pytest.mark.parametrize(("lesson", "way"), RUNS)
def test_learners_share_a_machine_and_leave_nothing(lesson, way):
    figures = run(lesson, way, LEARNERS, cells=CELLS)

    assert figures.problems() == []
    assert figures.alive == (LEARNERS if way == "once" else 1)
    assert figures.processes >= 3 * figures.alive  # each its kernel, keeper and Redis
    assert figures.disk > 40 * figures.alive  # each its copy of the shop
    assert 20 < figures.median <= figures.most <= figures.together


def test_what_a_learner_leaves_behind_is_seen():
    room = Room()
    (room.temporary / "forgotten").touch()
    left = subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: room._mark})
    try:
        # Popen returns a moment before the new program's environment can be read.
        assert wait_until(lambda: running(room._mark, room._base.name) != {}, LONG)
        seen = room.close(patience=0)
    finally:
        left.kill()
        left.wait()
    assert seen == ["a process: sleep 600", "a file: forgotten"]
    assert not room.temporary.exists()


def test_a_socket_that_is_left_behind_is_seen(tmp_path):
    room = Room()
    path = str(room.temporary / "s")
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.bind({path!r}); print(); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    os.remove(path)  # its name is gone, and it is not
    seen = room.close(patience=0)
    holder.communicate("\n")
    assert len(seen) == 1
    assert path in seen[0]


def test_a_learner_who_dies_is_a_learner_who_failed(monkeypatch):
    start, popen = Room.start, subprocess.Popen

    def start_and_kill(room: Room, number: int, lesson: str, cells: int | None) -> thirty.Learner:
        with pytest.MonkeyPatch.context() as patch:  # who is killed in time has started nothing
            patch.setattr(subprocess, "Popen", lambda command, **how: popen(["cat"], **how))
            learner = start(room, number, lesson, cells)
        os.kill(learner.process.pid, signal.SIGKILL)
        return learner

    monkeypatch.setattr(Room, "start", start_and_kill)
    figures = run("05", "once", 1, cells=2)

    assert figures.failed == ["learner 0: it ended before its notebook did"]
    assert figures.problems() == figures.failed


@is_root
def test_a_folder_that_another_user_can_look_into_is_seen():
    room = Room(users=2)
    for number, (name, mode) in enumerate([("open", 0o755), ("closed", 0o700)]):
        (room.temporary / name).mkdir()
        os.chown(room.temporary / name, thirty.FIRST_USER + number, 0)
        (room.temporary / name).chmod(mode)
    try:
        assert room.open_to_others() == [f"learner1 can look into {room.temporary / 'open'}"]
    finally:
        room.close(patience=0)


def test_more_memory_than_is_stated_is_a_problem():
    figures = Figures("08", "once", 30, 0, None, most=thirty.STATED["08"])

    assert figures.problems() == []
    assert replace(figures, most=thirty.STATED["08"] + 1).problems() != []
    assert replace(figures, left=["a file: x"]).problems() == ["a file: x"]


def test_a_learner_can_be_made_to_believe_that_little_is_free():
    room = Room(free=2.5)
    [startup] = Path(room._base.name).rglob("startup/*.py")
    code = startup.read_text() + "print(memory.free_bytes())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    room.close(patience=0)

    assert told.stdout == "2500000000\n"


# What is kept.


def kept() -> list[Figures]:
    return [Figures(**each) for each in json.loads(FIGURES.read_text())]


def test_the_page_is_that_of_the_figures():
    assert PAGE.read_text() == page(kept())


def test_the_figures_are_those_of_thirty_learners_without_a_problem():
    rooms = {(each.lesson, each.way): each for each in kept() if each.learners == 30}

    assert set(rooms) == set(itertools.product(["05", "08"], ["once", "turn"]))
    assert all(each.problems() == [] for each in kept())
    assert all(each.alive == 30 for (_, way), each in rooms.items() if way == "once")


# Lesson 08 at both sizes.


def test_lesson_08_says_nothing_of_a_million_entries_before_it_has_asked_for_the_memory():
    cells = nbformat.read(NOTEBOOKS["08"], as_version=4).cells
    first = next(n for n, cell in enumerate(cells) if cell.source.startswith("## What they cost"))
    last = next(n for n, cell in enumerate(cells) if "## What the others" in cell.source)
    part = cells[first:last]
    [asked] = [n for n, cell in enumerate(part) if "most_entries(lab.server)" in cell.source]
    with_text = [n for n, cell in enumerate(part) if "million" in cell.source.lower()]

    assert "4 GB free" in part[0].source
    assert asked == 1
    assert with_text == [0]  # where both sizes are named


# One folder of seeded databases for all users of a machine.


@pytest.mark.parametrize(("kind", "mode"), [("sqlite", 0o755), ("postgres", 0o700)])
def test_others_may_read_a_stored_sqlite_and_no_stored_postgres(monkeypatch, tmp_path, kind, mode):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    copy_seeded(kind, 5, 5, tmp_path / "copy", lambda folder: {})
    [stored] = (tmp_path / "data").glob("shop-*")

    assert stored.stat().st_mode & 0o777 == mode
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700


def test_a_stored_database_that_is_not_to_be_read_is_not_called_damaged(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    copy_seeded("sqlite", 5, 5, tmp_path / "first", lambda folder: {})
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    with pytest.raises(LabError, match=r"is another user's.*\nSet LABKIT_DATA"):
        copy_seeded("sqlite", 5, 5, tmp_path / "second", lambda folder: {})
