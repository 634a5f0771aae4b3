"""Tokens in values: an entry counts while every one of its tags still has the token it came with.

A token is a random text that is never used twice. Whoever writes to the database replaces the
tokens of what has changed, in one command however many entries there are. Nobody removes the
entries: they do not count any more, and their TTL ends them.

A writer that may crash enters itself before its commit (`mark`): in the token's place there is then
a marker that names every writer under way. While it stands no entry counts and nobody fills. A
writer that never comes back costs misses until its deadline, and no stale answer, unless its marker
is evicted as well. Tokens and markers have no TTL, so a policy that evicts keys with a TTL only
leaves them: the deadline stands in the marker, and the server's own clock judges it.

In a Cluster an entry and its tags' tokens must be in one slot: give them one hash tag, such as
`{shop}`. (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags)
"""

from __future__ import annotations

import secrets
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

import redis

FILL = resources.files("labkit.cache").joinpath("fill.lua").read_text()
TAKE = resources.files("labkit.cache").joinpath("take.lua").read_text()
MARK = resources.files("labkit.cache").joinpath("mark.lua").read_text()
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
FORGET = """
redis.call('DEL', KEYS[1]); redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]); return 1
"""
MARKER = b"!"  # what a marker begins with, and no token
LONGEST_MS = 3_600_000  # that a marker counts: the scripts take what would last longer for over


class Lookup(NamedTuple):
    """What a look into the cache has found.

    Attributes:
        entry: the entry as Redis has it, its tokens in front of its value; None if there is none,
            or one that does not count.
        tokens: the token of each tag, or its marker; b"" where there is none. A fill needs them,
            so they were read before the database.
        holder: whoever holds the entry's lease; b"" if nobody does.
        ours: whether we do.
        why: why we do not, for people.
    """

    entry: bytes | None
    tokens: tuple[bytes, ...]
    holder: bytes = b""
    ours: bool = False
    why: str = "another load was slower than its lease"

    @property
    def value(self) -> bytes | None:
        """The entry's value; None if there is none, or one that does not count."""
        view = self.view
        return None if view is None else bytes(view)

    @property
    def view(self) -> memoryview | None:
        """The same without a copy: an entry of 1,000 rows is some 100 kB."""
        if self.entry is None:
            return None
        return memoryview(self.entry)[len(stamp_of(self.tokens)) :]

    @property
    def busy(self) -> bool:
        """Whether a writer is under way: ask the database, as no fill will be accepted."""
        return any(token.startswith(MARKER) for token in self.tokens)


def new_token() -> bytes:
    """Return a token that was never used before: 64 random bits."""
    return secrets.token_hex(8).encode()


def token_key(tag: str) -> str:
    """Return the key of a tag's token."""
    return f"token:{tag}"


def lease_key(key: str) -> str:
    """Return the key of an entry's lease."""
    return f"lease:{key}"


@lru_cache(maxsize=4_096)
def _keys(key: str, *tags: str) -> tuple[str, ...]:
    """Return the keys of an entry, of its lease, and of each tag's token."""
    return (key, lease_key(key), *map(token_key, tags))


def token_keys(*tags: str) -> tuple[str, ...]:
    """Return the keys of these tags' tokens."""
    return tuple(map(token_key, tags))


def look(client: redis.Redis, key: str, *tags: str) -> Lookup:
    """Read an entry, its tags' tokens, and who holds its lease: one command."""
    found: Any = client.mget(*_keys(key, *tags))
    return _lookup(found)


def look_closely(client: redis.Redis, key: str, *tags: str) -> tuple[Lookup, int, str]:
    """Read as `look` does; give the entry's PTTL too, and which server has it, if that is known.

    It takes one round trip; in a Cluster two, where there is an entry.
    """
    at_once: Any = getattr(client, "mget_and_pttl", None)
    if at_once is not None:
        values, left, run_id = at_once(*_keys(key, *tags))
        return _lookup(values), left, run_id
    found = look(client, key, *tags)
    left = -2 if found.entry is None else client.pttl(key)
    return found, left, ""


def lookup(client: redis.Redis, key: str, *tags: str) -> Lookup:
    """Read an entry and its tags' tokens: one command, and another where a token has to be made."""
    found = look(client, key, *tags)
    return take(client, key, 0, *tags) if b"" in found.tokens or found.busy else found


def take(
    client: redis.Redis,
    key: str,
    lease_ms: int,
    *tags: str,
    note: tuple[str, bytes] | None = None,
) -> Lookup:
    """Read as `look` does, make the tokens that are missing, and take the lease: one command.

    Nobody gets a lease while a writer is under way.

    Args:
        client: the Redis client.
        key: the entry's key.
        lease_ms: how long the lease lasts, in milliseconds, if it is not given back; 0 if it is
            not wanted.
        tags: the entry's tags.
        note: a key, and what to keep under it for a day.
    """
    holder = b"lease:" + new_token()
    keys = [*_keys(key, *tags)]
    arguments: list[bytes | int] = [holder, lease_ms, *(new_token() for _ in tags)]
    if note is not None:
        keys.append(note[0])
        arguments.append(note[1])
    found: Any = client.eval(TAKE, len(keys), *keys, len(tags), *arguments)
    taken = _lookup(found)
    if taken.busy:
        taken = taken._replace(why="a writer is under way")
    return taken._replace(ours=taken.holder.startswith(holder))


