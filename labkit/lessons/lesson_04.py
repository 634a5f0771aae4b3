"""Exercises of lesson 04, Key collisions."""

from __future__ import annotations

import inspect
import itertools
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labkit.lessons.exercises import Exercise, Wrong, call
from labkit.lessons.replies import unlike

LONGEST_ALPHABET = 9  # tokens; all short lists of them are tried


def quoted(first: str, second: str) -> str:
    """Return the key that exercise 04.1 is about."""
    return f'"{first}","{second}"'


def _examine_collision(answer: Any) -> None:
    if not isinstance(answer, list | tuple) or len(answer) != 2:
        raise Wrong(f"the answer is a list of two pairs, and this is {answer!r}.")
    one, other = answer
    for pair in (one, other):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Wrong(f"{pair!r} is not a pair: two texts are asked for.")
        if not all(isinstance(text, str) for text in pair):
            nudge = "".join(unlike(text, "") for text in pair[:1])
            raise Wrong(f"{pair!r} is not a pair of texts. It can be done with texts alone.{nudge}")
    if tuple(one) == tuple(other):
        raise Wrong("your two pairs are equal. They should be two questions.")
    if quoted(*one) != quoted(*other):
        raise Wrong(f"they have two keys, {quoted(*one)} and {quoted(*other)}.")


def _report(region: str, limit: int = 10, *, session: object = None) -> None: ...


def _search(session: object, *words: str, **filters: int) -> None: ...


def _examine_arguments(answer: Any) -> None:
    cases: list[tuple[Callable[..., None], tuple[Any, ...], dict[str, Any], set[str]]] = [
        (_report, ("US",), {}, {"session"}),
        (_report, (), {"limit": 10, "region": "US"}, {"session"}),
        (_report, ("US",), {"session": "s1"}, {"session"}),
        (_report, ("US", 5), {}, set()),
        (_search, ("s1", "tea", "pot"), {"price": 3}, {"session"}),
    ]
    for function, args, kwargs, ignore in cases:
        shown = f"({function.__name__.lstrip('_')}, {args!r}, {kwargs!r}, {ignore!r})"
        given = dict(kwargs)
        got = call(answer, function, args, kwargs, ignore, shown=shown)
        expected = arguments(function, args, given, ignore)
        if kwargs != given:
            raise Wrong(f"{shown} changed the kwargs that it was given, to {kwargs!r}: copy them.")
        if got == expected:
            continue
        if not isinstance(got, dict):
            raise Wrong(f"it should return a dictionary, and {shown} gave {got!r}.")
        signature = str(inspect.signature(function)).replace("'", "")
        raise Wrong(
            f"{shown} gave {got!r}, and should give {expected!r}.{_nudge(got, expected, ignore)} "
            f"The parameters are {signature}."
        )


def _nudge(got: dict[str, Any], expected: dict[str, Any], ignore: set[str]) -> str:
    if ignore & set(got):
        return f" {', '.join(sorted(ignore & set(got)))} should be left out."
    if missing := [name for name in expected if name not in got]:
        return f" {', '.join(missing)} is missing."
    return ""


def arguments(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], ignore: set[str]
) -> dict[str, Any]:
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if name not in ignore}


# Lists that differ, and are joined to the same text where a length runs into what stands beside it:
LENGTHS_RUN_ON = [
    ["1", "aaaaaaaaa", ""],  # into the part that follows it
    ["9aaaaaaaaa0"],
    ["", "aaaaaaaaa", "1"],  # into the part before it
    ["0aaaaaaaaa9"],
    ["a" * 11, "a"],  # into another length
    ["a", "a" * 11],
]
LONGEST_SHOWN = 100  # characters


