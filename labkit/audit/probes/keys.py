"""Keys: the same question has the same one, in each process; another question has another."""

from __future__ import annotations

import datetime
import os
import re
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import literal_column, select
from sqlalchemy.orm import aliased, selectinload

from labkit.audit import other_questions, questions
from labkit.audit.adapter import DoesNotApply
from labkit.audit.fresh import Answer, ask_anew
from labkit.audit.probe import Failed, Trial, expect, probe
from labkit.shop.models import User

Call = tuple[tuple[Any, ...], dict[str, Any]]
TYPES: list[Any] = [
    *(None, "None", "", b"", 1, "1", True, "True", 1.0, "1.0", b"1", "b'1'", 0, "0", False),
    *(Decimal(1), "Decimal('1')", (), "()", (1,), ("1",), (True,), (1.0,)),
    *(datetime.date(2025, 7, 1), datetime.datetime(2025, 7, 1), "2025-07-01"),
    *(uuid.UUID(int=1), str(uuid.UUID(int=1))),
]
DELIMITERS = [":", ",", " ", "|", ";", "/", "-", "_", "=", "&", "\0", "\n", "', '", '", "', "','"]
FORGED: list[Call] = [  # each is the text of another
    *[(("first=1",), {}), (("first", "1"), {}), ((), {"first": "1"})],
    *[((1, 2), {}), (((1, 2),), {}), (("(1, 2)",), {}), (("1, 2",), {})],
    *[(([1, 2],), {}), (("[1, 2]",), {})],
]
NAMES = [f"name{number}" for number in range(20)]
SEED = "PYTHONHASHSEED"
DIGEST = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{8,}(?![0-9A-Za-z])")
WORD = re.compile(r"[A-Za-z]{3,}")


@probe("04", "two functions of one name never share an answer")
def function_names(trial: Trial) -> str:
    """Ask two functions of one name, of two modules, about one user."""
    functions = questions.region_of, other_questions.region_of
    asks = [trial.cached(function) for function in functions]
    right = [function(1) for function in functions]
    answers = [ask(1) for ask in asks] + [ask(1) for ask in asks]
    return expect(answers == 2 * right, f"answers that differ: {len(set(answers))} of 2")


@probe("04", "arguments of different types never share an answer")
def argument_types(trial: Trial) -> str:
    """Ask about values that are equal, or look alike as text, but differ in their types."""
    return _told_apart(trial, questions.describe, [((each,), {}) for each in TYPES])


@probe("04", "no text in an argument is taken for another argument")
def delimiters(trial: Trial) -> str:
    """Ask about arguments that are alike once they are joined, whatever joins them."""
    split: list[Call] = [(each, {}) for mark in DELIMITERS for each in _split(mark)]
    return _told_apart(trial, questions.describe, [*split, *FORGED])


def _split(mark: str) -> list[tuple[str, ...]]:
    """Return arguments that are one text once they are joined by a mark."""
    return [("a", mark.join("bc")), (mark.join("ab"), "c"), (mark.join("abc"),)]


def _told_apart(trial: Trial, function: Callable[..., Any], calls: Sequence[Call]) -> str:
    """Make all calls, and return the evidence if each has an answer of its own.

    Raises:
        Failed: some have another's, or none.
    """
    ask = trial.cached(function)
    confused = []
    for args, kwargs in calls:
        call = ", ".join([repr(each) for each in (*args, *kwargs.items())])
        try:
            if ask(*args, **kwargs) != function(*args, **kwargs):
                confused.append(call)
        except Exception as error:
            if isinstance(error, TypeError) and any(isinstance(each, list) for each in args):
                continue  # it takes no arguments that can change, so it confuses none
            confused.append(f"{call} ({type(error).__name__})")
    return expect(not confused, _counted(len(calls), confused))


def _counted(number: int, confused: Sequence[str]) -> str:
    right = f"{number - len(confused)} of {number} have an answer of their own"
    return f"{right}, not: {'; '.join(confused)}" if confused else right


@probe("04", "the order of keywords and defaults make no other entry")
def keyword_order_and_defaults(trial: Trial) -> str:
    """Call twice with the keywords turned round, twice with a default left out."""
    order, describe = trial.cached(questions.order_of), trial.cached(questions.describe)

    def calls() -> None:
        order(first=1, second=2)
        order(second=2, first=1)
        describe(first=1)
        describe(first=1, second=None)

    selects = trial.selects(calls)
    return expect(selects == 2, f"{selects} SQL for 2 expected")


