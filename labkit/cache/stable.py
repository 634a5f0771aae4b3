"""A statement's structure and its types in words that mean the same in every process."""

from __future__ import annotations

import enum
import hashlib
import types
import weakref
from collections.abc import Iterable, Mapping
from inspect import getattr_static
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.types import TypeEngine

from labkit.cache.keys import encode
from labkit.cache.refusal import NotCacheable

# What a type holds and what no value that it reads depends on. Which texts an Enum's
# values_callable chose stands in the Enum itself.
NO_MATTER = {"_sort_key_function", "comparator", "dispatch", "metadata", "values_callable"}

_described: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()


def stable(part: Any) -> Any:
    """Return a part of a cache key as plain values that mean the same in every process.

    Raises:
        NotCacheable: it is known by its address in this process alone.
    """
    if isinstance(part, tuple | list):
        return [stable(each) for each in part]
    if isinstance(part, Mapping):
        pairs = [[encode(stable(key)), stable(value)] for key, value in part.items()]
        return ["mapping", sorted(pairs, key=lambda pair: pair[0])]
    if isinstance(part, Table):
        columns = [[stable(column.name), described(column.type)] for column in part.columns]
        return ["table", stable(part.fullname), columns]
    if isinstance(part, Mapper):
        return ["mapper", *stable(part.class_)]
    if isinstance(part, enum.Enum):
        return ["enum", *stable(type(part)), part.name]
    if isinstance(part, TypeEngine):
        return ["type", described(part)]
    if isinstance(part, ColumnClause):
        return ["column", stable(part.name), described(part.type)]
    if isinstance(part, custom_op):
        written = (part.opstring, part.precedence, part.is_comparison, part.eager_grouping)
        rest = (part.natural_self_precedent, part.operator_class, part.return_type)
        return ["operator", *written, *stable(rest)]
    if isinstance(part, type | types.FunctionType | types.BuiltinFunctionType):
        if "<" in part.__qualname__:
            raise NotCacheable(f"{part.__qualname__} has no name in other processes", "no name")
        return ["name", part.__module__ or "", part.__qualname__]
    if isinstance(part, types.ModuleType):
        return ["module", part.__name__]
    if isinstance(part, str):
        return "".join(part)  # no subclass: SQLAlchemy has names that know whether to be quoted
    try:
        encode(part)
    except TypeError:
        kind = type(part).__qualname__
        raise NotCacheable(f"it holds a {kind}, which has no key", f"a {kind}") from None
    return part


def described(kind: TypeEngine[Any]) -> bytes:
    """Return a digest of all that decides what a type turns values into.

    SQLAlchemy's own key of a type holds the constructor's arguments that are named as attributes:
    of an Enum the length, of a variant nothing.

    Raises:
        NotCacheable: the type holds something that has no name in other processes.
    """
    known = _described.get(kind)
    if known is None:
        state = {name: value for name, value in vars(kind).items() if _matters(kind, name)}
        words = [stable(type(kind)), stable(state)]
        known = _described[kind] = hashlib.blake2b(encode(words), digest_size=16).digest()
    return known


def _matters(kind: TypeEngine[Any], name: str) -> bool:
    remembered = type(getattr_static(type(kind), name, None)).__name__.endswith("memoized_property")
    return name not in NO_MATTER and not remembered


def types_of(elements: Iterable[Any]) -> list[bytes]:
    """Return what the types of a statement's parts are, but for columns, which their tables say."""
    return [
        described(element.type)
        for element in elements
        if isinstance(getattr(element, "type", None), TypeEngine)
        and not (isinstance(element, Column) and isinstance(element.table, Table))
    ]
