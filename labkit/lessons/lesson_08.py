"""Exercises of lesson 08, Lua invalidation."""

from __future__ import annotations

from typing import Any

import redis
from redis.crc import key_slot

from labkit.lessons.exercises import Exercise, Wrong, call
from labkit.lessons.lesson_02 import scratch_redis
from labkit.lessons.replies import unlike

MOST = 1000  # keys a command
PREFIXES = ["user:1:", "a*b", "a?b", "[ab]", "a\\b", "a\\*", "", "^-"]


def _examine_pattern(answer: Any) -> None:
    for prefix in PREFIXES:
        shown = f"({prefix!r})"
        got = call(answer, prefix, shown=shown)
        if not isinstance(got, str):
            raise Wrong(f"{shown}, it gave {got!r}, which is no text.{unlike(got, '')}")
        with scratch_redis() as client:
            right = {prefix + end for end in ("", "1", "*", "\\")} - {""}
            others = {"user:10:x", "axb", "ab", "a", "b:" + prefix + "1", "a\\\\b", "^"}
            others = {key for key in others if not key.startswith(prefix)}
            client.mset(dict.fromkeys(right | others, "x"))
            found = {key.decode() for key in client.scan_iter(got)}
        if missed := right - found:
            raise Wrong(f"{shown}, it gave {got!r}, which does not match {min(missed)!r}.")
        if others & found:
            raise Wrong(f"{shown}, it gave {got!r}, which matches {min(others & found)!r} too.")


def pattern(prefix):  # type: ignore[no-untyped-def]  # shown as it stands
    for special in "\\*?[]":  # the backslash first: the others bring theirs along
        prefix = prefix.replace(special, "\\" + special)
    return prefix + "*"


class _Noting(redis.Redis):
    """A client that notes a command with too many keys."""

    too_long = ""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command."""
        self._note(args)
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, *args: Any, **options: Any) -> Any:
        """Return a pipeline that notes its commands too."""
        pipeline = super().pipeline(*args, **options)
        send = pipeline.execute_command

        def note_and_send(*args: Any, **options: Any) -> Any:
            self._note(args)
            return send(*args, **options)  # type: ignore[no-untyped-call]

        pipeline.execute_command = note_and_send  # type: ignore[method-assign]
        return pipeline

    def _note(self, args: tuple[Any, ...]) -> None:
        if len(args) > MOST + 1:
            self.too_long = f"a {args[0]} of {len(args) - 1:,} keys: no more than 1,000 a command."


def _examine_remove_tagged(answer: Any) -> None:
    shown = "(redis, 'users')"
    with scratch_redis() as client:
        noting = _Noting(connection_pool=client.connection_pool)
        client.mset({"users:other": "x", "tagged:other": "x", "shop:1": "x", "shop:2": "x"})
        client.sadd("tagged:users", "shop:1", "shop:2", "shop:expired")
        got = call(answer, noting, "users", shown=shown)
        if left := client.exists("shop:1", "shop:2"):
            raise Wrong(f"{left} of the tag's 2 entries are still there.")
        if client.exists("users:other", "tagged:other") != 2:
            raise Wrong("it removed a key that is not in the tag's SET.")
        if client.exists("tagged:users"):
            raise Wrong("the SET is still there: it would grow for ever.")
        if got != 2 or isinstance(got, bool):
            raise Wrong(f"the SET had 3 keys, of which 1 had expired, and it gave {got!r}, not 2.")
        got = call(answer, noting, "users", shown=shown)
        if got != 0 or isinstance(got, bool):
            raise Wrong(f"the tag has no entries any more, and it gave {got!r}, not 0.")
        keys = [f"shop:{number}" for number in range(2500)]
        client.mset(dict.fromkeys(keys, "x"))
        for first in range(0, 2500, 500):
            client.sadd("tagged:users", *keys[first : first + 500])
        got = call(answer, noting, "users", shown=shown)
        if noting.too_long:
            raise Wrong(noting.too_long)
        if got != 2500 or client.exists(*keys):
            raise Wrong(f"of 2,500 entries {client.exists(*keys):,} are left, and it gave {got!r}.")


def remove_tagged(redis, tag):  # type: ignore[no-untyped-def]  # shown as it stands
    removed = 0
    while keys := redis.spop(f"tagged:{tag}", 1000):
        removed += redis.unlink(*keys)
    return removed


def _examine_cluster_key(answer: Any) -> None:
    names = ["1", "2", "orders:1", "", "{", "}", "{x}", "a}{b"]
    made: dict[Any, tuple[str, str]] = {}
    slots: dict[str, int] = {}
    for tag in ("users", "orders", "lines", "products"):
        for name in names:
            shown = f"({tag!r}, {name!r})"
            key = call(answer, tag, name, shown=shown)
            if not isinstance(key, str):
                raise Wrong(f"{shown}, it gave {key!r}, which is no text.{unlike(key, '')}")
            if key in made:
                raise Wrong(f"{shown} and {made[key]} have the same key, {key!r}.")
            made[key] = (tag, name)
            slot = key_slot(key.encode())
            if slots.setdefault(tag, slot) != slot:
                raise Wrong(f"{shown}, it gave {key!r}: another slot than ({tag!r}, '1') has.")
    if len(set(slots.values())) == 1:
        raise Wrong("all tags are in one slot, so one server has all the work.")


def cluster_key(tag, name):  # type: ignore[no-untyped-def]  # shown as it stands
    return f"{{{tag}}}:{name}"


EXERCISES = {
    "08.1": Exercise(
        ask="Write pattern(prefix): it matches the keys that begin with prefix, and no others.",
        examine=_examine_pattern,
        praise="what is meant as it stands is matched as it stands.",
        hints=(
            "In a pattern, a backslash takes its meaning from the character behind it.",
            "The backslash needs one too.",
            "Put one before the backslashes first, or you will double those that you have added.",
        ),
        solution=pattern,
    ),
    "08.2": Exercise(
        ask="Write remove_tagged(redis, tag): remove the entries that the tag's SET names.",
        examine=_examine_remove_tagged,
        praise="a thousand at a time, and nothing else.",
        hints=(
            "UNLINK and DEL return how many keys there were to remove.",
            "redis.spop(key, 1000) takes up to a thousand members out of a SET.",
            "A SET without members does not exist.",
        ),
        solution=remove_tagged,
    ),
    "08.3": Exercise(
        ask="Write cluster_key(tag, name): one slot a tag, one key a pair.",
        examine=_examine_cluster_key,
        praise="each tag has its slot, and each pair its key.",
        hints=(
            "Only what is between the first { and the next } is digested.",
            "Put the tag in braces, in front: a name may have braces of its own.",
        ),
        solution=cluster_key,
    ),
}
