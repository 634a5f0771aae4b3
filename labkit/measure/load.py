"""Load over HTTP on this machine: closed loops and open ones, from a process of their own.

In a closed loop each connection asks again once it has its answer, as wrk and most tools do. While
the server is stuck, nobody asks: what visitors would have waited meanwhile is in no figure. In an
open loop requests are due at a rate, as visitors come, and a latency counts from when its request
was due. Gil Tene calls what a closed loop leaves out "coordinated omission".
(https://www.infoq.com/presentations/latency-response-time/)
"""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import ProxyHandler, build_opener

from labkit.errors import LabError
from labkit.measure.histogram import Histogram, decoded
from labkit.servers.processes import Worker, worker

SENDER = "labkit.measure.sender"
DRAIN = 10.0  # seconds that the last answers get
PATIENCE = 30.0  # seconds beyond all that, before a process that does not answer is given up
MOST_CONNECTIONS = 500  # that select() takes on every system
ANEW = "{}"  # stands in a path for a number that no other request has; a URL has no braces
IN_A_PATH = "".join(map(chr, range(33, 127))).translate({ord("{"): None, ord("}"): None})
PATH = re.compile("/[!-~]*")
open_here = build_opener(ProxyHandler({})).open  # urlopen follows http_proxy, off this machine
EXACT = 1e-9  # of ranks, which are computed in floating point
FINEST = 1000  # the longest pattern of hits and misses: a ratio is exact to a thousandth


@dataclass(frozen=True)
class Load:
    """What came of a load.

    Attributes:
        requests: those that were answered with a status below 400.
        failed: those that were answered otherwise, or not at all.
        numbered: those, of both, whose path had a number of its own.
        connections: how many asked at once.
        seconds: from the first request to the last answer.
        latency: of each request, in microseconds: in an open loop since it was due, in a closed
            one since it was sent.
        service: of each request since it was sent, in microseconds.
        counted: by how much the count rose that was asked for, such as that of SQL statements.
    """

    requests: int
    failed: int
    numbered: int
    connections: int
    seconds: float
    latency: Histogram
    service: Histogram
    counted: int = 0

    @property
    def sent(self) -> int:
        """How many were sent."""
        return self.requests + self.failed

    @property
    def a_second(self) -> float:
        """Requests a second; 0 where none was answered."""
        return self.requests / self.seconds if self.requests else 0.0

    @property
    def mean_ms(self) -> float:
        """The mean latency, in milliseconds."""
        return float(self.latency.get_mean_value()) / 1000

    @property
    def in_flight(self) -> float:
        """How many requests were under way at a time, by Little's law: rate times mean latency."""
        return self.a_second * self.mean_ms / 1000

    def ms(self, percentile: float) -> float:
        """Return the latency, in milliseconds, that so many percent of requests did not exceed.

        That is the nearest rank, as in the pictures. HdrHistogram by itself rounds the rank down
        too, and a latency below it is exceeded by more requests than that.
        """
        total = self.latency.get_total_count()
        rank = math.ceil(total * percentile / 100 - EXACT)
        return float(self.latency.get_value_at_percentile(100 * rank / max(total, 1))) / 1000

    @property
    def counts(self) -> dict[float, int]:
        """How many requests took so many milliseconds, to three digits."""
        return {
            step.value_iterated_to / 1000: step.count_added_in_this_iter_step
            for step in self.latency.get_recorded_iterator()
        }

    def slower_than(self, ms: float) -> int:
        """Return how many requests took longer than so many milliseconds."""
        return sum(count for took, count in self.counts.items() if took > ms)

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
    meanwhile: Callable[[], object] = lambda: None,
    count: Callable[[], int] = lambda: 0,
) -> Load:
    """Send requests over kept-alive connections, from a process of its own; return what came.

    Args:
        url: of a server on this machine, such as http://127.0.0.1:8000/report/US.
        seconds: how long to send. What was sent is waited for, for ten seconds more.
        connections: how many at once.
        rate: requests a second, for an open loop; None for a closed one.
        paths: asked for in turn, in place of the URL's own. Where one has {}, a number stands
            there that no other request has, of this load or of an earlier one.
        requests: how many at the most.
        meanwhile: called here, once, as soon as the first requests are being sent.
        count: called before and after; the difference is the load's `counted`.

    Raises:
        LabError: the URL is of another machine, nobody answers there, or a figure makes no sense.
    """
    task = _task(url, seconds, connections, rate, paths) | {"requests": requests}
    before = count()
    with worker(SENDER, task) as process:
        found = _answer(process, task, meanwhile)
    return replace(found, counted=count() - before)


def in_turn(
    url: str,
    scenarios: Mapping[str, Sequence[str]],
    seconds: float,
    connections: int = 4,
    rounds: int = 3,
    count: Callable[[], int] = lambda: 0,
) -> dict[str, Load]:
    """Send several closed loops by turns, so that what slows the machine down slows all of them.

    Args:
        url: as of `load`; its path is not asked for.
        scenarios: the paths of each, by its name.
        seconds: how long to send, for each scenario and in all rounds together.
        connections: how many at once.
        rounds: how often each has its turn.
        count: as of `load`, for each scenario by itself.

    Raises:
        LabError: as of `load`.
    """
    runs: dict[str, Load] = {}
    names = list(scenarios)
    slices = [
        names[(turn + place) % len(names)] for turn in range(rounds) for place in range(len(names))
    ]  # none comes always after the same other
    tasks = {
        name: _task(url, seconds / rounds, connections, None, paths)
        for name, paths in scenarios.items()
    }
    with ExitStack() as stack:
        process: Worker | None = None
        for name in slices:
            sent = runs[name].sent if name in runs else 0
            at = sent % len(tasks[name]["paths"])
            paths = tasks[name]["paths"][at:] + tasks[name]["paths"][:at]
            task = tasks[name] | {"paths": paths, "first": secrets.randbelow(10**15)}
            before = count()
            if process is None:
                process = stack.enter_context(worker(SENDER, task))
            else:
                process.tell(json.dumps(task))
            found = replace(_answer(process, task), counted=count() - before)
            runs[name] = _added(runs[name], found) if name in runs else found
    return runs


