"""Wrong answers to the exercises of lesson 10: exercise, answer, words of its message."""

from __future__ import annotations

import json
import pickle
from typing import Any

from labkit.cache.statements import NotCacheable


def storing_all(cache: Any, stats: Any, key_of: Any, statement: Any, run: Any) -> Any:
    try:
        key = key_of(statement)
    except NotCacheable:
        key = str(statement)
    stats["hit" if key in cache else "miss"] += 1
    if key not in cache:
        cache[key] = run(statement)
    return cache[key]


def asking_the_value(cache: Any, stats: Any, key_of: Any, statement: Any, run: Any) -> Any:
    try:
        key = key_of(statement)
    except NotCacheable:
        stats["bypass"] += 1
        return run(statement)
    if cache.get(key):
        stats["hit"] += 1
    else:
        stats["miss"] += 1
        cache[key] = run(statement)
    return cache[key]


def always_running(cache: Any, stats: Any, key_of: Any, statement: Any, run: Any) -> Any:
    rows = run(statement)
    try:
        key = key_of(statement)
    except NotCacheable:
        stats["bypass"] += 1
        return rows
    stats["hit" if key in cache else "miss"] += 1
    return cache.setdefault(key, rows)


def not_running(cache: Any, stats: Any, key_of: Any, statement: Any, run: Any) -> Any:
    try:
        key = key_of(statement)
    except NotCacheable:
        stats["bypass"] += 1
        return []
    stats["hit" if key in cache else "miss"] += 1
    if key not in cache:
        cache[key] = run(statement)
    return cache[key]


def catching_all(cache: Any, stats: Any, key_of: Any, statement: Any, run: Any) -> Any:
    try:
        key = key_of(statement)
    except Exception:
        stats["bypass"] += 1
        return run(statement)
    stats["hit" if key in cache else "miss"] += 1
    if key not in cache:
        cache[key] = run(statement)
    return cache[key]


def under_the_statement(cache: Any, stats: Any, key_of: Any, statement: Any, run: Any) -> Any:
    try:
        key_of(statement)
    except NotCacheable:
        stats["bypass"] += 1
        return run(statement)
    stats["hit" if statement in cache else "miss"] += 1
    if statement not in cache:
        cache[statement] = run(statement)
    return cache[statement]


WRONG: list[tuple[str, Any, str]] = [
    ("10.1", {"a", "b", "d", "f"}, "three are refused, and 4 are named"),
    ("10.1", {"b", "d", "e"}, "three it is, and not these three"),
    ("10.1", "a, c, e", "Then try: statement_key raises NotCacheable"),
    ("10.1", "b, d", "three are refused, and 2 are named"),
    ("10.1", {"g"}, "'g' is not one"),
    ("10.1", 3, "a set of letters"),
    ("10.2", storing_all, "call 3 is a bypass, and it counted {'miss': 1}"),
    ("10.2", asking_the_value, "run gives []: call 2 is a hit"),
    ("10.2", always_running, "call 2 is a hit, and run was called 1 times"),
    ("10.2", not_running, "call 3 gave []"),
    ("10.2", catching_all, "it was kept quiet"),
    ("10.2", under_the_statement, "there are ['users']"),
    ("10.2", lambda cache, stats, key_of, statement, run: run(statement), "it counted {}"),
    (
        "10.3",
        lambda params: repr(sorted(params.items())),
        "{'a': 1} (of the class Id, which prints as",
    ),
    ("10.3", lambda params: str(sorted(params)).encode(), "These are bytes, and text is asked for"),
    ("10.3", str, "have another text"),
    ("10.3", lambda params: str(sorted(params)), "have the same text"),
    ("10.3", lambda params: json.dumps(params, sort_keys=True, default=str), "b'1'"),
    ("10.3", lambda params: "|".join(f"{k}={params[k]!r}" for k in params), "another text"),
    ("10.3", lambda p: "|".join(f"{k}={p[k]}" for k in sorted(p)), "{'a': 1} and {'a': '1'}"),
    ("10.3", lambda params: sorted(params.items()), "which is no text"),
    (
        "10.3",
        lambda params: pickle.dumps(sorted(params.items())).hex(),
        "with a text that was built anew have another text",
    ),
    (
        "10.3",
        lambda p: "&".join(f"{k}={type(v).__name__}:{v}" for k, v in sorted(p.items())),
        "{'a': 'tea&b=str:cup'} have the same text",
    ),
    (
        "10.3",
        lambda p: "&".join(f"{k}={type(v).__name__}:{v!r}" for k, v in sorted(p.items())),
        "have the same text",
    ),
]
