"""Values as bytes, and back: JSON with tags for what JSON lacks. Reading them runs no code.

What survives, with its exact type: None, bool, int of any size, float (NaN, infinities and -0.0
too), str (lone surrogates too), bytes, Decimal, UUID, datetime, date, time, timedelta, list, tuple,
dict with keys of any of these that can be keys, and the members of enums that were registered.

- A datetime or a time keeps its fold and its time zone: none, a fixed offset with its name, or a
  `zoneinfo.ZoneInfo` by its key.
- An enum's member is written as its value. The data names a class, and `loads` looks it up among
  those that *the reader* has registered: data never decides what is imported. A member that its
  value does not lead back to is refused: NaN, say, equals nothing.
- A key that is SQLAlchemy's own kind of text (`quoted_name`: the columns of a Core table) is
  written as its text, which it equals. As a value it is refused, as every other subclass is.
- Whatever else is refused, subclasses too (named tuples, OrderedDict, SQLAlchemy's Row and
  instances): a subclass may hold more than its base shows. A UUID's `is_safe` is left out.

A date becomes a dictionary of one key that starts with a dollar: {"$date": "2025-07-01"}. So do the
others. A dictionary of yours that looks like that is written as {"$dict": [[key, value]]}. A list
of rows with the same keys has its tags written once: {"$rows": [[["placed_on", "$date"]], rows]}.
"""

from __future__ import annotations

import binascii
import datetime
import math
import operator
import uuid
import zoneinfo
from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import Enum
from itertools import chain
from typing import Any

import orjson

TAG = "$"  # what the one key of a tagged value starts with
TAGGED = b'{"$'  # in a text, JSON writes a quote as \", so only a dictionary looks like this
# orjson writes subclasses as their base, unless it is told not to.
OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
NONE = type(None)
Types = frozenset[type[Any]]
PLAIN: Types = frozenset({str, int, bool, NONE})  # what JSON holds; floats are looked at singly
CAREFUL: Types = frozenset({bool, NONE})  # for a second try: there is a huge integer or a bad text
UTC = datetime.UTC
INT64 = range(-(2**63), 2**64)  # what orjson takes for an integer


class NotStorable(TypeError):
    """The value is of a type that would not come back as it was. The message says what to do."""


class CorruptData(ValueError):
    """The bytes are not what `dumps` writes, or not for this reader: take it for a miss."""


def dumps(value: Any) -> bytes:
    """Return the value as bytes.

    Raises:
        NotStorable: a part of it is of a type that is not in the list above, or it is nested more
            than some hundred levels deep, or contains itself.
    """
    try:
        try:
            return _dump(_written(value, PLAIN))
        except NotStorable:
            raise
        except TypeError:  # orjson meets an integer or a text that it cannot write
            return _dump(_written(value, CAREFUL))
    except RecursionError:
        raise NotStorable("the value is nested too deeply, or contains itself") from None


def loads(data: bytes | memoryview) -> Any:
    """Return the value that `dumps` made these bytes of.

    Args:
        data: the bytes, or a view of a part of some.

    Raises:
        CorruptData: there is no such value here. Take it for a miss.
        TypeError: the argument is neither.
    """
    whole: Any = data.obj if isinstance(data, memoryview) else data
    if not isinstance(whole, bytes):
        kind = type(data).__name__
        raise TypeError(f"loads takes bytes, not {kind}: open Redis without decode_responses")
    try:
        value = orjson.loads(data)
        # The first search is the faster one by far; most data has no tag and is ready now.
        return _read(value) if b"$" in whole and TAGGED in whole else value
    except Exception as error:
        raise CorruptData(f"{len(data)} bytes that this codec did not write: {error!r}") from error


def register(*enums: type[Enum]) -> None:
    """Let the members of these enums be stored by their values, and be read as members again.

    Register them where they are defined, so that every process that reads has them.
    """
    for kind in enums:
        _enums[_name(kind)] = kind


_enums: dict[str, type[Enum]] = {}
_found: set[tuple[type[Enum], str]] = set()  # members that their values have led back to


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _dump(written: Any) -> bytes:
    try:
        return orjson.dumps(written, default=_content, option=OPTIONS)
    except TypeError as error:
        if "Recursion" in str(error):
            raise RecursionError from None
        raise


# Writing: `_written` returns something that orjson writes without a loss, if possible as it is.


