"""Answers to the exercises of lesson 09: wrong ones with words of their message, and right ones."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import os
import random
import secrets
import time
import uuid
from collections.abc import Callable
from time import time_ns
from typing import Any

from fakeredis import FakeRedis

from labkit.cache import tokens


def one_by_one(redis: Any, *tags: str) -> None:
    for tag in tags:
        redis.set(f"token:{tag}", secrets.token_hex(8))


def in_a_pipeline(redis: Any, *tags: str) -> None:
    pipe = redis.pipeline()
    for tag in tags:
        pipe.set(f"token:{tag}", secrets.token_hex(8))
    pipe.execute()


def with_a_constant(redis: Any, *tags: str) -> None:
    if tags:
        redis.mset({f"token:{tag}": "invalidated" for tag in tags})


def one_token_for_the_first(redis: Any, *tags: str) -> None:
    if tags:
        redis.mset({f"token:{tags[0]}": secrets.token_hex(8)})


def too_short(redis: Any, *tags: str) -> None:
    if tags:
        redis.mset({f"token:{tag}": secrets.token_hex(1) for tag in tags})


def all_tags(redis: Any, *tags: str) -> None:
    if tags:
        names = ["users", "orders", "products"]
        redis.mset({f"token:{name}": secrets.token_hex(8) for name in names})


def under_the_tag(redis: Any, *tags: str) -> None:
    if tags:
        redis.mset({tag: secrets.token_hex(8) for tag in tags})


def even_for_nothing(redis: Any, *tags: str) -> None:
    redis.mset({f"token:{tag}": secrets.token_hex(8) for tag in tags} or {"token:users": "x" * 9})


def deleting(redis: Any, *tags: str) -> None:
    if tags:
        redis.delete(*[f"token:{tag}" for tag in tags])


def look_then_store(redis: Any, key: str, value: bytes, token_key: str, token: bytes) -> Any:
    if redis.get(token_key) != token:
        return False
    redis.set(key, value, ex=60)
    return True


def without_watch(redis: Any, key: str, value: bytes, token_key: str, token: bytes) -> Any:
    if redis.get(token_key) != token:
        return False
    with redis.pipeline() as pipe:
        pipe.set(key, value, ex=60)
        pipe.execute()
    return True


def not_looking(redis: Any, key: str, value: bytes, token_key: str, token: bytes) -> Any:
    return redis.set(key, value, ex=60)


def watched(redis: Any, key: str, value: bytes, token: Any, *, ex: int | None, ok: Any) -> Any:
    from redis import WatchError

    with redis.pipeline() as pipe:
        pipe.watch("token:users")
        if token is not None and pipe.get("token:users") != token:
            return False
        pipe.multi()
        pipe.set(key, value, ex=ex)
        try:
            pipe.execute()
        except WatchError:
            return ok
        return True


def made(token: Callable[[str], Any]) -> Callable[..., None]:
    """Return a renew that is right but for the tokens that it takes."""

    def renew(redis: Any, *tags: str) -> None:
        if tags:
            redis.mset({f"token:{tag}": token(tag) for tag in tags})

    return renew


count, rng = itertools.count(), random.Random()
STILL = {  # tokens that are used twice while the clock stands still
    "time": lambda tag: str(time.time()),
    "time_ns, imported by its name": lambda tag: time_ns(),
    "now": lambda tag: datetime.datetime.now().isoformat(),
    "utcnow": lambda tag: datetime.datetime.now(datetime.UTC).timestamp(),
    "monotonic": lambda tag: f"{os.getpid()} {time.monotonic_ns()}",
    "a clock and a tag": lambda tag: f"{time.perf_counter()} {tag}",
    "a digest of a clock": lambda tag: hashlib.sha256(str(time.time()).encode()).hexdigest(),
    "seconds in words": lambda tag: time.strftime("%Y-%m-%d %H:%M:%S"),
    "uuid5": lambda tag: str(uuid.uuid5(uuid.NAMESPACE_URL, f"{tag} {time.time()}")),
}
ALIKE = {  # tokens that two workers make that began alike
    "uuid1": lambda tag: str(uuid.uuid1()),
    "random": lambda tag: f"{random.getrandbits(64):016x}",
    "a generator of its own": lambda tag: rng.random(),
    "random and a clock": lambda tag: f"{time.time()} {random.random()}",
    "a count": lambda tag: f"{next(count):08}",
    "a process number and a count": lambda tag: f"{os.getpid()}-{next(count)}-{tag}",
    "seeded by a clock": lambda tag: random.Random(f"{time.time()} {next(count)}").random(),
}


def counting_up(redis: Any, *tags: str) -> None:
    for tag in tags:
        redis.incr(f"token:{tag}")


def counting_in_lua(redis: Any, *tags: str) -> None:
    if tags:
        names = [f"token:{tag}" for tag in tags]
        redis.eval("for _, key in ipairs(KEYS) do redis.call('INCR', key) end", len(tags), *names)


def in_lua(token: str, before: str = "") -> Callable[..., None]:
    """Return a renew whose script sets each key to what an expression in Lua gives."""
    script = f"{before}for i, key in ipairs(KEYS) do redis.call('SET', key, {token}) end"

    def renew(redis: Any, *tags: str) -> None:
        if tags:
            names = [f"token:{tag}" for tag in tags]
            redis.eval(script, len(tags), *names, *[secrets.token_hex(8) for _ in tags])

    return renew


ASKED = "local time = redis.call('TIME') "
SERVER_CLOCKS = {  # tokens from the server's clock, the same again when it is set back
    "TIME": in_lua("time[1] .. time[2] .. i", ASKED),
    "in a local function": in_lua("call('time')[1] .. '-' .. i", "local call = redis.pcall "),
    "with the key, backwards": in_lua("string.reverse(time[1] .. key)", ASKED),
}
AND_THE_OLD_ONE = in_lua("time[1] .. redis.call('GET', key) .. key", ASKED)
THE_OLD_ONE = in_lua("redis.call('GET', key) .. key")
DICE = in_lua("tostring(math.random()) .. '-' .. i")


def time_as_a_script(redis: Any, *tags: str) -> None:
    if tags:
        script = f"{ASKED}for i, key in ipairs(KEYS) do redis.call('SET', key, time[1] .. i) end"
        redis.register_script(script)(keys=[f"token:{tag}" for tag in tags])


def asking_the_time(redis: Any, *tags: str) -> None:
    if tags:
        seconds, micros = redis.time()
        redis.mset({f"token:{tag}": f"{seconds}.{micros}.{tag}" for tag in tags})


MINE = "for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[i]) end"


def always_loading(redis: Any, *tags: str) -> None:
    if tags:
        digest = redis.script_load(MINE)
        new = [secrets.token_hex(8) for _ in tags]
        redis.evalsha(digest, len(tags), *[f"token:{tag}" for tag in tags], *new)


def to_another_redis(redis: Any, *tags: str) -> None:
    made(lambda tag: secrets.token_hex(8))(FakeRedis(), *tags)


def two_by_turns(redis: Any, *tags: str) -> None:
    if tags:
        script = """
            for _, key in ipairs(KEYS) do
                local old = redis.call('GET', key)
                redis.call('SET', key, (old:sub(1, 4) == 'even' and 'odd ' or 'even ') .. key)
            end
        """
        redis.eval(script, len(tags), *[f"token:{tag}" for tag in tags])


def under_a_printed_name(redis: Any, *tags: str) -> None:
    made(lambda tag: secrets.token_hex(8))(redis, *[str(tag.encode()) for tag in tags])


def one_token_for_all(redis: Any, *tags: str) -> None:
    token = secrets.token_hex(8)
    made(lambda tag: token)(redis, *tags)


def watching_text(redis: Any, key: str, value: bytes, token_key: str, token: bytes) -> Any:
    with redis.pipeline() as pipe:
        pipe.watch(token_key)
        if pipe.get(token_key) != token.decode():
            return False
        pipe.multi()
        pipe.set(key, value, ex=60)
        return pipe.execute() == [True]


def get_then_watch(redis: Any, key: str, value: bytes, token_key: str, token: bytes) -> Any:
    if redis.get(token_key) != token:
        return False
    return watched(redis, key, value, None, ex=60, ok=False)


def taking_it_back(redis: Any, key: str, value: bytes, token_key: str, token: bytes) -> Any:
    if redis.get(token_key) != token:
        return False
    redis.set(key, value, ex=60)
    if redis.get(token_key) != token:
        redis.delete(key)
        return False
    return True


WRONG: list[tuple[str, Any, str]] = [
    ("09.1", "R1 R2 R3 W1 W2 ~", "the counter is None: not valid"),
    ("09.1", "R1 R2 W1 W2 ~ R3", "R3 stores nothing"),
    ("09.1", "~ W1 W2 R1 R2 R3", "as R2 comes after W1"),
    ("09.1", "R1 R2 R3 W1 ~", "has to come once"),
    ("09.1", "R2 R1 R3 W1 W2 ~", "R's own steps"),
    ("09.1", ["R1", "R2"], "an order is text"),
    ("09.2", one_by_one, "it sent SET and SET"),
    ("09.2", in_a_pipeline, "a pipeline"),
    ("09.2", with_a_constant, "left token:users as it was"),
    ("09.2", one_token_for_the_first, "left token:orders as it was"),
    ("09.2", too_short, "too short"),
    ("09.2", all_tags, "which is another tag's"),
    ("09.2", under_the_tag, "left token:users as it was"),
    ("09.2", even_for_nothing, "there is nothing to do"),
    ("09.2", deleting, "token:users is gone"),
    *[("09.2", made(token), "while the clock stands still, as betwe") for token in STILL.values()],
    *[
        ("09.2", made(token), "two workers, which began alike, both made")
        for token in ALIKE.values()
    ],
    ("09.2", counting_up, "A counter is no token: after an eviction it begins again"),
    ("09.2", counting_in_lua, "A counter is no token"),
    *[
        ("09.2", renew, "set back: (redis, 'users', 'orders'), it left token:users as it was. No")
        for renew in SERVER_CLOCKS.values()
    ],
    ("09.2", time_as_a_script, "neither Python's nor the server's TIME"),
    ("09.2", AND_THE_OLD_ONE, "two workers, which began alike, both made"),
    ("09.2", THE_OLD_ONE, "two workers, which began alike, both made"),
    ("09.2", DICE, "a server that begins anew repeats Lua's math.random"),
    ("09.2", asking_the_time, "it sent TIME and MSET"),
    ("09.2", always_loading, "it sent SCRIPT LOAD and EVALSHA"),
    ("09.2", to_another_redis, "nothing to the redis that it was given"),
    ("09.2", one_token_for_all, "which another tag has too"),
    ("09.2", two_by_turns, "which was used before"),
    ("09.2", under_a_printed_name, "bytes that were made text by printing them"),
    ("09.1", b"R1 R2 W1 ~ W2 R3", "These are bytes, and text is asked for"),
    ("09.3", watching_text, "Bytes were compared with text: b'another' == 'mine' is never true"),
    ("09.3", look_then_store, "between your look and your store, just before SET"),
    ("09.3", without_watch, "just before EXEC, and you stored"),
    ("09.3", taking_it_back, "just before SET, and you stored, if not for long"),
    ("09.3", get_then_watch, "just before WATCH, and you stored"),
    ("09.3", not_looking, "the token was b'another'"),
    ("09.3", lambda r, k, v, t, n: watched(r, k, v, n, ex=None, ok=False), "live for 60 seconds"),
    ("09.3", lambda r, k, v, t, n: watched(r, k, v, n, ex=60, ok=None), "end with `return`?"),
    ("09.3", lambda r, k, v, t, n: watched(r, k, v, n, ex=60, ok=True), "returned True, not False"),
]


def with_a_script(redis: Any, *tags: str) -> None:
    if tags:
        new = [secrets.token_hex(8) for _ in tags]
        redis.register_script(MINE)(keys=[f"token:{tag}" for tag in tags], args=new)


UNTIL = "redis.call('SET', key, ARGV[i], 'PXAT', 1000 * (time[1] + 3600))"
UNTIL_LATER = f"{ASKED}for i, key in ipairs(KEYS) do {UNTIL} end"


def with_a_deadline(redis: Any, *tags: str) -> None:
    if tags:
        new = [secrets.token_hex(8) for _ in tags]
        redis.eval(UNTIL_LATER, len(tags), *[f"token:{tag}" for tag in tags], *new)


def in_a_transaction(redis: Any, key: str, value: bytes, token_key: str, token: bytes) -> Any:
    stored = False

    def fill(pipe: Any) -> None:
        nonlocal stored
        stored = pipe.get(token_key) == token
        pipe.multi()
        if stored:
            pipe.set(key, value, ex=60)

    redis.transaction(fill, token_key)
    return stored


def trying_again(redis: Any, key: str, value: bytes, token_key: str, token: bytes) -> Any:
    from redis import WatchError

    pipe = redis.pipeline()
    while True:
        try:
            pipe.watch(token_key)
            if pipe.get(token_key) != token:
                pipe.unwatch()
                return False
            pipe.multi()
            pipe.set(key, value, px=60_000)
            return pipe.execute() == [True]
        except WatchError:
            continue


def looking_after_it(redis: Any, key: str, value: bytes, token_key: str, token: bytes) -> Any:
    return watched(redis, key, value, token, ex=60, ok=False) and redis.get(key) == value


RIGHT: list[tuple[str, Any]] = [
    ("09.1", "R1 R2 W1 ~ W2 R3"),
    ("09.1", "R1 R2 R3 W1 ~ W2"),
    ("09.2", tokens.invalidate),  # its script asks for TIME, and makes no token of it
    ("09.2", with_a_script),
    ("09.2", with_a_deadline),
    ("09.2", in_lua("ARGV[i] .. time[1]", ASKED)),
    ("09.2", made(lambda tag: uuid.uuid4().bytes)),
    ("09.2", made(lambda tag: secrets.token_urlsafe(8))),
    ("09.2", made(lambda tag: os.urandom(8))),
    ("09.2", made(lambda tag: f"{time.time()} {secrets.token_hex(8)}")),
    ("09.2", made(lambda tag: random.SystemRandom().getrandbits(64) + 10**8)),
    ("09.3", in_a_transaction),
    ("09.3", trying_again),
    ("09.3", looking_after_it),
]
