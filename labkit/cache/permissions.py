"""What the user of a QueryCache has to be allowed in Redis: commands, and the keys that they touch.

A script is refused what its user is refused, so what the scripts call is in here as well. HELLO and
AUTH are not: nobody needs a permission to log in. A test holds these lists to what servers count.
(https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/)
"""

from __future__ import annotations

from labkit.cache.server import check_hash_tag
from labkit.cache.settings import Settings
from labkit.cache.tokens import lease_key, token_key

# What each is needed for. The last of these keep one of an application's own settings.
COMMANDS = {
    "mget": "a hit",
    "get": "a connection, each script, and `flask querycache`",
    "set": "the scripts: an entry, a token, a lease",
    "del": "the scripts, and an entry that cannot be read",
    "pttl": "the scripts: how long a lease lasts",
    "time": "the scripts: whether a writer is under way",
    "eval": "a miss, a fill, a write and an invalidation",
    "info": "whether this is the server that the entries are of, and what it evicts",
    "client|setinfo": "a connection: else each leaves a line in ACL LOG",
    "client|setname": "a client with a name (client_name)",
    "ping": "a client that looks after its connections (health_check_interval)",
    "select": "a database other than 0",
}
INSPECTION = {
    "scan": "`flask querycache stats` and `inspect`",
    "type": "`flask querycache inspect`",
}
L1 = {"client|tracking": "L1: what changes, told by Redis"}
CLUSTER = {
    "cluster|slots": "which node has a key",
    "asking": "a key that is moving to another node",
    "command": "which arguments of a command are keys: redis-py asks when it connects",
}
SENTINEL = {  # on the Sentinels, which have users of their own
    "sentinel|masters": "where the master is",
    "client|setinfo": "a connection: else each leaves a line in ACL LOG",
    "ping": "a client that looks after its connections",
}


def rules(
    namespace: str, *, inspection: bool = True, cluster: bool = False, l1: bool = False
) -> list[str]:
    """Return the rules of a user on the servers with the keys, as `ACL SETUSER` takes them.

    Args:
        namespace: of the cache.
        inspection: whether `flask querycache stats` and `inspect` run as this user as well. SCAN
            shows the names of all keys, of other namespaces too.
        cluster: whether the servers are a Redis Cluster.
        l1: whether processes keep entries by themselves as well (`l1_entries`). Redis tells them
            the names of keys that change, of this namespace's alone, as they have asked for these.

    Raises:
        SettingsError: the namespace cannot be one.
    """
    name = Settings(namespace=namespace).namespace
    if cluster:
        check_hash_tag(name)
    keys = [f"{name}:*", lease_key(f"{name}:*"), token_key(f"{name}:*")]
    commands = COMMANDS | (INSPECTION if inspection else {})
    commands |= (L1 if l1 else {}) | (CLUSTER if cluster else {})
    if cluster:
        del commands["select"]  # it has one database
    patterns = [f"~{pattern}" for pattern in keys]
    return ["resetkeys", *patterns, "resetchannels", "-@all", *(f"+{each}" for each in commands)]


def sentinel_rules() -> list[str]:
    """Return the rules of a user on the Sentinels, which tell clients where the master is."""
    return ["resetkeys", "resetchannels", "-@all", *(f"+{each}" for each in SENTINEL)]
