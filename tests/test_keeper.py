"""The keeper: its directory is private, and nothing it started outlives the one who asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from labkit.servers import Keeper
from labkit.servers.keeper import STOP_GRACE, has_ended
from tests.helpers import LONG, REPOSITORY, end, is_gone, is_running, start_python, wait_until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither SIGKILL nor fork")

SERVER = ["sleep", "300"]  # as much of a server as a keeper sees


def test_the_directory_is_for_this_user_alone(keeper):
    status = keeper.directory.stat()
    assert stat.S_IMODE(status.st_mode) == 0o700
    assert status.st_uid == os.geteuid()


def test_a_spawned_server_runs_until_the_keeper_is_closed(keeper):
    pid = keeper.spawn(SERVER, log=keeper.directory / "log")
    (keeper.directory / "data").mkdir()
    (keeper.directory / "data" / "file").write_text("left behind")
    assert is_running(pid)
    assert wait_until(lambda: psutil.Process(pid).cmdline() == SERVER, LONG)
    keeper.close()
    assert is_gone(pid, keeper.directory)


def test_closing_twice_does_no_harm(keeper):
    keeper.close()
    keeper.close()
    assert not keeper.directory.exists()


def test_a_forgotten_keeper_closes_itself():
    keeper = Keeper()
    directory, pid = keeper.directory, keeper.spawn(SERVER, log=keeper.directory / "log")
    del keeper
    assert is_gone(pid, directory)


def test_a_server_that_will_not_end_is_killed_after_its_second_of_grace(keeper):
    log = keeper.directory / "log"
    pid = keeper.spawn(["sh", "-c", "trap '' TERM; echo ready; sleep 300 & wait; wait"], log=log)
    assert wait_until(lambda: log.read_text() == "ready\n", LONG)
    began = time.monotonic()
    keeper.close()
    assert STOP_GRACE == 1.0
    assert STOP_GRACE <= time.monotonic() - began < 60  # the 300 of `sleep`, were it not killed
    assert is_gone(pid, keeper.directory)


def test_a_server_that_ended_by_itself_is_noticed_and_hinders_nothing(keeper):
    ended = keeper.spawn(["true"], log=keeper.directory / "log")
    running = keeper.spawn(SERVER, log=keeper.directory / "log")
    assert wait_until(lambda: has_ended(ended), LONG)
    assert not has_ended(running)
    keeper.close()
    assert is_gone(running, keeper.directory)


def test_output_goes_to_the_log_and_input_comes_from_the_file(keeper):
    text, log = keeper.directory / "input", keeper.directory / "log"
    text.write_text("said\n")
    keeper.spawn(["sh", "-c", "cat; echo wrong >&2"], log=log, stdin=text)
    assert wait_until(lambda: log.exists() and log.read_text() == "said\nwrong\n", LONG)


def test_without_a_file_the_input_is_empty(keeper):
    pid = keeper.spawn(["cat"], log=keeper.directory / "log")
    assert wait_until(
        lambda: has_ended(pid), LONG
    )  # it would wait for ever for the keeper's own input


def test_a_program_that_does_not_exist_raises_an_error_that_names_it(keeper):
    with pytest.raises(OSError, match="no-such-program"):
        keeper.spawn(["no-such-program"], log=keeper.directory / "log")
    assert is_running(keeper.spawn(SERVER, log=keeper.directory / "log"))  # and the keeper goes on


def test_a_file_that_is_no_program_raises_an_error(keeper):
    (keeper.directory / "program").write_bytes(b"\x7fELF, but not really")
    (keeper.directory / "program").chmod(0o700)
    with pytest.raises(OSError, match="program"):
        keeper.spawn([str(keeper.directory / "program")], log=keeper.directory / "log")


def test_a_log_that_cannot_be_written_raises_an_error(keeper):
    with pytest.raises(OSError, match="missing"):
        keeper.spawn(SERVER, log=keeper.directory / "missing" / "log")


def test_eight_threads_that_spawn_at_once_each_get_their_own_server(keeper):
    def spawn(number: int) -> tuple[int, list[str]]:
        command = ["sleep", str(300 + number)]
        pid = keeper.spawn(command, log=keeper.directory / "log")
        wait_until(
            lambda: psutil.Process(pid).cmdline() != [], LONG
        )  # for a moment it has none yet
        return pid, psutil.Process(pid).cmdline()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(spawn, range(8)))
    assert [command for _, command in answers] == [["sleep", str(300 + n)] for n in range(8)]
    assert len({pid for pid, _ in answers}) == 8


def test_a_keeper_outlives_the_thread_that_made_it():
    made: list[tuple[Keeper, int]] = []

    def make() -> None:
        keeper = Keeper()
        made.append((keeper, keeper.spawn(SERVER, log=keeper.directory / "log")))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    [(keeper, pid)] = made
    # Longer than the helper takes between two looks at its parent.
    assert not wait_until(lambda: is_gone(pid, keeper.directory) or not is_running(pid), 0.5)
    keeper.close()
    assert is_gone(pid, keeper.directory)


def test_a_keeper_whose_helper_was_killed_says_so_and_closes(keeper):
    helper = psutil.Process(keeper._process.pid)
    helper.kill()
    assert wait_until(lambda: not is_running(helper.pid), LONG)
    with pytest.raises(OSError):  # noqa: PT011  (a broken pipe, or no answer: as the race goes)
        keeper.spawn(SERVER, log=keeper.directory / "log")
    keeper.close()
    keeper.directory.rmdir()  # nobody else was left to do it


# From here on the parent is a process of its own, so that it can be killed.


def test_a_parent_that_ends_without_a_word_leaves_nothing():
    with parent_of_a_server() as (parent, pid, directory):
        assert parent.stdin is not None
        parent.stdin.close()
        assert parent.wait(5) == 0
        assert is_gone(pid, directory)  # at once: the end of Python waits for it


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_a_killed_parent_takes_its_server_and_directory_along(ending):
    with parent_of_a_server() as (parent, pid, directory):
        assert is_running(pid)
        (Path(directory) / "data").mkdir()
        parent.send_signal(ending)
        assert wait_until(lambda: is_gone(pid, directory))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's prctl")
def test_a_server_dies_with_a_killed_helper():
    with parent_of_a_server() as (parent, pid, directory):
        [helper] = psutil.Process(parent.pid).children()
        assert psutil.Process(pid).ppid() == helper.pid
        helper.kill()
        assert wait_until(lambda: not is_running(pid))
    shutil.rmtree(directory)  # nobody else was left to do it


def test_an_interrupt_of_the_parents_group_does_not_end_the_server():
    with parent_of_a_server() as (parent, pid, directory):
        assert parent.stdin is not None
        assert parent.stdout is not None
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdout.readline() == "interrupted\n"  # it did reach the group
        assert not wait_until(lambda: not is_running(pid), 0.5)
        assert Path(directory).exists()


def test_a_forked_child_that_holds_the_pipe_does_not_keep_the_server_alive():
    with parent_of_a_server(FORK_AND_WAIT) as (parent, pid, directory):
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        assert wait_until(lambda: is_gone(pid, directory))
        assert is_running(child)  # it held the pipe all the while


def test_closing_does_not_wait_for_a_forked_child_that_holds_the_pipe():
    with parent_of_a_server(FORK_AND_WAIT + CLOSE) as (parent, pid, directory):
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "the helper ended with 0\n"
        assert is_gone(pid, directory)
        assert is_running(child)


@pytest.mark.parametrize("ending", ["sys.exit()", "os._exit(0)", "keeper.close(); sys.exit()"])
def test_a_forked_childs_exit_does_not_stop_its_parents_server(ending):
    with parent_of_a_server(FORK_AND_EXIT.format(ending=ending)) as (parent, pid, directory):
        assert parent.stdout is not None
        assert parent.stdout.readline() == "the child ended with 0\n"
        assert not wait_until(lambda: not is_running(pid), 0.5)
        assert Path(directory).exists()


PARENT = """
import json, os, signal, sys
from keeper import Keeper
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
keeper = Keeper()
pid = keeper.spawn(["sleep", "300"], log=keeper.directory / "log")
print(json.dumps([pid, str(keeper.directory)]), flush=True)
"""
FORK_AND_WAIT = """
if (child := os.fork()) == 0:
    import time
    time.sleep(300)
print(child, flush=True)
"""
CLOSE = """
keeper.close()
print("the helper ended with", keeper._process.returncode, flush=True)
"""
FORK_AND_EXIT = """
if (child := os.fork()) == 0:
    {ending}
print("the child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
WAIT = """
sys.stdin.read()
"""


@contextmanager
def parent_of_a_server(more: str = "") -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """Start a process that starts a server, does `more`, and waits for the end of its input."""
    # keeper.py alone, without the rest of labkit: up in 50 ms.
    parent = start_python(PARENT + more + WAIT, PYTHONPATH=str(REPOSITORY / "labkit" / "servers"))
    try:
        assert parent.stdout is not None
        pid, directory = json.loads(parent.stdout.readline())
        yield parent, pid, directory
    finally:
        end(parent)
    assert wait_until(lambda: not is_running(pid))
