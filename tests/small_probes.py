"""Three probes that end at once, in place of the audit's: one for each outcome."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from labkit.audit import DoesNotApply
from labkit.audit.probe import PROBES, Probe, Trial, expect
from labkit.audit.questions import region_of


def lacks(trial: Trial) -> str:
    raise DoesNotApply("it has nothing to try")


def breaks(trial: Trial) -> str:
    return expect(False, "<5> SQL for 1 expected & \x1b[31m")


def holds(trial: Trial) -> str:
    return f"{trial.selects(lambda: trial.cached(region_of)(1))} SQL"


# Not in the order of their lessons.
SMALL = {
    "lacks": Probe("lacks", "nothing is wanting", "13", lacks),
    "breaks": Probe("breaks", "nothing breaks", "05", breaks),
    "holds": Probe("holds", "all is well", "02", holds),
}

# What an application has: a decorator of its own, on the Redis that its environment names.
CACHE = """
    import functools, json, os, redis

    print("importing, and saying so")
    client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost:6379"))

    def cached(ttl):
        def decorate(function):
            @functools.wraps(function)
            def ask(*args):
                key = f"{function.__module__}.{function.__name__}:{args}"
                found = client.get(key)
                if found is None:
                    client.set(key, json.dumps(answer := function(*args)), ex=ttl)
                    return answer
                return json.loads(found)
            return ask
        return decorate

    def forget(ask, *args):
        client.delete(f"{ask.__module__}.{ask.__name__}:{args}")

    number = 7
"""


def use(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these small probes be all that there are."""
    for name in [*PROBES]:
        monkeypatch.delitem(PROBES, name)
    for name in names or SMALL:
        monkeypatch.setitem(PROBES, name, SMALL[name])


def write_module(folder: Path, code: str, name: str = "mine") -> None:
    """Write a module that can be audited."""
    (folder / f"{name}.py").write_text(textwrap.dedent(code))
