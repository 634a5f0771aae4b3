"""Wrong answers to the exercises of lesson 13: exercise, answer, words of its message."""

from __future__ import annotations

import re
from typing import Any


def by_any_word(said: str) -> str:
    for word in ("password", "name"):
        if word in said.lower():
            return word
    return "address" if "refused" in said else "password" if "uth" in said else "name"


def all_are_addresses(said: str) -> str:
    if " connecting to " not in said:
        return "password" if "password" in said or "uth" in said else "other"
    return "address"


def by_the_numbers_of_linux(said: str) -> str:
    if said.startswith("Error 111"):
        return "address"
    if said.startswith("Error -2"):
        return "name"
    return "password" if "password" in said or "uth" in said else "other"


def without_its_full_stop(said: str) -> str:
    return "address" if said.endswith("refused") else "other"


def always_something(said: str) -> str:
    if "refused" in said:
        return "address"
    return "name" if "connecting to" in said else "password"


def all_but_who_gave_none(said: str) -> str:
    if "connecting to" in said:
        return "address" if "refused" in said else "name"
    return "password" if "password" in said else "other"


def everybody_tries(now: float, failed: Any, tried: Any, pause: float) -> bool:
    return failed is None or now - failed >= pause


def only_one_ever(now: float, failed: Any, tried: Any, pause: float) -> bool:
    return failed is None or (tried is None and now - failed >= pause)


def later_than_the_pause(now: float, failed: Any, tried: Any, pause: float) -> bool:
    return failed is None or now - (failed if tried is None else tried) > pause


def not_at_zero(now: float, failed: Any, tried: Any, pause: float) -> bool:
    return not failed or now - (failed if tried is None else tried) >= pause


def for_a_second(now: float, failed: Any, tried: Any, pause: float) -> bool:
    return failed is None or now - (failed if tried is None else tried) >= 1


def mends(server: Any, tokens: str = "token:", good: tuple[str, ...] = ("volatile-",)) -> set[str]:
    found = {"maxmemory"} if not server["maxmemory"] else set()
    if not server["policy"].startswith(good):
        found.add("policy")
    keys = server["keys"].items()
    if any(ttl is None for key, ttl in keys if not (tokens and key.startswith(tokens))):
        found.add("TTL")
    return found


def stops_at_the_first(server: Any) -> set[str]:
    return set(sorted(mends(server))[:1])


def only_if_all_are_without(server: Any) -> set[str]:
    found = mends(server) - {"TTL"}
    ttls = [ttl for key, ttl in server["keys"].items() if not key.startswith("token:")]
    return found | ({"TTL"} if ttls and not any(ttls) else set())


WRONG: list[tuple[str, Any, str]] = [
    ("13.1", by_any_word, "What the host is called says nothing"),
    ("13.1", all_are_addresses, "the name had no address"),
    ("13.1", by_the_numbers_of_linux, "('Error 61 connecting to 127.0.0.1:6380."),
    ("13.1", without_its_full_stop, "Read the last words"),
    ("13.1", always_something, "None of the three mistakes"),
    ("13.1", all_but_who_gave_none, "There was a connection"),
    ("13.1", lambda said: "wrong address", "none of 'name', 'address'"),
    ("13.1", lambda said: b"name", "These are bytes, and text is asked for"),
    ("13.1", lambda said: None, "end with `return`"),
    ("13.2", everybody_tries, "somebody has been sent to try, 0.1 s ago"),
    ("13.2", only_one_ever, "has not come back: send another one"),
    ("13.2", later_than_the_pause, "the pause is over just now"),
    ("13.2", not_at_zero, "an error at 0 is an error"),
    ("13.2", for_a_second, "the pause is 5 s"),
    ("13.2", lambda now, failed, tried, pause: True, "the error was 0.2 s ago"),
    ("13.2", lambda now, failed, tried, pause: failed is None, "nobody has tried"),
    ("13.2", lambda now, failed, tried, pause: now, "True or False, please"),
    ("13.3", lambda server: mends(server, tokens=""), "Tokens have no TTL: they are not entries"),
    ("13.3", lambda server: mends(server, tokens="token"), "begins with 'token:'"),
    ("13.3", lambda server: mends(server, good=("volatile-", "allkeys-")), "it evicts tokens"),
    ("13.3", lambda server: mends(server, good=("volatile-lfu",)), "it evicts entries alone"),
    ("13.3", lambda server: mends(server) - {"maxmemory"}, "0 is no limit"),
    ("13.3", stops_at_the_first, "all three are to be mended"),
    ("13.3", only_if_all_are_without, "shop:2 is there for ever"),
    ("13.3", lambda server: "maxmemory", "a set of names, please"),
]


def by_pattern(said: str) -> str:
    found = re.search(r"^Error -?\d+ connecting to \S+\. (.*)", said)
    if found:
        return "address" if "refused" in found[1] else "name"
    return "password" if re.search("auth|password", said, re.IGNORECASE) else "other"


RIGHT: list[tuple[str, Any]] = [
    ("13.1", by_pattern),
    ("13.2", lambda now, failed, tried, pause: failed is None or now >= (tried or failed) + pause),
    ("13.3", mends),
    ("13.3", lambda server: sorted(mends(server))),
]
