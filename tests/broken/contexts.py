"""See the title of this package: here it is where a call is made."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import flask

from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.site import Place
from labkit.cache import reads
from labkit.cache.invalidation import Writes
from tests.broken import fails


@fails("outside_a_request")
class InRequestsOnly(QueryCacheAdapter):
    """It keeps something in the application's context, and does without where there is none."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        cached = super().wrap(function, ttl)

        @functools.wraps(cached)
        def ask(*args: Any, **kwargs: Any) -> Any:
            return (cached if flask.has_app_context() else function)(*args, **kwargs)

        return ask


@fails("uncommitted_rows")
class KeepsWhatIsPending(QueryCacheAdapter):
    """It knows nothing of the session that a load reads through."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        cache: Any = self.cache
        knows, own = cache._why_not_kept, "its own writes are not committed"
        reads.has_pending_writes = reads.reads_an_old_snapshot = lambda session: False
        cache._why_not_kept = lambda *args: knows(*args).removeprefix(own)


@fails("invalidation_before_commit")
class InvalidatesAtOnce(QueryCacheAdapter):
    """It sends what it is told to when it is told, and no more at the commit."""

    def __init__(self, place: Place) -> None:
        writes: Any = Writes
        writes.before_commit = lambda self, *tables: lambda *names: None
        super().__init__(place)


@fails("after_fork")
class BelongsToOneProcess(QueryCacheAdapter):
    """It can only be used where it was opened."""

    def wrap(self, function: Callable[..., Any], ttl: int) -> Callable[..., Any]:
        cached, opener = super().wrap(function, ttl), os.getpid()

        @functools.wraps(cached)
        def ask(*args: Any, **kwargs: Any) -> Any:
            if os.getpid() != opener:
                raise RuntimeError("this connection belongs to another process")
            return cached(*args, **kwargs)

        return ask
