"""The line of an ACL file for the user of a QueryCache.

A password never stands in it, but its SHA-256, as Redis keeps it. That is no secret only if the
password cannot be guessed: Redis hashes without a salt, so that each guess is quickly tried.
(https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/)
"""

from __future__ import annotations

import hashlib

from labkit.cache import SettingsError
from labkit.cache.permissions import CLUSTER, COMMANDS, INSPECTION, L1, rules, sentinel_rules
from labkit.errors import LabError
from labkit.operate.table import Table

SHORTEST = 20  # letters of a password: what is shorter is guessed from its hash, or may be
NEW_IN_7_2 = "+client|setinfo"


def acl_line(
    namespace: str = "querycache",
    user: str = "querycache",
    password: str | None = None,
    *,
    setuser: bool = False,
    inspection: bool = True,
    cluster: bool = False,
    l1: bool = False,
    sentinel: bool = False,
    before_7_2: bool = False,
) -> str:
    """Return the line that gives a user what a QueryCache needs, and nothing else.

    Args:
        namespace: of the cache.
        user: the user's name.
        password: its hash stands in the line; without one nobody can log in as this user.
        setuser: a command `ACL SETUSER` in place of a line of an ACL file.
        inspection: whether `flask querycache stats` and `inspect` run as this user as well.
        cluster: whether the servers are a Redis Cluster.
        l1: whether processes keep entries by themselves as well (QUERY_CACHE_L1_ENTRIES).
        sentinel: the line of the user on the Sentinels, in place of that on the servers with keys.
        before_7_2: whether the server is a Redis before 7.2, which does not know CLIENT SETINFO,
            and refuses a whole file for it.

    Raises:
        LabError: a name or a password that cannot be one.
    """
    try:
        allowed = (
            sentinel_rules()
            if sentinel
            else rules(namespace, inspection=inspection, cluster=cluster, l1=l1)
        )
    except SettingsError as error:
        raise LabError(str(error)) from None
    if not user or not user.isprintable() or any(letter.isspace() for letter in user):
        raise LabError(f"a user's name has letters without spaces, not {user!r}.")
    if user == "default":
        raise LabError("the user 'default' is who administers Redis: give the cache another one.")
    if before_7_2:
        allowed.remove(NEW_IN_7_2)
    start = f"ACL SETUSER {user} reset on" if setuser else f"user {user} on"
    return " ".join([start, *_hashed(password), *allowed])


def acl_table() -> Table:
    """Return each command that a QueryCache's user may send, and what needs it."""
    parts = (
        (COMMANDS, ""),
        (INSPECTION, "not with inspection=False"),
        (L1, "with l1=True"),
        (CLUSTER, "in a Cluster"),
    )
    rows = [
        (command.upper().replace("|", " "), needed_for, only)
        for commands, only in parts
        for command, needed_for in commands.items()
    ]
    return Table("What the user of a QueryCache may do", ("command", "needed for", "only"), rows)


def _hashed(password: str | None) -> list[str]:
    if password is None:
        return []
    if not password:
        raise LabError("an empty password is none.")
    return ["#" + hashlib.sha256(password.encode()).hexdigest()]


def warning(user: str, password: str | None) -> str:
    """Return what who uses the line should know of its password; empty if it is well."""
    if password is None:
        return (
            f"no password is in it, so nobody can log in as {user}: give one with --password-stdin"
        )
    if len(password) < SHORTEST:
        return (
            f"a password of fewer than {SHORTEST} letters can be guessed from its hash: "
            "keep the line secret, or use what `openssl rand -base64 32` prints"
        )
    return ""
