"""wrk, where it is on PATH: a second opinion on what labkit's own load measures.

It breaks off what is under way when its time is up, so counts on both sides need not agree: what
has to be counted exactly is measured with `labkit.measure.load`. And it corrects its percentiles:
where an answer took longer than twice the mean, wrk adds the requests that a steady visitor would
have sent meanwhile (`stats_correct` in its source). So it has more latencies than requests.
(https://github.com/wg/wrk)
"""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path

from labkit.errors import LabError
from labkit.measure.histogram import MOST_US, histogram
from labkit.measure.load import MOST_CONNECTIONS, Load, is_answered, target_of
from labkit.servers import Keeper
from labkit.servers.keeper import has_ended

PATIENCE = 10.0  # seconds beyond its time
LUA = """
wrk.path = {path}

function done(summary, latency, requests)
  local counts = {{}}
  for place = 1, #latency do
    local value, count = latency(place)
    counts[place] = string.format("[%d,%d]", value, count)
  end
  local errors = summary.errors
  io.write(string.format(
    'labkit {{"requests": %d, "failed": %d, "us": %d, "counts": [%s]}}\\n', summary.requests,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration, table.concat(counts, ",")))
end
"""


def wrk(url: str, seconds: float, connections: int = 4) -> Load | None:
    """Send requests with wrk, in a closed loop; return what came, or None where there is no wrk.

    Args:
        url: of a server on this machine.
        seconds: how long to send; wrk takes whole seconds, and it is rounded up.
        connections: how many at once.

    Raises:
        LabError: the URL is of another machine, nobody answers there, or a figure makes no sense.
    """
    host, port, path = target_of(url)
    if seconds <= 0 or not 1 <= connections <= MOST_CONNECTIONS:
        raise LabError(f"wrk needs some seconds, and 1 to {MOST_CONNECTIONS} connections.")
    is_answered(url)
    program = shutil.which("wrk")
    if program is None:
        return None
    whole = math.ceil(seconds)
    target = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    keeper = Keeper()  # so that it ends with this process
    try:
        script, log = keeper.directory / "wrk.lua", keeper.directory / "wrk.log"
        # The path is no argument: it may begin with a secret, and every user can read arguments.
        script.write_text(LUA.format(path=json.dumps(path)))
        command = [program, "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{whole}s", "--script", str(script), target]
        return _read(_log_of(keeper, command, log, whole + PATIENCE), connections)
    finally:
        keeper.close()


def _log_of(keeper: Keeper, command: list[str], log: Path, limit: float) -> str:
    """Run a command to its end, and return what it wrote."""
    pid, deadline = keeper.spawn(command, log=log), time.monotonic() + limit
    while not has_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return log.read_text(errors="replace")


def _read(log: str, connections: int) -> Load:
    last = log.strip().splitlines()[-1:]
    if not last or not last[0].startswith("labkit {"):
        raise LabError(f"wrk did not come to its end. {' '.join(last)}")
    told = json.loads(last[0].removeprefix("labkit "))
    latency = histogram()
    for value, count in told["counts"]:
        latency.record_value(max(1, min(MOST_US, value)), count)
    # wrk counts each answer as a request, one with a status of 400 or more as an error as well.
    answered = told["requests"] - min(told["failed"], told["requests"])
    return Load(answered, told["failed"], 0, connections, told["us"] / 1e6, latency, latency)
