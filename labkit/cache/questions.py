"""What is asked: the calls of a function, or a statement. Each has a key, tags and a TTL."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, SelectBase
from sqlalchemy.orm import Bundle

from labkit.cache.keys import call_key, decorators_of, encode, name_of
from labkit.cache.reads import SCHEMA_MAP
from labkit.cache.refusal import NotCacheable
from labkit.cache.statements import statement_key, tables_read
from labkit.cache.ttl import checked_ttl
from labkit.cache.writes import EVERYTHING

# Two values of one of these types are the same question if they are equal.
PLAIN = frozenset({int, str, bytes, bool, type(None)})
MOST_KEYS = 4_096  # that are remembered for each function


def checked_tags(tags: Collection[str]) -> frozenset[str]:
    """Return the tags as a set.

    Raises:
        TypeError: a tag is no text, or a text stands in place of several tags.
    """
    if isinstance(tags, str):
        raise TypeError(f"tags are several names: write ({tags!r},)")
    for tag in tags:
        if not isinstance(tag, str) or not tag:
            raise TypeError(f"a tag is a text, such as a table's name, and not {tag!r}")
    return frozenset(tags)


class Question:
    """What entries of one kind have in common.

    Attributes:
        name: for people.
        ttl: how long an entry lives, in seconds.
        given: the tags that its author has named.
        by_table: whether the tables that a load reads are tags as well.
        tags: all tags that are known, in order.
    """

    def __init__(self, name: str, ttl: float, tags: Collection[str], by_table: bool) -> None:
        self.name = name
        self.ttl = checked_ttl(ttl)
        self.given = checked_tags(tags)
        self.by_table = by_table
        self.tags = tuple(sorted({*self.given, EVERYTHING}))

    def learn(self, read: Collection[str]) -> list[str]:
        """Add what a load has read and no tag names yet; return it."""
        new = sorted(set(read).difference(self.tags)) if self.by_table else []
        if new:
            self.tags = tuple(sorted({*self.tags, *new}))
        return new


class Function(Question):
    """A function, whose calls are the questions.

    Args:
        function: what is called.
        ttl: how long an entry lives, in seconds.
        tags: its entries'.
        by_table: whether the tables that it reads are tags as well.
        options: `version`, `name` and `ignore` of `call_key`.

    Raises:
        TypeError: the function has no key, or gives no value but a generator or a coroutine.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        ttl: float,
        tags: Collection[str],
        by_table: bool,
        **options: Any,
    ) -> None:
        for has_no_value in (
            inspect.iscoroutinefunction,
            inspect.isasyncgenfunction,
            inspect.isgeneratorfunction,
        ):
            if has_no_value(function):
                raise TypeError(
                    f"{function!r} gives no value that could be stored. A cached function returns "
                    "its answer; it is no coroutine and no generator"
                )
        if isinstance(options["ignore"], str):
            raise TypeError(f"ignore takes several names: write ({options['ignore']!r},)")
        known = inspect.signature(function).parameters
        if unknown := [each for each in options["ignore"] if each not in known]:
            raise ValueError(f"{function!r} has no parameter {unknown[0]!r} to ignore")
        if not options["name"]:
            decorators_of(function)  # refuses now what it would refuse at the first call
        super().__init__(options["name"] or name_of(function), ttl, tags, by_table)
        self._function = function
        self._options = options
        # Typed, as 1 and True are equal, and different questions.
        self._plain_key = lru_cache(MOST_KEYS, typed=True)(self._key_of_plain)

    def key(
        self, namespace: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Any
    ) -> str:
        """Return the key of a call.

        Raises:
            TypeError: an argument has no key.
        """
        if PLAIN.issuperset(map(type, (*args, *kwargs.values(), context))):
            return self._plain_key(namespace, context, *args, **kwargs)
        return self._key(namespace, args, kwargs, context)

    def _key_of_plain(self, namespace: str, context: Any, /, *args: Any, **kwargs: Any) -> str:
        return self._key(namespace, args, kwargs, context)

    def _key(
        self, namespace: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Any
    ) -> str:
        options = self._options
        return call_key(self._function, args, kwargs, namespace, context=context, **options)


_asked: WeakKeyDictionary[SelectBase, tuple[Any, str, set[str]]] = WeakKeyDictionary()


def key_and_tables(
    statement: Any,
    engine: Engine,
    params: Mapping[str, Any] | None,
    context: Any,
    namespace: str,
    schemas: Collection[bytes] = (),
    **trust: Any,
) -> tuple[str, set[str]]:
    """Return the key of a SELECT, and the tables that it reads.

    Args:
        statement: it gives columns. What it gives is remembered for the same object.
        engine: where it will run. Its URL is part of the key.
        params: what is passed to `execute` beside it.
        context: what else decides the rows.
        namespace: the cache's.
        schemas: of `schemas_of`.
        trust: `pure` and `trusted` of `statement_key`.

    Raises:
        NotCacheable: as `statement_key` does.
    """
    url = engine.url.render_as_string(hide_password=True)
    plain = params is None and not any(trust.values())
    asked = (url, namespace, engine.dialect.name, schemas, encode(context))
    if plain and (known := _asked.get(statement)) and known[0] == asked:
        return known[1:]
    decided_by = {"database": url, "context": context}
    if schemas:
        decided_by["schemas"] = schemas
    key = statement_key(
        statement, engine.dialect, params, context=decided_by, namespace=namespace, **trust
    )
    tables = tables_read(statement, engine.dialect, **trust)
    if plain:
        _asked[statement] = (asked, key, tables)
    return key, tables


def schemas_of(session: Any, bind: Any) -> frozenset[bytes]:
    """Return by which maps a session's tables may be in other schemas; nothing if by none.

    Args:
        session: it, its engines and its connections may have a `schema_translate_map` each.
        bind: the engine, or None, that it would connect to.
    """
    transaction = session.get_transaction()
    ways = [bind, *getattr(session, "binds", {}).values()]
    ways += [] if transaction is None else transaction.connections
    maps: list[tuple[Any, Any]] = [("", getattr(session, "execution_options", {}).get(SCHEMA_MAP))]
    for each in ways:
        if isinstance(each, Engine | Connection):
            maps.append((each.engine.url, each.get_execution_options().get(SCHEMA_MAP)))
    return frozenset(_schemas(str(url), each) for url, each in maps if each)


def _schemas(url: str, schema_map: Mapping[Any, Any]) -> bytes:
    # SQLAlchemy adds "_none" to a map that has None, once it uses it.
    given = ((str(key), str(name)) for key, name in schema_map.items() if key != "_none")
    return encode([url, sorted(given)])


def refuse_entities(statement: Any) -> None:
    """Refuse a statement whose rows hold objects.

    Raises:
        NotCacheable: it selects a mapped class or a bundle.
    """
    if isinstance(statement, SelectBase) and statement in _asked:  # was looked at, and let through
        return
    for each in getattr(statement, "column_descriptions", ()):
        is_entity = each.get("entity") is not None and each["expr"] is each["entity"]
        if is_entity or isinstance(each["expr"], Bundle):
            raise NotCacheable(
                f"rows() gives plain values, and {each['name']} is a whole entity. Select its "
                "columns. Why no entity is cached, lesson 03 shows.",
                "an entity",
            )
