"""Why a statement has no key: what may give other rows tomorrow, or cannot be looked into."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Date,
    DateTime,
    Dialect,
    Interval,
    Numeric,
    Select,
    String,
    Time,
    UpdateBase,
)
from sqlalchemy.orm.strategy_options import _AbstractLoad
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    Case,
    Cast,
    ColumnClause,
    Extract,
    Grouping,
    Label,
    TextClause,
    TypeCoerce,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.lambdas import LambdaElement
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.types import Boolean, Integer, NullType

from labkit.cache.functions import KNOWN, MOMENTS, PURE

HAND_WRITTEN = ("_prefixes", "_suffixes", "_hints", "_statement_hints")
# Text that SQLAlchemy writes itself: in count(*), EXISTS (SELECT 1), LIKE, a union of concrete
# classes.
HARMLESS = re.compile(r"\*|[0-9]+|(?!'(now|today|tomorrow|yesterday)')'[\w%]*'", re.IGNORECASE)
# Symbols, and the words that SQLite and PostgreSQL have for operators. A comment is neither.
OPERATOR = re.compile(
    r"(?!.*(--|/\*))[-+*/<>=~!@#%^&|`?]+|(not )?(i?like|regexp|glob|match|similar to)"
    r"|r?like|collate|div|mod|overlaps|at time zone|is( not)?( distinct from)?",
    re.IGNORECASE,
)
# What SQLite's functions of dates and times may be told, and is not the present.
# (https://www.sqlite.org/lang_datefunc.html)
SETTLED = re.compile(
    r"[0-9:T .+Z-]+|[+-]?[0-9.]+ (second|minute|hour|day|month|year)s?|weekday [0-6]"
    r"|start of (day|month|year)|unixepoch|julianday|auto|ceiling|floor",
    re.IGNORECASE,
)
# Functions that take the type of one argument for all of them.
OF_ONE_TYPE = {"coalesce", "greatest", "lag", "lead", "least", "nullif"}
MOST_REASONS = 1000  # that are counted apart

refusals: Counter[str] = Counter()
"""How often `statement_key` refused, by reason, since this process began: `refusals.most_common()`.

A reason is a few words, such as "function now()", "text" or "for update".
"""

_counting = threading.Lock()


class NotCacheable(TypeError):
    """The statement has no key, for the reason that the message says. Run it without the cache.

    Attributes:
        reason: the same in a few words, by which `refusals` counts.
    """

    def __init__(self, message: str, reason: str = "other"):
        super().__init__(message)
        self.reason = reason


def count(error: NotCacheable) -> None:
    """Count a refusal by its reason."""
    with _counting:
        known = error.reason in refusals or len(refusals) < MOST_REASONS
        refusals[error.reason if known else "other"] += 1


@dataclass(frozen=True)
class Known:
    """What a caller and a dialect know to be the same tomorrow.

    Attributes:
        dialect: whose functions these are.
        pure: the caller's own functions.
        trusted: texts that the caller vouches for, and the tables that each reads.
    """

    dialect: Dialect
    pure: frozenset[str]
    trusted: frozenset[tuple[str, frozenset[str]]]

    @staticmethod
    def of(
        dialect: Dialect, pure: Collection[str], trusted: Mapping[str, Collection[str]] | None
    ) -> Known:
        """Return it for the arguments of `statement_key`."""
        texts = ((text, frozenset(tables)) for text, tables in (trusted or {}).items())
        return Known(dialect, frozenset(pure), frozenset(texts))

    def function(self, name: str) -> bool:
        """Whether its result follows from its arguments."""
        return name in self.pure or name in KNOWN.get(self.dialect.name, PURE)

    def moments(self, name: str) -> set[int] | None:
        """Return at which places texts stand that are no date or time; None if none is taken."""
        return MOMENTS.get(self.dialect.name, {}).get(name)

    def tables_of(self, text: str) -> frozenset[str]:
        """Return the tables that a text reads which the caller has vouched for."""
        return dict(self.trusted)[text]


def refuse_all(elements: Collection[Any], known: Known) -> None:
    """Raise NotCacheable for the first part that has no place in a key."""
    for element in elements:
        _refuse_options(element)
        _refuse(element, known)


def _refuse_options(statement: Any) -> None:
    """Refuse options that are more than a choice of what to load, and how.

    Criteria in an option go into statements of their own, as do their values: for a `selectinload`
    those are in no SQL and no parameter of this one.
    """
    for option in getattr(statement, "_with_options", ()):
        if not isinstance(option, _AbstractLoad):
            raise NotCacheable(f"a {type(option).__name__} may change what is read", "option")
        choices: list[Any] = [option, *getattr(option, "context", ())]
        if any(getattr(each, "_extra_criteria", ()) for each in choices):
            raise NotCacheable(
                "criteria in a loader option go into another statement", "criteria in an option"
            )
        if any(map(_loads_all, choices)):
            raise NotCacheable(
                "an option for all relationships does not say what is read",
                "option for all relationships",
            )


def _loads_all(choice: Any) -> bool:
    """Whether it is a loader option such as `selectinload("*")`; `raiseload("*")` loads nothing."""
    lazy = dict(getattr(choice, "strategy", None) or ()).get("lazy")
    eager = lazy in ("selectin", "subquery", "immediate", "joined")
    return eager and any(isinstance(each, str) for each in choice.path)


def _refuse(element: Any, known: Known) -> None:
    if isinstance(element, LambdaElement):
        raise NotCacheable("a lambda in a statement hides its values in a closure", "lambda")
    if isinstance(element, BindParameter) and element.callable:
        raise NotCacheable(
            "a parameter is a function, whose value is not known until it is run", "callable"
        )
    if getattr(element, "_for_update_arg", None) is not None:
        raise NotCacheable("FOR UPDATE locks rows, and a cache cannot", "for update")
    if isinstance(element, UpdateBase):
        raise NotCacheable("it writes, and a hit would not", "write")
    text = text_of(element)
    if text is not None and text not in dict(known.trusted):
        raise NotCacheable(
            f"text() may hold anything: {text[:40]!r}. If it is the same tomorrow, "
            "say so by trusted={text: tables}",
            "text",
        )
    if any(getattr(element, name, None) for name in HAND_WRITTEN):
        raise NotCacheable("text in a prefix, a suffix or a hint may hold anything", "hint")
    for operator in ("operator", "modifier"):
        _refuse_operator(getattr(element, operator, None))
    if isinstance(element, FunctionElement):
        _refuse_function(element, known)
    if isinstance(element, Cast | TypeCoerce) and is_moment(element):
        _refuse_present(element.clause, known, "a text taken as a date or time")
    if isinstance(element, Extract):
        _refuse_present(element.expr, known, "extract()")


def text_of(element: Any) -> str | None:
    """Return what somebody wrote as SQL: `text()`, `literal_column()`."""
    if isinstance(element, TextClause):
        return str(element.text)
    written = isinstance(element, ColumnClause) and element.is_literal
    return None if not written or HARMLESS.fullmatch(element.name) else str(element.name)


def _refuse_operator(operator: Any) -> None:
    if isinstance(operator, custom_op) and not OPERATOR.fullmatch(operator.opstring):
        raise NotCacheable(
            f"{operator.opstring!r} is no operator: it may hold anything", "operator"
        )


def name_of(function: Any) -> str:
    """Return a function's name in SQL, with its schema."""
    name = getattr(function, "name", type(function).__name__).lower()
    return ".".join([*getattr(function, "packagenames", ()), name])


