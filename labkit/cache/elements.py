"""Every part of what a SELECT sends: its own SQL, and that of the statements which load the rest.

The parts are those that the compiler visits while it writes the SQL. So a table that the ORM joins
by itself is seen, however deep: a relationship's in a subquery, a base class's in an EXISTS.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Dialect, SelectBase, inspect, literal, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper, RelationshipProperty, aliased, undefer
from sqlalchemy.sql import ClauseElement

from labkit.cache.refusal import NotCacheable

# What loads a relationship with its owner. False is another word for "joined".
EAGER = ("selectin", "subquery", "immediate", "joined", False)


def elements_sent(statement: SelectBase, dialect: Dialect) -> list[Any]:
    """Return every part of a SELECT's SQL, and of the SQL by which its loading goes on.

    Raises:
        NotCacheable: one of them cannot be compiled for this dialect.
    """
    parts = written(statement, dialect)
    for loading in _loaded_apart(statement):
        parts += written(loading, dialect)
    return parts


def written(statement: Any, dialect: Dialect) -> list[Any]:
    """Return every part that the dialect's compiler visits, and the parts of those."""
    visited: list[Any] = []

    class Recorder(dialect.statement_compiler):  # type: ignore[misc, name-defined]
        def __getattribute__(self, name: str) -> Any:
            attribute = super().__getattribute__(name)
            if not name.startswith("visit_"):
                return attribute

            def visit(element: Any, *args: Any, **options: Any) -> Any:
                visited.append(element)
                return attribute(element, *args, **options)

            return visit

    try:
        Recorder(dialect, statement)
    except SQLAlchemyError as error:
        raise NotCacheable(f"it cannot be compiled: {error}", "not compiled") from None
    return _with_parts([statement, *visited])


def _with_parts(elements: list[Any]) -> list[Any]:
    """Add the parts of elements that have a compiler of their own, which nobody visits."""
    found: dict[int, Any] = {}
    waiting = [each for each in reversed(elements) if isinstance(each, ClauseElement)]
    while waiting:
        element = waiting.pop()
        if id(element) not in found:
            found[id(element)] = element
            # The compiler's own stand-ins, such as for ILIKE, have none: it visits what they hold.
            waiting.extend(getattr(element, "get_children", tuple)())
    return list(found.values())


def _loaded_apart(statement: Any) -> Iterator[Any]:
    """Give statements that read what loader options and eager relationships read, and more.

    What a loader will send depends on the rows that come before it. These stand for it: all of each
    class that may be loaded, and the way from its owner to it.
    """
    choices = list(_choices(statement))
    path = [each for choice in choices for each in choice.path]
    # Dictionaries in place of sets: the order goes into the key, and must be that of any process.
    aliases = {each: None for each in path if getattr(each, "is_aliased_class", False)}
    relations = {each: None for each in path if isinstance(each, RelationshipProperty)}
    waiting: list[Mapper[Any]] = [each.mapper for each in path if hasattr(each, "mapper")]
    for described in getattr(statement, "column_descriptions", ()):
        entity = described.get("entity")
        if entity is not None and described["expr"] is entity:
            waiting.append(inspect(entity).mapper)
    mappers: dict[Mapper[Any], None] = {}
    while waiting:
        mapper = waiting.pop()
        if mapper in mappers:
            continue
        mappers[mapper] = None
        eager = [each for each in mapper.relationships if each.lazy in EAGER]
        relations |= dict.fromkeys(eager)
        # Rows of a subclass may come with a statement of their own.
        waiting += [*mapper.self_and_descendants, *(each.mapper for each in eager)]
    undeferred = any(dict(each.strategy or ()).get("deferred") is False for each in choices)
    for loaded in (*mappers, *aliases):
        yield select(loaded.entity).options(*([undefer("*")] if undeferred else []))
    for relation in relations:
        owner = aliased(relation.parent.entity)  # which may be of the class that it leads to
        yield select(literal(1)).select_from(owner).join(getattr(owner, relation.key))
        yield select(literal(1)).select_from(relation.target).order_by(*(relation.order_by or ()))


def _choices(statement: Any) -> Iterator[Any]:
    for option in getattr(statement, "_with_options", ()):
        yield from getattr(option, "context", ())