def _lookup(found: list[bytes | None]) -> Lookup:
    entry, holder, *read = found
    if None in read or b"" in read:
        return Lookup(None, tuple([token or b"" for token in read]), holder or b"")
    tokens: Any = tuple(read)
    if entry is None or not entry.startswith(stamp_of(tokens)):
        return Lookup(None, tokens, holder or b"")
    return Lookup(entry, tokens, holder or b"")


def stamp_of(tokens: tuple[bytes, ...]) -> bytes:
    """Return what stands in front of an entry's value."""
    return b" ".join(tokens) + b"\n"


def fill(
    client: redis.Redis, key: str, value: bytes, ttl: float, found: Lookup, *tags: str
) -> bool:
    """Store an entry, if no tag was written to since the look; return whether it was stored.

    If the look has taken the lease, it is given back, and nothing is stored without it.

    Args:
        client: the Redis client.
        key: the entry's key.
        value: what the database gave, asked after the look.
        ttl: the entry's time to live, in seconds.
        found: what the look gave for these tags.
        tags: the entry's tags, as they were looked up.
    """
    keys = [key, *map(token_key, tags)]
    read = list(found.tokens)
    if found.ours:
        keys.append(lease_key(key))
        read.append(found.holder)
    arguments: list[bytes | int] = [stamp_of(found.tokens) + value, int(1000 * ttl), *read]
    return bool(client.eval(FILL, len(keys), *keys, *arguments))


def release(client: redis.Redis, key: str, found: Lookup) -> None:
    """Give a lease back without a fill, if the look has taken it and it is still ours."""
    if found.ours:
        client.eval(RELEASE, 1, lease_key(key), found.holder)


def forget(client: redis.Redis, key: str, lease_ms: int) -> None:
    """Remove an entry, and let nobody fill it who has its lease: one command.

    Args:
        client: the Redis client.
        key: the entry's key.
        lease_ms: how long a lease lasts, in milliseconds.
    """
    keys = key, lease_key(key)
    check(client.eval(FORGET, 2, *keys, b"forgotten:" + new_token(), lease_ms), 1)


def drop(client: redis.Redis, key: str) -> None:
    """Remove an entry that cannot be read."""
    client.delete(key)


def mark(client: redis.Redis, writer: str, *tags: str, deadline_ms: int = 60_000) -> None:
    """Say before a commit that a writer is under way: one command, whatever the number of tags.

    Args:
        client: the Redis client.
        writer: a name of its own for each transaction, of letters and digits, such as a token.
        tags: what it writes to.
        deadline_ms: how long the marker counts, in milliseconds, if nobody ends it: longer than
            any transaction takes.

    Raises:
        ValueError: a name with other characters, no time at all, or more than an hour.
    """
    if not (writer.isascii() and writer.isalnum()):
        raise ValueError(f"a writer's name has letters and digits only, not {writer!r}.")
    if deadline_ms < 1:
        raise ValueError(f"a marker counts for a millisecond at least, not {deadline_ms}.")
    if deadline_ms > LONGEST_MS:
        raise ValueError(f"a marker counts for an hour at most, not {deadline_ms} ms.")
    _mark(client, writer, tags, deadline_ms)


def invalidate(client: redis.Redis, *tags: str, writer: str = "") -> None:
    """Make every entry of these tags count no more: one command, however many there are.

    Args:
        client: the Redis client.
        tags: what was written to.
        writer: who has ended, if it was marked. Where other writers are marked, the tag gets its
            new token from the last of them.
    """
    _mark(client, writer, tags, 0)


def invalidation(*tags: str, writer: str = "") -> tuple[Any, ...]:
    """Return the command that `invalidate` sends. `check` its answer."""
    return _marking(writer, tags, 0)


def _mark(client: redis.Redis, writer: str, tags: tuple[str, ...], deadline_ms: int) -> None:
    if tags:
        _, *arguments = _marking(writer, tags, deadline_ms)
        answer: Any = client.eval(*arguments)
        check(answer, len(tags))


def _marking(writer: str, tags: tuple[str, ...], deadline_ms: int) -> tuple[Any, ...]:
    new = (new_token() for _ in tags)
    return "EVAL", MARK, len(tags), *map(token_key, tags), writer, deadline_ms, *new


def check(answer: object, expected: int) -> None:
    """Refuse an answer that is not the script's: nobody knows then whether it has run.

    Raises:
        InvalidResponse: it is another one.
    """
    if type(answer) is not int or answer != expected:
        raise redis.exceptions.InvalidResponse(f"no answer to EVAL: {answer!r:.60}")
