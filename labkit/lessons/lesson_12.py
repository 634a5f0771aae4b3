"""Exercises of lesson 12, Choosing a backend."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises import Exercise, Wrong, call, is_close
from labkit.lessons.replies import unlike

MEMCACHED_KEY = 250  # bytes
LONG = "report?" + "&".join(f"id={n}" for n in range(200))
TEXTS = (
    "report:EU", "report:eu", "report EU", "report_EU", "report\nEU", "report\tEU", "report%20EU",
    "reportEU", "report:Köln", "report:Koln", "report:東京", "report:??", "", " ",
    "plumless", "buckeroo",  # which have one CRC-32
    LONG, LONG + "&id=200", LONG + "&id=201", "x" * 250, "x" * 251, "é" * 125, "é" * 126,
)  # fmt: skip


def _examine_safe_key(answer: Any) -> None:
    made: dict[str, str] = {}  # the text of each key
    for text in TEXTS:
        key = _key(answer, text)
        if key in made:
            raise Wrong(f"{_shown(made[key])} and {_shown(text)} have the same key, {_short(key)}.")
        made[key] = text
    for text in sorted(made.keys() - set(TEXTS)):  # a text may look just like the key of another
        key = _key(answer, text)
        if key in made:
            raise Wrong(
                f"{_shown(made[key])} has the key {_short(key)}, and the text {_shown(text)} has "
                "it too: a text that looks like a key of yours. Make a digest of all texts, or "
                "begin those that are none in a way that no digest begins."
            )


def _key(answer: Any, text: str) -> str:
    key = call(answer, text, shown=_shown(text))
    _examine_key(text, key)
    if call(answer, text, shown=_shown(text)) != key:
        raise Wrong(f"{_shown(text)} gave {key!r}, and then another key for the same text.")
    if call(answer, _Elsewhere(text), shown=_shown(text)) != key:
        raise Wrong(
            f"{_shown(text)} gave {_short(key)}, and another key for an equal text, as it comes in "
            "another process: hash() and id() are other numbers there."
        )
    return str(key)


class _Elsewhere(str):
    """A text as it is in another process: another object, with another hash."""

    __slots__ = ()

    def __hash__(self) -> int:
        return ~super().__hash__()


def _examine_key(text: str, key: Any) -> None:
    if not isinstance(key, str):
        raise Wrong(f"{_shown(text)} gave {key!r}, which is no text.{unlike(key, text)}")
    if not key:
        raise Wrong(f"{_shown(text)} gave an empty key, and Memcached takes none.")
    number = abs(hash(text))  # 0 for the empty text, which is in many a key
    if number and (str(number) in key or f"{number:x}" in key):
        raise Wrong("hash() of a text is another number in each process: they would share nothing.")
    if not key.isascii():
        raise Wrong(f"{_shown(text)} gave {_short(key)}, which is not ASCII.")
    if any(character <= " " or character == "\x7f" for character in key):
        raise Wrong(f"{_shown(text)} gave {_short(key)}, with a space or a control character.")
    if len(key) > MEMCACHED_KEY:
        raise Wrong(f"{_shown(text)} gave a key of {len(key)} bytes, more than {MEMCACHED_KEY}.")


def _shown(text: str) -> str:
    return f"({_short(text)})"


def _short(text: str) -> str:
    return repr(text) if len(text) <= 70 else f"{text[:20]!r}... of {len(text)} letters"


def safe_key(key):  # type: ignore[no-untyped-def]  # shown as it stands
    import hashlib

    return hashlib.sha256(key.encode()).hexdigest()


class _Shared:
    """A cache as Memcached is, with another process that counts a visit of its own at a moment.

    Args:
        start: the number that is there at first, or None.
        moment: before which call the other one counts; 0 for never.

    Attributes:
        calls: what was called, in order.
        others: how many visits the other one has counted.
    """

    def __init__(self, start: int | None, moment: int) -> None:
        self._entries: dict[str, Any] = {} if start is None else {"visits": start}
        self._moment = moment
        self.calls: list[str] = []
        self.others = 0

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        if len(self.calls) == self._moment:
            self._entries["visits"] = self._entries.get("visits", 0) + 1
            self.others += 1

    def get(self, key: str) -> Any:
        self._begin("get")
        return self._entries.get(key)

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        self._begin("set")
        self._entries[key] = value

    def add(self, key: str, value: Any) -> bool:
        self._begin("add")
        if key in self._entries:
            return False
        self._entries[key] = value
        return True

    def increment(self, key: str) -> int:
        self._begin("increment")
        if key not in self._entries:
            raise KeyError(f"there is no {key!r} to increment")
        self._entries[key] += 1
        return int(self._entries[key])

    def delete(self, key: str) -> None:
        self._begin("delete")
        self._entries.pop(key, None)

    def left(self) -> Any:
        """The number that is there now."""
        return self._entries.get("visits")


def _examine_visit(answer: Any) -> None:
    for moment in range(6):
        for start in (7, None, 0, 12):
            cache = _Shared(start, moment)
            shown = f"(cache, 'visits'), where {_there(start)}"
            got = call(answer, cache, "visits", shown=shown)
            if not cache.calls:
                raise Wrong(f"{shown}: it did not ask the cache at all.")
            visits = (start or 0) + 1 + cache.others
            if cache.others:
                before = cache.calls[moment - 1]
                shown += f", and another process counted one just before your {before}"
            if cache.left() != visits:
                raise Wrong(f"{shown}: the cache says {cache.left()}, and there were {visits}.")
            if isinstance(got, bool) or got not in (visits, visits - cache.others):
                raise Wrong(f"{shown}: it returned {got!r}, and there were {visits} visits.")


def _there(start: int | None) -> str:
    return "there is nothing" if start is None else f"{start} were counted"


def visit(cache, key):  # type: ignore[no-untyped-def]  # shown as it stands
    cache.add(key, 0)
    return cache.increment(key)


def _examine_requests_needed(answer: Any) -> None:
    for writes, hits in [(0.3, 0.8), (1, 0.8), (2, 0.5), (0.1, 0.99), (5, 0), (0, 0.9), (10, 0.75)]:
        got = call(answer, writes, hits)
        expected = requests_needed(writes, hits)
        if is_close(got, expected):
            continue
        nudge = ""
        if is_close(got, writes * hits):
            nudge = " That is the share of the changes. Requests are to be a share of both."
        elif is_close(got, writes / (1 - hits)):
            nudge = " That is requests and changes together."
        elif expected and is_close(got, writes**2 / expected):
            nudge = " That is the other way round."
        raise Wrong(
            f"({writes}, {hits}) gave {got!r}. With {expected:g} requests and {writes:g} changes a "
            f"second, {hits:.0%} of the requests are hits.{nudge}"
        )


def requests_needed(writes: float, hits: float) -> float:
    return writes * hits / (1 - hits)


EXERCISES = {
    "12.1": Exercise(
        ask="Write safe_key(key): a key that Memcached takes, for any text.",
        examine=_examine_safe_key,
        praise="short, plain, the same everywhere, and one for each text.",
        hints=(
            "What is cut off or replaced makes two texts alike. What has a fixed length for any "
            "text, and yet differs?",
            "hashlib.sha256(...) takes bytes: encode() the text. hexdigest() is 64 letters.",
        ),
        solution=safe_key,
    ),
    "12.2": Exercise(
        ask="Write visit(cache, key): count a visit so that none is lost.",
        examine=_examine_visit,
        praise="whoever comes between your steps, each of them is whole.",
        hints=(
            "Whatever you read may be out of date when you write.",
            "increment does it in one step, if there is a number. add stores one if there is none.",
            "If add says that it stored nothing, somebody else has: that is just as well.",
        ),
        solution=visit,
    ),
    "12.3": Exercise(
        ask="Write requests_needed(writes, hits): the rate that gives this hit ratio.",
        examine=_examine_requests_needed,
        praise="four requests for each change give 80 % hits, however fast both are.",
        hints=(
            "Without a TTL, hits = requests / (requests + writes).",
            "Solve it for the requests: hits * (requests + writes) = requests.",
        ),
        solution=requests_needed,
    ),
}