@probe("04", "an argument by its place or by its name is one entry")
def positional_and_keyword(trial: Trial) -> str:
    """Ask for 1 and for first=1."""
    describe = trial.cached(questions.describe)
    selects = trial.selects(lambda: (describe(1), describe(first=1)))
    return expect(selects == 1, f"{selects} SQL for 1 expected")


@probe("04", "a method's answer belongs to its object")
def methods(trial: Trial) -> str:
    """Call one method of two objects, twice."""
    label = trial.cached(questions.Shelf.label)
    shelves = [questions.Shelf(region) for region in ("EU", "US")]
    answers = [label(shelf, 1) for shelf in shelves * 2]
    right = [shelf.label(1) for shelf in shelves * 2]
    return expect(answers == right, f"answers that differ: {len(set(answers))} of 2")


@probe("04", "another process, started anew, finds what this one has stored")
def fresh_process(trial: Trial) -> str:
    """Ask here, and in an interpreter of its own."""
    right = trial.cached(questions.region_of)(1)
    (answer,) = ask_anew(trial, (questions.region_of, (1,)))
    return _found(answer.sql, [answer], [right])


@probe("04", "equal sets and dicts are one entry, whatever the hash seed")
def hash_seed(trial: Trial) -> str:
    """Ask here and in an interpreter with another hash seed, about sets and a dict turned round."""
    size_of = trial.cached(questions.size_of)
    here: dict[str, Any] = {
        "a text": "as anywhere",
        "a set": set(NAMES),
        "a frozenset": frozenset(NAMES),
        "a dict": dict.fromkeys(NAMES, 0),
    }
    right = [size_of(name, parts) for name, parts in here.items()]
    there = {**here, "a dict": dict.fromkeys(reversed(NAMES), 0)}  # sets are built anew there
    seed = "2" if os.environ.get(SEED) == "1" else "1"
    calls = [(questions.size_of, (name, parts)) for name, parts in there.items()]
    plain, *answers = ask_anew(trial, *calls, **{SEED: seed})
    if plain.sql:
        raise DoesNotApply("another process finds nothing, whatever the hash seed")
    return _found(sum(each.sql for each in answers), [plain, *answers], right)


def _found(selects: int, answers: list[Answer], right: list[Any]) -> str:
    if [each.text for each in answers] != [repr(each) for each in right]:
        raise Failed(f"it answers {answers[0].text}, the database has {right[0]!r}")
    return expect(selects == 0, f"{selects} SQL for 0 expected in the other process")


@probe("04", "all keys share a word that is no function's or module's")
def namespaced(trial: Trial) -> str:
    """Look for a word that the keys of three functions share, and that is no function's name."""
    for function in (questions.region_of, questions.rows_of, questions.describe):
        trial.cached(function)(1)
    keys = [DIGEST.sub("…", key.decode(errors="replace")) for key in trial.stored()]
    names = {"region", "rows", "describe", *_words(questions.__name__)}
    shared = set.intersection(*map(_words, keys)) - names
    if shared:
        return f"each key has {min(shared)!r}"
    raise Failed(f"no such word: {', '.join(sorted({min(keys), max(keys)}))}")


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))


def _alike() -> dict[str, tuple[Any, Any]]:
    """Return pairs of SELECTs that differ in one thing each, and give other rows for it."""
    one, other = aliased(User, name="one"), aliased(User, name="other")
    neighbours = select(one.id, other.id).where(one.id == other.id - 1)
    user, users = select(User).where(User.id == 1), select(User.id).where(User.id < 9)
    return {
        "a bound value": (users.where(User.id == 1), users.where(User.id == 2)),
        "a limit": (users.order_by(User.id).limit(1), users.order_by(User.id).limit(2)),
        "a literal": (select(literal_column("1")), select(literal_column("2"))),
        "an alias": (neighbours.where(one.id == 5), neighbours.where(other.id == 5)),
        "a loader option": (user, user.options(selectinload(User.orders))),
        "an execution option": (
            users.execution_options(tenant=1),
            users.execution_options(tenant=2),
        ),
    }


@probe("10", "two SELECTs that differ never share an answer")
def statements(trial: Trial) -> str:
    """Ask for the rows of SELECTs that differ in a value, an alias, or an option."""
    ask = trial.cached(questions.rows_selected)
    pairs = _alike()  # all of them live until the end, so that none has another's address
    right = {name: [questions.rows_selected(each) for each in pair] for name, pair in pairs.items()}
    confused = [name for name, pair in pairs.items() if [ask(each) for each in pair] != right[name]]
    return expect(not confused, _counted(len(pairs), confused))
