"""A lesson or a load test that is killed at a random moment leaves no server, port or folder.

Once each in `make test`; LABKIT_KILLS says how often else, and the report of a release says 20.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil  # type: ignore[import-untyped]
import pytest

from tests.helpers import REPOSITORY, is_listening, wait_until
from tests.kernels import kernel_manager
from tests.kills import MARK, running
from tests.test_load import Site, site

__all__ = ["site"]  # the fixture

KILLS = int(os.environ.get("LABKIT_KILLS", "1"))
# Of lesson 13, what starts most is killed in test_faults and test_lesson_13 each time.
LESSONS = ["11_load_test"] if KILLS == 1 else ["11_load_test", "13_production"]
LISTENS = "0A"  # in the kernel's table of sockets
GONE_WITHIN = 15.0  # seconds, on a machine that is busy with other tests
LESSON_MOMENTS, COMMAND_MOMENTS = (1.0, 30.0), (0.1, 4.0)  # seconds after the start


class Marked:
    """Everything that one process has started, wherever it hangs in the tree of processes."""

    def __init__(self, folder: Path) -> None:
        self.mark, self.folder = secrets.token_hex(8), folder
        self.environment = {**os.environ, MARK: self.mark, "TMPDIR": str(folder)}

    def running(self) -> dict[int, str]:
        """Return their command lines, by process id."""
        return running(self.mark, str(self.folder))

    def ports(self) -> set[int]:
        found = set()
        for pid in self.running():
            with contextlib.suppress(psutil.Error):  # it has ended since
                found |= {
                    each.laddr.port
                    for each in psutil.Process(pid).net_connections("tcp")
                    if each.status == psutil.CONN_LISTEN
                }
        return found

    def left(self) -> list[str]:
        return [*self.running().values(), *(path.name for path in self.folder.glob("labkit-*"))]

    def assert_gone(self, sockets: set[tuple[int, int]], moment: float) -> None:
        gone = wait_until(lambda: not self.left(), GONE_WITHIN)
        assert gone, f"killed after {moment:.2f} s, and left {self.left()}"
        assert not sockets & listening({port for port, _ in sockets})


def listening(ports: set[int]) -> set[tuple[int, int]]:
    """Return on which of these ports somebody listens, each with the number of its socket.

    Another test may be given a port that was let go of: its socket has another number. Where the
    system does not tell them, they are 0.
    """
    if sys.platform != "linux":
        return {(port, 0) for port in ports if is_listening(port)}
    tables = (path.read_text().splitlines()[1:] for path in Path("/proc/net").glob("tcp*"))
    rows = [line.split() for table in tables for line in table]
    found = {(int(row[1].rpartition(":")[2], 16), int(row[9])) for row in rows if row[3] == LISTENS}
    return {each for each in found if each[0] in ports}


def kill_after(moment: float, marked: Marked, kill: Callable[[], object]) -> None:
    time.sleep(moment)
    sockets = listening(marked.ports())
    print(f"after {moment:.2f} s: {len(marked.running())} processes, {len(sockets)} ports")
    kill()
    marked.assert_gone(sockets, moment)


@pytest.mark.parametrize("attempt", range(KILLS))
@pytest.mark.parametrize("name", LESSONS)
def test_a_lessons_kernel_leaves_nothing(name: str, attempt: int, tmp_path: Path) -> None:
    marked = Marked(tmp_path)
    path = REPOSITORY / "notebooks" / f"{name}.ipynb"
    lesson: Any = nbformat.read(path, as_version=4)
    code = "\n".join(cell.source for cell in lesson.cells if cell.cell_type == "code")
    with kernel_manager() as manager:
        manager.start_kernel(env=marked.environment, cwd=str(path.parent))
        client = manager.client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=60)
            client.execute(code)
            pid = manager.provisioner.pid
            kill_after(random.uniform(*LESSON_MOMENTS), marked, psutil.Process(pid).kill)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("attempt", range(KILLS))
def test_labkit_load_leaves_nothing(attempt: int, tmp_path: Path, site: Site) -> None:
    marked = Marked(tmp_path)
    command = [sys.executable, "-m", "labkit.cli", "load", site.url, "--seconds", "60"]
    with subprocess.Popen(command, env=marked.environment, stdout=subprocess.DEVNULL) as process:
        kill_after(random.uniform(*COMMAND_MOMENTS), marked, process.kill)
    counts = [-1, len(site.paths)]
    while counts[-1] != counts[-2] and len(counts) < 100:  # the last ones are still on their way
        time.sleep(0.3)
        counts.append(len(site.paths))
    assert counts[-1] == counts[-2]
