"""Thirty learners on one machine: what lessons take in memory, and what they leave behind.

    python -m scripts.thirty                    # thirty learners, lessons 05 and 08, both ways
    python -m scripts.thirty --learners 1 --ways turn --lessons 00 01 02

Each learner is a process with a kernel of its own that executes a whole notebook, as Jupyter does.
"turn": one after the other. "once": all at the same time; whoever has finished keeps kernel and lab
until all have. All share one folder for temporary files. As root, with --users 3, they are three
users without rights. Every half second the memory of each learner's processes is looked at: the
kernel, its Redis and whatever else it has started. Memory that processes share is divided among
them (PSS). A shorter peak may go unseen. With --keep the figures go to docs/thirty.json, and
docs/thirty.md is written anew from that. The exit code is 1 if a cell has failed, a learner took
more than what is stated, somebody could look into another's folder, or anything was left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil  # type: ignore[import-untyped]
from nbclient import NotebookClient

from labkit.measure.memory import GB
from labkit.shop.stored import data_folder
from tests.helpers import wait_until
from tests.kernels import by_sockets
from tests.kills import GONE, MARK, running

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
FIGURES, PAGE = ROOT / "docs" / "thirty.json", ROOT / "docs" / "thirty.md"
MB = 1_000_000  # bytes
STATED = {"05": 500, "08": 500}  # MB: what a learner may take in these lessons
EVERY = 0.5  # seconds between two looks
FIRST_USER = 61_001  # the first of the users that learners are, as root: nobody's account
WAYS = {"turn": "in turn", "once": "at once"}
SHARED_MEMORY = Path("/dev/shm")
PRETEND = "import labkit.measure.memory as memory\nmemory.free_bytes = lambda: {bytes}\n"


@dataclass
class Figures:
    """What a run of one lesson took. Memory and disk are in MB (1,000,000 bytes)."""

    lesson: str
    way: str
    learners: int
    users: int
    free: float | None  # GB that the lesson was made to believe in
    median: float = 0
    most: float = 0
    most_own: float = 0  # without what processes share
    together: float = 0
    disk: float = 0
    processes: int = 0
    files: int = 0
    sockets: int = 0
    alive: int = 0  # learners with a kernel at the same time
    seconds: float = 0
    machine: str = ""
    failed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    open_to_others: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Return what must not be, in words."""
        limit = STATED.get(self.lesson, float("inf"))
        too_much = [f"a learner took {self.most:.0f} MB"] if self.most > limit else []
        return too_much + self.failed + self.left + self.open_to_others


