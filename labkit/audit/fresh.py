"""Calls in an interpreter that is started anew: it shares nothing with this one but the servers.

A forked process has its parent's memory and its hash seed. What a cache keeps there, and what in
Redis, only a process tells that was not forked.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import cloudpickle

from labkit.audit import guard
from labkit.audit.adapter import DoesNotApply
from labkit.audit.probe import Failed, Trial, one_line
from labkit.errors import LabError
from labkit.servers.processes import worker

MODULE = "labkit.audit.fresh_worker"
ATTEMPTS = 4  # each brings one more module along
Call = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True)
class Answer:
    """What a call in a fresh process has come to.

    Attributes:
        text: `repr` of what it has returned.
        sql: how many SELECTs it has run.
    """

    text: str
    sql: int


def ask_anew(trial: Trial, *calls: Call, **environment: str) -> list[Answer]:
    """Open the cache in a fresh process, and call functions with the cache before them there.

    Args:
        trial: whose cache and site.
        calls: each a function, without the cache, and its arguments.
        environment: variables of the process, such as PYTHONHASHSEED.

    Raises:
        DoesNotApply: the cache cannot be brought there, such as one that holds an open client.
        Failed: it cannot be opened there, or a call has raised.
    """
    task = {
        "url": trial.site.place.url,
        "port": trial.site.server.port,
        "directory": str(trial.site.directory),
        "path": sys.path,
        "in_context": trial.in_context,
    }
    for _ in range(ATTEMPTS):
        told = _told({**task, "pickled": packed((trial.open, calls))}, environment)
        if not _brings_along(told.get("no_module")):
            break
    if "cannot" in told:
        raise DoesNotApply(f"it cannot be brought into a fresh process: {told['cannot']}")
    if "error" in told:
        raise Failed(f"in a fresh process: {told['error']}")
    return [Answer(**answer) for answer in told["answers"]]


def packed(value: Any) -> str:
    """Return a value as text: by name where it has one, else with its code.

    Raises:
        DoesNotApply: a part of it cannot be pickled.
    """
    try:
        return base64.b64encode(cloudpickle.dumps(value)).decode()
    except Exception as error:  # pickling calls code of anybody's
        raise DoesNotApply(
            one_line(f"it cannot be brought into a fresh process: {error}")
        ) from None


def _told(task: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    try:
        with worker(MODULE, task, environment) as process:
            told: dict[str, Any] = json.loads(process.said())
    except LabError:
        raise Failed("a fresh process ended before it had an answer") from None
    guard.foreign.extend(told["foreign"])
    return told


def _brings_along(module: str | None) -> bool:
    """Have a module that only this process knows, such as one from a cell, pickled with its code.

    Returns:
        Whether that is something new.
    """
    if module not in sys.modules or module in cloudpickle.list_registry_pickle_by_value():
        return False
    with suppress(ValueError):
        cloudpickle.register_pickle_by_value(sys.modules[module])
        return True
    return False
