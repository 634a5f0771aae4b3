"""`flask querycache`: what the cache of an application has counted and holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
import orjson
from flask import current_app
from flask.cli import with_appcontext

from labkit.cache import tokens
from labkit.cache.codec import CorruptData, loads
from labkit.cache.query_cache import QueryCache
from labkit.cache.server import Unavailable

SHOWN = 300  # characters of a value

as_json = click.option("--json", "json", is_flag=True, help="Print JSON.")


@click.group()
def querycache() -> None:
    """Look into the query cache of this application, and invalidate in it."""


@querycache.command()
@as_json
@with_appcontext
def stats(json: bool) -> None:
    """Show what all processes have counted.

    Each process leaves its counts in Redis with a miss, once a second at most, for a day.
    """
    cache = _cache()
    _print(_ask(cache, _totals, cache.namespace), json)


@querycache.command()
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@as_json
@with_appcontext
def invalidate(tags: tuple[str, ...], json: bool) -> None:
    """Make every entry of these tags count no more. The tag of all entries is "*"."""
    cache = _cache()
    _ask(cache, tokens.invalidate, *cache._qualify(tags))
    _print({"invalidated": list(tags)}, json)


@querycache.command()
@click.argument("key")
@as_json
@with_appcontext
def inspect(key: str, json: bool) -> None:
    """Show the entry under a key, and whether it counts."""
    cache = _cache()
    about = _ask(cache, _entry, key, cache.namespace)
    if about is None:
        raise click.ClickException(f"There is no entry under {key!r}.")
    _print(about, json)


def _cache() -> QueryCache:
    cache = current_app.extensions.get("querycache")
    if not isinstance(cache, QueryCache):
        raise click.ClickException("This application has no query cache: call cache.init_app.")
    return cache


def _ask(cache: QueryCache, command: Callable[..., Any], *args: Any) -> Any:
    try:
        return cache.ask(command, *args)
    except Unavailable as error:
        raise click.ClickException(f"Redis does not answer. {error}") from error


def _totals(client: Any, namespace: str) -> dict[str, Any]:
    notes = [orjson.loads(note) for note in _values(client, f"{namespace}:statistics:*")]
    found = list(_values(client, tokens.token_key(f"{namespace}:*")))
    totals: dict[str, Any] = {"processes": len(notes)}
    for note in notes:
        for name, count in note.items():
            if isinstance(count, int):
                totals[name] = totals.get(name, 0) + count
            else:
                reasons = totals.setdefault(name, {})
                for reason, times in count.items():
                    reasons[reason] = reasons.get(reason, 0) + times
    totals["tags"] = len(found)
    totals["tags being written"] = sum(token.startswith(tokens.MARKER) for token in found)
    return totals


def _values(client: Any, pattern: str) -> Iterable[bytes]:
    for key in sorted(client.scan_iter(match=pattern, count=1000)):
        if (value := client.get(key)) is not None:
            yield value


def _entry(client: Any, key: str, namespace: str) -> dict[str, Any] | None:
    entry = client.get(key) if client.type(key) == b"string" else None
    if entry is None:
        return None
    stamp, _, value = entry.partition(b"\n")
    prefix = tokens.token_key(f"{namespace}:")
    current = {
        client.get(name): name.decode().removeprefix(prefix)
        for name in sorted(client.scan_iter(match=f"{prefix}*", count=1000))
    }
    tags = [current.get(token, "(replaced)") for token in stamp.split(b" ")]
    try:
        shown = repr(loads(value))
    except CorruptData:
        shown = "cannot be read"
    return {
        "key": key,
        "counts": "(replaced)" not in tags and shown != "cannot be read",
        "tags": tags,
        "seconds left": client.pttl(key) / 1000,
        "bytes": len(entry),
        "value": shown if len(shown) <= SHOWN else shown[:SHOWN] + " ...",
    }


def _print(about: dict[str, Any], json: bool) -> None:
    if json:
        click.echo(orjson.dumps(about, option=orjson.OPT_INDENT_2).decode())
        return
    width = max(map(len, about))
    for name, value in about.items():
        if isinstance(value, dict):
            value = ", ".join(f"{each}: {count}" for each, count in value.items()) or "none"
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        click.echo(f"{name.replace('_', ' '):{width}}  {value}")