@dataclass
class Learner:
    """A process that executes a notebook, and how much its kernel's processes took at most."""

    process: subprocess.Popen[str]
    kernel: int = 0
    done: bool = False
    failed: list[str] = field(default_factory=list)
    most: float = 0
    most_own: float = 0

    def listen(self) -> None:
        """Take in what it says, until it has finished; then it waits, with its kernel alive."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            self.kernel = said.get("kernel", self.kernel)
            if "failed" in said:
                self.failed, self.done = said["failed"], True
                return
        self.failed, self.done = ["it ended before its notebook did"], True

    def end(self) -> None:
        """Let it close its kernel and end."""
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate("\n")
        self.kernel = 0


class Room:
    """Where learners work: a folder for their temporary files, their homes, and the looks at them.

    Args:
        users: how many users they are; 0 for the one who runs this.
        free: how many GB they are to take for free; None for what is.
    """

    def __init__(self, users: int = 0, free: float | None = None) -> None:
        self.users, self.free = users, free
        self._mark = uuid.uuid4().hex
        self._base = tempfile.TemporaryDirectory(prefix="lk")  # short: sockets have short paths
        self.temporary = Path(self._base.name, "tmp")
        self.temporary.mkdir()
        self.temporary.chmod(0o1777)
        Path(self._base.name).chmod(0o755)
        self._shared = set(_names(SHARED_MEMORY))
        for number in range(max(users, 1)):
            self._make_home(number)

    def _make_home(self, number: int) -> None:
        startup = self._home(number) / ".ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        if self.free is not None:
            code = PRETEND.format(bytes=int(self.free * GB))
            (startup / "free.py").write_text(code)
        if self.users:
            for path in (self._home(number), *self._home(number).rglob("*")):
                os.chown(path, FIRST_USER + number, FIRST_USER + number)

    def _home(self, number: int) -> Path:
        return Path(self._base.name, f"home{number}")

    def start(self, number: int, lesson: str, cells: int | None = None) -> Learner:
        """Start a learner on a lesson, or on its first cells."""
        user = number % max(self.users, 1)
        names = {name: value for name, value in os.environ.items() if name[:4] != "MPLB"}
        environment = names | {
            "HOME": str(self._home(user)),
            "USER": f"learner{user}",
            "IPYTHONDIR": str(self._home(user) / ".ipython"),
            "TMPDIR": str(self.temporary),
            "LABKIT_DATA": str(data_folder()),
            "LABKIT_REDIS": os.environ.get("LABKIT_REDIS", "wheel"),  # that every learner has
            "PYTHONPATH": str(ROOT),
            MARK: self._mark,
        }
        command = [sys.executable, "-m", "scripts.thirty", "--execute", lesson]
        command += ["--cells", str(cells)] if cells else []
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=environment, start_new_session=True, **self._identity(user),
        )  # fmt: skip
        learner = Learner(process)
        threading.Thread(target=learner.listen, daemon=True).start()
        return learner

    def _identity(self, user: int) -> dict[str, Any]:
        if not self.users:
            return {}
        return {"user": FIRST_USER + user, "group": FIRST_USER + user, "extra_groups": []}

    def open_to_others(self) -> list[str]:
        """Return which users' folders another of the users can look into."""
        found = []
        for user in range(self.users):
            others = [
                str(path)
                for path in self.temporary.iterdir()
                if path.is_dir() and path.stat().st_uid != FIRST_USER + user
            ]
            for path in others:
                look = ["ls", path]
                told = subprocess.run(look, capture_output=True, cwd="/", **self._identity(user))
                if told.returncode == 0:
                    found.append(f"learner{user} can look into {path}")
        return found

    def close(self, patience: float = GONE) -> list[str]:
        """Return what is left behind after some seconds, and remove the folder."""
        wait_until(lambda: not running(self._mark, self._base.name), patience)
        wait_until(lambda: not _names(self.temporary), patience)
        left = [f"a process: {words}" for words in running(self._mark, self._base.name).values()]
        left += [f"a file: {name}" for name in _names(self.temporary)]
        with contextlib.suppress(OSError):
            sockets = Path("/proc/net/unix").read_text().splitlines()
            left += [f"a socket: {line}" for line in sockets if self._base.name in line]
        if self.users:  # else they may be others', who work under the same name
            new = set(_names(SHARED_MEMORY)) - self._shared
            left += [f"shared memory: {name}" for name in new if self._is_learners(name)]
        self._base.cleanup()
        return left

    def _is_learners(self, name: str) -> bool:
        with contextlib.suppress(OSError):
            owner = (SHARED_MEMORY / name).stat().st_uid
            return FIRST_USER <= owner < FIRST_USER + self.users
        return False


def run(
    lesson: str,
    way: str,
    learners: int = 30,
    users: int = 0,
    free: float | None = None,
    cells: int | None = None,
) -> Figures:
    """Have learners execute a lesson, or its first cells, and return what that took."""
    figures = Figures(lesson, way, learners, users, free, machine=machine())
    began = time.monotonic()
    room = Room(users, free)
    everybody: list[Learner] = []
    try:
        groups = [range(learners)] if way == "once" else [[number] for number in range(learners)]
        for numbers in groups:
            group = [room.start(number, lesson, cells) for number in numbers]
            everybody += group
            while not all(learner.done for learner in group):
                look(group, room, figures)
                threading.Event().wait(EVERY)
            look(group, room, figures)
            figures.open_to_others += room.open_to_others()
            with ThreadPoolExecutor(len(group)) as pool:
                list(pool.map(Learner.end, group))
            print(f"{lesson} {WAYS[way]}: {len(everybody)} of {learners}", flush=True)
    finally:
        for learner in everybody:
            if learner.process.poll() is None:
                learner.process.kill()
        figures.left = room.close()
    figures.seconds = time.monotonic() - began
    figures.median = statistics.median(learner.most for learner in everybody)
    figures.most = max(learner.most for learner in everybody)
    figures.most_own = max(learner.most_own for learner in everybody)
    figures.failed = [
        f"learner {number}: {words}"
        for number, learner in enumerate(everybody)
        for words in learner.failed
    ]
    return figures


