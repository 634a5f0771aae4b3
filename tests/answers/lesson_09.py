"""Wrong answers to the exercises of lesson 09: exercise, answer, words of its message."""

from __future__ import annotations

import secrets
from typing import Any


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


def watched(redis: Any, key: str, value: bytes, token: bytes, *, ex: int | None, ok: Any) -> Any:
    from redis import WatchError

    with redis.pipeline() as pipe:
        pipe.watch("token:users")
        if pipe.get("token:users") != token:
            return False
        pipe.multi()
        pipe.set(key, value, ex=ex)
        try:
            pipe.execute()
        except WatchError:
            return ok
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
    ("09.2", deleting, "became None"),
    ("09.3", look_then_store, "between your look and your store"),
    ("09.3", without_watch, "between your look and your store"),
    ("09.3", not_looking, "the token was b'another'"),
    ("09.3", lambda r, k, v, t, n: watched(r, k, v, n, ex=None, ok=False), "live for 60 seconds"),
    ("09.3", lambda r, k, v, t, n: watched(r, k, v, n, ex=60, ok=None), "end with `return`?"),
    ("09.3", lambda r, k, v, t, n: watched(r, k, v, n, ex=60, ok=True), "returned True, not False"),
]
