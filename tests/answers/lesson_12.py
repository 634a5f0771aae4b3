"""Wrong answers to the exercises of lesson 12: exercise, answer, words of its message."""

from __future__ import annotations

import base64
import hashlib
import math
import zlib
from fractions import Fraction
from typing import Any
from urllib.parse import quote


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def digest_of_the_long(key: str) -> str:
    is_plain = key.isascii() and key.isprintable() and " " not in key
    return key if is_plain and 0 < len(key) <= 250 else digest(key)


def replacing_spaces(key: str) -> str:
    return "".join(each if each.isalnum() and each.isascii() else "_" for each in key)[:250] or "_"


def of_the_beginning(key: str) -> str:
    return digest(key[:200])


def of_lower_case(key: str) -> str:
    return digest(key.lower())


def with_its_number(key: str, seen: list[str] = []) -> str:  # noqa: B006  (that is the mistake)
    seen.append(key)
    return f"key:{len(seen)}"


def read_and_write(cache: Any, key: str) -> Any:
    visits = (cache.get(key) or 0) + 1
    cache.set(key, visits)
    return visits


def set_first(cache: Any, key: str) -> Any:
    if cache.get(key) is None:
        cache.set(key, 0)
    return cache.increment(key)


def one_where_there_is_none(cache: Any, key: str) -> Any:
    if cache.add(key, 1):
        return 1
    return cache.get(key)


def from_zero(cache: Any, key: str) -> Any:
    cache.set(key, 0)
    return cache.increment(key)


def twice(cache: Any, key: str) -> Any:
    cache.add(key, 1)
    return cache.increment(key)


def one_less(cache: Any, key: str) -> Any:
    cache.add(key, 0)
    return cache.increment(key) - 1


def whether_new(cache: Any, key: str) -> Any:
    new = cache.add(key, 0)
    cache.increment(key)
    return new


WRONG: list[tuple[str, Any, str]] = [
    ("12.1", lambda key: key, "with a space or a control character"),
    ("12.1", lambda key: key.replace(" ", "_").replace("\n", "_"), "have the same key"),
    ("12.1", replacing_spaces, "have the same key"),
    ("12.1", lambda key: quote(key, safe="") or "-", "more than 250"),
    ("12.1", lambda key: base64.b64encode(b"-" + key.encode()).decode(), "more than 250"),
    ("12.1", lambda key: quote(key, safe=""), "an empty key"),
    ("12.1", lambda key: str(hash(key)), "another number in each process"),
    ("12.1", lambda key: hex(hash(key)), "another number in each process"),
    ("12.1", lambda key: f"k{hash(key) % 10**9}", "another key for an equal text"),
    ("12.1", lambda key: digest(str(hash(key))), "hash() and id() are other numbers"),
    ("12.1", lambda key: str(id(key)), "hash() and id() are other numbers"),
    ("12.1", lambda key: str(zlib.crc32(key.encode())), "('buckeroo') have the same key"),
    ("12.1", lambda key: hashlib.sha256(key.encode()).digest(), "is no text"),
    ("12.1", lambda key: key.encode(), "These are bytes, and text is asked for"),
    ("12.1", of_the_beginning, "have the same key"),
    ("12.1", of_lower_case, "'report:EU') and ('report:eu') have the same key"),
    ("12.1", digest_of_the_long, "a text that looks like a key of yours"),
    ("12.1", with_its_number, "another key for the same text"),
    ("12.1", lambda key: "k" + quote("".join(key.split()))[:240], "same key"),
    ("12.2", read_and_write, "another process counted one just before your set"),
    ("12.2", set_first, "another process counted one just before your set"),
    ("12.2", from_zero, "where 7 were counted: the cache says 1"),
    ("12.2", one_where_there_is_none, "where 7 were counted: the cache says 7, and there were 8"),
    ("12.2", twice, "where there is nothing: the cache says 2"),
    ("12.2", one_less, "it returned 7, and there were 8 visits"),
    ("12.2", whether_new, "it returned False"),
    ("12.2", lambda cache, key: 1, "did not ask the cache at all"),
    ("12.3", lambda writes, hits: writes * hits, "the share of the changes"),
    ("12.3", lambda writes, hits: writes / (1 - hits), "requests and changes together"),
    ("12.3", lambda writes, hits: writes * (1 - hits) / hits, "the other way round"),
    ("12.3", lambda writes, hits: 4, "With 1.2 requests and 0.3 changes a second, 80% of"),
    (
        "12.3",
        lambda writes, hits: math.ceil(writes * hits / (1 - hits)),
        "80% of the requests are hits.",
    ),
    ("12.3", lambda writes, hits: None, "end with `return`"),
]


def increment_or_add(cache: Any, key: str) -> Any:
    try:
        return cache.increment(key)
    except KeyError:
        return 1 if cache.add(key, 1) else cache.increment(key)


def all_quoted_or_all_digests(key: str) -> str:
    """Two forms that no text can have both of: a digest has no colon in front."""
    quoted = ":" + quote(key, safe="").replace("~", "%7E")
    return quoted if len(quoted) <= 250 else digest(key)


RIGHT: list[tuple[str, Any]] = [
    ("12.1", lambda key: "shop:" + hashlib.blake2b(key.encode()).hexdigest()),
    ("12.1", all_quoted_or_all_digests),
    ("12.2", increment_or_add),
    ("12.3", lambda writes, hits: hits * writes / (1 - hits)),
    ("12.3", lambda writes, hits: Fraction(writes) * Fraction(hits) / (1 - Fraction(hits))),
]
