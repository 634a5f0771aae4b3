"""Wrong answers to the exercises of lesson 03: exercise, answer, words of its message."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from labkit.shop import User

NAMES = ["id", "username", "region", "email", "name"]


def as_dicts(names: list[str]) -> Callable[[Any], Any]:
    return lambda users: [{name: getattr(user, name) for name in names} for user in users]


def without_state(users: Any) -> Any:
    for user in users:
        for name in NAMES:
            getattr(user, name)
        vars(user).pop("_sa_instance_state")
    return [dict(vars(user)) for user in users]


def loaded_only(users: Any) -> Any:
    return [
        {name: value for name, value in vars(user).items() if not name.startswith("_")}
        for user in users
    ]


def with_state(users: Any) -> Any:
    return [{**as_dicts(NAMES)([user])[0], **vars(user)} for user in users]


def as_texts(users: Any) -> Any:
    return [{name: str(getattr(user, name)) for name in NAMES} for user in users]


def by_column(users: Any) -> Any:
    columns = User.__table__.columns
    return [{str(column): getattr(user, column.key) for column in columns} for user in users]


def duration(write: Callable[[timedelta], Any]) -> Callable[[Any], Any]:
    """Return a `tagged` that writes this behind the tag, and refuses what it should."""

    def tagged(value: Any) -> Any:
        if type(value) is not timedelta:
            raise TypeError
        return {"$timedelta": write(value)}

    return tagged


def parts(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def unless_unknown(other: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def tagged(value: Any) -> Any:
        return {"$timedelta": parts(value)} if type(value) is timedelta else other(value)

    return tagged


def digest(key: str, payload: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, f"{len(key)} {key} ".encode() + payload, "sha256")


def first_secret(key: str, entry: bytes, secrets: list[bytes]) -> bytes | None:
    fits = hmac.compare_digest(entry[:32], digest(key, entry[32:], secrets[0]))
    return entry[32:] if fits else None


def last_secret(key: str, entry: bytes, secrets: list[bytes]) -> bytes | None:
    return first_secret(key, entry, secrets[::-1])


def by_text(key: str, entry: bytes, secrets: list[bytes]) -> bytes | None:
    made: list[Any] = [digest(key, entry[32:], secret).hex() for secret in secrets]
    fits = [entry[:32] == each for each in made]
    return entry[32:] if any(fits) else None


def decoded(key: str, entry: bytes, secrets: list[bytes]) -> str | None:
    opened = any_secret(key, entry, secrets)
    return None if opened is None else opened.decode()


def any_secret(key: str, entry: bytes, secrets: list[bytes]) -> bytes | None:
    fits = [entry[:32] == digest(key, entry[32:], secret) for secret in secrets]
    return entry[32:] if any(fits) else None


def any_key(key: str, entry: bytes, secrets: list[bytes]) -> bytes | None:
    keys = [key, "user:1", "user:2"]
    return next((entry[32:] for each in keys if any_secret(each, entry, secrets) is not None), None)


def prefix(key: str, entry: bytes, secrets: list[bytes]) -> bytes | None:
    made = [digest(key, entry[32:], secret) for secret in secrets]
    return entry[32:] if any(each[1:] == entry[1:32] for each in made) else None


def not_empty(key: str, entry: bytes, secrets: list[bytes]) -> bytes | None:
    return any_secret(key, entry, secrets) or None


def whole(key: str, entry: bytes, secrets: list[bytes]) -> bytes | None:
    return entry if any_secret(key, entry, secrets) is not None else None


def yes(key: str, entry: bytes, secrets: list[bytes]) -> bool:
    return any_secret(key, entry, secrets) is not None


def cut(key: str, entry: bytes, secrets: list[bytes]) -> bytes | None:
    return b"" if len(entry) < 32 else any_secret(key, entry, secrets)


WRONG: list[tuple[str, Any, str]] = [
    ("03.1", lambda users: [vars(user) for user in users], "_sa_instance_state"),
    ("03.1", with_state, "the ORM's own notes"),
    ("03.1", loaded_only, "lacks id, username"),
    ("03.1", without_state, "your function changed it"),
    ("03.1", as_dicts(["id", "name"]), "lacks username, region, email"),
    ("03.1", as_dicts([*NAMES, "orders"]), "holds orders"),
    ("03.1", by_column, "has the key 'users.id'"),
    ("03.1", as_texts, "a row is {'id': '1'"),
    ("03.1", lambda users: users, "one is a User"),
    ("03.1", lambda users: [(user.id, user.name) for user in users], "one is a tuple"),
    ("03.1", lambda users: as_dicts(NAMES)(users)[:1], "gave 1"),
    ("03.1", lambda users: iter(as_dicts(NAMES)(users)), "should return a list"),
    ("03.1", lambda users: as_dicts(NAMES)(users) or [{}], "no users are no rows"),
    ("03.2", duration(lambda value: [0, value.total_seconds()]), "not the same duration"),
    ("03.2", duration(lambda value: [value.days, value.seconds]), "not the same duration"),
    ("03.2", duration(lambda value: [0, value.seconds, value.microseconds]), "is not the same"),
    ("03.2", duration(str), "there should be a list"),
    ("03.2", duration(lambda value: value), "JSON cannot write"),
    ("03.2", parts, "the one key"),
    ("03.2", lambda value: {"timedelta": parts(value)}, "the one key"),
    ("03.2", unless_unknown(str), "for a set, a type that it does not know, it gave '{1, 2}'"),
    ("03.2", unless_unknown(lambda value: None), "it gave None: raise TypeError"),
    ("03.2", unless_unknown(lambda value: value.days), "for a set it raised AttributeError"),
    ("03.3", first_secret, "sealed with the old secret"),
    ("03.3", last_secret, "sealed with the first secret"),
    ("03.3", any_secret, "stops at the first byte that differs"),
    ("03.3", any_key, "sealed for the key user:1"),
    ("03.3", prefix, "its digest was changed"),
    ("03.3", not_empty, "an empty payload is a payload"),
    ("03.3", lambda key, entry, secrets: entry[32:], "its last byte was changed"),
    ("03.3", lambda key, entry, secrets: None, "gave None, and should give b"),
    ("03.3", whole, "should give b'{\"id\":1}'"),
    ("03.3", yes, "gave True"),
    ("03.3", by_text, "Bytes were compared with text"),
    ("03.3", decoded, "This is text, and bytes are asked for"),
    ("03.3", cut, "no room for a digest"),
]
