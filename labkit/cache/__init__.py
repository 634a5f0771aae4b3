"""Caching the answers of database queries in Redis: what an application imports.

It imports nothing else of labkit, and needs flask-sqlalchemy, redis and orjson only.
"""

from labkit.cache.codec import CorruptData, NotStorable, dumps, loads, register
from labkit.cache.commits import after_root_commit, watch_writes
from labkit.cache.invalidation import InvalidationFailed
from labkit.cache.keys import call_key
from labkit.cache.query_cache import QueryCache
from labkit.cache.settings import Settings, SettingsError
from labkit.cache.statements import NotCacheable, refusals, statement_key, tables_read
from labkit.cache.ttl import checked_ttl, jittered_ms

__all__ = [
    "CorruptData",
    "InvalidationFailed",
    "NotCacheable",
    "NotStorable",
    "QueryCache",
    "Settings",
    "SettingsError",
    "after_root_commit",
    "call_key",
    "checked_ttl",
    "dumps",
    "jittered_ms",
    "loads",
    "refusals",
    "register",
    "statement_key",
    "tables_read",
    "watch_writes",
]
