"""Counting what runs: the SQL statements of an engine and the Redis commands of a client.

Counts are exact: each statement that the driver is handed, each command that is written to a
connection. What a new connection says to introduce itself (AUTH, HELLO, CLIENT SETINFO) is left
out, as it depends on what ran before.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import redis
from sqlalchemy import Engine, event


class Observation:
    """What ran during a `with` block, in any thread; print it for one line of counts.

    Attributes:
        statements: the text of each SQL statement, in the order of execution.
        redis: the name of each Redis command, in the order of sending.
        ms: how long the block took, in milliseconds.
    """

    def __init__(self, recorder: Recorder, label: str = "", show: bool = True) -> None:
        self.statements: list[str] = []
        self.redis: list[str] = []
        self.ms = 0.0
        self._recorder = recorder
        self._label = label
        self._show = show

    @property
    def sql(self) -> int:
        """The number of SQL statements."""
        return len(self.statements)

    def __enter__(self) -> Observation:
        self._recorder.add(self)
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ms = (time.perf_counter() - self._began) * 1000
        self._recorder.remove(self)
        if self._show and error is None:
            print(self)

    def __str__(self) -> str:
        label = f"{self._label}: " if self._label else ""
        return f"{label}SQL {self.sql:,} · Redis {self._commands()} · {self.ms:.1f} ms"

    def _commands(self) -> str:
        counts = Counter(self.redis)
        if not counts:
            return "0"
        names = (f"{count:,} {name}" if count > 1 else name for name, count in counts.items())
        return f"{len(self.redis):,} ({', '.join(names)})"


class Recorder:
    """Passes each statement of one engine and each command of one client to who observes them.

    Args:
        engine: the SQLAlchemy engine to listen to.
        client: the Redis client to listen to. Connections that it opens from now on are counted.
    """

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._lock = threading.Lock()
        self._observations: list[Observation] = []
        event.listen(engine, "before_cursor_execute", self._on_statement)
        pool = client.connection_pool
        pool.disconnect()
        pool.reset()
        base: type = pool.connection_class
        pool.connection_class = type(f"Recorded{base.__name__}", (_Recorded, base), {"on": self})

    def add(self, observation: Observation) -> None:
        """Begin to tell `observation` what runs."""
        with self._lock:
            self._observations.append(observation)

    def remove(self, observation: Observation) -> None:
        """Tell `observation` no more."""
        with self._lock:
            self._observations.remove(observation)

    def on_commands(self, names: Iterable[str]) -> None:
        """Take note of commands that a connection is about to send."""
        names = list(names)
        with self._lock:
            for observation in self._observations:
                observation.redis.extend(names)

    def _on_statement(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        with self._lock:
            for observation in self._observations:
                observation.statements.append(statement)


class _Recorded:
    """Mixed into a client's connection class: reports the commands that a connection sends."""

    on: Recorder
    _is_greeting = False

    def connect_check_health(self, *args: Any, **kwargs: Any) -> Any:
        self._is_greeting = True
        try:
            return super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
        finally:
            self._is_greeting = False

    def send_command(self, *args: Any, **kwargs: Any) -> Any:
        if not self._is_greeting:
            self.on.on_commands([_name(args)])
        return super().send_command(*args, **kwargs)  # type: ignore[misc]

    def pack_commands(self, commands: Iterable[tuple[Any, ...]]) -> Any:
        commands = list(commands)
        if not self._is_greeting:
            self.on.on_commands(_name(command) for command in commands)
        return super().pack_commands(commands)  # type: ignore[misc]


def _name(command: tuple[Any, ...]) -> str:
    """Return a command's name: redis-py gives some as bytes, some with a subcommand."""
    name = command[0]
    text = name.decode() if isinstance(name, bytes) else str(name)
    return text.split()[0].upper()
