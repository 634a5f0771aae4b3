"""What test_soak.py runs: gunicorn, a Redis that dies and comes back, and clients that check."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from labkit.cache import codec
from labkit.cache.tokens import MARKER, token_key
from labkit.servers import Keeper, choose_redis
from labkit.servers.redis import find_program
from tests.helpers import REPOSITORY, is_running, wait_until
from tests.soak_app import COUNTERS, DIRTY, NAMESPACE, ROWS, TABLES

GTHREAD = ("--worker-class", "gthread", "--threads", "8")  # they keep connections open
PATIENCE = 30.0  # seconds: nothing here takes as long, unless it hangs
# Markers and leases that a restart brings back may have no owner any more, and stand for so long.
MARK_MS = LEASE_MS = 2_000
PAUSE_MS = 200  # so that readers are back before writers are


class DyingRedis:
    """A Redis that can be killed, started again with what it had saved, and frozen."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._program = find_program(choose_redis("auto")[0])
        self._directory = keeper.directory / "redis"
        self._directory.mkdir(mode=0o700)
        path = self._directory / "redis.sock"
        self.url = f"unix://{path}"
        self._client = redis.Redis.from_url(self.url)
        self.pid = 0
        self.start()

    def start(self, appendonly: bool = False) -> None:
        """Start it, with the append-only file or with the snapshot."""
        config = self._directory / "redis.conf"
        config.write_text(
            f'port 0\nunixsocket "{self._directory / "redis.sock"}"\nunixsocketperm 700\n'
            f'dir "{self._directory}"\nsave ""\nappendonly {"yes" if appendonly else "no"}\n'
        )
        command = [str(self._program), str(config)]
        self.pid = self._keeper.spawn(
            command, log=self._directory / "log", stop_signal=signal.SIGKILL
        )
        assert wait_until(self.answers, PATIENCE)

    def answers(self) -> bool:
        with suppress(redis.RedisError):
            return int(self._client.info("server")["process_id"]) == self.pid
        return False

    def save(self, appendonly: bool = False) -> None:
        """Take a snapshot; or write an append-only file from now on."""
        self._client.save()
        if appendonly:
            self._client.config_set("appendonly", "yes")
            assert wait_until(self._appends, PATIENCE)

    def _appends(self) -> bool:
        about = self._client.info("persistence")
        return not (about["aof_rewrite_in_progress"] or about["aof_rewrite_scheduled"])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert wait_until(lambda: not is_running(self.pid), PATIENCE)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def connect(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)


class Gunicorn:
    """Workers that serve `soak_app`, on a unix socket."""

    def __init__(
        self, keeper: Keeper, redis_url: str, *options: str, warm: bool = False, **settings: Any
    ) -> None:
        self._socket = keeper.directory / "gunicorn.sock"
        self.log = keeper.directory / "gunicorn.log"
        self.database = keeper.directory / "soak.db"
        arguments = {"database": str(self.database), "redis": redis_url, "warm": warm} | settings
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        command = [sys.executable, "-m", "gunicorn", "--chdir", str(REPOSITORY)]
        command += ["--bind", f"unix:{self._socket}", "--no-control-socket"]
        # Its threads may hang at SIGQUIT, so it kills its workers at once, before it is killed.
        command += ["--worker-tmp-dir", str(keeper.directory), "--graceful-timeout", "0"]
        command += ["--keep-alive", "75", *options, f"tests.soak_app:create({given})"]
        self.pid = keeper.spawn(command, log=self.log, stop_signal=signal.SIGQUIT)
        assert wait_until(self._answers, PATIENCE), self.log.read_text()

    def _answers(self) -> bool:
        with suppress(OSError), closing(self.connect()) as client:
            client.get("/state")
            return True
        return False

    def connect(self) -> Client:
        return Client(self._socket)

    def connect_to_each(self, workers: int, clients: int = 1) -> dict[int, list[Client]]:
        """Return connections that are kept alive, so many to each worker, by its process id."""
        found: dict[int, list[Client]] = {}
        deadline = time.monotonic() + PATIENCE
        while len(found) < workers or min(map(len, found.values())) < clients:
            assert time.monotonic() < deadline, f"not every worker accepts: {list(found)}"
            client = self.connect()
            mine = found.setdefault(client.get("/state")["pid"], [])
            if len(mine) < clients:
                mine.append(client)
            else:
                client.close()
        return found


