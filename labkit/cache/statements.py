"""The key of a SELECT: what decides its rows, and nothing that depends on this process.

A statement is read in two parts. Its *structure* is what SQLAlchemy's own cache of compiled SQL
goes by: columns, entities, types, joins, loader options. It is written down once for each
structure, beside the SQL that the dialect makes of it, and remembered. Its *parameters* are
encoded for each statement, with their types.
(https://docs.sqlalchemy.org/en/21/core/connections.html#sql-compilation-caching)

What is not in the statement is not in the key. Criteria that a `do_orm_execute` listener adds, a
role, a search path, a time zone: say them as `context`. And what a name means is taken on trust:
raise the version when a type, a mapped class or a function of the database changes.
"""

from __future__ import annotations

import enum
import hashlib
import re
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    Date,
    DateTime,
    Dialect,
    SelectBase,
    String,
    Table,
    TableClause,
    Time,
    UpdateBase,
    inspect,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.orm.strategy_options import _AbstractLoad
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import Cast, ColumnClause, TextClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.lambdas import LambdaElement
from sqlalchemy.sql.operators import in_op, not_in_op

from labkit.cache.keys import DIGEST_BYTES, NAMESPACE, encode

MOST_STRUCTURES = 1000  # that are remembered; then remembering begins anew

# Functions whose result follows from their arguments. Others are refused: now(), random(), ...
PURE = frozenset(
    "abs avg bool_and bool_or cast ceil char_length coalesce concat count dense_rank every "  # noqa: SIM905
    "first_value floor greatest lag last_value lead least length lower ltrim max min mod ntile "
    "nullif rank replace round row_number rtrim sign stddev substr substring sum total trim upper "
    "variance".split()
)

HARMLESS = re.compile(
    r"\*|\d+"
)  # text that SQLAlchemy writes itself, in count(*) and EXISTS (SELECT 1)
EAGER = ("selectin", "subquery", "immediate", "joined")  # what loads a relationship with its owner

MOMENTS = (Date, DateTime, Time)
HAND_WRITTEN = ("_prefixes", "_suffixes", "_hints", "_statement_hints")


@dataclass(frozen=True)
class _Structure:
    """All of a statement but its values.

    Attributes:
        compiled: for which dialect it was compiled, it knows. Its values are another statement's.
        digest: of what it says, the same in every process.
        sets: names of parameters of IN, whose order does not count.
        moments: names of parameters that are dates or times.
        tables: names of the tables that it reads.
    """

    compiled: Any
    digest: bytes
    sets: frozenset[str]
    moments: frozenset[str]
    tables: frozenset[str]


_structures: dict[Any, _Structure] = {}


class NotCacheable(TypeError):
    """The statement has no key, for the reason that the message says. Run it without the cache."""


def statement_key(
    statement: SelectBase,
    dialect: Dialect,
    params: Mapping[str, Any] | None = None,
    *,
    context: Mapping[str, Any] | None = None,
    pure: Collection[str] = PURE,
    namespace: str = "shop",
    version: int = 1,
) -> str:
    """Return the key of a SELECT and its parameters, such as `shop:v1:select:` and 32 digits.

    Args:
        statement: a `select()`, `union()` and the like.
        dialect: of the database that it is for, such as `db.engine.dialect`.
        params: what will be passed to `execute` beside the statement.
        context: what else decides the rows: the bind, the tenant, the schema map of a connection.
        pure: functions that may be called in SQL: their result follows from their arguments.
        namespace: whose key this is; letters, digits and . _ - { }.
        version: of the answers' form. A new one leaves the old keys to their TTL.

    Raises:
        NotCacheable: the statement is refused: a lambda, FOR UPDATE, a write in a CTE, text, a
            function that may give another result tomorrow, criteria in a loader option, a value
            whose type or a part whose equality is not known.
        ValueError: the namespace has other characters.
    """
    if not NAMESPACE.fullmatch(namespace):
        raise ValueError(f"a namespace has letters, digits and . _ - {{ }}, not {namespace!r}")
    cache_key = _cache_key(statement)
    structure = _structure(statement, cache_key, dialect, frozenset(pure))
    options = cast(Any, statement).get_execution_options()
    try:
        values = _values(structure, cache_key, params)
        encoded = encode((namespace, version, values, dict(options), dict(context or {})))
    except (TypeError, RecursionError) as error:
        raise NotCacheable(str(error)) from None
    digest = hashlib.blake2b(structure.digest + encoded, digest_size=DIGEST_BYTES).hexdigest()
    return f"{namespace}:v{version}:select:{digest}"


