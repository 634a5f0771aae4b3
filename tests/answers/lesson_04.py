"""Wrong answers to the exercises of lesson 04: exercise, answer, words of its message."""

from __future__ import annotations

import inspect
from typing import Any


def by_name(function: Any, args: Any, kwargs: Any, ignore: Any) -> Any:
    names = list(inspect.signature(function).parameters)
    both = dict(zip(names, args, strict=False)) | kwargs
    return {name: value for name, value in both.items() if name not in ignore}


def bound(function: Any, args: Any, kwargs: Any) -> Any:
    arguments = inspect.signature(function).bind(*args, **kwargs)
    arguments.apply_defaults()
    return arguments.arguments


def drop_first(function: Any, args: Any, kwargs: Any, ignore: Any) -> Any:
    for name in ignore:
        kwargs.pop(name, None)
    return {
        name: value for name, value in bound(function, args, kwargs).items() if name not in ignore
    }


def without_defaults(function: Any, args: Any, kwargs: Any, ignore: Any) -> Any:
    arguments = inspect.signature(function).bind(*args, **kwargs).arguments
    return {name: value for name, value in arguments.items() if name not in ignore}


def always_without_session(function: Any, args: Any, kwargs: Any, ignore: Any) -> Any:
    return {
        name: value for name, value in bound(function, args, kwargs).items() if name != "session"
    }


def escaped_by_half(parts: Any) -> str:
    return "".join(part.replace(",", "\\,") + "," for part in parts)


def lengths_in_front(parts: Any) -> str:
    return "".join(str(len(part)) for part in parts) + ":" + "".join(parts)


count = 0


def numbered(parts: Any) -> str:
    global count
    count += 1
    return f"{count}:{parts}"


WRONG: list[tuple[str, Any, str]] = [
    ("04.1", [("a", "b"), ("a", "b")], "your two pairs are equal"),
    ("04.1", [("a", "b"), ("b", "a")], "they have two keys"),
    ("04.1", [("a,b", "c"), ("a", "b,c")], "they have two keys"),
    ("04.1", [(1, "b"), ("1", "b")], "with texts alone"),
    ("04.1", [("a", "b")], "a list of two pairs"),
    ("04.1", [(b"a", b"b"), ("a", "b")], "These are bytes, and text is asked for"),
    ("04.1", ("a", "b"), "'a' is not a pair"),
    ("04.2", without_defaults, "limit is missing"),
    ("04.2", by_name, "limit is missing"),
    (
        "04.2",
        lambda function, args, kwargs, ignore: bound(function, args, kwargs),
        "session should be left out",
    ),
    ("04.2", drop_first, "copy them"),
    ("04.2", always_without_session, "session is missing"),
    ("04.2", lambda function, args, kwargs, ignore: [args, kwargs], "should return a dictionary"),
    ("04.3", lambda parts: "".join(parts), "['ab'] both gave 'ab'"),
    ("04.3", lambda parts: ",".join(parts), "['a,b'] both gave"),
    ("04.3", lambda parts: "\0".join(parts), "['a\\x00b'] both gave"),
    ("04.3", lambda parts: "<|>".join(parts), "['a<|>b'] both gave"),
    ("04.3", lambda parts: ",".join(f'"{part}"' for part in parts), """['a","b'] both gave"""),
    ("04.3", escaped_by_half, "both gave '\\\\,"),
    ("04.3", lambda parts: "".join(f"{len(part)}{part}" for part in parts), "'119aaaaaaaaa0'"),
    ("04.3", lambda parts: "".join(f"{part}{len(part)}" for part in parts), "'0aaaaaaaaa911'"),
    ("04.3", lambda parts: "|".join(f"{len(part)}{part}" for part in parts), "'11|9aaaaaaaaa'"),
    ("04.3", lambda parts: "".join(f"{len(part)}{part}," for part in parts), "'11,9aaaaaaaaa,'"),
    ("04.3", lambda parts: "".join(f"{len(part):02}{part}" for part in parts), "'100aaaaaaaaa89a"),
    ("04.3", lambda parts: "".join(f"{len(part):04}{part}" for part in parts), "'10000aaaa"),
    ("04.3", lengths_in_front, "both gave '111:aaaaaaaaaaaa'"),
    ("04.3", lambda parts: str(sorted(parts)), "['b', 'a'] both gave"),
    ("04.3", lambda parts: parts, "which is not text"),
    ("04.3", lambda parts: ",".join(parts).encode(), "These are bytes, and text is asked for"),
    ("04.3", lambda parts: f"{len(parts)}:{':'.join(parts)}", "both gave '2:"),
    ("04.3", lambda parts: ";".join(f"{len(part)}" for part in parts), "both gave '1;1'"),
    ("04.3", numbered, "when it was joined again"),
]
