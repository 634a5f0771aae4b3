"""What is wrong with the keys."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import Select

from labkit.audit.adapters import query_cache
from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.questions import describe
from labkit.audit.site import Place
from labkit.cache import keys, questions
from tests.broken import fails

SALT = secrets.token_hex(4)  # of this process, and of those that are forked from it
Call = tuple[tuple[Any, ...], dict[str, Any]]


class WrongKey(QueryCacheAdapter):
    """QueryCache, with a key that is made of something else than the call."""

    def __init__(self, place: Place) -> None:
        right = cast(Any, questions).call_key

        def wrong(function: Any, args: Any, kwargs: Any, namespace: str, **options: Any) -> Any:
            args = self.args(function, args)
            options |= self.options(function, kwargs)
            return right(function, args, kwargs, namespace, **options)

        cast(Any, questions).call_key = wrong
        super().__init__(place)

    def args(self, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments that the key is made of."""
        return args

    def options(self, function: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return options of `call_key` that are wrong."""
        return {}


class WrongEncoding(QueryCacheAdapter):
    """QueryCache, with another encoding of some arguments."""

    def __init__(self, place: Place) -> None:
        right = keys.encode
        cast(Any, keys).encode = lambda value: self.encoded(value) or right(value)
        super().__init__(place)

    def encoded(self, value: Any) -> bytes | None:
        """Return the wrong encoding; None if this argument gets the right one."""
        raise NotImplementedError


@fails("function_names")
class NoModule(WrongKey):
    """A function's module is left out."""

    def options(self, function, kwargs):
        return {"name": function.__qualname__}


@fails("argument_types")
class NumbersAsText(WrongEncoding):
    """A number is its digits."""

    def encoded(self, value):
        return keys.encode(str(value)) if type(value) in (int, float, Decimal) else None


@fails("delimiters")
class Joined(WrongKey):
    """Texts are one, joined by a colon."""

    def args(self, function, args):
        return (":".join(args),) if function is describe and set(map(type, args)) == {str} else args


@fails("keyword_order_and_defaults")
class KeywordsAsTheyCome(WrongKey):
    """Keywords have the order of the call."""

    def options(self, function, kwargs):
        return {"version": "-".join(kwargs)} if len(kwargs) > 1 else {}


@fails("positional_and_keyword")
class KeywordsApart(WrongKey):
    """What is given by name has an entry of its own."""

    def options(self, function, kwargs):
        return {"version": 2} if kwargs else {}


@fails("methods")
class NoSelf(WrongKey):
    """A method's object is left out."""

    def options(self, function, kwargs):
        return {"ignore": ("self",)} if "self" in inspect.signature(function).parameters else {}


@fails("fresh_process")
class Salted(WrongKey):
    """Each process that is started anew has keys of its own."""

    def options(self, function, kwargs):
        return {"version": SALT}


@fails("hash_seed")
class SetsAsTheyCome(WrongEncoding):
    """A set is encoded in the order of its iteration."""

    def encoded(self, value):
        if not isinstance(value, set | frozenset):
            return None
        return keys.encode((type(value).__name__, list(value)))


@fails("namespaced")
class Nameless(QueryCacheAdapter):
    """The namespace is a number."""

    def __init__(self, place: Place) -> None:
        cast(Any, query_cache).NAMESPACE = "{1}"
        super().__init__(place)


@fails("statements")
class AsText(WrongEncoding):
    """A SELECT is its text, which has no values."""

    def encoded(self, value):
        return keys.encode(str(value)) if isinstance(value, Select) else None