class Client(http.client.HTTPConnection):
    """One connection to gunicorn, kept alive."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        self.request(method, path)
        response = self.getresponse()
        return response.status, response.read()

    def get(self, path: str) -> Any:
        status, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)


@dataclass
class Ledger:
    """What the clients know, and what they have found.

    Attributes:
        acknowledged: the newest value of each counter whose write was answered.
        requests: how many were answered, by kind.
        failed: those with another status than 200.
        stale: a reader got less than what was acknowledged before it asked.
        foreign: somebody read what was not committed, or not what it had written itself.
        slowest: how long the slowest request took, in seconds, when it was sent, and which it was.
        happened: outages, by when.
        written_by: which worker has acknowledged a value, and when.
    """

    requests: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    slowest: tuple[float, float, str] = (0.0, 0.0, "")
    happened: list[tuple[float, str]] = field(default_factory=list)
    acknowledged: dict[tuple[int, int], int] = field(default_factory=Counter)
    written_by: dict[tuple[int, int, int], tuple[int, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _began: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        return time.monotonic() - self._began

    def happens(self, what: str) -> None:
        self.happened.append((self.now(), what))

    def request(self, client: Client, method: str, path: str) -> Any:
        """Send a request; return the answer, or None where it failed."""
        kind, began = path.split("/")[1], self.now()
        status, body = client.ask(method, path)
        with self._lock:
            self.requests[kind] += 1
            self.slowest = max(self.slowest, (self.now() - began, began, f"{method} {path}"))
            if status != 200:
                self.failed.append(f"{method} {path}: {status} {body[:200]!r}")
                return None
        return json.loads(body)

    def read(self, client: Client, path: str) -> None:
        with self._lock:
            floor = dict(self.acknowledged)
        asked = self.now()
        if (answer := self.request(client, "GET", path)) is None:
            return
        for number, row, value in answer["values"]:
            if value < floor.get((number, row), 0):
                self.stale.append(self._about(asked, path, answer["pid"], number, row, value))
            if value >= DIRTY:
                self.foreign.append(f"{path}: {value} was rolled back")

    def _about(self, asked: float, path: str, pid: int, number: int, row: int, value: int) -> str:
        with self._lock:
            newest = self.acknowledged[number, row]
            writer, when = self.written_by[number, row, value + 1]
        events = [f"{asked - at:.3f} s after {what}" for at, what in self.happened if at <= asked]
        return (
            f"at {asked:.3f} {path}: {value} of {newest} from {pid}, {asked - when:.4f} s after "
            f"the next value was acknowledged by {writer}; {', '.join(events[-2:])}"
        )

    def write(self, client: Client, number: int, row: int) -> None:
        path = f"/add/{number}/{row}"
        if (answer := self.request(client, "POST", path)) is None:
            return
        written, own = answer["written"], answer["own"]
        with self._lock:
            self.acknowledged[number, row] = max(self.acknowledged[number, row], written)
            self.written_by[number, row, written] = (answer["pid"], self.now())
        if own != written:
            self.foreign.append(f"{path}: has read {own}, and not its own {written}")

    def roll_back(self, client: Client, number: int, row: int) -> None:
        path = f"/add/{number}/{row}?dirty=1"
        answer = self.request(client, "POST", path)
        if answer is not None and answer["own"] != answer["written"]:
            self.foreign.append(f"{path}: has read {answer['own']}, and not {answer['written']}")


@contextmanager
def running(*jobs: Callable[[], object]) -> Iterator[threading.Event]:
    """Repeat each job in a thread of its own, until the event that is given, or the end."""
    done = threading.Event()
    errors: list[BaseException] = []

    def repeat(job: Callable[[], object]) -> None:
        try:
            while not done.is_set():
                job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        done.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def reader(ledger: Ledger, client: Client, seed: int) -> Callable[[], None]:
    chance = random.Random(seed)

    def read() -> None:
        number, row = chance.randrange(TABLES), chance.randrange(ROWS)
        paths = [f"/value/{number}/{row}", f"/rows/{number}", "/everything"]
        ledger.read(client, chance.choices(paths, (6, 3, 1))[0])

    return read


class Pen:
    """What writers hold while they write, and whoever wants none to write."""

    def __init__(self, writers: int) -> None:
        self._locks = [threading.Lock() for _ in range(writers)]

    def of(self, writer: int) -> threading.Lock:
        return self._locks[writer]

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have no write under way, and none begin."""
        with ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock)
            yield


def writer(
    ledger: Ledger,
    client: Client,
    seed: int,
    pause: float,
    pen: AbstractContextManager[Any] | None = None,
) -> Callable[[], None]:
    chance, idle = random.Random(seed), threading.Event()

    def write() -> None:
        number, row = chance.randrange(TABLES), chance.randrange(ROWS)
        with pen or nullcontext():
            if chance.random() < 0.1:
                ledger.roll_back(client, number, row)
            else:
                ledger.write(client, number, row)
        idle.wait(pause)  # so that there are hits as well

    return write


def values_in(database: Path) -> list[list[int]]:
    """Return the values of all counters: the database's own word."""
    with closing(sqlite3.connect(database, timeout=PATIENCE)) as connection:
        return [
            [value for (value,) in connection.execute(f"SELECT value FROM {name} ORDER BY id")]
            for name in (each.__tablename__ for each in COUNTERS)
        ]


