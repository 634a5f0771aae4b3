"""The decorator so far: what lessons 02 to 10 make of it, one class a lesson.

Each class inherits from an earlier one, and replaces the part that its lesson is about. The lesson
writes that class out at its end and has it tried: one row more of the scoreboard is green, of the
nine that `ONE_A_LESSON` names.

These nine are not all. Rows of lesson 13 fail to the end, and others fail that a lesson has more
than one of.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sa
from flask import has_app_context

from labkit.audit.adapter import Adapter
from labkit.audit.site import Place
from labkit.baselines.deletion import set_of
from labkit.cache import after_root_commit, codec, statement_key, tokens, watch_writes
from labkit.cache.commits import EVERYTHING
from labkit.cache.keys import call_key, name_of
from labkit.cache.ttl import jittered_ms
from labkit.concurrency.lease import fetch_with_lease

Function = Callable[..., Any]
Load = Callable[[], Any]


class Bypass(Exception):
    """An answer that cannot be stored. It goes to the caller as it is.

    Attributes:
        value: the answer.
    """

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Base(Adapter):
    """A cache decorator in parts, which lessons replace.

    `key`, `dumps`, `loads` and `fetch` it has to bring. `answer` is what a call returns, `fetch`
    what is stored of that. `invalidate` deletes keys, and `entries_of` a function searches for its
    keys, by `pattern`: both until a lesson knows better.
    """

    name = "the decorator so far"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.redis = place.client()

    def wrap(self, function: Function, ttl: int) -> Function:
        """Return the function with the cache before it. A miss returns what a hit will return."""

        @functools.wraps(function)
        def cached(*args: Any, **kwargs: Any) -> Any:
            def load() -> Any:
                return self.dumps(function(*args, **kwargs))

            try:
                return self.answer(function, self.key(function, *args, **kwargs), load, ttl)
            except Bypass as bypass:
                return bypass.value

        return cached

    def answer(self, function: Function, key: str, load: Load, ttl: float) -> Any:
        """Return the answer of a call."""
        return self.loads(self.fetch(function, key, load, ttl))

    def invalidate_one(self, cached: Function, *args: Any, **kwargs: Any) -> None:
        """Have the next call with these arguments loaded anew."""
        self.invalidate(self.key(cached.__wrapped__, *args, **kwargs))  # type: ignore[attr-defined]

    def invalidate_all(self, cached: Function) -> None:
        """Have the next call of this function loaded anew, whatever the arguments."""
        for entry in self.entries_of(cached.__wrapped__):  # type: ignore[attr-defined]
            self.invalidate(entry)

    def entries_of(self, function: Function) -> list[str]:
        """Return the keys of a function's entries."""
        found: Any = self.redis.keys(self.pattern(function))
        return [key.decode() for key in found]

    def pattern(self, function: Function) -> str:
        """Return the pattern that the keys of a function's entries match."""
        return f"{function.__name__}:*"

    def invalidate(self, *entries: str) -> None:
        """Have these entries count no more."""
        self.redis.delete(*entries)

    # What a decorator has to bring.

    def key(self, function: Function, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call."""
        raise NotImplementedError

    def dumps(self, value: Any) -> Any:
        """Return an answer as Redis can store it."""
        raise NotImplementedError

    def loads(self, data: Any) -> Any:
        """Return the answer that was stored."""
        raise NotImplementedError

    def fetch(self, function: Function, key: str, load: Load, ttl: float) -> Any:
        """Return what is stored under a key; load and store it if it is missing."""
        raise NotImplementedError


class Lesson02(Base):
    """Cache-aside: the key is a function's name and its arguments as JSON, and so is the value."""

    def dumps(self, value: Any) -> Any:
        """Return an answer as Redis can store it."""
        return json.dumps(value)

    def loads(self, data: Any) -> Any:
        """Return the answer that was stored."""
        return json.loads(data)

    def key(self, function: Function, *args: Any) -> str:
        """Return the key of a call."""
        return f"{function.__name__}:{json.dumps(args)}"

    def fetch(self, function: Function, key: str, load: Load, ttl: Any) -> Any:
        """Return what is stored under a key; load and store it if it is missing."""
        if (stored := self.redis.get(key)) is None:
            stored = load()
            self.redis.set(key, stored, ex=ttl)
        return stored


class Lesson03(Lesson02):
    """A codec that keeps types. What it cannot write is not stored; what it cannot read, a miss."""

    def dumps(self, value: Any) -> bytes:
        """Return an answer as bytes."""
        try:
            return codec.dumps(value)
        except codec.NotStorable:
            raise Bypass(value) from None

    def loads(self, data: bytes) -> Any:
        """Return the answer that was stored."""
        return codec.loads(data)

    def answer(self, function: Function, key: str, load: Load, ttl: float) -> Any:
        """Return the answer of a call; load it anew where what is stored cannot be read."""
        try:
            return super().answer(function, key, load, ttl)
        except codec.CorruptData:
            self.redis.delete(key)
            return super().answer(function, key, load, ttl)


class Lesson04(Lesson03):
    """A key that holds the function's full name, and each argument with its type and length."""

    def key(self, function: Function, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call."""
        return call_key(function, args, kwargs)

    def pattern(self, function: Function) -> str:
        """Return the pattern that the keys of a function's entries match, and no others."""
        return f"shop:v1:{name_of(function)}:*"


class Lesson05(Lesson04):
    """A token in each value, and a lease: one caller loads, and stores only what is still true."""

    def fetch(self, function: Function, key: str, load: Load, ttl: float) -> Any:
        """Return what is stored under a key and counts; load it once if there is nothing."""
        tags = self.tags(function, key)
        return fetch_with_lease(self.redis, key, load, ttl, 10_000, *tags)

    def tags(self, function: Function, key: str) -> list[str]:
        """Return the tags whose tokens an entry carries: it has one of its own."""
        return [key]

    def invalidate(self, *tags: str) -> None:
        """Give each tag a new token."""
        tokens.invalidate(self.redis, *tags)


class Lesson06(Lesson05):
    """A TTL with jitter."""

    def fetch(self, function: Function, key: str, load: Load, ttl: float) -> Any:
        """Return what is stored under a key, for a part of its TTL that differs by chance."""
        return super().fetch(function, key, load, jittered_ms(ttl, 0.1, random.random) / 1000)


class Lesson07(Lesson06):
    """An invalidation that comes within a transaction takes effect after its commit."""

    def invalidate_one(self, cached: Function, *args: Any, **kwargs: Any) -> None:
        """Have the next call with these arguments loaded anew."""
        self.once_committed(partial(super().invalidate_one, cached, *args, **kwargs))

    def invalidate_all(self, cached: Function) -> None:
        """Have the next call of this function loaded anew, whatever the arguments."""
        self.once_committed(partial(super().invalidate_all, cached))

    def once_committed(self, invalidate: Callable[[], None]) -> None:
        """Invalidate after the root commit of the transaction that is open, if one is."""
        session = self.place.db.session
        if has_app_context() and session().in_transaction():
            after_root_commit(session, invalidate)
        invalidate()  # what others have committed already


class Lesson08(Lesson07):
    """A SET of keys for each function: nobody searches for its entries."""

    def fetch(self, function: Function, key: str, load: Load, ttl: float) -> Any:
        """Return what is stored under a key; note the key before it is loaded."""

        def note_and_load() -> Any:
            self.redis.sadd(set_of(name_of(function)), key)
            return load()

        return super().fetch(function, key, note_and_load, ttl)

    def entries_of(self, function: Function) -> list[str]:
        """Return the keys of a function's entries."""
        found = self.redis.sscan_iter(set_of(name_of(function)), count=1000)
        return [key.decode() for key in found]


class Lesson09(Lesson07):
    """One token for all entries of a function, in place of lesson 08's SET."""

    def tags(self, function: Function, key: str) -> list[str]:
        """Return the tags whose tokens an entry carries."""
        return [key, name_of(function)]

    def entries_of(self, function: Function) -> list[str]:
        """Return the one tag that all entries of a function have."""
        return [name_of(function)]


class StatementKeys(Lesson09):
    """Statements as arguments."""

    def key(self, function: Function, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call, in which a statement is its own key."""
        named = {name: self.plain(value) for name, value in kwargs.items()}
        return super().key(function, *map(self.plain, args), **named)

    def plain(self, value: Any) -> Any:
        """Return the key of a statement; any other argument as it is."""
        if isinstance(value, sa.SelectBase):
            return statement_key(value, self.place.db.engine.dialect)
        return value


class Lesson10(StatementKeys):
    """A commit invalidates what reads the tables that were written to."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.stop = watch_writes(place.db, self.invalidate)

    def tags(self, function: Function, key: str) -> list[str]:
        """Return the tags whose tokens an entry carries, such as the tables that it is made of."""
        return [*super().tags(function, key), *self.place.tables, EVERYTHING]

    def close(self) -> None:
        """Stop watching writes."""
        self.stop()
