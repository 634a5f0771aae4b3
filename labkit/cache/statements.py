"""The key of a SELECT: what decides its rows, and nothing that depends on this process.

A statement is read in two parts. Its *structure* is what SQLAlchemy's own cache of compiled SQL
goes by (columns, entities, joins, loader options) and the types, which that holds in part only. It
is written down once for each structure, beside the SQL that the dialect makes of it, and
remembered. Its *parameters* are encoded for each statement, with their types.
(https://docs.sqlalchemy.org/en/21/core/connections.html#sql-compilation-caching)

What is not in the statement is not in the key. Criteria that a `do_orm_execute` listener adds, a
role, a search path, a time zone: say them as `context`. And what a name means is taken on trust:
raise the version when a type, a mapped class or a function of the database changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    Dialect,
    SelectBase,
    TableClause,
    Values,
    column,
    table,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.cache_key import HasCacheKey
from sqlalchemy.sql.elements import Cast, ColumnClause, Label, TypeCoerce
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.lambdas import LambdaElement
from sqlalchemy.sql.operators import custom_op, in_op, not_in_op
from sqlalchemy.types import TypeEngine

from labkit.cache.elements import elements_sent
from labkit.cache.functions import PURE
from labkit.cache.keys import DIGEST_BYTES, NAMESPACE, encode
from labkit.cache.refusal import (
    SETTLED,
    Known,
    NotCacheable,
    count,
    refusals,
    refuse_all,
    text_of,
    texts_of_moments,
)
from labkit.cache.stable import described, stable, types_of
from labkit.cache.writes import name_of

__all__ = ["PURE", "NotCacheable", "refusals", "statement_key", "tables_read"]

MOST_STRUCTURES = 1000  # that are remembered; then remembering begins anew


@dataclass(frozen=True)
class _Structure:
    """All of a statement but its values.

    Attributes:
        compiled: for which dialect it was compiled, it knows. Its values are another statement's.
        digest: of what it says, the same in every process.
        sets: names of parameters of IN, whose order does not count.
        moments: names of parameters that are taken as dates or times.
        tables: names of the tables that it reads.
        typed: whether types stand in it that its tables and parameters do not say.
    """

    compiled: Any
    digest: bytes
    sets: frozenset[str]
    moments: frozenset[str]
    tables: frozenset[str]
    typed: bool


_structures: dict[Any, _Structure] = {}


def statement_key(
    statement: SelectBase,
    dialect: Dialect,
    params: Mapping[str, Any] | None = None,
    *,
    context: Mapping[str, Any] | None = None,
    pure: Collection[str] = (),
    trusted: Mapping[str, Collection[str]] | None = None,
    namespace: str = "shop",
    version: int = 1,
) -> str:
    """Return the key of a SELECT and its parameters, such as `shop:v1:select:` and 32 digits.

    Args:
        statement: a `select()`, `union()` and the like.
        dialect: of the database that it is for, such as `db.engine.dialect`.
        params: what will be passed to `execute` beside the statement.
        context: what else decides the rows: the bind, the tenant, the schema map of a connection.
        pure: functions of yours that may be called in SQL, beside those that labkit knows: their
            result follows from their arguments.
        trusted: each `text()` and `literal_column()` that you vouch for, word for word, and the
            names of the tables that it reads: `{"lower(name)": ()}`.
        namespace: whose key this is; letters, digits and . _ - { }.
        version: of the answers' form. A new one leaves the old keys to their TTL.

    Raises:
        NotCacheable: the statement is refused: a lambda, FOR UPDATE, a write in a CTE, text, a
            function that may give another result tomorrow, criteria in a loader option, a value
            whose type or a part whose equality is not known. `refusals` counts the reasons.
        ValueError: the namespace has other characters.
    """
    if not NAMESPACE.fullmatch(namespace):
        raise ValueError(f"a namespace has letters, digits and . _ - {{ }}, not {namespace!r}")
    known = Known.of(dialect, pure, trusted)
    try:
        digest = _digest(statement, known, params, namespace, version, dict(context or {}))
    except NotCacheable as error:
        count(error)
        raise
    return f"{namespace}:v{version}:select:{digest}"


def tables_read(
    statement: SelectBase,
    dialect: Dialect,
    *,
    pure: Collection[str] = (),
    trusted: Mapping[str, Collection[str]] | None = None,
) -> set[str]:
    """Return the names of the tables whose rows a SELECT, and its eager loading, depend on.

    They are those that the compiler writes. Views, triggers and foreign tables are what their names
    are: it does not look into them. What a trusted text reads is what you said.

    Raises:
        NotCacheable: as `statement_key` does.
    """
    structure, _ = _structure(statement, Known.of(dialect, pure, trusted))
    return set(structure.tables)


def _digest(
    statement: Any,
    known: Known,
    params: Mapping[str, Any] | None,
    *rest: Any,
) -> str:
    structure, cache_key = _structure(statement, known)
    options = statement.get_execution_options()
    try:
        values = _values(structure, cache_key, params)
        encoded = encode((values, dict(options), *rest))
    except (TypeError, RecursionError) as error:
        raise _without_key(error) from None
    return hashlib.blake2b(structure.digest + encoded, digest_size=DIGEST_BYTES).hexdigest()


def _without_key(error: Exception) -> NotCacheable:
    if isinstance(error, NotCacheable):
        return error
    return NotCacheable(str(error), "a value without a key")


def _structure(statement: Any, known: Known) -> tuple[_Structure, Any]:
    """Return a statement's structure, and the cache key that holds its parameters."""
    if isinstance(statement, LambdaElement):
        raise NotCacheable("a lambda statement hides its values in a closure", "lambda")
    if not isinstance(statement, SelectBase):
        raise NotCacheable(f"a {type(statement).__name__} is no SELECT", "no SELECT")
    cache_key: Any = statement._generate_cache_key()
    if cache_key is None:
        cache_key = _without_data(statement)
        return _read(statement, cache_key, known, remembered=False), cache_key
    if any(parameter.callable for parameter in cache_key.bindparams):
        raise NotCacheable(
            "a parameter is a function, whose value is not known until it is run", "callable"
        )
    # Two types that differ may be one in SQLAlchemy's key.
    question: Any = (known, cache_key.key, tuple([described(b.type) for b in cache_key.bindparams]))
    structure = _remembered(question, statement, cache_key, known)
    if structure.typed:
        question = (*question, *types_of(visitors.iterate(statement)))
        structure = _remembered(question, statement, cache_key, known)
    return structure, cache_key


