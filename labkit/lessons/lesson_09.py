"""Exercises of lesson 09, Versioned invalidation."""

from __future__ import annotations

import secrets
from typing import Any

import redis

from labkit.lessons.counting import Counting
from labkit.lessons.exercises import Exercise, Raised, Wrong, call
from labkit.lessons.lesson_02 import scratch_redis
from labkit.lessons.replies import as_reply, unlike
from labkit.lessons.worker import in_a_worker

STEPS = ["R1", "R2", "R3", "W1", "W2", "~"]
ENTRY, TOKEN = "users:EU", "token:users"


def _examine_schedule(answer: Any) -> None:
    if not isinstance(answer, str):
        raise Wrong(
            f"an order is text, such as 'R1 R2 R3 W1 W2 ~', and this is {answer!r}."
            f"{unlike(answer, '')}"
        )
    steps = answer.split()
    if sorted(steps) != sorted(STEPS):
        raise Wrong("each of R1 R2 R3 W1 W2 ~ has to come once, with spaces between.")
    for actor in "RW":
        own = [step for step in steps if step.startswith(actor)]
        if own != sorted(own):
            raise Wrong(f"{actor}'s own steps cannot change places, and yours are {' '.join(own)}.")
    with scratch_redis() as client:
        row, entry, counter = _run(steps, client)
    if entry is None:
        raise Wrong("R3 stores nothing: the counter is not what R1 got.")
    if entry[0] == row:
        raise Wrong("the entry holds the new row, as R2 comes after W1.")
    if entry[1] != counter:
        raise Wrong(f"the old row is stored with {entry[1]}, the counter is {counter}: not valid.")


def _run(steps: list[str], client: redis.Redis) -> tuple[str, tuple[str, str] | None, str | None]:
    """Run the steps; return the row, the entry with its number, and the counter."""
    row, read, number, entry = "old", "", "", None
    for step in steps:
        if step == "R1":
            client.set("counter", 1, nx=True)
            number = _text(client, "counter") or ""
        elif step == "R2":
            read = row
        elif step == "R3" and _text(client, "counter") == number:
            entry = (read, number)
        elif step == "W1":
            row = "new"
        elif step == "W2":
            client.incr("counter")
        elif step == "~":
            client.delete("counter")
    return row, entry, _text(client, "counter")


def _text(client: redis.Redis, key: str) -> str | None:
    value: Any = client.get(key)
    return None if value is None else value.decode()


def _examine_invalidate(answer: Any) -> None:
    with scratch_redis() as client, scratch_redis() as restarted:
        tokens = in_a_worker(lambda: _tokens_made(answer, client), answer, tick=1)
        try:
            in_a_worker(lambda: _tokens_made(answer, client), answer, tick=0)
        except Wrong as wrong:
            raise Wrong(
                "while the clock stands still, as between two ticks, or for one moment when it is "
                f"set back: {wrong} No clock is a token, neither Python's nor the server's TIME."
            ) from None
        again = in_a_worker(lambda: _tokens_made(answer, restarted), answer, tick=1)
        if twice := tokens & again:
            raise Wrong(
                f"two workers, which began alike, both made {min(twice)!r}. They can have the same "
                "time, process number, count, old token and seed of `random`; and a server that "
                "begins anew repeats Lua's math.random. What does the system give to nobody twice?"
            )


def _tokens_made(answer: Any, client: redis.Redis) -> set[bytes]:
    """Return all tokens that an answer makes in some calls, if these are right by themselves."""
    counting = Counting(connection_pool=client.connection_pool)
    names = [f"token:{tag}" for tag in ("users", "orders", "products")]
    client.flushdb()
    client.script_flush()
    client.mset(dict.fromkeys(names, "first"))
    seen = {b"first"}
    for tags in (("users",), ("users", "orders"), ("users",), ("orders",)):
        before: Any = client.mget(names)
        shown = f"(redis, {', '.join(map(repr, tags))})"
        _renew(answer, counting, tags, shown)
        after: Any = client.mget(names)
        _examine_tokens(shown, tags, names, before, after, seen)
    if client.dbsize() != len(names):
        raise Wrong("it stored other keys than token:<tag>.")
    counting.sent = []
    call(answer, counting, shown="(redis), without tags", may_be_none=True)
    if counting.sent:
        raise Wrong(f"without tags it sent {counting.sent[0]}: there is nothing to do.")
    return seen - {b"first"}


def _renew(answer: Any, counting: Counting, tags: tuple[str, ...], shown: str) -> None:
    counting.sent = []
    try:
        call(answer, counting, *tags, shown=shown, may_be_none=True)
    except Raised as raised:
        if "not an integer" not in str(raised):
            raise
        raise Wrong(
            f"{shown}, it counted up, and the token was 'first'. A counter is no token: after an "
            "eviction it begins again, with numbers that were used before."
        ) from None
    if not counting.sent:
        raise Wrong(f"{shown}, it sent nothing to the redis that it was given.")
    if len(counting.sent) > 1 or "a pipeline" in counting.sent:
        raise Wrong(f"{shown}, it sent {' and '.join(counting.sent)}: one command, please.")


