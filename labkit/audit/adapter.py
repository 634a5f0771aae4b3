"""How the audit speaks to a cache: four methods, which an adapter translates for its library.

    class Mine(Adapter):
        name = "mine 1.0"

        def __init__(self, place):
            self.cache = my_library.Cache(place.url)

        def wrap(self, function, ttl):
            return self.cache.memoize(ttl)(function)

        def invalidate_one(self, cached, *args, **kwargs):
            self.cache.delete(cached, *args, **kwargs)

A decorator needs no adapter: `Decorator` takes it as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from labkit.audit.site import Place

CLIENT = ("client", "redis", "redis_client")
TTL = ("ttl", "timeout", "expire", "expiration", "expiration_time", "seconds")


class DoesNotApply(Exception):
    """A cache has nothing that this row could try. The message says what it lacks."""


class Adapter:
    """A cache, as the audit sees it. Subclass it, and override what the cache can do.

    It is opened anew for each probe, in a process of the probe's own.

    Args:
        place: where it is opened.

    Attributes:
        name: the library and its version.
        cluster: whether it can be opened on a Redis Cluster.
    """

    name = ""
    cluster = False

    def __init__(self, place: Place) -> None:
        self.place = place

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        """Return the function with a cache before it.

        Args:
            function: of a module, or a method as its class has it.
            ttl: the longest time to live, in seconds.
        """
        raise NotImplementedError

    def invalidate_one(self, cached: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Have the next call with these arguments loaded anew."""
        raise DoesNotApply("it cannot invalidate one entry")

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        """Have the next call of this function loaded anew, whatever the arguments."""
        raise DoesNotApply("it cannot invalidate all entries of a function")

    def close(self) -> None:
        """Close what is open."""


class Decorator(Adapter):
    """A decorator of somebody's own.

    It may be `@cached`, a factory such as `@cached(ttl=60)`, or one that takes a client as well:
    what its parameters are called decides what it is given. One that opens its client by itself
    takes the URL from the environment's REDIS_URL.

    Args:
        place: where it is opened.
        target: the decorator.
        invalidate: called as `invalidate(cached, *args, **kwargs)` for one entry, and as
            `invalidate(cached)` for all entries of a function; None if there is no such thing.
    """

    def __init__(
        self, place: Place, target: Callable[..., Any], invalidate: Callable[..., Any] | None = None
    ) -> None:
        super().__init__(place)
        self.name = name_of(target)
        self.cluster = takes(target, CLIENT) is not None
        self._target, self._invalidate = target, invalidate
        self._client = place.client() if self.cluster else None

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        """Return the decorated function."""
        given: dict[str, Any] = {}
        if client := takes(self._target, CLIENT):
            given[client] = self._client
        if time_to_live := takes(self._target, TTL):
            given[time_to_live] = ttl
        decorate = self._target(**given) if given or not _positional(self._target) else self._target
        cached: Callable[..., Any] = decorate(function)
        if not callable(cached):
            raise TypeError(f"{self.name} does not give a function")
        return cached

    def invalidate_one(self, cached: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call `invalidate(cached, *args, **kwargs)`."""
        self._given()(cached, *args, **kwargs)

    def invalidate_all(self, cached: Callable[..., Any]) -> None:
        """Call `invalidate(cached)`."""
        self._given()(cached)

    def _given(self) -> Callable[..., Any]:
        if self._invalidate is None:
            raise DoesNotApply("no function that invalidates was given")
        return self._invalidate


def takes(target: Callable[..., Any], names: tuple[str, ...]) -> str | None:
    """Return which of these names a callable has for a parameter; None if it has none."""
    try:
        known = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return None
    return next((name for name in names if name in known), None)


def _positional(target: Callable[..., Any]) -> bool:
    """Whether a callable wants an argument: it decorates by itself then."""
    try:
        known = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(each.default is each.empty and each.kind != each.VAR_KEYWORD for each in known)


def name_of(target: Any) -> str:
    """Return what a target is called on a scoreboard."""
    named = getattr(target, "name", "") or getattr(target, "__qualname__", "")
    return str(named or type(target).__qualname__)  # never its repr, which may hold an address


def adapter_of(target: Any, invalidate: Callable[..., Any] | None = None) -> Any:
    """Return what opens a cache at a place: an adapter, or a decorator made into one.

    Args:
        target: a subclass of `Adapter`, or any class with its methods; or a decorator.
        invalidate: as of `Decorator`.
    """
    if inspect.isclass(target) and hasattr(target, "wrap"):
        return target
    return lambda place: Decorator(place, target, invalidate)
