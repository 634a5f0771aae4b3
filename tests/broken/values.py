"""What is wrong with the values that come back."""

from __future__ import annotations

import functools
import pickle
import threading
from collections.abc import Callable
from typing import Any, cast

from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.site import Place
from labkit.cache import answers, codec
from tests.broken import fails


class Around(QueryCacheAdapter):
    """QueryCache, with something around each call."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        cached = super().wrap(function, ttl)

        @functools.wraps(cached)  # it copies what an invalidation goes by, too
        def ask(*args: Any, **kwargs: Any) -> Any:
            return self.answer(cached, args, kwargs)

        return ask

    def answer(
        self, cached: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        raise NotImplementedError


@fails("caches")
class ForgetsAfterTwo(Around):
    """An entry is dropped when it is asked for the third time in a row, by the main thread."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.in_a_row: list[str] = []

    def answer(self, cached, args, kwargs):
        if threading.current_thread() is threading.main_thread():
            call = repr((cached, args, sorted(kwargs.items())))
            self.in_a_row = [each for each in self.in_a_row if each == call] + [call]
            if len(self.in_a_row) == 3:
                self.cache.forget(cached, *args, **kwargs)
        return cached(*args, **kwargs)


@fails("none_and_empty")
class EmptyIsAMiss(Around):
    """What is empty is not kept, as an answer and no answer look alike."""

    def answer(self, cached, args, kwargs):
        answer = cached(*args, **kwargs)
        if not answer:
            self.cache.forget(cached, *args, **kwargs)
        return answer


@fails("exceptions_not_cached")
class KeepsErrors(Around):
    """An error is raised once more by the next call of the main thread."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.errors: dict[str, Exception] = {}

    def answer(self, cached, args, kwargs):
        call = repr((cached, args))
        if threading.current_thread() is threading.main_thread() and call in self.errors:
            raise self.errors.pop(call)
        try:
            return cached(*args, **kwargs)
        except Exception as error:
            self.errors[call] = error
            raise


@fails("types_survive")
class NoTuples(Around):
    """A tuple comes back as a list."""

    def answer(self, cached, args, kwargs):
        answer = cached(*args, **kwargs)
        return list(answer) if isinstance(answer, tuple) else answer


@fails("caller_changes_result")
class Shares(Around):
    """All callers get one object."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.shared: dict[str, Any] = {}

    def answer(self, cached, args, kwargs):
        answer = cached(*args, **kwargs)
        return self.shared.setdefault(repr(answer), answer)


@fails("poisoned_value")
class Pickles(QueryCacheAdapter):
    """Values are pickled."""

    def __init__(self, place: Place) -> None:
        cast(Any, answers).dumps, cast(Any, answers).loads = pickle.dumps, _unpickled
        super().__init__(place)


def _unpickled(data: bytes) -> Any:
    try:
        return pickle.loads(data)
    except Exception as error:
        raise codec.CorruptData(str(error)) from error


@fails("corrupt_value")
class RaisesAtCorruptData(QueryCacheAdapter):
    """A value that cannot be read is an error."""

    def __init__(self, place: Place) -> None:
        cast(Any, answers).loads = _loads
        super().__init__(place)


def _loads(data: bytes) -> Any:
    try:
        return codec.loads(data)
    except codec.CorruptData as error:
        raise RuntimeError("a value that cannot be read") from error
