"""The process that `labkit.audit.fresh` starts: it opens the cache on the same site, and calls."""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from labkit.audit import guard
from labkit.audit.probe import Trial, one_line
from labkit.audit.site import Joined, opened
from labkit.servers.processes import end_with_input, read_task


def main() -> None:
    """Do what the first line of the input says, and print what came of it."""
    task = read_task()
    end_with_input()
    with os.fdopen(os.dup(1), "w") as line:  # what a cache prints goes elsewhere
        os.dup2(2, 1)
        told = done(task)
        print(json.dumps({**told, "foreign": guard.foreign}), file=line)


def done(task: dict[str, Any]) -> dict[str, Any]:
    """Return the answers, or what stands in the way."""
    guard.allow(task["port"])
    guard.watch()
    sys.path[:] = task["path"]
    try:
        open_cache, calls = pickle.loads(base64.b64decode(task["pickled"]))
    except ModuleNotFoundError as error:
        return {"cannot": one_line(str(error)), "no_module": error.name}
    except Exception as error:  # it may import anything
        return {"cannot": one_line(f"{type(error).__name__}: {error}")}
    try:
        return {"answers": _answers(task, open_cache, calls)}
    except Exception as error:
        return {"error": one_line(f"{type(error).__name__}: {error}")}


def _answers(task: dict[str, Any], open_cache: Any, calls: Any) -> list[dict[str, Any]]:
    answers = []
    with opened(lambda: Joined(task["url"], Path(task["directory"]))) as site, ExitStack() as stack:
        if task["in_context"]:
            stack.enter_context(site.app.app_context())
        trial = Trial(site, open_cache, task["in_context"])
        stack.callback(trial.cache.close)
        for function, args in calls:
            before = site.sql
            text = repr(trial.cached(function)(*args))
            answers.append({"text": text, "sql": site.sql - before})
    return answers


if __name__ == "__main__":
    main()
