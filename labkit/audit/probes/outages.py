"""A Redis that is gone, frozen, full or back: the site goes on, and nothing old comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from labkit.audit import guard, questions
from labkit.audit.adapter import DoesNotApply
from labkit.audit.probe import PATIENCE, TTL, Call, Failed, Trial, expect, probe
from labkit.audit.site import NEW, OLD, Place
from labkit.servers import RedisServer, spare_cluster

BACK_SECONDS = 6.0  # that a cache gets to use a Redis that is back; QueryCache tries once a second
POLL = 0.02  # seconds between two calls of those that wait for that
FULL = 1  # byte that Redis may use: it refuses every write
IN_CLUSTER = 30  # entries


@probe("13", "a Redis that is down is no outage of the site")
def redis_down(trial: Trial) -> str:
    """Kill it, and ask for what was cached and for what was not."""
    ask = trial.cached(questions.region_of)
    ask(1)
    trial.site.server.kill()
    return _right_answers(trial, ask, 1, 2)


@probe("13", "a Redis that is frozen is no outage of the site")
def redis_frozen(trial: Trial) -> str:
    """Stop its process: it takes connections and commands, and answers nothing."""
    ask = trial.cached(questions.region_of)
    ask(1)
    trial.site.server.freeze()
    return _right_answers(trial, ask, 1, 2, 1)


@probe("13", "once Redis is back, the cache caches again")
def redis_back(trial: Trial) -> str:
    """Kill it, ask, and start it again, empty."""
    ask = trial.cached(questions.region_of)
    ask(1)
    trial.site.server.kill()
    for user in (1, 2):  # whatever comes of it: that is another row's
        trial.begin(partial(ask, user)).ended_within(PATIENCE)
    trial.site.server.start()
    why_not = _why_not_cached(trial, ask, 1, OLD)
    return expect(not why_not, f"Redis is back: {why_not or 'a call runs no SQL'}")


@probe("13", "an invalidation that Redis misses is not lost in silence")
def missed_invalidation(trial: Trial) -> str:
    """Invalidate while Redis is frozen, and while it is down; it comes back with its old data."""
    ask, server = trial.cached(questions.region_of), trial.site.server
    for user in (1, 2):
        ask(user)
    trial.site.client.save()
    found = {}
    for user, outage, go, come in (
        (1, "frozen", server.freeze, server.thaw),
        (2, "down", server.kill, server.restore),
    ):
        go()
        trial.site.change(user)
        call = trial.begin(partial(trial.invalidate, ask, user))
        call.ended_within(PATIENCE)  # one that waits for Redis may go on once it is back
        come()
        found[outage] = "it raises" if _raises(call, outage) else _answer_of(trial, ask, user)
    evidence = ", ".join(f"{outage}: {what}" for outage, what in found.items())
    return expect(OLD not in found.values(), evidence)


@probe("13", "a Redis that is full is no outage of the site")
def full_redis(trial: Trial) -> str:
    """Have it refuse every write for lack of memory, and let it have memory again."""
    ask, redis = trial.cached(questions.region_of), trial.site.client
    ask(1)
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", FULL)
    evidence = _right_answers(trial, ask, 1, 2)
    redis.config_set("maxmemory", 0)
    why_not = _why_not_cached(trial, ask, 2, OLD)
    return expect(not why_not, f"{evidence}, then {why_not or 'a call runs no SQL'}")


@probe("13", "it works in a Redis Cluster, and invalidates all there")
def cluster(trial: Trial) -> str:
    """Fill entries, ask for them again, change all rows and invalidate, on three masters."""
    if not trial.cache.cluster:
        raise DoesNotApply("it has no client for a Cluster")
    trial.cache.close()
    with ExitStack() as stack:
        with guard.trusted():  # the audit itself waits for the nodes
            spare: Any = stack.enter_context(
                spare_cluster(RedisServer(trial.site.server.kind, "", ""))
            )
        ports = [node.port for node in spare.get_nodes()]
        guard.allow(*ports)
        password = spare.get_connection_kwargs()["password"]
        url = f"redis://:{password}@127.0.0.1:{ports[0]}/0"
        return _in_cluster(trial, Place(url, trial.site.app, cluster=True))


def _in_cluster(trial: Trial, place: Place) -> str:
    cache, users = trial.open(place), range(1, IN_CLUSTER + 1)
    ask = cache.wrap(questions.region_of, ttl=TTL)
    for user in users:
        ask(user)
    selects = trial.selects(lambda: [ask(user) for user in users])
    evidence = f"{selects} SQL for {IN_CLUSTER} calls that are cached"
    expect(selects == 0, evidence)
    trial.site.change()
    cache.invalidate_all(ask)
    new = sum(ask(user) == NEW for user in users)
    return expect(new == IN_CLUSTER, f"{evidence}, then {new} of {IN_CLUSTER} answers are new")


def _right_answers(trial: Trial, ask: Callable[..., Any], *users: int) -> str:
    answers = [trial.within(PATIENCE, partial(ask, user)) for user in users]
    right = answers.count(OLD)
    return expect(right == len(users), f"{right} of {len(users)} answers are right")


def _why_not_cached(trial: Trial, ask: Callable[..., Any], user: int, right: str) -> str:
    """Ask until a call runs no SQL, and return ""; or else what the last call has done instead.

    Raises:
        Failed: an answer was not the right one.
    """
    deadline = time.monotonic() + BACK_SECONDS
    while True:
        before = trial.site.sql
        try:
            answer = trial.within(PATIENCE, partial(ask, user))
        except Failed:
            raise
        except Exception as error:  # it may take it some time to notice
            why_not = f"{type(error).__name__} after {BACK_SECONDS:g} s"
        else:
            expect(answer == right, f"it answers {answer!r}, the database has {right!r}")
            why_not = f"each call runs SQL for {BACK_SECONDS:g} s"
            if trial.site.sql == before:
                return ""
        if time.monotonic() > deadline:
            return why_not
        time.sleep(POLL)


def _answer_of(trial: Trial, ask: Callable[..., Any], user: int) -> str:
    """Return what is answered: old if it ever is, until a call runs no SQL."""
    try:
        _why_not_cached(trial, ask, user, NEW)
    except Failed:
        return OLD
    return NEW


def _raises(call: Call, outage: str) -> bool:
    """Whether an invalidation says that it has failed."""
    if not call.ended_within(PATIENCE):
        raise Failed(f"{outage}: the invalidation does not end, though Redis is back")
    try:
        call.result_within(PATIENCE)
    except DoesNotApply:
        raise
    except Exception:
        return True
    return False
