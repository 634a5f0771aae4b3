"""What is wrong outside labkit is told in two lines that say what to do; nothing is lost."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from IPython.core.interactiveshell import InteractiveShell

from labkit import LabError, cli
from labkit.audit.site import steady_port
from labkit.servers import Keeper
from tests.helpers import end, environment, is_listening, start_python, wait_until

# Of the 5 s that a person may wait: the imports, a second or so, are left out, because they take
# as long as the machine is busy; what `start` waits for is the same on any machine.
SECONDS = 4.0
START = """
import labkit, time
began = time.monotonic()
try:
    labkit.start(users=20, orders=50)
finally:
    print(time.monotonic() - began)
"""
# Reads, line by line, what a process is to do; the process is a copy that ends as any Python does.
FORKING = """
import fakeredis, gc, json, os, sys
import labkit.lab, labkit.servers, labkit.shop

gc.freeze()  # a copy that looks for garbage would copy all of it
for line in sys.stdin:
    request = json.loads(line)
    if (child := os.fork()) == 0:
        os.environ.clear()
        os.environ.update(request["environment"])
        for number, file in enumerate(request["written"], 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
        exec(request["code"], {"__name__": "__main__"})
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
FORKS: list[subprocess.Popen[str]] = []  # the one that runs this
NO_PYMYSQL = "import sys; sys.modules['pymysql'] = None\n"  # as if it were not installed
RAISED = "labkit.errors.LabError: "

BAD_VALUES = [  # the variable, its value, and words of the advice
    ("LABKIT_REDIS", "redis://127.0.0.1:1", "Correct the URL, or unset LABKIT_REDIS"),
    ("LABKIT_REDIS", "redis://:secret@127.0.0.1:port", "Use redis://host:port/number"),
    ("LABKIT_REDIS", "redis://:secret@[::1", "Use redis://host:port/number"),
    ("LABKIT_REDIS", "unix:///no/such/socket", "Correct the URL, or unset LABKIT_REDIS"),
    ("LABKIT_REDIS", "nonsense", "Use auto, server, wheel, fake, docker or a URL"),
    ("LABKIT_REDIS", "http://x", "Use redis://host:port/number"),
    ("LABKIT_DATABASE", "nonsense", "Use sqlite, postgres, or an SQLAlchemy URL"),
    ("LABKIT_DATABASE", "nonsense://", "Use sqlite, postgres, or a URL"),
    ("LABKIT_DATABASE", "nonsense://me:secret@host", "Use sqlite, postgres, or a URL"),
    ("LABKIT_DATABASE", "postgresql+psycopg://me:secret@host:port/x", "Use sqlite, postgres, or"),
    ("LABKIT_DATABASE", "postgresql+psycopg://me:secret@127.0.0.1:1/x", "Correct the URL, or"),
    ("LABKIT_DATABASE", "mysql+pymysql://me:secret@127.0.0.1:1/x", "Run `pip install pymysql`"),
    ("LABKIT_DATABASE", "sqlite://", "Name a file"),
    ("LABKIT_DATABASE", "sqlite:////no/such/folder/file", "Correct the URL, or unset"),
]


@pytest.fixture(scope="module", autouse=True)
def _forks() -> Iterator[None]:
    """Start the process that forks: importing labkit takes a second for each start otherwise."""
    FORKS.append(start_python(FORKING))
    yield
    end(FORKS.pop())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point LABKIT_DATA and TMPDIR at folders of this test; return the first."""
    for name in os.environ:
        if name.startswith("LABKIT_"):
            monkeypatch.delenv(name)
    for name in ("LABKIT_DATA", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path / "LABKIT_DATA"


@pytest.mark.parametrize(("name", "value", "advice"), BAD_VALUES)
def test_a_bad_value_is_answered_in_two_lines(name, value, advice, world):
    message = refusal({name: value}, before=NO_PYMYSQL)
    assert advice in message
    assert "secret" not in message
    assert value.replace("secret", "***").rstrip("/") in message


@pytest.mark.parametrize(("name", "value", "advice"), BAD_VALUES)
def test_the_doctor_calls_a_bad_value_a_failure(name, value, advice, world, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    line = diagnosis({name: value}, monkeypatch, capsys)
    assert line.startswith("Redis " if name == "LABKIT_REDIS" else "database ")
    assert advice in line
    assert "secret" not in line


def test_the_doctors_command_ends_with_1_and_no_traceback(world):
    done = subprocess.run(
        [sys.executable, "-m", "labkit.cli", "doctor"],
        env=environment(LABKIT_REDIS="nonsense", LABKIT_DATABASE="nonsense://"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == ""
    failures = [line for line in done.stdout.splitlines() if " FAIL: " in line]
    assert [line.split()[0] for line in failures] == ["Redis", "database"]


# URLs of what is not Redis.


def say_nothing(connection: socket.socket) -> None:
    while connection.recv(1024):
        pass


def close_at_once(connection: socket.socket) -> None:
    connection.close()


def answer_as_memcached(connection: socket.socket) -> None:
    while connection.recv(1024):
        connection.sendall(b"ERROR\r\n")


def answer_nonsense(connection: socket.socket) -> None:
    while connection.recv(1024):
        connection.sendall(b"\x00\xff\xfe\r\n\r\n")


@contextmanager
def served(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve every connection with `answer`; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                answer(connection)
            except OSError:
                return  # the client has gone

    threading.Thread(target=accept, daemon=True).start()
    with listener:
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def http_server() -> Iterator[int]:
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def memcached() -> Iterator[int]:
    if shutil.which("memcached") is None:
        with served(answer_as_memcached) as port:
            yield port
        return
    keeper, port = Keeper(), steady_port()
    command = ["memcached", "-l", "127.0.0.1", "-p", str(port), "-u", "root"]
    keeper.spawn(command, log=keeper.directory / "log")
    assert wait_until(lambda: is_listening(port), 5)
    yield port
    keeper.close()


NOT_REDIS = {
    "says nothing": lambda: served(say_nothing),
    "closes at once": lambda: served(close_at_once),
    "speaks nonsense": lambda: served(answer_nonsense),
    "HTTP": http_server,
    "memcached": memcached,
}


@pytest.fixture(params=NOT_REDIS)
def foreign_port(request: pytest.FixtureRequest) -> Iterator[int]:
    with NOT_REDIS[request.param]() as port:
        yield port


# The foreign server comes before `world`, so that it does not count as left behind there.
def test_what_is_not_redis_is_called_so(foreign_port, world, monkeypatch, capsys):
    url = {"LABKIT_REDIS": f"redis://127.0.0.1:{foreign_port}"}
    message = refusal(url)
    assert "not Redis" in message or "did not answer as Redis does" in message
    assert "Correct the URL, or unset LABKIT_REDIS" in message
    assert diagnosis(url, monkeypatch, capsys).startswith("Redis ")


# Databases that are not what they should be.


def test_a_file_that_is_no_database_is_refused_and_kept(world, monkeypatch, capsys):
    foreign = world.parent / "letters.txt"
    foreign.write_text("Dear diary, this is no database.\n" * 100)
    before = contents(world.parent)
    url = {"LABKIT_DATABASE": f"sqlite:///{foreign}"}
    assert "file is not a database" in refusal(url)
    assert diagnosis(url, monkeypatch, capsys).startswith("database ")
    assert contents(world.parent) == before


def test_a_database_with_a_table_of_the_same_name_is_refused_and_kept(world):
    import sqlite3

    foreign = world.parent / "theirs.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
        connection.execute("INSERT INTO users VALUES ('somebody')")
    connection.close()
    before = contents(world.parent)
    message = refusal({"LABKIT_DATABASE": f"sqlite:///{foreign}"})
    assert "users" in message
    assert "Nothing was touched" in message
    assert contents(world.parent) == before


def flip_bytes(stored: Path) -> None:
    file = stored / "shop.sqlite"
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(byte ^ 0xFF for byte in data[middle : middle + 8])
    file.write_bytes(data)


def truncate(stored: Path) -> None:
    os.truncate(stored / "shop.sqlite", (stored / "shop.sqlite").stat().st_size // 2)


def replace_manifest(text: str) -> Callable[[Path], None]:
    def replace(stored: Path) -> None:
        (stored / "manifest.json").write_text(text)

    return replace


DAMAGE: dict[str, Callable[[Path], object]] = {
    "bytes flipped": flip_bytes,
    "truncated": truncate,
    "file missing": lambda stored: (stored / "shop.sqlite").unlink(),
    "manifest not JSON": replace_manifest("not JSON"),
    "manifest a list": replace_manifest("[]"),
    "manifest without rows": replace_manifest('{"checksum": 1}'),
}


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with a small shop in it."""
    folder = tmp_path_factory.mktemp("seeded")
    done = run({"LABKIT_DATA": str(folder), "LABKIT_REDIS": "fake"})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_database_is_noticed_kept_and_made_anew_when_told_so(
    damage, seeded, world, capsys
):
    shutil.copytree(seeded, world, dirs_exist_ok=True)
    [stored] = world.glob("shop-*")
    DAMAGE[damage](stored)
    before = contents(world)

    message = refusal({"LABKIT_REDIS": "fake"})
    assert f"{stored.name} in {world} is damaged" in message
    assert "Run `labkit clean`" in message
    assert contents(world) == before

    assert cli.main(["clean"]) == 0  # the advice helps
    assert stored.name in capsys.readouterr().out
    assert not list(world.iterdir())


# What a notebook shows.


def test_ipython_shows_the_message_and_no_traceback(capsys):
    shell = InteractiveShell()
    result = shell.run_cell("import labkit\nlabkit.start(redis='nonsense')", store_history=False)
    assert isinstance(result.error_in_exec, LabError)
    shown = capsys.readouterr().out.strip().splitlines()
    assert shown == f"LabError: {result.error_in_exec}".splitlines()
    assert len(shown) == 2


@dataclass
class Ended:
    """A process that has ended, and what it has written."""

    returncode: int
    stdout: str
    stderr: str


def run(variables: dict[str, str], before: str = "") -> Ended:
    """Start a lab in a process of its own, forked from one that has imported all that it needs."""
    world = environment(**variables) if "LABKIT_DATA" in variables else here(variables)
    with tempfile.TemporaryDirectory() as name:
        written = [os.path.join(name, stream) for stream in ("stdout", "stderr")]
        request = {"environment": world, "code": before + START, "written": written}
        [forking] = FORKS
        assert forking.stdin is not None
        assert forking.stdout is not None
        forking.stdin.write(json.dumps(request) + "\n")
        forking.stdin.flush()
        code = int(forking.stdout.readline())
        return Ended(code, *(Path(file).read_text() for file in written))


def here(variables: dict[str, str]) -> dict[str, str]:
    """Return the environment with these variables, and with the LABKIT_DATA of the test."""
    return environment(LABKIT_DATA=os.environ["LABKIT_DATA"], **variables)


def refusal(variables: dict[str, str], before: str = "") -> str:
    """Start a lab in a new process that must refuse, in time and tidily; return its message."""
    done = run(variables, before)
    assert done.returncode == 1
    assert float(done.stdout) < SECONDS  # and nothing else was printed
    _, raised, message = done.stderr.partition("\n" + RAISED)
    assert raised, done.stderr
    assert "During handling of" not in done.stderr
    assert len(message.strip().splitlines()) == 2, message
    assert_nothing_is_left()
    return message


def diagnosis(
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """Run the doctor, which must fail in one thing only; return the line that says so."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    assert cli.main(["doctor"]) == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if " FAIL: " in line]
    assert_nothing_is_left()
    return line


def assert_nothing_is_left() -> None:
    """No file in TMPDIR, and no process that was started with it: neither server nor keeper."""
    folder = os.environ["TMPDIR"]
    assert not list(Path(folder).iterdir())
    assert not [process for process in psutil.process_iter() if uses(process, folder)]


def uses(process: psutil.Process, folder: str) -> bool:
    try:
        return process.pid != os.getpid() and bool(process.environ().get("TMPDIR") == folder)
    except psutil.Error:  # ended meanwhile, or somebody else's
        return False


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