def _remembered(question: Any, statement: Any, cache_key: Any, known: Known) -> _Structure:
    structure = _structures.get(question)
    if structure is None:
        structure = _read(statement, cache_key, known)
        if len(_structures) >= MOST_STRUCTURES:
            _structures.clear()
        _structures[question] = structure
    return structure


def _without_data(statement: Any) -> Any:
    """Return the cache key of a statement with tables in place of its VALUES, which have none."""
    stand_ins: dict[Any, Any] = {}
    for data in (each for each in visitors.iterate(statement) if isinstance(each, Values)):
        columns = {each.key: column(each.name, each.type) for each in data.c}
        stand_ins[data] = table("values", *columns.values())
        stand_ins |= {each: columns[each.key] for each in data.c}
    cache_key = visitors.replacement_traverse(
        statement, {}, lambda element, **_: stand_ins.get(element)
    )._generate_cache_key()
    if cache_key is None or not stand_ins:
        raise NotCacheable(
            "it has no cache key: a type without cache_ok, or a construct of yours", "no cache key"
        )
    return cache_key


def _read(statement: Any, cache_key: Any, known: Known, *, remembered: bool = True) -> _Structure:
    """Return what a statement says; one that is not remembered keeps its own values."""
    dialect = known.dialect
    elements = elements_sent(statement, dialect)
    refuse_all(elements, known)
    compiled: Any = statement._compiler(dialect, cache_key=cache_key if remembered else None)
    sets = {
        getattr(element.right, "key", None)
        for element in elements
        if getattr(element, "operator", None) in (in_op, not_in_op)
    }
    moments = set(texts_of_moments(elements, known))
    # Compiling writes options into statements that stand inside of others, which may be built once
    # and used again: what is said is said as it is from now on.
    said = HasCacheKey._generate_cache_key(statement) or cache_key
    parts = (dialect.name, compiled.string, stable(said.key), types_of(elements))
    names = compiled.bind_names.items()
    return _Structure(
        compiled,
        hashlib.blake2b(encode((*parts, _json_of(dialect, elements)))).digest(),
        frozenset(name for each, name in names if each.expanding and each.key in sets),
        frozenset(name for each, name in names if each in moments),
        _tables(elements, known),
        bool(known.trusted) or any(map(_has_type_of_its_own, elements)),
    )


def _tables(elements: list[Any], known: Known) -> frozenset[str]:
    written = {name_of(each) for each in elements if isinstance(each, TableClause)}
    texts = {text for each in elements if (text := text_of(each)) is not None}
    return frozenset(written.union(*map(known.tables_of, texts)))


def _has_type_of_its_own(element: Any) -> bool:
    """Whether an element's type may be another one, and its tables and parameters the same."""
    if isinstance(element, Column):
        return not hasattr(element.table, "metadata") and isinstance(element.table, TableClause)
    operators = (getattr(element, "operator", None), getattr(element, "modifier", None))
    return isinstance(element, ColumnClause | FunctionElement | Cast | TypeCoerce | Label) or any(
        isinstance(each, custom_op) for each in operators
    )


def _json_of(dialect: Any, elements: list[Any]) -> Any:
    """Return by which functions an engine of one's own reads and writes JSON."""
    kinds = [each.type for each in elements if isinstance(getattr(each, "type", None), TypeEngine)]
    if not any(kind._type_affinity in (JSON, ARRAY) for kind in kinds):
        return None
    names = ("_json_deserializer", "_json_serializer")
    return stable([getattr(dialect, name, None) for name in names])


def _values(structure: _Structure, cache_key: Any, params: Mapping[str, Any] | None) -> list[Any]:
    """Return the effective parameters, in the order of the SQL; those of an IN without theirs."""
    given = {**(cache_key.params or {}), **(params or {})}
    for parameter in cache_key.bindparams:
        if parameter.required and parameter.key not in given:
            raise NotCacheable(
                f"a value is required for the parameter {parameter.key!r}", "no value"
            )
    # The remembered statement is the first one with this structure. Its own values, and whether it
    # required any, must not count: this statement's take their places.
    values: dict[str, Any] = structure.compiled.construct_params(
        given or None,
        extracted_parameters=cache_key.bindparams if structure.compiled.cache_key else None,
        escape_names=False,
        _check=False,
    )
    for name in structure.moments:
        value = values[name]
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, str) and not SETTLED.fullmatch(each):
                raise NotCacheable(
                    "a text in place of a date or time may say 'now'", "a text that may say now"
                )
    for name in structure.sets:
        values[name] = sorted({encode(value) for value in values[name]})
    return list(values.values())
