"""An open loop whose every request is told: when it was due, how long it took, what was answered.

`labkit.measure.load` tells sums, which is all that thousands of requests a second allow. Where a
server is made to fail meanwhile, it matters when something happened, and there are fewer requests.
All times are of `time.perf_counter`, which is the same clock in every process of a machine.
(https://docs.python.org/3/library/time.html#time.perf_counter)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from labkit.errors import LabError
from labkit.measure.load import DRAIN, PATIENCE, SENDER, is_answered, target_of
from labkit.servers.processes import Worker, worker


class Answered(NamedTuple):
    """One request.

    Attributes:
        due: when it was to be sent.
        seconds: from then until its answer.
        status: of the answer; 0 if there was none.
        path: what was asked for, "POST " in front of it for a write.
    """

    due: float
    seconds: float
    status: int
    path: str


class Paced:
    """A process that sends requests at a rate, until it is told to end.

    It ends with the `with` block.

    Args:
        url: of a server on this machine; its path is not asked for.
        rate: requests a second.
        folder: where files are made that tell it to end, or to calm; nobody else may write there.
        connections: how many requests may be under way at once.
    """

    def __init__(self, url: str, rate: float, folder: Path, connections: int = 8) -> None:
        host, port, _ = target_of(url)
        is_answered(url)
        self._until, self._calm = folder / "sender-ends", folder / "sender-calms"
        self._task: dict[str, Any] = {
            "host": host, "port": port, "authority": urlsplit(url).netloc, "drain": DRAIN,
            "connections": connections, "rate": rate, "requests": None, "first": 0, "log": True,
            "until": str(self._until), "calm": str(self._calm),
        }  # fmt: skip
        self._stack = ExitStack()
        self._process: Worker | None = None

    def __enter__(self) -> Paced:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin(
        self,
        paths: Sequence[str],
        most_seconds: float,
        once: Sequence[str] = (),
        at_first: Sequence[str] = (),
    ) -> float:
        """Begin to send, and return when that was.

        Args:
            paths: asked for in turn, and from the first again; "POST /path" is a write.
            once: asked for before them, and only once.
            at_first: asked for in place of them until `calm`.
            most_seconds: after which it ends by itself.

        Raises:
            LabError: nothing can be sent.
        """
        self._until.unlink(missing_ok=True)
        self._calm.unlink(missing_ok=True)
        task = self._task | {"paths": list(paths), "once": list(once), "seconds": most_seconds}
        task["at_first"] = list(at_first)
        if self._process is None:
            self._process = self._stack.enter_context(worker(SENDER, task))
        else:
            self._process.tell(json.dumps(task))
        return float(self._told()["began"])

    def calm(self) -> None:
        """Ask no more for what was asked for at first."""
        self._calm.touch()

    def end(self) -> list[Answered]:
        """Send no more, wait for the last answers, and return all requests as they were due.

        Raises:
            LabError: the process has ended.
        """
        self._until.touch()
        told = self._told()
        answers = [Answered(*each) for each in told["log"]]
        lost = told["failed"] - sum(not 0 < each.status < 400 for each in answers)
        if lost:
            raise LabError(f"{lost} requests were not answered within {DRAIN:g} s.")
        return sorted(answers)

    def _told(self) -> dict[str, Any]:
        assert self._process is not None
        told: dict[str, Any] = json.loads(self._process.said(DRAIN + PATIENCE))
        if "error" in told:
            raise LabError(f"nothing could be sent: {told['error']}.")
        return told
