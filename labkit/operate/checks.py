"""What is checked on a server: each check says what it has found, and if need be why and how.

https://redis.io/docs/latest/operate/oss_and_stack/management/ has a page on most of these.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labkit.operate.inspected import Inspected, NotLookedAt
from labkit.operate.keyspace import prefix_of
from labkit.operate.reading import text_of
from labkit.operate.table import cut, in_bytes
from labkit.servers.redis import OLDEST_VERSION

BIG = 2**20  # bytes: to send them takes 8 ms at 1 Gbit/s, while all others wait for their turn
SENTINELS = 3  # of which two can agree when the third has died with the master
EVERYWHERE = {"*", "0.0.0.0", "::", "::*"}
SHOWN = 3  # examples
NAME = 40  # letters of a key that are shown


@dataclass(frozen=True)
class Verdict:
    """What a check has found.

    Attributes:
        found: in a few words.
        why: why it is to be mended; empty if it is well.
        how: how to mend it.
    """

    found: str
    why: str = ""
    how: str = ""


Check = Callable[[Inspected], Verdict]


def _version(server: Inspected) -> Verdict:
    about = server.info()
    major = str(about.get("redis_version", "")).partition(".")[0]
    if "valkey_version" in about or not major.isdigit() or int(major) >= OLDEST_VERSION:
        return Verdict(server.name)
    return Verdict(
        server.name,
        "it is older than what this is tested with",
        f"upgrade to Redis {OLDEST_VERSION} or newer, or to Valkey",
    )


def _role(server: Inspected) -> Verdict:
    about = server.info()
    if about.get("role") != "slave":
        return Verdict("a master: it takes writes")
    master = f"{about.get('master_host')}:{about.get('master_port')}"
    return Verdict(
        f"a replica of {master}",
        "it refuses writes, so that nothing is cached and no invalidation arrives",
        f"have applications connect to {master}, or ask a Sentinel where the master is",
    )


def _maxmemory(server: Inspected) -> Verdict:
    limit = int(_told(server, "maxmemory"))
    if limit:
        return Verdict(in_bytes(limit))
    return Verdict(
        "no limit",
        "the cache grows until the system kills the server, or swaps",
        "CONFIG SET maxmemory 256mb, or what the machine can spare, and in redis.conf",
    )


def _policy(server: Inspected) -> Verdict:
    policy = str(_told(server, "maxmemory_policy"))
    how = "CONFIG SET maxmemory-policy volatile-lfu, and in redis.conf"
    if policy == "noeviction":
        why = "once memory is full each write fails: nothing new is cached"
        return Verdict(policy, why, how)
    if policy.startswith("allkeys") and _caches(server):
        return Verdict(
            policy,
            "it evicts a QueryCache's tokens and markers, which have no TTL: entries are lost with "
            "them, and a writer that crashes may leave a stale one",
            how,
        )
    return Verdict(policy)


def _caches(server: Inspected) -> bool:
    """Whether tokens of a QueryCache are there."""
    try:
        return bool(server.namespaces)
    except NotLookedAt:
        return False


def _told(server: Inspected, name: str) -> Any:
    """Return what INFO has.

    Raises:
        NotLookedAt: it has not.
    """
    try:
        return server.info()[name]
    except KeyError:
        raise NotLookedAt(f"INFO does not tell {name}") from None


def _persistence(server: Inspected) -> Verdict:
    why = "a cache that is loaded again is old, and writing it takes disk, memory and time"
    if _told(server, "rdb_last_bgsave_status") == "err":
        return Verdict(
            "the last save has failed",
            "Redis refuses writes then (stop-writes-on-bgsave-error)",
            "make room on the disk, or CONFIG SET save '' if this server holds only a cache",
        )
    if int(_told(server, "aof_enabled")):
        how = "CONFIG SET appendonly no, if this server holds only a cache"
        return Verdict("an append-only file", why, how)
    if schedule := server.config("save"):
        how = "CONFIG SET save '', if this server holds only a cache"
        return Verdict(f"snapshots (save {schedule})", why, how)
    return Verdict("none: the cache begins empty")


def _password(server: Inspected) -> Verdict:
    how = (
        "give users passwords, such as `labkit acl` writes down, and the user default one as well "
        "(requirepass)"
    )
    path = server.options.get("path")
    if not server.lets_in_without_password():
        return Verdict("nobody is let in without one")
    if path and int(_told(server, "tcp_port")) == 0:
        try:
            mode = stat.S_IMODE(os.stat(path).st_mode)
        except OSError:
            raise NotLookedAt("the socket's file cannot be seen from here") from None
        if not mode & 0o007:
            return Verdict(f"a unix socket that others cannot open ({mode:o})")
        why = "every user of this machine can read and write everything"
        return Verdict(f"a unix socket that everybody can open ({mode:o})", why, how)
    why = "whoever reaches the port can read and write everything, and run scripts"
    return Verdict("everybody is let in", why, how)


def _bind(server: Inspected) -> Verdict:
    if int(_told(server, "tcp_port")) == 0:
        return Verdict("no TCP port")
    addresses = server.config("bind").split()
    open_to_all = [each for each in addresses if each.lstrip("-") in EVERYWHERE]
    if not open_to_all:
        return Verdict(" ".join(addresses) or "no address")
    return Verdict(
        f"listens on every interface ({' '.join(open_to_all)})",
        "the password is all that stands between it and whoever can send it a packet",
        "bind it to a private address; in a container, publish no port and --ignore bind",
    )


def _ttl(server: Inspected) -> Verdict:
    own = tuple(b"token:" + each + b":" for each in server.namespaces)
    servers = [each + b":server" for each in server.namespaces]
    keys = [key for key in server.keys if not key.name.startswith(own) and key.name not in servers]
    without = [key.name for key in keys if key.ttl_ms < 0]
    if not without:
        return Verdict(f"each of {len(keys):,} entries has one ({server.names})")
    return Verdict(
        f"{len(without):,} of {len(keys):,} keys have none: {_prefixes(without)}",
        "nothing ends them, and a volatile- policy never evicts them: memory only grows",
        "give each a TTL when it is set (SET ... EX), or keep them on another server",
    )


def _big_keys(server: Inspected) -> Verdict:
    sizes = server.sizes
    big = sorted((name for name in sizes if sizes[name] > BIG), key=lambda name: -sizes[name])
    if not big:
        return Verdict(f"none above {in_bytes(BIG)} ({len(sizes):,} measured)")
    shown = ", ".join(
        f"{cut(text_of(name), NAME)} ({in_bytes(sizes[name])})" for name in big[:SHOWN]
    )
    return Verdict(
        f"{len(big):,} of {len(sizes):,}: {shown}",
        f"while one of more than {in_bytes(BIG)} is read or removed, every other client waits",
        "cache less in one entry: fewer columns, a page of the rows, the sum in place of the parts",
    )


def _namespace(server: Inspected) -> Verdict:
    names = server.names.names
    without = [name for name in names if not prefix_of(name)]
    if not without:
        return Verdict(_prefixes(names))
    shown = ", ".join(cut(text_of(name), NAME) for name in without[:SHOWN])
    return Verdict(
        f"{len(without):,} of {len(names):,} keys have none: {shown}",
        "two applications may use one key for two answers, and nobody can tell whose it is",
        "begin each key with the application's name and a colon, such as shop:",
    )


def _prefixes(names: list[bytes]) -> str:
    counts = Counter(prefix_of(name) or "(no prefix)" for name in names)
    shown = [f"{cut(name, NAME)} ({count:,})" for name, count in counts.most_common(SHOWN)]
    return ", ".join(shown) + (", …" if len(counts) > SHOWN else "")


def _failover(server: Inspected) -> Verdict:
    if int(_told(server, "cluster_enabled")):
        return _cluster(server)
    about = server.info()
    if about.get("role") == "slave":
        raise NotLookedAt("a replica knows nothing of the others: look at its master")
    replicas = [each for name, each in about.items() if _is_replica(name, each)]
    online = sum(each.get("state") == "online" for each in replicas)
    why = "while this server is away, each request goes to the database"
    if not online:
        return Verdict(
            "no replica", why, "add a replica and three Sentinels, if the database cannot bear that"
        )
    # A Sentinel listens there, on each server that it watches, for the others.
    listening = int(server.ask("PUBSUB NUMSUB", "__sentinel__:hello")[0][1])
    found = f"{online} replica{'s' * (online > 1)}, {listening} Sentinel{'s' * (listening != 1)}"
    if listening < SENTINELS:
        return Verdict(
            found,
            "no majority of Sentinels is left when one dies with the master",
            f"run {SENTINELS} Sentinels, on machines of their own",
        )
    return Verdict(found)


def _is_replica(name: str, about: Any) -> bool:
    return name.startswith("slave") and isinstance(about, dict)


def _cluster(server: Inspected) -> Verdict:
    state = server.ask("CLUSTER INFO")
    known = list(server.ask("CLUSTER NODES").values())
    masters = [node for node in known if "master" in node["flags"] and node["slots"]]
    backed = {node["master_id"] for node in known if "slave" in node["flags"] and _is_up(node)}
    alone = [node for node in masters if node["node_id"] not in backed]
    if state["cluster_state"] != "ok":
        return Verdict(
            f"a cluster in state {state['cluster_state']}, {state['cluster_slots_ok']} slots ok",
            "keys of the other slots cannot be read or written",
            "bring the missing nodes back: redis-cli --cluster check HOST:PORT",
        )
    if alone:
        return Verdict(
            f"a cluster: {len(alone)} of {len(masters)} masters have no replica",
            "when such a master dies, its keys are gone, and the cluster refuses all others",
            "add a replica to each: redis-cli --cluster add-node ... --cluster-slave",
        )
    return Verdict(f"a cluster of {len(masters)} masters, each with a replica")


def _is_up(node: dict[str, Any]) -> bool:
    return bool(node["connected"]) and "fail" not in node["flags"].split(",")


SERVER_CHECKS: dict[str, Check] = {
    "version": _version,
    "role": _role,
    "maxmemory": _maxmemory,
    "maxmemory-policy": _policy,
    "persistence": _persistence,
    "password": _password,
    "bind": _bind,
    "TTL": _ttl,
    "big keys": _big_keys,
    "namespace": _namespace,
    "failover": _failover,
}