def tables_read(
    statement: SelectBase, dialect: Dialect, *, pure: Collection[str] = PURE
) -> set[str]:
    """Return the names of the tables whose rows a SELECT, and its eager loading, depend on.

    Views, triggers and foreign tables are what their names are: it does not look into them.

    Raises:
        NotCacheable: as `statement_key` does.
    """
    return set(_structure(statement, _cache_key(statement), dialect, frozenset(pure)).tables)


def _cache_key(statement: Any) -> Any:
    if isinstance(statement, LambdaElement):
        raise NotCacheable("a lambda statement hides its values in a closure")
    if not isinstance(statement, SelectBase):
        raise NotCacheable(f"a {type(statement).__name__} is no SELECT")
    cache_key = statement._generate_cache_key()
    if cache_key is None:
        raise NotCacheable("it has no cache key: a type without cache_ok, or a construct of yours")
    if any(parameter.callable for parameter in cache_key.bindparams):
        raise NotCacheable("a parameter is a function, whose value is not known until it is run")
    return cache_key


def _structure(
    statement: SelectBase, cache_key: Any, dialect: Dialect, pure: Collection[str]
) -> _Structure:
    known = (dialect, cache_key.key, pure)
    structure = _structures.get(known)
    if structure is None:
        structure = _read(statement, cache_key, dialect, pure)
        if len(_structures) >= MOST_STRUCTURES:
            _structures.clear()
        _structures[known] = structure
    return structure


def _read(
    statement: SelectBase, cache_key: Any, dialect: Dialect, pure: Collection[str]
) -> _Structure:
    _refuse_options(statement)
    try:
        compiled: Any = statement._compiler(dialect, cache_key=cache_key)
    except SQLAlchemyError as error:
        raise NotCacheable(f"it cannot be compiled: {error}") from None
    in_sets = set()
    clauses = [*_elements(compiled), *_loaded_apart(statement)]
    for element in clauses:
        _refuse(element, pure)
        if getattr(element, "operator", None) in (in_op, not_in_op):
            in_sets.add(getattr(element.right, "key", None))
    parts = (dialect.name, compiled.string, _stable(cache_key.key))
    names = compiled.bind_names.items()
    return _Structure(
        compiled,
        hashlib.blake2b(encode(parts)).digest(),
        frozenset(name for each, name in names if each.expanding and each.key in in_sets),
        frozenset(name for each, name in names if isinstance(each.type, MOMENTS)),
        frozenset(each.name for each in clauses if isinstance(each, TableClause)),
    )


def _elements(compiled: Any) -> Iterator[Any]:
    """Give every part of what is sent: what the ORM has added as well."""
    state = compiled.compile_state
    root = getattr(state, "statement", None)
    return iter(visitors.iterate(compiled.statement if root is None else root))


def _refuse_options(statement: SelectBase) -> None:
    """Refuse options that are more than a choice of what to load, and how.

    Criteria in an option go into statements of their own, as do their values: for a `selectinload`
    those are in no SQL and no parameter of this one.
    """
    for part in visitors.iterate(cast(Any, statement)):
        for option in getattr(part, "_with_options", ()):
            if not isinstance(option, _AbstractLoad):
                raise NotCacheable(f"a {type(option).__name__} may change what is read")
            choices: list[Any] = [option, *getattr(option, "context", ())]
            if any(getattr(each, "_extra_criteria", ()) for each in choices):
                raise NotCacheable("criteria in a loader option go into another statement")
            if any(map(_loads_all, choices)):
                raise NotCacheable("an option for all relationships does not say what is read")


def _loads_all(choice: Any) -> bool:
    """Whether it is a loader option such as `selectinload("*")`; `raiseload("*")` loads nothing."""
    lazy = dict(getattr(choice, "strategy", None) or ()).get("lazy")
    return lazy in EAGER and any(isinstance(each, str) for each in choice.path)


def _refuse(element: Any, pure: Collection[str]) -> None:
    if isinstance(element, LambdaElement):
        raise NotCacheable("a lambda in a statement hides its values in a closure")
    if getattr(element, "_for_update_arg", None) is not None:
        raise NotCacheable("FOR UPDATE locks rows, and a cache cannot")
    if isinstance(element, UpdateBase):
        raise NotCacheable("it writes, and a hit would not")
    if isinstance(element, TextClause) or (
        isinstance(element, ColumnClause)
        and element.is_literal
        and not HARMLESS.fullmatch(element.name)
    ):
        raise NotCacheable(f"text() may hold anything: {str(element)[:40]!r}")
    if any(getattr(element, name, None) for name in HAND_WRITTEN):
        raise NotCacheable("text in a prefix, a suffix or a hint may hold anything")
    if isinstance(element, FunctionElement):
        _refuse_function(element, pure)
    if (
        isinstance(element, Cast)
        and isinstance(element.type, MOMENTS)
        and isinstance(element.clause.type, String)
    ):
        raise NotCacheable("a text cast to a date or time may say 'now'")


