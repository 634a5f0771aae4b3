"""What is slow on a server: its slow log, and the times that it keeps for each command.

Both are times on the server, without the network and without the wait for another command's end.
(https://redis.io/docs/latest/commands/slowlog-get/, https://redis.io/docs/latest/commands/info/)
"""

from __future__ import annotations

from typing import Any

import redis
from redis.exceptions import ResponseError

from labkit.operate.reading import Client, nodes_of, text_of
from labkit.operate.table import Table, cut

LETTERS = 40  # of a command that are shown


def slow_commands(client: Client, top: int = 10) -> Table:
    """Return the slow log, the slowest first. A key may be in it, and the start of a script.

    Args:
        client: a `redis.Redis` or a `redis.RedisCluster`.
        top: how many; and how many of the last ones of each server are looked at, times ten.

    Raises:
        RedisError: a server could not be asked.
    """
    entries: list[dict[str, Any]] = []
    for node in nodes_of(client):
        found: Any = node.slowlog_get(10 * top)
        entries += found
    entries.sort(key=lambda each: -int(each["duration"]))
    rows = [
        (_command(each["command"]), int(each["duration"]) / 1000, text_of(each["client_name"]))
        for each in entries[:top]
    ]
    threshold = _setting(nodes_of(client)[0], "slowlog-log-slower-than")
    limit = "" if threshold is None else f", of more than {int(threshold) / 1000:g} ms"
    if threshold is not None and int(threshold) < 0:
        return Table("Slow log: off", (), note="CONFIG SET slowlog-log-slower-than 10000")
    return Table(f"Slow log: {len(entries):,} commands{limit}", ("command", "ms", "client"), rows)


def _command(words: Any) -> str:
    """Return a command's name and key, or the start of its script: its values are not shown."""
    text = text_of(words) if isinstance(words, bytes | str) else " ".join(map(text_of, words))
    if text.upper().startswith("EVAL"):
        return cut(text, LETTERS)
    name_and_key = text.split(" ")[:2]
    return cut(" ".join(name_and_key), LETTERS)


def latency(client: Client, top: int = 10) -> Table:
    """Return how long commands took since the server began, those with the most time first.

    Args:
        client: a `redis.Redis` or a `redis.RedisCluster`: its first node then.
        top: how many commands.

    Raises:
        RedisError: the server could not be asked.
    """
    node = nodes_of(client)[0]
    counted: Any = node.info("commandstats")
    spread: Any = node.info("latencystats")
    columns = ("command", "calls", "µs each", "p50", "p99", "p99.9")
    rows = []
    for key, about in sorted(counted.items(), key=lambda item: -item[1]["usec"]):
        name = key.removeprefix("cmdstat_")
        times = spread.get(f"latency_percentiles_usec_{name}", {})
        if about["calls"]:
            percentiles = [times.get(f"p{each}") for each in ("50", "99", "99.9")]
            rows.append((name.upper(), about["calls"], about["usec_per_call"], *percentiles))
    return Table("Commands by the time they took, in µs", columns, rows[:top], _spikes(node))


def _spikes(node: Any) -> str:
    """Return what the latency monitor has seen, in a line."""
    threshold = _setting(node, "latency-monitor-threshold")
    if threshold == "0":
        return "The latency monitor is off (latency-monitor-threshold 0)."
    try:
        events = node.execute_command("LATENCY LATEST")
    except ResponseError:
        return "The latency monitor cannot be asked."
    worst = [f"{text_of(name)} {longest} ms" for name, _, _, longest, *_ in events]
    return f"Spikes, the longest: {', '.join(worst) or 'none'}."


def _setting(node: redis.Redis, name: str) -> str | None:
    """Return a setting; None where it cannot be asked for."""
    try:
        found: Any = node.config_get(name)
    except ResponseError:
        return None
    return str(found[name]) if name in found else None
