"""The key of a call: the same question has the same key, another question has another.

Two calls are the same question when they call the same function (its module and qualified name)
with the same arguments, once these are bound to the function's parameters and defaults are filled
in. Two arguments are the same when they have the same type and the same value, and so have their
parts. The order of a dict or a set does not count. A frozen dataclass is its type and its fields,
`compare=False` or not: a function can read them all. A class is its module and qualified name.

That is narrower than `==`, which calls some values equal that a function can tell apart. These are
different questions here: 1, 1.0 and True; 0.0 and -0.0; Decimal("1.0") and Decimal("1.00"); one
instant in two time zones; a list and a tuple; range(0) and range(1, 1). Every NaN is the same,
although NaN != NaN. In doubt the key differs: a needless miss costs a query, a collision costs the
truth.

What a key cannot see it refuses: types it does not know, lambdas, closures, decorators that hold
more than the function. What it takes on trust: that a name keeps its meaning, and that what you
`ignore` does not decide the answer. Raise the version when a function or its answer changes, and
give each application a namespace. A script's functions are in `__main__`, whichever script it is.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import inspect
import operator
import re
import sys
import uuid
import zoneinfo
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any

DIGEST_BYTES = 16  # 128 bits: 10^9 keys collide with a probability near 10^-21
NAMESPACE = re.compile(r"[\w.{}-]+")  # braces are a hash tag in Redis Cluster
# Wrappers that answer as the function does, whatever they hold.
TRANSPARENT = (staticmethod, type(functools.cache(len)))
WRITTEN_IN_C = 1 << 8  # the flag of types that cannot be changed: Py_TPFLAGS_IMMUTABLETYPE


def call_key(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    namespace: str = "shop",
    version: int = 1,
    name: str = "",
    ignore: Collection[str] = (),
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
        ignore: names of parameters to leave out, such as "session" or "self".

    Raises:
        TypeError: an argument or the function has no key, or the call itself does not fit.
        ValueError: the namespace has other characters, or no parameter has a name to ignore.
    """
    if not NAMESPACE.fullmatch(namespace):
        raise ValueError(f"a namespace has letters, digits and . _ - {{ }}, not {namespace!r}")
    if inspect.ismethod(function):
        method: Any = function
        function, args = method.__func__, (method.__self__, *args)
    decorators = () if name else decorators_of(function)
    name = name or name_of(function)
    arguments = _without(ignore, bound(function, args, kwargs), name)
    try:
        question = encode((namespace, version, name, arguments, *decorators))
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
    if not isinstance(getattr(function, "__self__", None), ModuleType | None):
        raise TypeError(f"{function!r} hides its object from the key: give it a name, with name=")
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


@functools.lru_cache(maxsize=1024)
def decorators_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return where the wrappers are written that decorators have put around a function.

    They are part of the question: `double(report)` has another answer than `report`, and its name.

    Raises:
        TypeError: a wrapper holds more than what it wraps, such as the 3 of `@times(3)`.
    """
    wrappers: list[Any] = []
    layers = [inspect.unwrap(function, stop=wrappers.append)]
    written = []
    for wrapper in reversed(wrappers):
        if not isinstance(wrapper, TRANSPARENT):
            if held := _held(wrapper, layers):
                raise TypeError(
                    f"{name_of(function)} is wrapped by a decorator that holds {held}, which its "
                    "key would not show. Give each such function a name of its own, with name="
                )
            written.append(f"{wrapper.__globals__['__name__']}.{wrapper.__code__.co_qualname}")
        layers.append(wrapper)
    return tuple(written)


def _held(wrapper: Any, within: Collection[Any]) -> str:
    """Return what a wrapper can read beside the functions within it, by closure and defaults."""
    if type(wrapper) is not FunctionType:
        return f"what a {type(wrapper).__qualname__} may hold"
    free = dict(zip(wrapper.__code__.co_freevars, wrapper.__closure__ or (), strict=True))
    read = [name for name, cell in free.items() if not any(_is_in(cell, each) for each in within)]
    if wrapper.__defaults__ or wrapper.__kwdefaults__:
        read.append("defaults of its own")
    return ", ".join(read)


def _is_in(cell: Any, function: Any) -> bool:
    try:
        return cell.cell_contents is function
    except ValueError:  # it is empty
        return False


def _without(ignore: Collection[str], arguments: dict[str, Any], name: str) -> dict[str, Any]:
    if isinstance(ignore, str):
        raise TypeError(f"ignore takes several names: write ({ignore!r},)")
    if unknown := [each for each in ignore if each not in arguments]:
        known = ", ".join(arguments) or "none"
        raise ValueError(f"{name} has no parameter {unknown[0]!r} to ignore: it has {known}")
    return {each: value for each, value in arguments.items() if each not in ignore}


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
    elif issubclass(kind, Enum):  # isinstance() would ask a proxy, which speaks for another
        tag, content = "Enum", encode((kind.__module__, kind.__qualname__, value.value))
    elif issubclass(kind, type):
        tag, content = "class", encode(_found_by_name(value))
    elif "__dataclass_params__" in vars(kind):  # of its own: a subclass may hold more
        tag, content = "dataclass", encode((*_found_by_name(kind), _fields(value)))
    else:
        raise TypeError(f"a {kind.__module__}.{kind.__qualname__} has no key")
    return b"%s %d:%s" % (tag.encode(), len(content), content)


def _found_by_name(kind: type) -> tuple[str, str]:
    """Return a class's module and qualified name, if that is where it is found.

    A class made in a function is not, and shares its name with all that the function makes.
    """
    module, name = kind.__module__, kind.__qualname__
    try:
        found = operator.attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError):
        found = None
    if found is not kind:
        raise TypeError(f"the class {module}.{name} is not found by that name, and has no key")
    return module, name


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a frozen dataclass, which must be all that it holds."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if not kind.__dataclass_params__.frozen:
        raise TypeError(f"a {name} has no key, as it can change: make it @dataclass(frozen=True)")
    fields = [field.name for field in dataclasses.fields(value)]
    beside = _state(value) - set(fields) - _computed(kind)
    if beside or any(base.__flags__ & WRITTEN_IN_C for base in kind.__mro__[:-1]):
        more = ", ".join(sorted(beside)) or "what its base class does"
        raise TypeError(f"a {name} has no key, as it holds {more} beside its fields")
    return {field: getattr(value, field) for field in fields if hasattr(value, field)}


def _state(value: Any) -> set[str]:
    """Return the names of all that an instance holds, in its dictionary and in slots."""
    state = object.__getstate__(value)
    parts: Iterable[Any] = state if isinstance(state, tuple) else (state,)
    return {name for part in parts for name in part or ()}


def _computed(kind: type) -> set[str]:
    """Return the names of its cached properties, which are made of the fields."""
    return {
        name
        for base in kind.__mro__
        for name, member in vars(base).items()
        if isinstance(member, functools.cached_property)
    }


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
    range: lambda value: encode((value.start, value.stop, value.step)),
}
KNOWN = ", ".join(kind.__name__ for kind in (*CONTENT, list, tuple, set, frozenset, dict, Enum))
KNOWN += ", frozen dataclasses, classes"


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
