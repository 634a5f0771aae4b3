"""Exercises of lesson 08, Lua invalidation."""

from __future__ import annotations

from typing import Any

import redis
from redis.crc import key_slot

from labkit.lessons.exercises import Exercise, Wrong, call
from labkit.lessons.lesson_02 import scratch_redis
from labkit.lessons.replies import unlike

MOST = 1000  # keys a command
# What there is in a command beside the entries' keys. A script is told both SETs, too.
BESIDE_KEYS = {"SADD": 2, "SREM": 2, "SMISMEMBER": 2, "EVAL": 5, "EVALSHA": 5}
PREFIXES = ["user:1:", "a*b", "a?b", "[ab]", "a\\b", "a\\*", "", "^-"]


def _examine_pattern(answer: Any) -> None:
    for prefix in PREFIXES:
        shown = f"({prefix!r})"
        got = call(answer, prefix, shown=shown)
        if not isinstance(got, str):
            raise Wrong(f"called with {shown}, it gave {got!r}, which is no text.{unlike(got, '')}")
        with scratch_redis() as client:
            right = {prefix + end for end in ("", "1", "*", "\\")} - {""}
            others = {"user:10:x", "axb", "ab", "a", "b:" + prefix + "1", "a\\\\b", "^"}
            others = {key for key in others if not key.startswith(prefix)}
            client.mset(dict.fromkeys(right | others, "x"))
            found = {key.decode() for key in client.scan_iter(got)}
        if missed := right - found:
            raise Wrong(
                f"called with {shown}, it gave {got!r}, which does not match {min(missed)!r}."
            )
        if others & found:
            raise Wrong(
                f"called with {shown}, it gave {got!r}, which matches {min(others & found)!r} too."
            )


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
        keys = len(args) - BESIDE_KEYS.get(args[0], 1)
        if keys > MOST:
            self.too_long = f"a {args[0]} of {keys:,} keys: no more than 1,000 a command."


def _examine_remove_both(answer: Any) -> None:
    shown = "(redis, 'users', 'reports')"
    sets = ("tagged:users", "tagged:reports")
    with scratch_redis() as client:
        noting = _Noting(connection_pool=client.connection_pool)
        both, one = {"shop:1", "shop:2"}, {"shop:user", "shop:report"}
        client.mset(dict.fromkeys([*both, *one, "users:reports:other"], "x"))
        client.sadd(sets[0], *both, "shop:expired", "shop:user")
        client.sadd(sets[1], *both, "shop:expired", "shop:report")
        got = call(answer, noting, "users", "reports", shown=shown)
        if left := client.exists(*both):
            raise Wrong(f"{left} of the 2 entries that have both tags are still there.")
        if client.exists(*one, "users:reports:other") != 3:
            raise Wrong("it removed an entry that does not have both tags.")
        named = [client.smembers(name) for name in sets]
        if {b"shop:user"} - named[0] or {b"shop:report"} - named[1]:
            raise Wrong("an entry that has one tag is in no SET any more: nobody would find it.")
        if len(named[0] | named[1]) > 2:
            raise Wrong("a SET still names a key that was in both SETs: it would grow for ever.")
        if got != 2 or isinstance(got, bool):
            raise Wrong(
                f"3 keys are in both SETs, of which 1 has expired, and it gave {got!r}, not 2."
            )
        got = call(
            answer, noting, "users", "reports", shown=f"{shown} while no entry has both tags"
        )
        if got != 0 or isinstance(got, bool):
            raise Wrong(f"no entry has both tags any more, and it gave {got!r}, not 0.")
        _examine_many(answer, noting, sets, shown)


def _examine_many(answer: Any, client: _Noting, sets: tuple[str, str], shown: str) -> None:
    keys = [f"shop:many:{number}" for number in range(2500)]
    client.mset(dict.fromkeys(keys, "x"))
    for name in sets:
        for first in range(0, 2500, 500):
            client.sadd(name, *keys[first : first + 500])
    client.too_long = ""
    got = call(answer, client, "users", "reports", shown=shown)
    if client.too_long:
        raise Wrong(client.too_long)
    left = client.exists(*keys)
    if got != 2500 or left:
        raise Wrong(f"of 2,500 entries {left:,} are left, and it gave {got!r}.")
    names = {name for each in sets for name in client.sscan_iter(each)}
    if named := len(names & {key.encode() for key in keys}):
        raise Wrong(f"of 2,500 entries all are gone, and the SETs still name {named:,} of them.")


def remove_both(redis, one, other):  # type: ignore[no-untyped-def]  # shown as it stands
    sets = [f"tagged:{one}", f"tagged:{other}"]
    keys, removed = list(redis.sinter(sets)), 0
    for first in range(0, len(keys), 1000):
        batch = keys[first : first + 1000]
        for name in sets:
            redis.srem(name, *batch)
        removed += redis.unlink(*batch)
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
                raise Wrong(
                    f"called with {shown}, it gave {key!r}, which is no text.{unlike(key, '')}"
                )
            if key in made:
                raise Wrong(f"{shown} and {made[key]} have the same key, {key!r}.")
            made[key] = (tag, name)
            slot = key_slot(key.encode())
            if slots.setdefault(tag, slot) != slot:
                raise Wrong(
                    f"called with {shown}, it gave {key!r}: another slot than ({tag!r}, '1') has."
                )
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
        ask="Write remove_both(redis, one, other): remove the entries that have both tags.",
        examine=_examine_remove_both,
        praise="what has both is gone, and what has one can still be found.",
        hints=(
            "redis.sinter([a, b]) gives the members that are in both SETs.",
            "UNLINK and DEL return how many keys there were to remove.",
            "Take each removed key out of both SETs, with SREM. The SETs themselves stay.",
        ),
        solution=remove_both,
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
