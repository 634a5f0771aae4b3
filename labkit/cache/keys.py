"""The key of a call: the same question has the same key, another question has another.

Two calls are the same question when they call the same function (its module and qualified name)
with the same arguments, once these are bound to the function's parameters and defaults are filled
in. Two arguments are the same when they have the same type and the same value, and so have their
parts. The order of a dict or a set does not count.

That is narrower than `==`, which calls some values equal that a function can tell apart. These are
different questions here: 1, 1.0 and True; 0.0 and -0.0; Decimal("1.0") and Decimal("1.00"); one
instant in two time zones; a list and a tuple. Every NaN is the same, although NaN != NaN. In doubt
the key differs: a needless miss costs a query, a collision costs the truth.

What a key cannot see it refuses: types it does not know, lambdas, closures. What it takes on
trust: that a name keeps its meaning. Raise the version when a function or its answer changes, and
give each application a namespace. A script's functions are in `__main__`, whichever script it is.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import inspect
import re
import uuid
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any

DIGEST_BYTES = 16  # 128 bits: 10^9 keys collide with a probability near 10^-21
NAMESPACE = re.compile(r"[\w.{}-]+")  # braces are a hash tag in Redis Cluster


def call_key(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    namespace: str = "shop",
    version: int = 1,
    name: str = "",
) -> str:
    """Return the key of `function(*args, **kwargs)`, such as `shop:v1:module.name:` and 32 digits.

    The digest covers all of the key. What stands before it is for people, and for patterns.

    Args:
        function: what is called. A bound method has its object as the first argument.
        args: its positional arguments.
        kwargs: its keyword arguments.
        namespace: whose key this is; letters, digits and . _ - { }.
        version: of the function and its answers. A new one leaves the old keys to their TTL.
        name: stands for module and qualified name, for functions that have none of their own.

    Raises:
        TypeError: an argument or the function has no key, or the call itself does not fit.
        ValueError: the namespace has other characters.
    """
    if not NAMESPACE.fullmatch(namespace):
        raise ValueError(f"a namespace has letters, digits and . _ - {{ }}, not {namespace!r}")
    if inspect.ismethod(function):
        method: Any = function
        function, args = method.__func__, (method.__self__, *args)
    name = name or name_of(function)
    arguments = bound(function, args, kwargs)
    try:
        question = encode((namespace, version, name, arguments))
    except (TypeError, RecursionError):
        raise TypeError(f"{name}: {_complaint(arguments)}") from None
    digest = hashlib.blake2b(question, digest_size=DIGEST_BYTES).hexdigest()
    return f"{namespace}:v{version}:{name}:{digest}"


@functools.lru_cache(maxsize=1024)
def name_of(function: Callable[..., Any]) -> str:
    """Return a function's module and qualified name, seen through decorators that use `wraps`.

    A nested function may have a key if it uses no variable of the functions around it: a variable
    that it does use is an argument that no key would show.

    Raises:
        TypeError: the name would be shared, or there is none.
    """
    function = inspect.unwrap(function)
    if not hasattr(function, "__qualname__") or inspect.isclass(function):
        raise TypeError(f"{function!r} has no name of a function: give it one, with name=")
    name = f"{function.__module__}.{function.__qualname__}"
    if "<lambda>" in name:
        raise TypeError(f"{name}: all lambdas share this name. Use def, or give it one with name=")
    if getattr(function, "__closure__", None):
        used = ", ".join(function.__code__.co_freevars)
        raise TypeError(
            f"{name} uses {used} from the function around it, which its key would not show. "
            "Make that an argument, or give each such function a name of its own, with name="
        )
    return name


def bound(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the value of each parameter, by its name, defaults included.

    Raises:
        TypeError: the arguments do not fit the function, or it does not say what it takes.
    """
    arguments = _signature(function).bind(*args, **kwargs)
    arguments.apply_defaults()
    return dict(arguments.arguments)


@functools.lru_cache(maxsize=1024)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:  # some that are written in C
        raise TypeError(f"{function!r} does not say which arguments it takes") from None


def encode(value: Any) -> bytes:
    """Return a value's type, length and content: equal bytes for the same value, and only for it.

    Each part says how long it is before it begins, so that no content can look like its end.

    Raises:
        TypeError: there is no telling what makes two values of this type the same.
    """
    kind, tag = type(value), type(value).__name__
    if kind in CONTENT:
        content = CONTENT[kind](value)
    elif kind in (list, tuple):
        content = b"".join(map(encode, value))
    elif kind in (set, frozenset):
        content = b"".join(sorted(map(encode, value)))
    elif kind is dict:
        content = b"".join(sorted(map(encode, value.items())))
    elif isinstance(value, Enum):
        tag, content = "Enum", encode((kind.__module__, kind.__qualname__, value.value))
    else:
        raise TypeError(f"a {kind.__module__}.{kind.__qualname__} has no key")
    return b"%s %d:%s" % (tag.encode(), len(content), content)


def _zone(zone: datetime.tzinfo | None) -> Any:
    """Return what tells a time zone from others: nothing, an offset with its name, or a key."""
    if type(zone) is datetime.timezone:
        return zone.utcoffset(None), zone.tzname(None)
    if type(zone) is zoneinfo.ZoneInfo and zone.key:
        return zone.key
    return zone  # None, or a type that encode refuses


def _moment(value: datetime.datetime | datetime.time) -> bytes:
    return encode((value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo)))


# Exact types only: a subclass may hold more than its base shows.
CONTENT: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"",
    bool: lambda value: b"%d" % value,
    int: lambda value: b"%x" % value,  # decimal digits have a limit, 4,300 of them
    float: lambda value: repr(value).encode(),
    str: lambda value: value.encode("utf-8", "surrogatepass"),
    bytes: lambda value: value,
    Decimal: lambda value: str(value).encode(),
    uuid.UUID: lambda value: value.bytes,
    datetime.date: lambda value: value.isoformat().encode(),
    datetime.time: _moment,
    datetime.datetime: _moment,
    datetime.timedelta: lambda value: encode((value.days, value.seconds, value.microseconds)),
}
KNOWN = ", ".join(kind.__name__ for kind in (*CONTENT, list, tuple, set, frozenset, dict, Enum))


def _complaint(arguments: Mapping[str, Any]) -> str:
    """Return which argument has no key, why, and what to do."""
    for argument, value in arguments.items():
        try:
            encode(value)
        except TypeError as error:
            return (
                f"argument {argument!r}: {error}. Pass what identifies it, such as its id. "
                f"What has a key: {KNOWN}."
            )
        except RecursionError:
            return f"argument {argument!r} is nested too deeply, or contains itself"
    return "the namespace, the version or the name has no key"