def _task(
    url: str, seconds: float, connections: int, rate: float | None, paths: Sequence[str]
) -> dict[str, Any]:
    host, port, path = target_of(url)
    if seconds <= 0 or connections < 1 or (rate is not None and rate <= 0):
        raise LabError("a load needs some seconds, a connection and, if any, a rate above 0.")
    if connections > MOST_CONNECTIONS:
        raise LabError(f"a load has {MOST_CONNECTIONS} connections at the most.")
    for each in paths:
        if not PATH.fullmatch(each):
            raise LabError(f"{each!r} is no path: it begins with / and has no spaces.")
    is_answered(url)
    return {
        "host": host, "port": port, "authority": urlsplit(url).netloc.rpartition("@")[2],
        "seconds": seconds, "drain": DRAIN, "connections": connections, "rate": rate,
        "paths": list(paths) or [path], "requests": None, "first": secrets.randbelow(10**15),
    }  # fmt: skip


def _answer(
    process: Worker, task: Mapping[str, Any], meanwhile: Callable[[], object] = lambda: None
) -> Load:
    told = json.loads(process.said(PATIENCE))
    if "error" not in told:  # it has begun
        meanwhile()
        told = json.loads(process.said(task["seconds"] + DRAIN + PATIENCE))
    if "error" in told:
        raise LabError(f"nothing could be sent to {task['authority']}: {told['error']}.")
    return read_load(told)


def _added(one: Load, other: Load) -> Load:
    """Return two loads as if they were one."""
    for name in ("latency", "service"):
        getattr(one, name).add(getattr(other, name))
    sums = ("requests", "failed", "numbered", "seconds", "counted")
    return replace(one, **{name: getattr(one, name) + getattr(other, name) for name in sums})


def read_load(told: Mapping[str, Any]) -> Load:
    """Return a load from its JSON, as `written_load` gives it."""
    histograms = {name: decoded(told[name]) for name in ("latency", "service")}
    return Load(**(dict(told) | histograms))


def written_load(found: Load) -> dict[str, Any]:
    """Return a load as JSON has it."""
    histograms = {name: getattr(found, name).encode().decode() for name in ("latency", "service")}
    return vars(found) | histograms


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
    except (OSError, UnicodeError):
        raise LabError(f"there is no host {host}.") from None
    if not all(ipaddress.ip_address(each).is_loopback for each in found):
        told = f"{host} is not this machine's loopback, and labkit sends load nowhere else"
        raise LabError(f"{told}: write 127.0.0.1.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return sorted(found)[0], port, quote(path, safe=IN_A_PATH)


def is_answered(url: str) -> None:
    """See that somebody accepts connections there.

    Raises:
        LabError: nobody does, or the URL is of another machine.
    """
    host, port, _ = target_of(url)
    try:
        socket.create_connection((host, port), 2).close()
    except OSError as error:
        raise LabError(f"nobody answers at {url}: {error.strerror or error}.") from None


def redirect_of(url: str) -> str:
    """Ask once, and return where the answer sends its reader on to; empty if it does not.

    Raises:
        LabError: nobody answers there, or the URL is of another machine.
    """
    is_answered(url)
    host, port, path = target_of(url)
    connection = HTTPConnection(host, port, timeout=DRAIN)
    try:
        connection.request("GET", path, headers={"Host": urlsplit(url).netloc.rpartition("@")[2]})
        answer = connection.getresponse()
        return answer.headers.get("Location", "") if 300 <= answer.status < 400 else ""
    except (OSError, HTTPException):
        return ""  # no answer, or none in time: the load will tell
    finally:
        connection.close()


def mixed(hit: str, miss: str, hits: float) -> list[str]:
    """Return paths to ask for in turn, of which so many are the one, evenly spread.

    Args:
        hit: the path that is a hit.
        miss: the path of a miss, with {} in it.
        hits: the hit ratio, from 0 to 1, to a thousandth.

    Raises:
        LabError: that is no ratio.
    """
    if not 0 <= hits <= 1:
        raise LabError(f"a hit ratio is between 0 and 1, and this is {hits}.")
    ratio = Fraction(hits).limit_denominator(FINEST)
    turns = range(ratio.denominator)
    are_hits = [int((turn + 1) * ratio) > int(turn * ratio) for turn in turns]
    return [hit if is_hit else miss for is_hit in are_hits]


def run_seconds(default: float) -> float:
    """Return how long to send: the default, or LABKIT_LOAD_SECONDS where that is longer.

    Raises:
        LabError: LABKIT_LOAD_SECONDS is no number.
    """
    wanted = os.environ.get("LABKIT_LOAD_SECONDS") or "0"
    try:
        return max(default, float(wanted))
    except ValueError:
        raise LabError(f"LABKIT_LOAD_SECONDS is a number of seconds, not {wanted!r}.") from None
