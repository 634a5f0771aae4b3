"""Cache what a function returns, in Redis."""

import functools
import json
import os

import redis

PREFIX = "bookshop"

client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost:6379/0"))


def make_key(function, args, kwargs):
    """Return the key of a call."""
    arguments = [str(arg) for arg in args]
    arguments += [f"{name}={value}" for name, value in kwargs.items()]
    return ":".join([PREFIX, function.__name__, *arguments])


def cached(ttl=300):
    """Keep a function's answers for `ttl` seconds."""

    def decorator(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            key = make_key(function, args, kwargs)
            stored = client.get(key)
            if stored:
                return json.loads(stored)
            value = function(*args, **kwargs)
            if value:
                client.set(key, json.dumps(value, default=str), ex=ttl)
            return value

        return wrapper

    return decorator


def invalidate(function, *args, **kwargs):
    """Forget one call of a function; without arguments, all of its calls."""
    if args or kwargs:
        client.delete(make_key(function, args, kwargs))
        return
    keys = client.keys(f"{PREFIX}:{function.__name__}*")
    if keys:
        client.delete(*keys)