def entries(client: redis.Redis) -> dict[str, bytes]:
    """Return every entry in the namespace, whether it counts or not."""
    names: list[bytes] = list(client.scan_iter(match=f"{NAMESPACE}:*", count=1000))
    ours = [
        name.decode()
        for name in sorted(set(names))
        if name.decode() != f"{NAMESPACE}:server"
        and not name.startswith(f"{NAMESPACE}:statistics:".encode())
    ]
    values: Any = client.mget(ours) if ours else []
    return {name: value for name, value in zip(ours, values, strict=True) if value is not None}


def compared(
    client: redis.Redis, questions: list[tuple[str, list[str], Any]], values: list[list[int]]
) -> tuple[int, list[str]]:
    """Compare each entry that counts with the database; return how many, and those that differ."""
    known = {key: (tags, answer) for key, tags, answer in questions}
    counting, wrong = 0, []
    for key, entry in entries(client).items():
        if key not in known:
            wrong.append(f"{key} is no entry of the application")
            continue
        tags, answer = known[key]
        tokens: Any = client.mget([token_key(f"{NAMESPACE}:{tag}") for tag in tags])
        stamp, _, data = entry.partition(b"\n")
        if stamp.split(b" ") != tokens or any((each or b"").startswith(MARKER) for each in tokens):
            continue
        counting += 1
        if codec.loads(data) != answer(values):
            wrong.append(f"{key}: {codec.loads(data)}, and the database has {answer(values)}")
    return counting, wrong


@dataclass
class Report:
    """What came of a soak."""

    ledger: Ledger
    before: tuple[int, list[str]]  # entries that counted, and wrong ones, as the outages left them
    after: tuple[int, list[str]]  # and when every question had been asked again
    questions: int
    stats: list[dict[str, Any]]

    def __str__(self) -> str:
        ledger = self.ledger
        return (
            f"{ledger.requests.total()} requests {dict(ledger.requests)}, "
            f"{len(ledger.failed)} failed, {len(ledger.stale)} stale, "
            f"{len(ledger.foreign)} foreign; slowest {ledger.slowest[0]:.3f} s "
            f"({ledger.slowest[2]}); {self.before[0]} and {self.after[0]} entries compared "
            f"of {self.questions} questions, "
            f"{len(self.before[1])} and {len(self.after[1])} wrong; stats {self.stats}"
        )


def soak(
    keeper: Keeper,
    questions: list[tuple[str, list[str], Any]],
    server: DyingRedis,
    gunicorn: Gunicorn,
    seconds: float,
    workers: int = 4,
    pause: float = 0.03,
) -> Report:
    """Read and write while Redis dies five times, and freezes once; then compare what it holds."""
    ledger = Ledger()
    clients = gunicorn.connect_to_each(workers, clients=4)
    jobs, pen = [], Pen(workers)
    for seed, mine in enumerate(clients.values()):
        jobs += [reader(ledger, mine[0], seed), reader(ledger, mine[1], 10 + seed)]
        jobs.append(writer(ledger, mine[2], 20 + seed, pause, pen.of(seed)))
    control = [mine[3] for mine in clients.values()]
    calm = threading.Event()

    def die(outage: int, appendonly: bool) -> None:
        server.kill()
        ledger.happens(f"kill {outage}")
        calm.wait(0.05 * seconds)
        if outage < 5:
            server.start(appendonly)
            ledger.happens("start")
            calm.wait(0.05 * seconds)

    with running(*jobs):
        for outage in range(1, 6):
            appendonly = outage == 2
            calm.wait(0.02 * seconds)
            server.save(appendonly)
            ledger.happens("save")
            calm.wait(0.06 * seconds)
            if outage == 3:
                server.freeze()
                ledger.happens("freeze")
                calm.wait(1.0)
                server.thaw()
                ledger.happens("thaw")
                calm.wait(0.05 * seconds)
            # Who writes meanwhile owes, and whoever owes replaces every token: so not always.
            with pen.taken() if outage in (1, 4) else nullcontext():
                die(outage, appendonly)
    # At the last time nobody writes any more when Redis returns: what stays wrong is seen.
    server.start(appendonly=False)
    ledger.happens("last start")
    with running(*(reader(ledger, mine[0], seed) for seed, mine in enumerate(clients.values()))):
        assert wait_until(lambda: not any(each.get("/state")["owes"] for each in control), PATIENCE)
    ledger.happens("nothing is owed")
    client = server.connect()
    before = compared(client, questions, values_in(gunicorn.database))

    def everything_counts() -> bool:
        for each in control:
            for path in paths():
                ledger.read(each, path)
        return compared(client, questions, values_in(gunicorn.database))[0] == len(questions)

    wait_until(everything_counts, PATIENCE)
    ledger.happens("everything counts")
    after = compared(client, questions, values_in(gunicorn.database))
    stats = [each.get("/state")["stats"] for each in control]
    for mine in clients.values():
        for each in mine:
            each.close()
    return Report(ledger, before, after, len(questions), stats)


def paths() -> Iterator[str]:
    """Give the path of each question."""
    for number in range(TABLES):
        yield from (f"/value/{number}/{row}" for row in range(ROWS))
        yield f"/rows/{number}"
    yield "/everything"
