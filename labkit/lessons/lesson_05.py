"""Exercises of lesson 05, Races."""

from __future__ import annotations

import math
from typing import Any

import redis
from redis.client import Pipeline

from labkit.lessons.exercises import Exercise, Raised, Wrong, call
from labkit.lessons.lesson_02 import scratch_redis
from labkit.lessons.replies import unlike

STEPS = {"R1", "R2", "R3", "W1", "W2"}
KEY = "lease:report"
LEASE_MS = 60_000
MOST_ANSWERS = 6  # of Redis, after each of which a lease may have expired


def _examine_schedule(answer: Any) -> None:
    if not isinstance(answer, str):
        raise Wrong(
            f"a schedule is text, such as 'R1 W1 R2 W2 R3', and this is {answer!r}."
            f"{unlike(answer, '')}"
        )
    steps = answer.split()
    if set(steps) != STEPS or len(steps) != len(STEPS):
        raise Wrong("each of R1 R2 R3 W1 W2 has to come once, written so, with spaces between.")
    for actor in "RW":
        own = [step for step in steps if step.startswith(actor)]
        if own != sorted(own):
            raise Wrong(f"{actor}'s own steps cannot change places, and yours are {' '.join(own)}.")
    if steps.index("R1") < steps.index("W1"):
        raise Wrong("R took the version before W counted it up, so its entry does not count.")
    if steps.index("R2") > steps.index("W2"):
        raise Wrong("R selects after the commit, so it stores the new row.")


def _examine_release(answer: Any) -> None:
    shown = "(redis, key, 'mine')"
    with scratch_redis() as client:
        client.set(KEY, "mine", px=LEASE_MS)
        call(answer, client, KEY, "mine", shown=shown, may_be_none=True)
        if client.get(KEY) is not None:
            raise Wrong("the lease held your token, and is still there.")
        call(answer, client, KEY, "mine", shown=shown, may_be_none=True)
        client.set(KEY, "theirs", px=LEASE_MS)
        deadline = client.pexpiretime(KEY)
        call(answer, client, KEY, "mine", shown=shown, may_be_none=True)
        if client.get(KEY) != b"theirs":
            raise Wrong("the lease was another's, and your function deleted it.")
        if client.pexpiretime(KEY) != deadline:
            raise Wrong("the lease was another's, and your function moved its deadline.")
        for answers in range(1, MOST_ANSWERS + 1):
            client.set(KEY, "mine", px=LEASE_MS)
            distant = _Distant(client, answers)
            try:
                call(answer, distant, KEY, "mine", shown=shown, may_be_none=True)
            except Raised as raised:
                if not isinstance(raised.__cause__, redis.WatchError):  # which has deleted nothing
                    raise
            if distant.expired and client.get(KEY) != b"theirs":
                raise Wrong(
                    "between your look and your delete, your lease expired and another took one: "
                    "you deleted theirs. Look and delete in one step."
                )


class _Distant(redis.Redis):
    """A client so far off that your lease expires when it has had some answers.

    Args:
        near: a client of the same server.
        answers: how many, its pipelines' included.
    """

    def __init__(self, near: redis.Redis, answers: int) -> None:
        super().__init__(connection_pool=near.connection_pool)
        self.expired = False
        self._near = near
        self._answers = answers

    def answered(self) -> None:
        """Count an answer, and after the last one give the lease to another."""
        self._answers -= 1
        if self._answers == 0 and self._near.get(KEY) == b"mine":
            self.expired = True
            self._near.set(KEY, "theirs", px=LEASE_MS)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        answer = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        self.answered()
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        return _DistantPipeline(self, transaction, shard_hint)


class _DistantPipeline(Pipeline):
    """A pipeline of a distant client."""

    def __init__(self, client: _Distant, transaction: bool, shard_hint: Any) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._client = client

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        answer = super().immediate_execute_command(*args, **options)  # type: ignore[no-untyped-call]
        self._client.answered()
        return answer

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        answers = super().execute(raise_on_error)
        self._client.answered()
        return answers


def release(redis, key, token):  # type: ignore[no-untyped-def]  # shown as it stands
    script = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
    redis.eval(script, 1, key, token)


def _examine_expected_early(answer: Any) -> None:
    for remaining, load_seconds in [(1.0, 1.0), (0.0, 2.0), (3.0, 1.0), (1.0, 4.0)]:
        got = call(answer, remaining, load_seconds)
        expected = expected_early(remaining, load_seconds)
        if not isinstance(got, int | float):
            raise Wrong(f"a share is a number, from 0 to 1, and this is {got!r}.")
        if abs(got - expected) > 1e-4:  # four places, as the message shows
            raise Wrong(
                f"with {remaining} s left and a load of {load_seconds} s it gave {got!r}; "
                f"the share is {expected:.4f}."
            )


def expected_early(remaining: float, load_seconds: float) -> float:
    return math.exp(-remaining / load_seconds)


EXERCISES = {
    "05.1": Exercise(
        ask="Write a schedule that ends stale when the version is counted up before the commit.",
        examine=_examine_schedule,
        praise="the reader took the new version and the old row.",
        hints=(
            "The entry counts if R1 comes after W1. It is old if R2 comes before W2.",
            "Begin with W1 R1 R2. Where may W2 and R3 go?",
        ),
        solution="W1 R1 R2 W2 R3",
    ),
    "05.2": Exercise(
        ask="Write release(redis, key, token): delete a lease only while it is yours.",
        examine=_examine_release,
        praise="the look and the delete are one step, so nobody comes between.",
        hints=(
            "GET and then DEL are two commands: anything can happen between them.",
            "redis.eval(script, 1, key, token) runs a Lua script as one step.",
            "In the script, KEYS[1] is the key and ARGV[1] the token.",
        ),
        solution=release,
    ),
    "05.3": Exercise(
        ask="Write expected_early(remaining, load_seconds).",
        examine=_examine_expected_early,
        praise="the nearer the deadline, the more are early; one load time before it, 1/e of them.",
        hints=(
            "A caller is early when -load_seconds * ln(u) >= remaining. Solve that for u.",
            "u is between 0 and 1, every value as likely as another: the share is the bound on u.",
            "The lesson has the share in words, for beta = 1. math.exp(x) is e to the power of x.",
        ),
        solution=expected_early,
    ),
}