def _written(value: Any, plain: Types) -> Any:
    kind = type(value)
    if kind in plain:
        return value
    if kind is list:
        return _list(value, plain)
    if kind is dict:
        return _dict(value, plain)
    if kind is tuple:
        return {"$tuple": _list(list(value), plain)}
    if kind in CONTENT:
        return {_tag(kind): CONTENT[kind](value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is int:
        return value if value in INT64 else {"$int": hex(value)}  # decimal digits have a limit
    if kind is str:
        return value if _is_unicode(value) else {"$str": _base64(_utf8(value))}
    if isinstance(value, Enum) and _enums.get(_name(kind)) is kind:
        return {"$enum": _member(value, [_name(kind), _written(value.value, plain)])}
    raise NotStorable(_refusal(value))


def _member(member: Enum, written: list[Any]) -> list[Any]:
    """Return what is written of an enum's member, if a reader will find the member by it."""
    known = (type(member), member._name_)
    if known in _found:
        return written
    entry = _dump(written)
    try:
        found = _read_enum(_read(orjson.loads(entry)))
    except Exception:  # an enum can look for its members in any way
        found = None
    if found is not member:
        raise NotStorable(
            f"{member!r} cannot be stored: its value does not lead back to it. Give it another "
            "value, or store its name"
        )
    _found.add(known)
    return written


def _list(values: list[Any], plain: Types) -> Any:
    if plain is PLAIN and values and type(values[0]) is dict:
        rows = _rows(values)
        if rows is not None:
            return rows
    if _are_plain(values, plain):
        return values
    return [_written(value, plain) for value in values]


def _dict(value: dict[Any, Any], plain: Types) -> Any:
    keys = [_written(_plain_key(key), plain) for key in value]
    values = [item if type(item) in plain else _written(item, plain) for item in value.values()]
    if all(type(key) is str for key in keys) and not _looks_tagged(keys):
        return dict(zip(keys, values, strict=True))
    return {"$dict": [list(pair) for pair in zip(keys, values, strict=True)]}


def _plain_key(key: Any) -> Any:
    """Return a key without what SQLAlchemy knows of it: whether to quote it in SQL."""
    own = isinstance(key, str) and type(key).__module__.startswith("sqlalchemy.")
    return "".join(key) if own else key


def _tag(kind: type) -> str:
    return TAG + kind.__name__.lower()


def _looks_tagged(keys: list[str]) -> bool:
    return len(keys) == 1 and keys[0].startswith(TAG)


def _are_plain(values: Iterable[Any], plain: Types) -> bool:
    """Whether all of them can be written as they are; the types are collected at C's speed."""
    return not set(map(type, values)) - plain


def _rows(rows: list[Any]) -> Any:
    """Return flat rows as they are, or with their tags written once, or None if they are not flat.

    What is returned holds the rows themselves: a copy would cost more than writing them.
    """
    try:
        if min(map(len, rows)) < 2:  # could look tagged
            return None
        rows = _with_plain_keys(rows)
        if _are_plain(chain.from_iterable(map(dict.values, rows)), PLAIN):
            return rows
    except TypeError:  # something is not a dict
        return None
    keys = tuple(rows[0])
    if set(map(tuple, rows)) != {keys}:
        return None
    values = list(chain.from_iterable(map(dict.values, rows)))
    tags = [_column_tag(values[number :: len(keys)]) for number in range(len(keys))]
    if None in tags:
        return None
    tagged = [[key, tag] for key, tag in zip(keys, tags, strict=True) if tag]
    return {"$rows": [tagged, rows]} if tagged else rows


def _with_plain_keys(rows: list[Any]) -> list[Any]:
    """Return rows as they are, or those of a Core table with plain text as keys."""
    keys = tuple(rows[0])
    plain = tuple(map(_plain_key, keys))
    if all(map(operator.is_, keys, plain)):
        return rows
    if set(map(type, rows)) != {dict} or set(map(tuple, rows)) != {keys}:
        return rows
    return [dict(zip(plain, dict.values(row), strict=True)) for row in rows]


def _column_tag(column: list[Any]) -> str | None:
    """Return the tag that a column shares: "" if it needs none, None if there is no such tag."""
    kinds = set(map(type, column))
    if kinds <= PLAIN | {float}:
        return "" if all(math.isfinite(item) for item in column if type(item) is float) else None
    kinds.discard(NONE)
    kind = kinds.pop()
    if kinds or kind not in IN_ROWS:
        return None
    if kind is datetime.datetime and not all(map(_is_simple, column)):
        return None
    return _tag(kind)


def _is_simple(value: datetime.datetime | None) -> bool:
    """Whether orjson writes the same as `_moment`."""
    return value is None or ((value.tzinfo is None or value.tzinfo is UTC) and not value.fold)


def _content(value: Any) -> Any:
    """Return what stands behind a value's tag, for a type that orjson does not know."""
    return CONTENT[type(value)](value)


def _moment(value: datetime.datetime | datetime.time) -> Any:
    zone = value.tzinfo
    if not value.fold and (zone is None or _is_offset(zone)):
        return value.isoformat()
    return [value.replace(tzinfo=None).isoformat(), value.fold, _zone(value)]


def _is_offset(zone: datetime.tzinfo) -> bool:
    """Whether ISO 8601 says all of the zone: an offset of whole seconds, without a name."""
    if type(zone) is not datetime.timezone:
        return False
    offset = zone.utcoffset(None)
    return not offset.microseconds and zone.tzname(None) == datetime.timezone(offset).tzname(None)


def _zone(value: datetime.datetime | datetime.time) -> Any:
    zone = value.tzinfo
    if zone is None:
        return None
    if type(zone) is datetime.timezone:
        return [_parts(zone.utcoffset(None)), zone.tzname(None)]
    if type(zone) is zoneinfo.ZoneInfo and zone.key:
        return zone.key
    raise NotStorable(
        f"a time zone of type {_name(type(zone))} cannot be stored: use zoneinfo.ZoneInfo, or UTC"
    )


def _parts(value: datetime.timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# By exact type; the tag is the type's name. What they return is JSON as it stands.
CONTENT: dict[type, Callable[[Any], Any]] = {
    datetime.date: datetime.date.isoformat,
    datetime.datetime: _moment,
    datetime.time: _moment,
    datetime.timedelta: _parts,
    Decimal: str,
    uuid.UUID: str,
    bytes: _base64,
}


# Of which types a column of rows can be: orjson writes it as CONTENT does, or asks `_content`.
IN_ROWS = CONTENT.keys() - {datetime.time}


def _refusal(value: Any) -> str:
    """Return why the value is refused, and what to do."""
    kind = type(value)
    if isinstance(value, Enum):
        return (
            f"{_name(kind)} is an Enum that is not registered: "
            f"labkit.cache.codec.register({kind.__name__}), or store its .value"
        )
    known = ", ".join(each.__name__ for each in (bool, int, float, str, *CONTENT))
    return (
        f"a {_name(kind)} cannot be stored. Make plain data of it: of an instance the columns that "
        f"you need, of a Row dict(row._mapping). Stored are None, {known}, list, tuple, dict, and "
        "enums that are registered"
    )


# Reading: each tag has one function, and the data can call no other.


def _read(value: Any) -> Any:
    if type(value) is list:
        return [_read(item) if type(item) in NESTED else item for item in value]
    if len(value) == 1:
        ((key, content),) = value.items()
        if key.startswith(TAG):
            if key == "$rows":
                return _read_rows(*content)
            return READ[key](_read(content) if type(content) in NESTED else content)
    for key, item in value.items():
        if type(item) in NESTED:
            value[key] = _read(item)
    return value


def _read_rows(tags: list[Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for key, tag in tags:
        read = READ_IN_ROWS[tag]
        for row in rows:
            if (content := row[key]) is not None:
                row[key] = read(content)
    return rows


def _read_datetime(content: Any) -> datetime.datetime:
    if type(content) is str:
        return datetime.datetime.fromisoformat(content)
    text, fold, zone = content
    return datetime.datetime.fromisoformat(text).replace(fold=fold, tzinfo=_read_zone(zone))


def _read_time(content: Any) -> datetime.time:
    if type(content) is str:
        return datetime.time.fromisoformat(content)
    text, fold, zone = content
    return datetime.time.fromisoformat(text).replace(fold=fold, tzinfo=_read_zone(zone))


def _read_zone(zone: Any) -> datetime.tzinfo | None:
    if zone is None:
        return None
    if type(zone) is str:
        return zoneinfo.ZoneInfo(zone)
    parts, name = zone
    return datetime.timezone(datetime.timedelta(*parts), name)


def _read_enum(content: Any) -> Enum:
    name, value = content
    return _enums[name](value)


def _bytes(content: str) -> bytes:
    return binascii.a2b_base64(content, strict_mode=True)


NESTED = frozenset({list, dict})
READ: dict[str, Callable[[Any], Any]] = {
    "$date": datetime.date.fromisoformat,
    "$datetime": _read_datetime,
    "$time": _read_time,
    "$timedelta": lambda content: datetime.timedelta(*content),
    "$decimal": Decimal,
    "$uuid": uuid.UUID,
    "$bytes": _bytes,
    "$int": lambda content: int(content, 16),
    "$float": float,
    "$str": lambda content: _bytes(content).decode("utf-8", "surrogatepass"),
    "$tuple": tuple,
    "$dict": dict,
    "$enum": _read_enum,
}
READ_IN_ROWS = READ | {"$datetime": datetime.datetime.fromisoformat}