def _examine_tokens(
    shown: str, tags: tuple[str, ...], names: list[str], before: Any, after: Any, seen: set[bytes]
) -> None:
    for name, old, new in zip(names, before, after, strict=True):
        if name.removeprefix("token:") not in tags:
            if old != new:
                raise Wrong(f"{shown}, it changed {name}, which is another tag's.")
            continue
        if new == old:
            raise Wrong(f"{shown}, it left {name} as it was.")
        if new is None:
            raise Wrong(f"{shown}, {name} is gone: each tag is to get a token.")
        if new in seen:
            used = "another tag has too" if list(after).count(new) > 1 else "was used before"
            raise Wrong(f"{shown}, {name} became {new!r}, which {used}: a new one each, please.")
        if len(new) < 8:
            raise Wrong(f"{shown}, {name} became {new!r}: too short, it will come again by chance.")
        seen.add(new)


def renew(redis, *tags):  # type: ignore[no-untyped-def]  # shown as it stands
    if tags:
        redis.mset({f"token:{tag}": secrets.token_hex(8) for tag in tags})


class _Interrupted(redis.Redis):
    """A client before one of whose commands somebody else replaces the token.

    Attributes:
        moment: before which of its commands; what EXEC sends counts as one.
        reached: which that was; empty if there were fewer.
        stored: whether the entry was there by then.
        late: whether it was seen there afterwards, though it was not by then.
    """

    moment: int
    reached = ""
    stored = False
    late = False

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command, perhaps a little late."""
        self._wait(str(args[0]))
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, *args: Any, **options: Any) -> Any:
        """Return a pipeline that may be interrupted too."""
        pipe: Any = super().pipeline(*args, **options)
        at_once, execute = pipe.immediate_execute_command, pipe.execute

        def late_at_once(command: str, *args: Any, **options: Any) -> Any:
            self._wait(command)
            return at_once(command, *args, **options)

        def late(*args: Any, **options: Any) -> Any:
            self._wait("EXEC")
            return execute(*args, **options)

        pipe.immediate_execute_command, pipe.execute = late_at_once, late
        return pipe

    def _wait(self, command: str) -> None:
        others = redis.Redis(connection_pool=self.connection_pool)
        there = bool(others.exists(ENTRY))
        self.late |= bool(self.reached) and there and not self.stored
        self.moment -= 1
        if self.moment == 0:
            self.reached, self.stored = command, there
            others.set(TOKEN, "another")


def _examine_fill(answer: Any) -> None:
    shown = "(redis, 'users:EU', b'2974', 'token:users', b'mine')"
    arguments = (ENTRY, b"2974", TOKEN, b"mine")
    with scratch_redis() as client:
        for token, stored in ((b"another", False), (b"mine", True), (None, False)):
            client.flushdb()
            if token is not None:
                client.set(TOKEN, token)
            got = call(answer, client, *map(as_reply, arguments), shown=shown)
            value: Any = client.get(ENTRY)
            if value != (b"2974" if stored else None):
                raise Wrong(f"the token was {token!r}, and under the key there is {value!r}.")
            if got is not stored:
                raise Wrong(f"the token was {token!r}, and it returned {got!r}, not {stored}.")
            if stored and not 50 < client.ttl(ENTRY) <= 60:
                raise Wrong("the entry should live for 60 seconds.")
            if client.get(TOKEN) != token:
                raise Wrong("it changed the token.")
        for moment in range(1, 10):
            client.flushdb()
            client.set(TOKEN, b"mine")
            late = _Interrupted(connection_pool=client.connection_pool)
            late.moment = moment
            got = call(answer, late, *arguments, shown=shown)
            if not late.reached:
                break
            _examine_late(late, got, stored=bool(client.exists(ENTRY)))


def _examine_late(late: _Interrupted, got: Any, stored: bool) -> None:
    when = f"the token was replaced between your look and your store, just before {late.reached}"
    if late.late or (stored and not late.stored):
        raise Wrong(f"{when}, and you stored{'' if stored else ', if not for long'}.")
    if got is not stored:
        raise Wrong(f"{when}, and it returned {got!r}, not {stored}.")


def store(redis, key, value, token_key, token):  # type: ignore[no-untyped-def]  # shown as it stands
    from redis import WatchError

    with redis.pipeline() as pipe:
        pipe.watch(token_key)
        if pipe.get(token_key) != token:
            return False
        pipe.multi()
        pipe.set(key, value, ex=60)
        try:
            pipe.execute()
        except WatchError:
            return False
        return True


EXERCISES = {
    "09.1": Exercise(
        ask="Write an order of R1 R2 R3 W1 W2 ~ that ends with a valid, stale entry.",
        examine=_examine_schedule,
        praise="the counter began again, and came to the number that the old row was stored with.",
        hints=(
            "The old row is selected before W1, so R1 and R2 come first.",
            "After an eviction, counting up from nothing gives 1.",
            "R1 got 1. When would W2 make it 1 again?",
        ),
        solution="R1 R2 W1 ~ W2 R3",
    ),
    "09.2": Exercise(
        ask="Write renew(redis, *tags): new tokens for all of them, with one command.",
        examine=_examine_invalidate,
        praise="one command, whatever the number of tags, and of entries.",
        hints=(
            "MSET sets several keys at once: redis.mset({key: value, ...}).",
            "secrets.token_hex(8) is a text of 64 random bits.",
        ),
        solution=renew,
    ),
    "09.3": Exercise(
        ask="Write store(redis, key, value, token_key, token) with WATCH.",
        examine=_examine_fill,
        praise="EXEC stores only if nobody has touched the token since the look.",
        hints=(
            "with redis.pipeline() as pipe: pipe.watch(token_key), then pipe.get(token_key).",
            "After pipe.multi(), commands are queued until pipe.execute().",
            "`from redis import WatchError` in your function, where `redis` is the client. It says "
            "that the token was touched: nothing was stored.",
        ),
        solution=store,
    ),
}
