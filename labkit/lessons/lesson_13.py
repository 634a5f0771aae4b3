"""Exercises of lesson 13, Production."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises import Exercise, Wrong, call
from labkit.lessons.replies import unlike

NAME, ADDRESS, PASSWORD, OTHER = "name", "address", "password", "other"
# What redis-py says, on Linux and on macOS, and which mistake it is.
SAID = (
    ("Error 111 connecting to localhost:6379. Connection refused.", ADDRESS),
    ("Error -2 connecting to redis:6379. Name or service not known.", NAME),
    ("invalid username-password pair or user is disabled.", PASSWORD),
    ("Authentication required.", PASSWORD),
    (
        "HELLO must be called with the client already authenticated, otherwise the HELLO AUTH "
        "<user> <pass> option can be used to authenticate the client",
        PASSWORD,
    ),
    ("Error 61 connecting to 127.0.0.1:6380. Connection refused.", ADDRESS),
    ("Error 8 connecting to redis:6379. nodename nor servname provided, or not known.", NAME),
    ("Error -3 connecting to cache.internal:6379. Temporary failure in name resolution.", NAME),
    ("Error 111 connecting to name-server:6379. Connection refused.", ADDRESS),
    ("Error 111 connecting to password-store:6379. Connection refused.", ADDRESS),
    ("Error -2 connecting to auth:6379. Name or service not known.", NAME),
    ("Error -5 connecting to rediss:6379. No address associated with hostname.", NAME),
    ("Timeout reading from socket", OTHER),
    ("Connection closed by server.", OTHER),
    ("OOM command not allowed when used memory > 'maxmemory'.", OTHER),
)


def _examine_mistake(answer: Any) -> None:
    for said, expected in SAID:
        got = call(answer, said)
        if got not in (NAME, ADDRESS, PASSWORD, OTHER):
            raise Wrong(
                f"({said!r}) gave {got!r}, which is none of 'name', 'address', 'password', 'other'."
                f"{unlike(got, NAME)}"
            )
        if got == expected:
            continue
        nudge = ""
        if expected == ADDRESS and got in said:
            nudge = " What the host is called says nothing of what is wrong with it."
        elif expected == ADDRESS:
            nudge = " The name had an address. Read the last words: nobody listens there."
        elif expected == NAME and got == ADDRESS:
            nudge = " Nobody was asked for a connection: the name had no address."
        elif expected == NAME and got in (PASSWORD, OTHER):
            nudge = " Its name could not be resolved, on whatever system, in whatever words."
        elif expected == PASSWORD:
            nudge = " There was a connection, and what it says is of users and passwords."
        elif expected == OTHER:
            nudge = " None of the three mistakes: say so."
        raise Wrong(f"({said!r}) gave {got!r}, and it is {expected!r}.{nudge}")


def mistake(said):  # type: ignore[no-untyped-def]  # shown as it stands
    if " connecting to " in said:
        return "address" if said.endswith("Connection refused.") else "name"
    if "password" in said or "authenticat" in said.lower():
        return "password"
    return "other"


def _examine_may_ask(answer: Any) -> None:
    cases = (  # now, the last error, the last try since, the pause; and what is right
        (10.0, None, None, 1.0, True, "Redis has answered the last time"),
        (10.2, 10.0, None, 1.0, False, "the error was 0.2 s ago"),
        (11.5, 10.0, None, 1.0, True, "the pause is over, and nobody has tried"),
        (11.6, 10.0, 11.5, 1.0, False, "somebody has been sent to try, 0.1 s ago"),
        (12.6, 10.0, 11.5, 1.0, True, "whoever was sent has not come back: send another one"),
        (11.0, 10.0, None, 1.0, True, "the pause is over just now"),
        (0.5, 0.0, None, 1.0, False, "an error at 0 is an error"),
        (14.0, 10.0, None, 5.0, False, "the pause is 5 s"),
        (15.5, 10.0, 15.0, 5.0, False, "somebody has been sent to try, 0.5 s ago"),
    )
    for now, failed, tried, pause, expected, why in cases:
        got = call(answer, now, failed, tried, pause)
        if not isinstance(got, bool):
            raise Wrong(f"({now}, {failed}, {tried}, {pause}) gave {got!r}: True or False, please.")
        if got is not expected:
            raise Wrong(f"({now}, {failed}, {tried}, {pause}) gave {got}: {why}.")


def may_ask(now, failed, tried, pause):  # type: ignore[no-untyped-def]  # shown as it stands
    if failed is None:
        return True
    last = failed if tried is None else tried
    return now - last >= pause


KEYS = {"shop:1": 60, "token:shop:users": None}
GOOD = {"maxmemory": 2**28, "policy": "volatile-lfu", "keys": KEYS}


def _examine_to_mend(answer: Any) -> None:
    cases: tuple[tuple[dict[str, Any], set[str], str], ...] = (
        ({}, set(), "all is well. Tokens have no TTL: they are not entries"),
        ({"maxmemory": 0}, {"maxmemory"}, "0 is no limit"),
        ({"policy": "noeviction"}, {"policy"}, "once memory is full, each write fails"),
        ({"policy": "allkeys-lru"}, {"policy"}, "it evicts tokens, which have no TTL"),
        ({"policy": "volatile-ttl"}, set(), "it evicts entries alone, and they have TTLs"),
        ({"policy": "volatile-lru"}, set(), "it evicts entries alone, and they have TTLs"),
        ({"keys": {"shop:1": 60, "shop:2": None}}, {"TTL"}, "shop:2 is there for ever"),
        ({"keys": {"shop:1": None, "shop:2": 9}}, {"TTL"}, "shop:1 is there for ever"),
        ({"keys": {}}, set(), "nothing is stored"),
        ({"keys": {"tokenised": None}}, {"TTL"}, "a token's key begins with 'token:'"),
        ({"maxmemory": 0, "policy": "noeviction", "keys": {"a": None}},
         {"maxmemory", "policy", "TTL"}, "all three are to be mended"),
    )  # fmt: skip
    for change, expected, why in cases:
        server = {**GOOD, **change}
        got = call(answer, dict(server))
        if isinstance(got, str | bytes) or not hasattr(got, "__iter__"):
            raise Wrong(f"({server}) gave {got!r}: a set of names, please.")
        if set(got) != expected:
            shown = ", ".join(sorted(expected)) or "nothing"
            raise Wrong(f"({server}) gave {set(got) or '{}'}, and to mend is {shown}: {why}.")


def to_mend(server):  # type: ignore[no-untyped-def]  # shown as it stands
    found = set()
    if server["maxmemory"] == 0:
        found.add("maxmemory")
    if not server["policy"].startswith("volatile-"):
        found.add("policy")
    entries = {key: ttl for key, ttl in server["keys"].items() if not key.startswith("token:")}
    if None in entries.values():
        found.add("TTL")
    return found


EXERCISES = {
    "13.1": Exercise(
        ask="Write mistake(said): which mistake an error of redis-py tells of.",
        examine=_examine_mistake,
        praise="you read what happened, and not what the host is called.",
        hints=(
            "Errors of the first two kinds have `connecting to` in them. Those of a password have "
            "not: there was a connection.",
            "`Connection refused.` at the end: the name had an address, and nobody listens there.",
            "All others with `connecting to` in this exercise are of names.",
        ),
        solution=mistake,
    ),
    "13.2": Exercise(
        ask="Write may_ask(now, failed, tried, pause): whether a request may ask Redis.",
        examine=_examine_may_ask,
        praise="one in a pause finds out, and all others go to the database at once.",
        hints=(
            "If there was no error since Redis last answered, failed is None.",
            "What counts is the last time that somebody has bothered Redis: the try, if there was "
            "one since the error, else the error.",
        ),
        solution=may_ask,
    ),
    "13.3": Exercise(
        ask="Write to_mend(server): what is to be mended, as a set of names.",
        examine=_examine_to_mend,
        praise="a checklist that a machine goes through forgets no line.",
        hints=(
            "Three questions that are independent: begin with an empty set, and add.",
            "A policy that begins with volatile- evicts what has a TTL, and nothing else.",
            "Leave out the keys that begin with token: before you look at the TTLs.",
        ),
        solution=to_mend,
    ),
}