def _refuse_function(function: Any, known: Known) -> None:
    """Refuse a function that is not known: by its name, its schema, or its Python class."""
    name = name_of(function)
    built_in = type(function).__module__.startswith("sqlalchemy.")
    texts = known.moments(name)
    if not built_in or not (known.function(name) or texts is not None):
        raise NotCacheable(f"{name}() may give another result tomorrow", f"function {name}()")
    if texts is not None and name not in known.pure:
        arguments = list(function.clauses)
        if len(arguments) <= max(texts & {0}, default=-1) + 1:
            raise NotCacheable(f"{name}() of nothing is the present", f"function {name}()")
        for place, argument in enumerate(arguments):
            if place not in texts:
                _refuse_present(argument, known, f"{name}()")


def _refuse_present(element: Any, known: Known, where: str) -> None:
    if not _settled(element, known):
        raise NotCacheable(f"{where} may say 'now'", "a text that may say now")


def _settled(element: Any, known: Known, *, direct: bool = True) -> bool:
    """Whether this date, time or modifier cannot be a text that says 'now'.

    A parameter that stands there directly is looked at with its value, for each statement.
    """
    if isinstance(element, BindParameter):
        return direct or not is_text(element)
    if isinstance(element, Grouping | Label):
        return _settled(element.element, known, direct=False)
    if isinstance(element, FunctionElement):
        taken = known.moments(name_of(element)) is not None  # and refused, or not, by itself
        return taken or all(_settled(each, known, direct=False) for each in element.clauses)
    if is_text(element):
        return False
    if isinstance(element, ColumnClause | Cast | TypeCoerce | Extract):
        return True
    parts = [each for each in element.get_children() if not isinstance(each, Select)]
    return all(_settled(each, known, direct=False) for each in parts)


def texts_of_moments(elements: Collection[Any], known: Known) -> Iterator[BindParameter[Any]]:
    """Give the parameters that stand where a text might say 'now'."""
    for element in elements:
        if isinstance(element, BindParameter) and is_moment(element):
            yield element
        for beside in _beside_moments(element, known):
            if isinstance(beside, BindParameter) and is_text(beside):
                yield beside


def _beside_moments(element: Any, known: Known) -> list[Any]:
    """Return what the database will take as a date or time, whatever it is in SQLAlchemy."""
    if isinstance(element, FunctionElement):
        name = name_of(element)
        parts: list[Any] = list(element.clauses)
        texts = known.moments(name)
        if texts is not None:
            return [part for place, part in enumerate(parts) if place not in texts]
        parts = parts if name in OF_ONE_TYPE else []
    elif isinstance(element, Extract):
        return [element.expr]
    elif isinstance(element, Cast | TypeCoerce):
        return [element.clause] if is_moment(element) else []
    elif isinstance(element, BinaryExpression):
        parts = [element.left, *getattr(element.right, "clauses", [element.right])]
    elif isinstance(element, Case):
        parts = list(element.get_children())
    else:
        return []
    return parts if any(map(is_moment, parts)) else []


def is_moment(element: Any) -> bool:
    """Whether an element is a date or a time, by the type that it is said to have."""
    return _affinity(element) in (Date, DateTime, Time)


def is_text(element: Any) -> bool:
    """Whether an element may be a text: one whose type nobody knows may."""
    settled = (Boolean, Date, DateTime, Integer, Interval, Numeric, Time)
    affinity = _affinity(element)
    return affinity is None or not issubclass(affinity, settled)


def _affinity(element: Any) -> Any:
    kind = getattr(element, "type", None)
    return getattr(kind, "_type_affinity", None) if not isinstance(kind, NullType) else String
