"""A lab ends with its kernel: killed, restarted, side by side, eight at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import redis
from jupyter_client.manager import KernelManager

import labkit
from labkit.servers.redis import PATH_SERVERS
from tests.helpers import end, environment, is_gone, is_running, start_python, wait_until
from tests.kernels import kernel_manager

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

KILLS = 20
KERNELS_AT_ONCE = 4
START_SECONDS = 60  # for a kernel and labkit on a busy machine
SERVER = "server" if any(map(shutil.which, PATH_SERVERS)) else "wheel"  # another one if possible
START_LAB = """
import json, labkit, os
lab = labkit.start(users=20, orders=50)
print(json.dumps([os.getpid(), lab.server.pid, str(lab._keeper.directory), lab.redis_url]))
"""


class Started(NamedTuple):
    """A lab in another process."""

    owner: int  # the process that started it
    server: int
    directory: str
    url: str

    def answers(self) -> bool:
        """Whether its own server, and no other, answers at its address."""
        with redis.Redis.from_url(self.url) as client:
            return bool(client.info("server")["process_id"] == self.server)

    def is_gone(self) -> bool:
        return is_gone(self.server, self.directory)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("data"))


def test_twenty_killed_kernels_leave_no_server_and_no_directory(data):
    def start_and_kill(number: int) -> Started:
        with kernel("wheel", data) as manager:
            lab = start_lab(manager)
            assert lab.answers()
            assert os.listdir(lab.directory)
            os.kill(lab.owner, signal.SIGKILL)
            assert wait_until(lab.is_gone), f"after kill {number}: {os.listdir(lab.directory)}"
            return lab

    with ThreadPoolExecutor(KERNELS_AT_ONCE) as pool:
        labs = list(pool.map(start_and_kill, range(KILLS)))
    assert len({lab.owner for lab in labs}) == KILLS
    assert len({lab.server for lab in labs}) == KILLS


@pytest.mark.parametrize(("now", "choice"), [(True, "wheel"), (False, SERVER)])
def test_a_restarted_kernel_loses_its_old_server_and_gets_a_new_one(now, choice, data):
    with kernel(choice, data) as manager:
        old = start_lab(manager)
        manager.restart_kernel(now=now)
        assert wait_until(old.is_gone)
        new = start_lab(manager)
        assert new.server != old.server
        assert new.directory != old.directory
        assert new.answers()
    assert wait_until(new.is_gone)


def test_one_notebooks_end_leaves_the_others_server_answering(data):
    with kernel("wheel", data) as one, kernel(SERVER, data) as other:
        first, second = start_lab(one), start_lab(other)
        assert first.url != second.url
        os.kill(first.owner, signal.SIGKILL)
        assert wait_until(first.is_gone)
        assert second.answers()
        assert Path(second.directory).exists()
    assert wait_until(second.is_gone)


def test_eight_starts_at_once_in_eight_processes_are_eight_labs(tmp_path):
    code = START_LAB + "print(flush=True); input()"
    processes = [
        start_python(code, LABKIT_REDIS="wheel", LABKIT_DATA=str(tmp_path)) for _ in range(8)
    ]
    try:
        labs = [Started(*json.loads(last_line(process))) for process in processes]
        assert_different(labs)
        for process in processes[:4]:
            process.kill()
        for process in processes[4:]:
            finish(process)
        assert wait_until(lambda: all(lab.is_gone() for lab in labs))
    finally:
        for process in processes:
            end(process)


def test_eight_starts_at_once_in_eight_threads_are_eight_labs(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    barrier = threading.Barrier(8)

    def start(_: int) -> labkit.Lab:
        barrier.wait()
        return labkit.start(redis="wheel", database="sqlite", users=20, orders=50)

    with ThreadPoolExecutor(8) as pool:
        labs = list(pool.map(start, range(8)))
    started = [describe(lab) for lab in labs]
    assert_different(started)
    for number, lab in enumerate(labs):
        lab.redis.set("mine", number)
    assert [lab.redis.get("mine") for lab in labs] == [str(n).encode() for n in range(8)]
    for lab in labs[:4]:
        lab.close()
    assert all(lab.is_gone() for lab in started[:4])
    assert all(lab.answers() for lab in started[4:])
    for lab in labs[4:]:
        lab.close()
    assert all(lab.is_gone() for lab in started)


@contextmanager
def kernel(choice: str, data: str) -> Iterator[KernelManager]:
    """Run a kernel as a notebook does, and kill it at the end, whatever is left of it."""
    with kernel_manager(kernel_name="python3") as manager:
        manager.start_kernel(env=environment(LABKIT_REDIS=choice, LABKIT_DATA=data))
        try:
            yield manager
        finally:
            manager.shutdown_kernel(now=True)


def start_lab(manager: KernelManager) -> Started:
    """Run the first cell of a notebook in the kernel and return what it started."""
    client = manager.client()
    client.start_channels()
    printed: list[str] = []
    try:
        client.wait_for_ready(timeout=START_SECONDS)
        reply = client.execute_interactive(
            START_LAB,
            timeout=START_SECONDS,
            output_hook=lambda message: printed.append(message["content"].get("text", "")),
        )
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
    return Started(*json.loads("".join(printed).splitlines()[-1]))


def last_line(process: subprocess.Popen[str]) -> str:
    """Return the last line that a process prints before an empty one."""
    assert process.stdout is not None
    lines: list[str] = []
    while line := process.stdout.readline().strip():
        lines.append(line)
    return lines[-1]


def finish(process: subprocess.Popen[str]) -> None:
    """Let a process end as a program does that has nothing left to do."""
    process.communicate("\n", timeout=START_SECONDS)
    assert process.returncode == 0


def describe(lab: labkit.Lab) -> Started:
    assert lab.server.pid is not None
    return Started(os.getpid(), lab.server.pid, str(lab._keeper.directory), lab.redis_url)


def assert_different(labs: list[Started]) -> None:
    assert len({lab.server for lab in labs}) == len(labs)
    assert len({lab.directory for lab in labs}) == len(labs)
    assert len({lab.url for lab in labs}) == len(labs)
    assert all(lab.answers() for lab in labs)
    assert all(is_running(lab.server) for lab in labs)
