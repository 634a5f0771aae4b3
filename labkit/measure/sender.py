"""The process that sends a load: `labkit.measure.load` starts it, and reads what it tells.

It is one thread that never waits for anybody in turn: with few connections and small answers it
takes a fraction of a core, which the servers that it measures do not have.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import selectors
import sys
import time
from collections import deque
from typing import Any

from httptools import HttpParserError, HttpResponseParser

from labkit.measure.histogram import MOST_US, histogram
from labkit.servers.processes import end_with_input

RECONNECT = 0.01  # seconds between two attempts where nobody accepts
NO_ANSWER = 0  # in place of a status


class Sender:
    """All connections of one load, and what they have measured."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task
        at_first = itertools.takewhile(
            lambda _: not os.path.exists(task["calm"]), itertools.cycle(task.get("at_first", ()))
        )
        self._paths = itertools.chain(
            task.get("once", ()), at_first, itertools.cycle(task["paths"])
        )
        self._number = itertools.count(task["first"])
        self._left = task["requests"] if task["requests"] is not None else sys.maxsize
        self._idle: deque[Connection] = deque()
        self._due: deque[float] = deque()  # when requests were due that have no connection yet
        self._latency = histogram()
        self._service = histogram()
        self._requests = self._failed = self._numbered = self._under_way = 0
        self._began = self._ends = self._last = 0.0  # 0: has not begun
        self._has_rate = task["rate"] is not None
        self._all_due = False  # in an open loop: no further request will be due
        self._done = asyncio.Event()
        self._opening: set[asyncio.Task[None]] = set()
        self._log: list[tuple[float, float, int, str]] | None = [] if task.get("log") else None

    async def run(self) -> dict[str, Any]:
        """Send until the time is up, wait for the last answers, and return what came."""
        await asyncio.gather(*(self._connect() for _ in range(self._task["connections"])))
        self._began = self._last = time.perf_counter()
        self._ends = self._began + self._task["seconds"]
        print(json.dumps({"began": self._began}), flush=True)
        try:
            async with asyncio.timeout(self._task["seconds"] + self._task["drain"]):
                if self._has_rate:
                    await self._send_at(self._task["rate"])
                while self._idle and not self._has_rate:
                    self._ask_again(self._idle.popleft())
                await self._done.wait()
        except TimeoutError:
            self._failed += self._under_way + len(self._due)
            self._last = time.perf_counter()
        return {
            "requests": self._requests,
            "failed": self._failed,
            "numbered": self._numbered,
            "connections": self._task["connections"],
            "seconds": self._last - self._began,
            "latency": self._latency.encode().decode(),
            "service": self._service.encode().decode(),
            **({"log": self._log} if self._log is not None else {}),
        }

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        address = self._task["host"], self._task["port"]
        _, connection = await loop.create_connection(lambda: Connection(self), *address)
        self.is_free(connection)

    def lost(self, connection: Connection) -> None:
        """Have another connection opened in place of one that was closed."""
        if connection in self._idle:
            self._idle.remove(connection)
        task = asyncio.ensure_future(self._connect_again())
        self._opening.add(task)  # the loop itself holds its tasks weakly
        task.add_done_callback(self._opening.discard)

    async def _connect_again(self) -> None:
        while self._needs_connections():
            try:
                await self._connect()
                return
            except OSError:  # nobody accepts
                if not self._has_rate:  # what this connection would have sent has failed
                    self._left -= 1
                    self._failed += 1
                    self._last = time.perf_counter()
                await asyncio.sleep(RECONNECT)
        self._finish_if_done()

    async def _send_at(self, rate: float) -> None:
        """Have requests due at a rate, whoever is free to take them."""
        for number in itertools.count():
            due = self._began + number / rate
            if due >= self._ends or self._left == 0 or self._is_told_to_end():
                break
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            self._left -= 1
            self._due.append(due)
            self._give_out()
        self._all_due = True
        self._finish_if_done()

    def _is_told_to_end(self) -> bool:
        """Whether the file is there that ends an open loop before its time, if there is one."""
        return "until" in self._task and os.path.exists(self._task["until"])

    def _give_out(self) -> None:
        while self._due and self._idle:
            self._send(self._idle.popleft(), self._due.popleft())

    def _may_send(self) -> bool:
        """Whether a connection of a closed loop may ask once more."""
        return not self._has_rate and self._left > 0 and time.perf_counter() < self._ends

    def _needs_connections(self) -> bool:
        if self._has_rate:
            return not self._all_due or bool(self._due)
        return not self._ends or self._may_send()

    def _ask_again(self, connection: Connection) -> None:
        if self._may_send():
            self._left -= 1
            self._send(connection, time.perf_counter())
        else:
            self._finish_if_done()

    def _send(self, connection: Connection, due: float) -> None:
        self._under_way += 1
        path = next(self._paths)
        if "{}" in path:
            self._numbered += 1
            path = path.replace("{}", str(next(self._number)))
        method, _, target = path.rpartition(" ")  # "POST /path" is sent without a body
        head = f"{method or 'GET'} {target} HTTP/1.1\r\nHost: {self._task['authority']}\r\n"
        head += "Content-Length: 0\r\n\r\n" if method else "\r\n"
        connection.send(head.encode(), due, path)

    def is_free(self, connection: Connection) -> None:
        """Give a connection something to do: what is due, or one more request of a closed loop."""
        if self._ends and not self._has_rate:
            self._ask_again(connection)
            return
        self._idle.append(connection)
        self._give_out()
        self._finish_if_done()

    def answered(self, due: float, sent: float, status: int, path: str = "") -> None:
        """Take note of an answer, or of none."""
        now = self._last = time.perf_counter()
        if self._log is not None:
            self._log.append((due, now - due, status, path))
        self._under_way -= 1
        if NO_ANSWER < status < 400:
            self._requests += 1
            self._latency.record_value(_us(now - due))
            self._service.record_value(_us(now - sent))
        else:
            self._failed += 1

    def _finish_if_done(self) -> None:
        is_over = self._all_due if self._has_rate else not self._may_send()
        if self._ends and is_over and not self._under_way and not self._due:
            self._done.set()