def look(group: Sequence[Learner], room: Room, figures: Figures) -> None:
    """Look once at what these learners' processes take; keep what is more than ever before."""
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter(["ppid"]):
        children.setdefault(process.info["ppid"], []).append(process)
    kernels = [learner for learner in group if learner.kernel]
    together, processes, files, sockets = 0.0, 0, 0, 0
    for learner in kernels:
        takes = owns = 0.0
        for process in _tree(learner.kernel, children):
            with contextlib.suppress(psutil.Error, OSError):
                memory = process.memory_full_info()
                takes, owns, processes = takes + memory.pss, owns + memory.uss, processes + 1
                opened = _opened(process.pid)
                files, sockets = files + len(opened), sockets + sum(map(_is_socket, opened))
        learner.most = max(learner.most, takes / MB)
        learner.most_own = max(learner.most_own, owns / MB)
        together += takes / MB
    figures.alive = max(figures.alive, len(kernels))
    figures.together = max(figures.together, together)
    figures.processes = max(figures.processes, processes)
    figures.files = max(figures.files, files)
    figures.sockets = max(figures.sockets, sockets)
    figures.disk = max(figures.disk, _disk(room.temporary) / MB)


def _tree(pid: int, children: dict[int, list[psutil.Process]]) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        yield psutil.Process(pid)
    for child in children.get(pid, []):
        yield from _tree(child.pid, children)


def _opened(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    found = []
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):  # closed since
            found.append(os.readlink(f"{folder}/{name}"))
    return found


def _is_socket(target: str) -> bool:
    return target.startswith("socket:")


def _disk(folder: Path) -> int:
    """Return what a folder takes of the disk, in bytes."""
    taken = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # removed since
                taken += 512 * os.lstat(os.path.join(parent, name)).st_blocks
    return taken


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def machine() -> str:
    """Return this machine's cores and memory, in words."""
    memory = psutil.virtual_memory().total / GB
    return f"{psutil.cpu_count()} cores, {memory:.0f} GB of memory"


def execute(lesson: str, cells: int | None = None) -> None:
    """Be a learner: execute a lesson, say which cells failed, and wait to be told to end."""
    notebook = nbformat.read(NOTEBOOKS[lesson], as_version=4)  # type: ignore[no-untyped-call]
    manager = by_sockets(tempfile.gettempdir(), kernel_name="python3")
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=None,  # thirty at once take as long as they take
        allow_errors=True,
        resources={"metadata": {"path": NOTEBOOKS[lesson].parent}},
        startup_timeout=600,
        extra_arguments=["--log-level=ERROR"],
    )
    failed = []
    with client.setup_kernel(cleanup_kc=True):  # it leaves alone what it is given
        [kernel] = psutil.Process().children()
        _say({"kernel": kernel.pid})
        for number, cell in enumerate(notebook.cells[:cells]):
            client.execute_cell(cell, number)
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    failed.append(f"cell {number}: {output.ename}: {output.evalue[:200]}")
            cell.outputs = []
        _say({"failed": failed})
        sys.stdin.readline()


def _say(words: dict[str, Any]) -> None:
    print(json.dumps(words), flush=True)


# What is kept of the runs.


def keep(figures: Figures) -> None:
    """Put a run's figures in the place of those of the last such run, and write the page."""
    kept = [Figures(**each) for each in json.loads(FIGURES.read_text())] if FIGURES.exists() else []
    kept = [each for each in kept if _kind(each) != _kind(figures)] + [figures]
    kept.sort(key=lambda each: json.dumps(_kind(each)))
    FIGURES.write_text(json.dumps([asdict(each) for each in kept], indent=1) + "\n")
    PAGE.write_text(page(kept))


