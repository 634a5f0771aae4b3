"""Exercises of lesson 10, Statement keys."""

from __future__ import annotations

from collections import Counter
from typing import Any

from labkit.cache.statements import NotCacheable
from labkit.lessons.exercises import Exercise, Wrong, call, letters
from labkit.lessons.replies import unlike

REFUSED = {"b", "d", "f"}


def _examine_refused(answer: Any) -> None:
    named = letters(answer, "abcdef")
    if len(named) != len(REFUSED):
        raise Wrong(f"three are refused, and {len(named)} are named.")
    if named != REFUSED:  # which letter is wrong is not said: six tries would find them all
        raise Wrong(
            "three it is, and not these three. Which would answer otherwise though no row has "
            "changed, do more than read, or hold what cannot be looked into? Then try: "
            "statement_key raises NotCacheable."
        )


def _examine_cached(answer: Any) -> None:
    shown = "(cache, stats, key_of, statement, run)"
    for rows in ([{"id": 1}], []):
        cache: dict[Any, Any] = {}
        stats: Counter[str] = Counter()
        for turn, (statement, expected) in enumerate(
            [("users", "miss"), ("users", "hit"), ("now", "bypass"), ("now", "bypass")], start=1
        ):
            ran: list[str] = []
            before = Counter(stats)
            got = call(answer, cache, stats, _key_of, statement, _runner(ran, rows), shown=shown)
            if got != rows:
                raise Wrong(f"run gives {rows}, and call {turn} gave {got!r}.")
            counted = dict(stats - before)
            if counted != {expected: 1}:
                raise Wrong(
                    f"run gives {rows}: call {turn} is a {expected}, and it counted {counted}."
                )
            if len(ran) != (expected != "hit"):
                raise Wrong(f"call {turn} is a {expected}, and run was called {len(ran)} times.")
        if set(cache) != {"key of users"}:
            raise Wrong(
                f"one entry was to be stored, under its key, and there are {sorted(cache)}."
            )
    try:
        answer({}, Counter(), _failing_key, "users", _runner([], []))
    except ZeroDivisionError:
        return
    raise Wrong("key_of raised another error than NotCacheable, and it was kept quiet.")


def _key_of(statement: str) -> str:
    if statement == "now":
        raise NotCacheable("now() may give another result tomorrow")
    return f"key of {statement}"


def _failing_key(statement: str) -> str:
    raise ZeroDivisionError


def _runner(ran: list[str], rows: list[Any]) -> Any:
    def run(statement: str) -> list[Any]:
        ran.append(statement)
        return list(rows)

    return run


def cached(cache, stats, key_of, statement, run):  # type: ignore[no-untyped-def]  # shown as it is
    from labkit.cache.statements import NotCacheable

    try:
        key = key_of(statement)
    except NotCacheable:
        stats["bypass"] += 1
        return run(statement)
    if key in cache:
        stats["hit"] += 1
    else:
        stats["miss"] += 1
        cache[key] = run(statement)
    return cache[key]


VALUES = [
    1,
    "1",
    True,
    1.0,
    None,
    "None",
    b"1",
    "",
    b"",
    "b'1'",
    0,
    False,
    -0.0,
    0.0,
    "a, b",
    "True",
]


class Id(int):
    """Another type than `int`, which prints as it does."""


class Name(str):
    """Another type than `str`, which prints as it does."""

    __slots__ = ()


def _shown(params: dict[str, Any]) -> str:
    """Return parameters for people, with the types of those that print alike."""
    kinds = [type(value) for value in params.values() if isinstance(value, Id | Name)]
    words = [f" (of the class {kind.__name__}, which prints as its base does)" for kind in kinds]
    return f"{params}{''.join(words)}"


def _examine_parameters_text(answer: Any) -> None:
    questions: list[dict[str, Any]] = [{"a": value} for value in VALUES]
    questions += [{"b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": "1, 'b': 2"}, {}]
    questions += [{"a": "x', 'b': 'y"}, {"a": "x", "b": "y"}, {"a": "x|b=y"}, {"a=x|b": "y"}]
    _examine_texts(answer, questions)
    anew = "".join(["U", "S"])  # equal to the literal, and another object: pickle tells them apart
    for one, other, how in (
        ({"a": 1, "b": "x"}, {"b": "x", "a": 1}, "in another order"),
        ({"a": "US", "b": "US"}, {"a": "US", "b": anew}, "with a text that was built anew"),
    ):
        if call(answer, one) != call(answer, other):
            raise Wrong(f"the same parameters {how} have another text: {one}.")
    _examine_texts(answer, [*questions, *_forged(answer)])
    alike: list[dict[str, Any]] = [{"a": Id(1)}, {"a": Id(0)}, {"a": Name("1")}]
    _examine_texts(answer, [*questions, *(each for each in alike if not _refused(answer, each))])


def _forged(answer: Any) -> list[dict[str, Any]]:
    """Return parameters that look like two others if the answer writes a text as it stands."""
    both, last = {"a": "tea", "b": "cup"}, {"b": "cup"}
    text, ending = (str(call(answer, params)) for params in (both, last))
    between = text.partition("tea")[2].rpartition("cup")[0]
    return [both, last, {"a": f"tea{between}cup"}, {f"{text.removesuffix(ending)}b": "cup"}]


def _refused(answer: Any, params: dict[str, Any]) -> bool:
    try:
        answer(params)
    except TypeError:  # as `encode` of lesson 04 does with a type that it does not know
        return True
    except Exception:
        return False  # it is told by the call that examines
    return False


def _examine_texts(answer: Any, questions: list[dict[str, Any]]) -> None:
    texts: dict[str, dict[str, Any]] = {}
    for params in questions:
        text = call(answer, params, shown=f"({params})")
        if not isinstance(text, str):
            raise Wrong(f"of {params} it gave {text!r}, which is no text.{unlike(text, '')}")
        if (other := texts.setdefault(text, params)) is not params:
            raise Wrong(f"{_shown(other)} and {_shown(params)} have the same text, {text!r}.")


def parameters_text(params):  # type: ignore[no-untyped-def]  # shown as it stands
    return repr(sorted((name, type(value).__name__, repr(value)) for name, value in params.items()))


EXERCISES = {
    "10.1": Exercise(
        ask="Which of the six statements does statement_key refuse?",
        examine=_examine_refused,
        praise="what may change by itself, what locks, and what nobody can look into.",
        hints=(
            "Three of them.",
            "Which give another answer tomorrow, though no row has changed?",
        ),
        solution=REFUSED,
    ),
    "10.2": Exercise(
        ask="Write cached(cache, stats, key_of, statement, run): hit, miss or bypass, counted.",
        examine=_examine_cached,
        praise="what has no key is run and counted, and never stored.",
        hints=(
            "Only key_of raises NotCacheable. Put it alone into the try.",
            "An empty list is an answer: ask whether the key is in the cache, not what is there.",
        ),
        solution=cached,
    ),
    "10.3": Exercise(
        ask="Write parameters_text(params): equal for equal parameters, and only for those.",
        examine=_examine_parameters_text,
        praise="each value with its type, each name with its value, and all in order.",
        hints=(
            "sorted() gives the same order for the same names.",
            "repr quotes a text, so that no text can look like two.",
            "The repr of a list of tuples of (name, type's name, repr of the value) has it all.",
        ),
        solution=parameters_text,
    ),
}
