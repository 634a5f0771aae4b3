"""Wrong answers to the exercises of lesson 05: exercise, answer, words of its message."""

from __future__ import annotations

import math
from typing import Any


def get_then_delete(redis: Any, key: str, token: str) -> None:
    if redis.get(key) == token.encode():
        redis.delete(key)


def get_and_delete(redis: Any, key: str, token: str) -> None:
    found = redis.getdel(key)
    if found not in (None, token.encode()):
        redis.set(key, found)


def in_a_pipeline(redis: Any, key: str, token: str) -> None:
    if redis.execute_command("GET", key) == token.encode():
        redis.pipeline().delete(key).execute()


def in_two_pipelines(redis: Any, key: str, token: str) -> None:
    with redis.pipeline() as pipe:
        if pipe.get(key).execute() == [token.encode()]:
            pipe.delete(key).execute()


def watching_another_key(redis: Any, key: str, token: str) -> None:
    with redis.pipeline() as pipe:
        pipe.watch(token)
        if pipe.get(key) == token.encode():
            pipe.multi()
            pipe.delete(key)
            pipe.execute()


def looking_twice(redis: Any, key: str, token: str) -> None:
    if redis.get(key) == token.encode() and redis.pttl(key) > 0:
        redis.delete(key)


def renaming(redis: Any, key: str, token: str) -> None:
    if redis.mget(key) == [token.encode()]:
        redis.rename(key, "released")


def without_decoding(redis: Any, key: str, token: str) -> None:
    if redis.get(key) == token:
        redis.delete(key)


def unless_another_is_there(redis: Any, key: str, token: str) -> None:
    if redis.get(key) != token:
        return
    redis.delete(key)


def in_a_list(redis: Any, key: str, token: str) -> None:
    if token in redis.mget(key):
        redis.delete(key)


def in_a_transaction(redis: Any, key: str, token: str) -> None:
    with redis.pipeline() as pipe:
        pipe.watch(key)
        if pipe.get(key) == token:
            pipe.multi()
            pipe.delete(key)
            pipe.execute()


def printing(redis: Any, key: str, token: str) -> None:
    script = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
    redis.eval(script, 1, key, str(token.encode()))


WRONG: list[tuple[str, Any, str]] = [
    ("05.1", "R1 R2 W1 W2 R3", "took the version before"),
    ("05.1", "W1 W2 R1 R2 R3", "selects after the commit"),
    ("05.1", "W2 W1 R1 R2 R3", "W's own steps"),
    ("05.1", "W1 R1 R2", "has to come once"),
    ("05.1", "W1 R1 R2 W2 R4", "has to come once"),
    ("05.1", "W1,R1,R2,W2,R3", "with spaces between"),
    ("05.1", "w1 r1 r2 w2 r3", "written so"),
    ("05.1", ["W1", "R1", "R2", "W2", "R3"], "a schedule is text"),
    ("05.1", 3, "a schedule is text"),
    ("05.2", lambda redis, key, token: redis.delete(key), "was another's"),
    ("05.2", lambda redis, key, token: None, "is still there"),
    ("05.2", get_then_delete, "Look and delete in one step"),
    ("05.2", get_and_delete, "moved its deadline"),
    *[
        ("05.2", answer, "Look and delete in one step")
        for answer in (in_a_pipeline, in_two_pipelines, watching_another_key, looking_twice)
    ],
    ("05.2", renaming, "Look and delete in one step"),
    ("05.2", without_decoding, "is still there"),
    *[
        ("05.2", answer, "Bytes were compared with text: b'mine' == 'mine' is never true. Redis")
        for answer in (without_decoding, unless_another_is_there, in_a_list, in_a_transaction)
    ],
    ("05.2", printing, "Your code sent \"b'mine'\": bytes that were made text by printing them"),
    ("05.1", b"W1 R1 R2 W2 R3", "These are bytes, and text is asked for"),
    ("05.3", lambda remaining, load: math.exp(remaining / load), "the share is 0.3679"),
    ("05.3", lambda remaining, load: math.exp(-remaining * load), "the share is 0.7788"),
    ("05.3", lambda remaining, load: 1 - math.exp(-remaining / load), "gave 0.632"),
    ("05.3", lambda remaining, load: 100 * math.exp(-remaining / load), "gave 36.78"),
    ("05.3", lambda remaining, load: remaining / load, "gave 1.0"),
    ("05.3", lambda remaining, load: str(math.exp(-remaining / load)), "a share is a number"),
    ("05.3", lambda remaining, load: -load * math.log(0.5) >= remaining, "gave False"),
]