class Connection(asyncio.Protocol):
    """One connection, which is opened again where the server closes it after an answer."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._due = self._sent = 0.0
        self._path = ""
        self._waits = self._has_head = self._has_length = False

    def connection_made(self, transport: Any) -> None:
        """Begin to parse."""
        self._transport = transport
        self._parser = HttpResponseParser(self)

    def send(self, head: bytes, due: float, path: str) -> None:
        """Send a request that was due at a time."""
        self._waits, self._has_head, self._has_length = True, False, False
        self._path = path
        self._due, self._sent = due, time.perf_counter()
        self._transport.write(head)

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        try:
            self._parser.feed_data(data)
        except HttpParserError:  # that is no HTTP
            self._has_head = False
            self._transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take note of whether the answer says where it ends."""
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        """Take note of it."""
        self._has_head = True

    def on_message_complete(self) -> None:
        """Take note of an answer."""
        if not self._waits:  # nobody has asked
            return
        self._waits = False
        status = self._parser.get_status_code()
        self._sender.answered(self._due, self._sent, status, self._path)
        if self._parser.should_keep_alive():
            self._parser = HttpResponseParser(self)
            self._sender.is_free(self)
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Open another in its place."""
        if self._waits:
            # An answer without a length ends with its connection, as HTTP/1.0 has it.
            is_whole = error is None and self._has_head and not self._has_length
            status = self._parser.get_status_code() if is_whole else NO_ANSWER
            self._sender.answered(self._due, self._sent, status, self._path)
        self._sender.lost(self)


def _us(seconds: float) -> int:
    return max(1, min(MOST_US, round(seconds * 1e6)))


def _precise_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that wakes when it is told to: epoll and poll round up to a millisecond."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    """Do one task after the other, until the process that gives them ends, or ends this one."""
    tasks = end_with_input()
    while True:
        task = json.loads(tasks.get())
        with asyncio.Runner(loop_factory=_precise_loop) as runner:
            try:
                told = runner.run(Sender(task).run())
            except OSError as error:
                told = {"error": error.strerror or str(error)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
