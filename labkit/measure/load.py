"""Load over HTTP on this machine: closed loops and open ones, from a process of their own.

In a closed loop each connection asks again once it has its answer, as wrk and most tools do. While
the server is stuck, nobody asks: what visitors would have waited meanwhile is in no figure. In an
open loop requests are due at a rate, as visitors come, and a latency counts from when its request
was due. Gil Tene calls what a closed loop leaves out "coordinated omission".
(https://www.infoq.com/presentations/latency-response-time/)

Run as a program, this is the process that asks.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hdrh.histogram import HdrHistogram
from httptools import HttpResponseParser

from labkit.errors import LabError

MOST_US = 60_000_000  # microseconds: a latency above a minute counts as one
DIGITS = 3  # that a latency is exact to
DRAIN = 10.0  # seconds that the last answers get
RECONNECT = 0.01  # seconds between two attempts where nobody accepts
PATIENCE = 30.0  # seconds beyond all that, before a process that does not answer is given up


@dataclass(frozen=True)
class Load:
    """What came of a load.

    Attributes:
        requests: those that were answered with a status below 400.
        failed: those that were answered otherwise, or not at all.
        seconds: from the first request to the last answer.
        latency: of each request, in microseconds: in an open loop since it was due, in a closed
            one since it was sent.
        service: of each request since it was sent, in microseconds.
    """

    requests: int
    failed: int
    seconds: float
    latency: HdrHistogram
    service: HdrHistogram

    @property
    def a_second(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    def ms(self, percentile: float) -> float:
        """Return the latency, in milliseconds, that so many percent of requests did not exceed."""
        return float(self.latency.get_value_at_percentile(percentile)) / 1000

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests, {self.failed} failed, {self.a_second:,.0f}/s, "
            f"p50 {self.ms(50):.1f} ms, p95 {self.ms(95):.1f} ms, p99 {self.ms(99):.1f} ms"
        )


def load(
    url: str,
    seconds: float,
    connections: int = 4,
    rate: float | None = None,
    paths: Sequence[str] = (),
    requests: int | None = None,
) -> Load:
    """Send requests over kept-alive connections, from a process of its own; return what came.

    Args:
        url: of a server on this machine, such as http://127.0.0.1:8000/report/US.
        seconds: how long to send. Every request that was sent is waited for.
        connections: how many at once.
        rate: requests a second, for an open loop; None for a closed one.
        paths: asked for in turn, in place of the URL's own.
        requests: how many at the most.

    Raises:
        LabError: the URL is of another machine, nobody answers there, or a figure makes no sense.
    """
    host, port, path = target_of(url)
    if seconds <= 0 or connections < 1 or (rate is not None and rate <= 0):
        raise LabError("a load needs some seconds, a connection and, if any, a rate above 0.")
    try:
        socket.create_connection((host, port), 2).close()
    except OSError as error:
        raise LabError(f"nobody answers at {url}: {error.strerror or error}.") from None
    task = {
        "host": host, "port": port, "seconds": seconds, "connections": connections, "rate": rate,
        "paths": list(paths) or [path], "requests": requests,
    }  # fmt: skip
    return _told(_ask_process(task, seconds + DRAIN + PATIENCE))


def target_of(url: str) -> tuple[str, int, str]:
    """Return host, port and path of a URL on this machine.

    Raises:
        LabError: it is no http:// URL, or of another machine.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
    except ValueError:
        raise LabError(f"{url!r} is no URL: write http://127.0.0.1:PORT/PATH.") from None
    if parts.scheme != "http" or not host:
        raise LabError(f"{url!r} is no URL of HTTP: write http://127.0.0.1:PORT/PATH.")
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host, port)}
    except OSError:
        raise LabError(f"there is no host {host}.") from None
    if not all(ipaddress.ip_address(each).is_loopback for each in found):
        raise LabError(f"{host} is another machine: labkit sends load to this one only.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return sorted(found)[0], port, path


def _ask_process(task: dict[str, Any], limit: float) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        try:
            assert it.stdin is not None
            assert it.stdout is not None
            it.stdin.write(json.dumps(task) + "\n")
            it.stdin.flush()  # and left open: its end is ours, for the process
            timer = threading.Timer(limit, it.kill)
            timer.start()
            told = it.stdout.readline()
            timer.cancel()
        finally:
            it.kill()
            it.communicate()
    if not told:
        raise LabError("the process that sends the load has ended. Its error is in the log.")
    answer: dict[str, Any] = json.loads(told)
    return answer


def _told(told: dict[str, Any]) -> Load:
    return Load(
        told["requests"],
        told["failed"],
        told["seconds"],
        HdrHistogram.decode(told["latency"]),
        HdrHistogram.decode(told["service"]),
    )


# Below: the process that asks.


class Sender:
    """All connections of one load, and what they have measured."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task
        host = f"{task['host']}:{task['port']}"
        heads = [f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() for path in task["paths"]]
        self._next_head = itertools.cycle(heads)
        self._left = task["requests"] if task["requests"] is not None else sys.maxsize
        self._idle: deque[Connection] = deque()
        self._due: deque[float] = deque()  # when requests were due that have no connection yet
        self.latency = HdrHistogram(1, MOST_US, DIGITS)
        self.service = HdrHistogram(1, MOST_US, DIGITS)
        self.requests = self.failed = self.under_way = 0
        self._ends = 0.0
        self._done = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        """Send until the time is up, wait for the last answers, and return what came."""
        await asyncio.gather(*(self.connect() for _ in range(self._task["connections"])))
        self.began = time.perf_counter()
        self._ends = self.began + self._task["seconds"]
        if self._task["rate"]:
            await self._send_at(self._task["rate"])
        else:
            while self._idle:
                self._ask_again(self._idle.popleft())
        try:
            await asyncio.wait_for(self._done.wait(), self._task["seconds"] + DRAIN)
        except TimeoutError:
            self.failed += self.under_way + len(self._due)
        return {
            "requests": self.requests,
            "failed": self.failed,
            "seconds": time.perf_counter() - self.began,
            "latency": self.latency.encode().decode(),
            "service": self.service.encode().decode(),
        }

    async def connect(self) -> None:
        """Open one connection more."""
        loop = asyncio.get_running_loop()
        address = self._task["host"], self._task["port"]
        _, connection = await loop.create_connection(lambda: Connection(self), *address)
        self.is_free(connection)

    async def connect_again(self) -> None:
        """Open a connection in place of one that was closed, while it is needed."""
        if time.perf_counter() >= self._ends and not self._due:
            self._finish_if_done()
            return
        try:
            await self.connect()
        except OSError:  # nobody accepts: what would have been sent has failed
            self.failed += 1
            await asyncio.sleep(RECONNECT)
            await self.connect_again()

    async def _send_at(self, rate: float) -> None:
        """Have requests due at a rate, whoever is free to take them."""
        for number in itertools.count():
            due = self.began + number / rate
            if due >= self._ends or self._left == 0:
                break
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            self._left -= 1
            self._due.append(due)
            self._give_out()
        self._finish_if_done()

    def _give_out(self) -> None:
        while self._due and self._idle:
            self._send(self._idle.popleft(), self._due.popleft())

    def _ask_again(self, connection: Connection) -> None:
        if self._left > 0 and time.perf_counter() < self._ends:
            self._left -= 1
            self._send(connection, time.perf_counter())
        else:
            self._finish_if_done()

    def _send(self, connection: Connection, due: float) -> None:
        self.under_way += 1
        connection.send(next(self._next_head), due)

    def is_free(self, connection: Connection) -> None:
        """Give a connection something to do: what is due, or one more request of a closed loop."""
        if self._ends and not self._task["rate"]:
            self._ask_again(connection)
            return
        self._idle.append(connection)
        self._give_out()
        self._finish_if_done()

    def answered(self, due: float, sent: float, status: int) -> None:
        """Take note of an answer; status 0 is none at all."""
        now = time.perf_counter()
        self.under_way -= 1
        if 0 < status < 400:
            self.requests += 1
            self.latency.record_value(_us(now - due))
            self.service.record_value(_us(now - sent))
        else:
            self.failed += 1

    def _finish_if_done(self) -> None:
        over = self._left == 0 or (self._ends and time.perf_counter() >= self._ends)
        if over and not self.under_way and not self._due:
            self._done.set()


class Connection(asyncio.Protocol):
    """One connection, which is opened again where the server closes it after an answer."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._due = self._sent = 0.0
        self._waits = False

    def connection_made(self, transport: Any) -> None:
        """Begin to parse."""
        self._transport = transport
        self._parser = HttpResponseParser(self)

    def send(self, head: bytes, due: float) -> None:
        """Send a request that was due at a time."""
        self._due, self._sent, self._waits = due, time.perf_counter(), True
        self._transport.write(head)

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Take note of an answer."""
        self._waits = False
        self._sender.answered(self._due, self._sent, self._parser.get_status_code())
        if self._parser.should_keep_alive():
            self._parser = HttpResponseParser(self)
            self._sender.is_free(self)
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Open another in its place."""
        if self._waits:
            self._sender.answered(self._due, self._sent, 0)
        asyncio.ensure_future(self._sender.connect_again())


def _us(seconds: float) -> int:
    return max(1, min(MOST_US, round(seconds * 1e6)))


def main() -> None:
    """Do one task, or end early, with the process that gave it."""
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_wait_for_end, daemon=True).start()
    print(json.dumps(asyncio.run(Sender(task).run())), flush=True)


def _wait_for_end() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
