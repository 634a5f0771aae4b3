"""Exercises of lesson 03, Pickle."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from inspect import isfunction
from types import CodeType
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from labkit.lessons.exercises import Exercise, NotAttempted, Wrong, call
from labkit.lessons.replies import as_reply, unlike
from labkit.shop import User, db

DIGEST_BYTES = 32
PEOPLE = [
    {"id": 1, "username": "kim", "region": "EU", "email": "kim@example.com", "name": "Kim Lee"},
    {"id": 2, "username": "ada", "region": "US", "email": "ada@example.com", "name": "Ada Diaz"},
]


def _examine_rows(answer: Any) -> None:
    engine = create_engine("sqlite://")
    db.metadata.create_all(engine)
    with Session(engine) as session:
        users = [User(**person) for person in PEOPLE]
        session.add_all(users)
        session.commit()
        _compare_rows(call(answer, users, shown="(users), two users, just committed"))
        if not all(hasattr(user, "_sa_instance_state") for user in users):
            raise Wrong("after the call, users[0] has lost its state: your function changed it.")
        if call(answer, []) != []:
            raise Wrong("no users are no rows: ([]) should give [].")
    engine.dispose()


def _compare_rows(rows: Any) -> None:
    if not isinstance(rows, list):
        raise Wrong(f"it should return a list, and returned a {type(rows).__name__}.")
    if len(rows) != len(PEOPLE):
        raise Wrong(f"{len(PEOPLE)} users should give as many rows, and gave {len(rows)}.")
    for row, person in zip(rows, PEOPLE, strict=True):
        if type(row) is not dict:
            raise Wrong(f"a row should be a dictionary, and one is a {type(row).__name__}.")
        if "_sa_instance_state" in row:
            raise Wrong("a row holds _sa_instance_state, the ORM's own notes: columns only.")
        missing = [name for name in person if name not in row]
        extra = [name for name in row if name not in person]
        if missing and extra:
            raise Wrong(
                f"a row has the key {extra[0]!r}. Its keys should be the columns' names, as "
                f"texts: {', '.join(person)}."
            )
        if missing:
            raise Wrong(
                f"a row lacks {', '.join(missing)}. A commit has emptied these users: an "
                "attribute comes back when it is read from the user itself."
            )
        if extra:
            raise Wrong(f"a row holds {', '.join(map(str, extra))}, which is no column of users.")
        if row != person:
            raise Wrong(f"a row is {row!r}, and should be {person!r}.")


def rows(users):  # type: ignore[no-untyped-def]  # shown as it stands
    names = [column.key for column in User.__table__.columns]
    return [{name: getattr(user, name) for name in names} for user in users]


DURATIONS = [
    timedelta(hours=1),
    timedelta(days=1, seconds=2, microseconds=3),
    timedelta(days=400),
    timedelta(days=-1, microseconds=1),
    timedelta.max,
]


def _examine_tagged(answer: Any) -> None:
    for duration in DURATIONS:
        got = call(answer, duration)
        shown = f"({duration!r}) gave {got!r}"
        if not isinstance(got, dict) or list(got) != ["$timedelta"]:
            raise Wrong(f'{shown}: it should be a dictionary with the one key "$timedelta".')
        try:
            content = json.loads(json.dumps(got))["$timedelta"]
        except TypeError:
            raise Wrong(f"{shown}, which JSON cannot write.") from None
        if not isinstance(content, list):
            raise Wrong(f"{shown}: behind the tag there should be a list.")
        if _read_duration(content) != duration:
            raise Wrong(f"{shown}, and timedelta(*{content!r}) is not the same duration.")
    try:
        got = answer({1, 2})
    except TypeError:
        return
    except Exception as error:
        raise Wrong(f"for a set it raised {type(error).__name__}: use TypeError.") from None
    raise Wrong(f"for a set, a type that it does not know, it gave {got!r}: raise TypeError.")


def _read_duration(content: list[Any]) -> timedelta | None:
    try:
        return timedelta(*content)
    except (TypeError, OverflowError):
        return None


def tagged(value):  # type: ignore[no-untyped-def]  # shown as it stands
    if type(value) is not timedelta:
        raise TypeError(f"no tag for {type(value).__name__}")
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


def sealed(key: str, payload: bytes, secret: bytes) -> bytes:
    """Return the payload behind a digest of it and of the key that it is for."""
    digest = hmac.digest(secret, f"{len(key)} {key} ".encode() + payload, "sha256")
    return digest + payload


def _examine_opened(answer: Any) -> None:
    new, old, foreign = b"new secret", b"old secret", b"another secret"
    entry = sealed("user:1", b'{"id":1}', new)
    _expect(answer, "user:1", entry, [new, old], b'{"id":1}', "it was sealed with the first secret")
    entry = sealed("user:1", b'{"id":1}', old)
    _expect(answer, "user:1", entry, [new, old], b'{"id":1}', "it was sealed with the old secret")
    entry = sealed("user:1", b"", new)
    _expect(answer, "user:1", entry, [new, old], b"", "an empty payload is a payload")

    entry = sealed("user:1", b'{"id":1}', new)
    _expect(answer, "user:1", entry[:-1] + b"]", [new, old], None, "its last byte was changed")
    _expect(answer, "user:1", b"\0" + entry[1:], [new, old], None, "its digest was changed")
    _expect(answer, "user:2", entry, [new, old], None, "it was sealed for the key user:1")
    entry = sealed("user:1", b'{"id":1}', foreign)
    _expect(answer, "user:1", entry, [new, old], None, "the secret it was sealed with is not known")
    _expect(answer, "user:1", b"short", [new, old], None, "there is no room for a digest in it")
    if not _compares_digests(answer):
        raise Wrong(
            "every case is right, but == stops at the first byte that differs, and its time tells "
            "a forger how far he got. Compare with hmac.compare_digest."
        )


def _expect(
    answer: Any, key: str, entry: bytes, secrets: list[bytes], expected: bytes | None, why: str
) -> None:
    shown = f"({key!r}, entry, secrets)"
    got = call(answer, key, as_reply(entry), list(secrets), shown=shown, may_be_none=True)
    if got is ...:
        raise NotAttempted
    if got != expected:
        nudge = unlike(got, expected)
        raise Wrong(f"{shown} gave {got!r}, and should give {expected!r}: {why}.{nudge}")


def _compares_digests(function: Callable[..., Any]) -> bool:
    """Whether a function uses `compare_digest`, itself or in a function that it uses."""
    code = getattr(function, "__code__", None)
    if code is None:
        return True  # not written in Python: there is no telling
    scope = getattr(function, "__globals__", {})
    used = [scope.get(name) for name in _names(code)]
    return (
        "compare_digest" in _names(code)
        or any(each is hmac.compare_digest for each in used)  # imported by another name
        or any("compare_digest" in _names(each.__code__) for each in used if isfunction(each))
    )


def _names(code: CodeType) -> set[str]:
    """Return the names that a code uses, in the functions inside it too."""
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def opened(key, entry, secrets):  # type: ignore[no-untyped-def]  # shown as it stands
    digest, payload = entry[:32], entry[32:]
    text = f"{len(key)} {key} ".encode() + payload
    for secret in secrets:
        if hmac.compare_digest(digest, hmac.digest(secret, text, "sha256")):
            return payload
    return None


EXERCISES = {
    "03.1": Exercise(
        ask="Write rows(users): a list of dictionaries, one a user, of the columns alone.",
        examine=_examine_rows,
        praise="plain rows, which need no session to be read.",
        hints=(
            "User.__table__.columns are the columns; column.key is the name of each.",
            "getattr(user, name) reads an attribute, and loads it if a commit has expired it.",
            "vars(user) is not enough: it has what happens to be loaded, and the ORM's own notes.",
        ),
        solution=rows,
    ),
    "03.2": Exercise(
        ask="Write tagged(value): a timedelta behind its tag; anything else raises TypeError.",
        examine=_examine_tagged,
        praise="exact to the microsecond, and no type slips through unknown.",
        hints=(
            "A timedelta has three whole numbers: days, seconds and microseconds.",
            "total_seconds() is a float: it has no room for all the digits of a long duration.",
            "json.dumps calls this for whatever it cannot write. What you do not know, refuse.",
        ),
        solution=tagged,
    ),
    "03.3": Exercise(
        ask="Write opened(key, entry, secrets): the payload if a secret fits, else None.",
        examine=_examine_opened,
        praise="changed, moved, foreign or cut short: nothing gets past it.",
        hints=(
            "The first 32 bytes are the digest. What it was made of, sealed shows.",
            "Make the digest that each secret would give, and compare it with the entry's.",
            "hmac.compare_digest takes the same time wherever two digests differ.",
        ),
        solution=opened,
    ),
}