def _examine_join(answer: Any) -> None:
    joined: dict[str, list[str]] = {}
    for parts in _lists(answer):
        got = call(answer, list(parts))
        if not isinstance(got, str):
            raise Wrong(f"{parts!r} gave {got!r}, which is not text.")
        if call(answer, list(parts)) != got:
            raise Wrong(f"{parts!r} gave one text, and another when it was joined again.")
        if joined.setdefault(got, parts) != parts:
            lists = f"{_shown(joined[got])} and {_shown(parts)}"
            raise Wrong(f"{lists} both gave {_shown(got)}.")


def _shown(value: object) -> str:
    text = repr(value)
    if len(text) <= LONGEST_SHOWN:
        return text
    half = LONGEST_SHOWN // 2
    return f"{text[:half]} ... {text[-half:]} ({len(text)} characters)"


def _behind(between: str) -> list[list[str]]:
    """Return lists that are joined alike if a delimiter stands between length and part pairs."""
    count = 10 - len(between)
    if not between or count < 1:
        return []
    return [["1", "a" * count], [f"{between}{count}{'a' * count}"]]  # 11 characters: 1 and 1


def _too_long_for(digits: int) -> list[list[str]]:
    """Return lists that are joined alike if each length is written with so many digits."""
    ten = "a" * (10 ** (digits - 1) - 1)
    rest = 9 * 10 ** (digits - 1) + 1 - digits
    return [["0" + ten, "a" * rest], [f"{ten}{rest}{'a' * rest}"]]  # 10 and 0, or 100


def _lists(answer: Any) -> list[list[str]]:
    """Return lists that are likely to collide: made of what the answer puts between parts."""
    together = call(answer, ["a", "b"])
    if not isinstance(together, str):
        raise Wrong(f"['a', 'b'] gave {together!r}, which is not text.{unlike(together, '')}")
    between = together.partition("a")[2].rpartition("b")[0]
    characters = [*'a1\\",', *(letter for letter in together if not letter.isalnum())]
    alphabet = list(dict.fromkeys([between or ",", *characters]))[:LONGEST_ALPHABET]
    texts = ["".join(text) for n in range(3) for text in itertools.product(alphabet, repeat=n)]
    plain = [["a", "b"], ["b", "a"], ["a" + between + "b"], ["a", "", "b"]]
    return [
        *plain,  # the first that collide are shown, so the plainest come first
        *LENGTHS_RUN_ON,
        *_behind(between.rstrip(string.digits)),
        *(parts for digits in (2, 3, 4) for parts in _too_long_for(digits)),
        *(list(parts) for n in (1, 2) for parts in itertools.product(texts, repeat=n)),
        ["", "", ""],
        [],
    ]


def join(parts: list[str]) -> str:
    return "".join(f"{len(part)}:{part}" for part in parts)


EXERCISES = {
    "04.1": Exercise(
        ask="Find two different pairs of texts for which quoted() gives the same key.",
        examine=_examine_collision,
        praise="a quote inside a text looks like the quote at its end.",
        hints=(
            'What stands between the two texts is ",". Could a text contain that?',
            "Write down a key with three quoted texts. Where could the border be?",
        ),
        solution=[('a","b', "c"), ("a", 'b","c')],
    ),
    "04.2": Exercise(
        ask="Write arguments(function, args, kwargs, ignore): by name, without those in ignore.",
        examine=_examine_arguments,
        praise="one question, however it is spelled and whoever's session asks.",
        hints=(
            "inspect.signature(function).bind(*args, **kwargs) knows which value goes where.",
            "apply_defaults() fills in what the call left out; .arguments is the dictionary.",
            "Leave out the ignored names last, when every value has its name.",
        ),
        solution=arguments,
    ),
    "04.3": Exercise(
        ask="Write join(parts): different lists of texts never give the same text.",
        examine=_examine_join,
        praise="no part can pretend to be two, nor two to be one.",
        hints=(
            "Any delimiter can occur in a part. What could you write before each part?",
            "Before each part, its length. But where does the length end, and the part begin?",
            "A length is digits. Something that is not a digit can end it.",
        ),
        solution=join,
    ),
}
