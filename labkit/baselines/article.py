"""A decorator as the article has it: a digest of the pickled call, GET, SET with EX, and pickle.

Lessons 02 to 06 say what is wrong with it. Here it is what a hit is compared with.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import redis


def cached(client: redis.Redis, ttl: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that keeps a function's answers.

    Args:
        client: the Redis client, without `decode_responses`.
        ttl: the time to live, in whole seconds.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def answer(*args: Any, **kwargs: Any) -> Any:
            call = pickle.dumps((function.__name__, args, kwargs))
            key = hashlib.sha256(call).hexdigest()
            found: Any = client.get(key)
            if found is not None:
                return pickle.loads(found)
            value = function(*args, **kwargs)
            client.set(key, pickle.dumps(value), ex=ttl)
            return value

        return answer

    return decorate