def _kind(figures: Figures) -> tuple[bool, str, str, str]:
    return figures.learners == 1, figures.lesson, figures.way, str(figures.free)


def page(kept: Sequence[Figures]) -> str:
    """Return docs/thirty.md."""
    rooms = [each for each in kept if each.learners > 1]
    alone = [each for each in kept if each.learners == 1]
    parts = [INTRODUCTION, table(rooms)]
    if alone:
        parts += [ALONE, table_of_lessons(alone)]
    machines = ", or ".join(sorted({each.machine for each in kept}))
    return "\n".join([*parts, f"Measured on {machines}.", ""])


INTRODUCTION = """<!-- Written by `python -m scripts.thirty --keep` from docs/thirty.json. -->
# Thirty at once

Thirty learners on one machine, each with a kernel of their own, execute whole lessons: in turn, or
all at once. *For each* is the most memory that one learner's processes took, the kernel, its Redis
and all that it starts, looked at every half second; memory that they share with others is divided
among those. *Together* is the most that all took at the same moment. *Disk* is what they had in the
folder for temporary files. Beside this, each learner has what Jupyter itself takes. *Time* is until
the last of them was done, on a machine that may have had other things to do. Over TCP, some of
thirty kernels that start at once find their ports taken; `c.KernelManager.transport = "ipc"` has no
such race.
"""
ALONE = """
## One learner alone

The most memory that one learner takes, with no other learner on the machine.
"""


def table(rooms: Sequence[Figures]) -> str:
    """Return a table of what many learners took."""
    lines = [
        "| lesson | learners | users | for each, median | most | together | disk | processes "
        "| open files | of these, sockets | time | failed cells | left behind |",
        "| --- | --- |" + 11 * " ---: |",
    ]
    for each in rooms:
        alive = f", {each.alive} alive together" if each.way == "once" else ""
        lines.append(
            f"| {_lesson(each)} | {each.learners} {WAYS[each.way]}{alive} | {each.users or 1} "
            f"| {each.median:,.0f} MB | {each.most:,.0f} MB | {each.together:,.0f} MB "
            f"| {each.disk:,.0f} MB | {each.processes} | {each.files:,} | {each.sockets:,} "
            f"| {each.seconds / 60:.0f} min | {len(each.failed)} | {len(each.left) or 'nothing'} |"
        )
    return "\n".join(lines) + "\n"


def table_of_lessons(alone: Sequence[Figures]) -> str:
    """Return a table of what one learner takes, a row a lesson."""
    lines = ["| lesson | memory | disk | processes |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {_lesson(each)} | {each.most:,.0f} MB | {each.disk:,.0f} MB | {each.processes} |"
        for each in alone
    ]
    return "\n".join(lines) + "\n"


def _lesson(figures: Figures) -> str:
    return figures.lesson + (f", with {figures.free:g} GB free" if figures.free else "")


def main() -> int:
    """Run what was asked for; return 1 if anything was as it must not be."""
    parser = argparse.ArgumentParser(description="Have many learners execute lessons")
    parser.add_argument("--learners", type=int, default=int(os.environ.get("LABKIT_LEARNERS", 30)))
    parser.add_argument("--lessons", nargs="+", choices=NOTEBOOKS, default=["05", "08"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--users", type=int, default=0, help="as root: be so many users")
    parser.add_argument("--free", type=float, help="GB that lessons are to take for free")
    parser.add_argument("--cells", type=int, help="only the first so many cells")
    parser.add_argument("--keep", action="store_true", help="write docs/thirty.json and thirty.md")
    parser.add_argument("--execute", choices=NOTEBOOKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.execute:
        execute(options.execute, options.cells)
        return 0
    problems = []
    for way in options.ways:
        for lesson in options.lessons:
            figures = run(lesson, way, options.learners, options.users, options.free, options.cells)
            print(table([figures]), f"{figures.seconds:.0f} s", *figures.problems(), sep="\n")
            problems += figures.problems()
            if options.keep:
                keep(figures)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