def _refuse_function(element: Any, pure: Collection[str]) -> None:
    """Refuse a function that is not known: by its name, its schema, or its Python class."""
    name = getattr(element, "name", type(element).__name__).lower()
    name = ".".join([*getattr(element, "packagenames", ()), name])
    built_in = type(element).__module__.startswith("sqlalchemy.")
    if name not in pure or not built_in:
        raise NotCacheable(f"{name}() may give another result tomorrow")


def _values(structure: _Structure, cache_key: Any, params: Mapping[str, Any] | None) -> list[Any]:
    """Return the effective parameters, in the order of the SQL; those of an IN without theirs."""
    given = {**(cache_key.params or {}), **(params or {})}
    for parameter in cache_key.bindparams:
        if parameter.required and parameter.key not in given:
            raise NotCacheable(f"a value is required for the parameter {parameter.key!r}")
    # The remembered statement is the first one with this structure. Its own values, and whether it
    # required any, must not count: this statement's take their places.
    values: dict[str, Any] = structure.compiled.construct_params(
        given or None,
        extracted_parameters=cache_key.bindparams,
        escape_names=False,
        _check=False,
    )
    for name in structure.sets:
        values[name] = sorted({encode(value) for value in values[name]})
    for name in structure.moments:
        if isinstance(values[name], str):
            raise NotCacheable("a text in place of a date or time may say 'now'")
    return list(values.values())


def _stable(part: Any) -> Any:
    """Return a part of a cache key as plain values that mean the same in every process."""
    if isinstance(part, tuple | list):
        return [_stable(each) for each in part]
    if isinstance(part, Mapping):
        return ["mapping", sorted(([str(key), _stable(value)] for key, value in part.items()))]
    if isinstance(part, Table):
        columns = [[_stable(column.name), repr(column.type)] for column in part.columns]
        if " at 0x" in str(columns):
            raise NotCacheable(f"a type of {part.fullname} has no name in other processes")
        return ["table", _stable(part.fullname), columns]
    if isinstance(part, Mapper):
        return ["mapper", *_stable(part.class_)]
    if isinstance(part, enum.Enum):
        return ["enum", *_stable(type(part)), part.name]
    if isinstance(part, type | types.FunctionType | types.BuiltinFunctionType):
        if "<" in part.__qualname__:
            raise NotCacheable(f"{part.__qualname__} has no name in other processes")
        return ["name", part.__module__ or "", part.__qualname__]
    if isinstance(part, str):
        return "".join(part)  # no subclass: SQLAlchemy has names that know whether to be quoted
    try:
        encode(part)
    except TypeError:
        raise NotCacheable(f"it holds a {type(part).__qualname__}, which has no key") from None
    return part


def _loaded_apart(statement: Any) -> Iterator[Any]:
    """Give every part of what loader options and eager relationships read, however they do it."""
    paths = [
        each
        for option in getattr(statement, "_with_options", ())
        for element in getattr(option, "context", ())
        for each in element.path
    ]
    relations: set[RelationshipProperty[Any]] = {
        each for each in paths if isinstance(each, RelationshipProperty)
    }
    waiting: set[Mapper[Any]] = {each.mapper for each in paths if hasattr(each, "mapper")}
    for described in getattr(statement, "column_descriptions", ()):
        entity = described.get("entity")
        if entity is not None and described["expr"] is entity:
            waiting.add(inspect(entity).mapper)
    loaded: set[Mapper[Any]] = set()
    while waiting:
        loaded.add(mapper := waiting.pop())
        eager = {each for each in mapper.relationships if each.lazy in EAGER}
        relations |= eager
        # Rows of a subclass may come with a statement of their own.
        waiting |= {*mapper.self_and_descendants, *(each.mapper for each in eager)} - loaded
    clauses: list[Any] = [table for mapper in loaded for table in mapper.tables]
    for relation in relations:
        clauses += [relation.primaryjoin, relation.secondary]
    for clause in clauses:
        if clause is not None:
            yield from visitors.iterate(clause)
