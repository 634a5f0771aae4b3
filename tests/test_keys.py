"""Keys of calls: unequal calls never collide, equal calls always agree, and the rest is refused."""

from __future__ import annotations

import ast
import base64
import dataclasses
import datetime
import enum
import functools
import hashlib
import json
import math
import os
import pickle
import random
import re
import subprocess
import sys
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.local import LocalProxy

from labkit.cache import keys
from labkit.cache.keys import call_key, encode
from labkit.shop import users_by_region

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "04_key_collisions.ipynb"
UTC = datetime.UTC
PARIS = zoneinfo.ZoneInfo("Europe/Paris") if zoneinfo.available_timezones() else None


def report(region, limit=10, *, since=None, **filters): ...


def search(*words, **filters): ...


class Users:
    @staticmethod
    def count(region): ...

    def of(self, region): ...


class Orders:
    @staticmethod
    def count(region): ...


class Colour(enum.Enum):
    RED = 1
    BLUE = "1"


class Shade(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass(frozen=True)
class Filter:
    region: Any
    limit: Any = dataclasses.field(default=10, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    region: Any
    limit: Any = 10


@dataclasses.dataclass(frozen=True)
class Scoped(Filter):
    seed: dataclasses.InitVar[int] = 0
    tenant: Any = dataclasses.field(default=None, init=False)

    def __post_init__(self, seed: int) -> None:
        object.__setattr__(self, "tenant", seed)

    @functools.cached_property
    def words(self) -> str:
        return f"{self.region} {self.tenant}"


def key(*args: Any, **kwargs: Any) -> str:
    return call_key(report, args, kwargs)


def built(text: str) -> str:
    """Return an equal text that is another object."""
    return "".join(list(text))


# Unequal calls.

AT_11 = datetime.datetime(2025, 7, 1, 11, tzinfo=UTC)
PLUS_1 = datetime.timezone(datetime.timedelta(hours=1))
NAMED = datetime.timezone(datetime.timedelta(hours=1), "CET")
NAIVE = datetime.datetime(2025, 10, 26, 2, 30)
DIFFERENT: list[tuple[Any, Any]] = [
    (1, "1"),
    (1, True),
    (1, 1.0),
    (0, False),
    (0, None),
    (None, ""),
    (None, "None"),
    ("", b""),
    ("a", b"a"),
    ([], ()),
    ([], {}),
    (set(), {}),
    (set(), frozenset()),
    ([[]], []),
    ([1, 2], [2, 1]),
    ([1, 2], [[1], 2]),
    (["x y", "z"], ["x", "y z"]),
    (["a", "b"], ["astr 1:b"]),
    (["a", "b"], ["a;str b"]),
    (["a"], ["a", ""]),
    ([12, 3], [1, 23]),
    ({1: 2}, {"1": 2}),
    ({1: 2}, {2: 1}),
    ({"a": "b", "c": "d"}, {"a": "d", "c": "b"}),
    ({"a": 1}, [("a", 1)]),
    ({1, 2}, {12}),
    (0.0, -0.0),
    (0.1, 0.1 + 1e-17 + 2e-17),
    (math.inf, "inf"),
    (Decimal("1.0"), Decimal("1.00")),
    (Decimal("1"), 1),
    (Decimal("0"), Decimal("-0")),
    ("\u00e9", "e\u0301"),
    ("\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "\ud83d\ude00"),
    (-5, 5),
    (-26, "-1a"),
    (10**5000, 10**5000 + 1),
    (datetime.date(2025, 7, 1), datetime.datetime(2025, 7, 1)),
    (datetime.date(2025, 7, 1), "2025-07-01"),
    (AT_11, AT_11.replace(tzinfo=None)),
    (AT_11, AT_11.astimezone(PLUS_1)),
    (AT_11.astimezone(PLUS_1), AT_11.astimezone(NAMED)),
    (NAIVE, NAIVE.replace(fold=1)),
    (datetime.time(2, 30), datetime.time(2, 30, tzinfo=UTC)),
    (datetime.time(2, 30), datetime.time(2, 30, fold=1)),
    (datetime.timedelta(1), datetime.timedelta(0, 1)),
    (datetime.timedelta(1), datetime.timedelta(1, 0, 1)),
    (uuid.UUID(int=1), uuid.UUID(int=2)),
    (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    (Colour.RED, Colour.BLUE),
    (Colour.RED, Shade.RED),
    (Colour.RED, 1),
    (Level.ONE, 1),
    (range(0), range(1, 1)),
    (range(3), range(0, 3, 2)),
    (range(3), [0, 1, 2]),
    (Filter("EU"), Filter("US")),
    (Filter("EU"), Filter("EU", 20)),
    (Filter(1), Filter(True)),
    (Filter("EU"), Slotted("EU")),
    (Filter("EU"), {"region": "EU", "limit": 10}),
    (Filter(Filter("EU")), Filter(Slotted("EU"))),
    (Scoped("EU", 10, 1), Scoped("EU", 10, 2)),
    (Filter, Scoped),
    (Filter, Filter("EU")),
    (int, "builtins.int"),
    (int, bool),
    (Users, Orders),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=lambda value: ascii(form(value))[:30])
def test_different_values_make_different_keys(one, other):
    assert key(one) != key(other)
    assert key("US", filter=one) != key("US", filter=other)
    assert key([[one]]) != key([[other]])


@pytest.mark.skipif(PARIS is None, reason="no time zones here")
def test_a_zone_and_its_offset_are_different_however_the_moment_prints():
    assert PARIS
    summer = datetime.datetime(2025, 7, 1, 12, tzinfo=PARIS)
    fixed = summer.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2), "CEST"))
    assert (summer.isoformat(), summer.tzname()) == (fixed.isoformat(), fixed.tzname())
    assert key(summer) != key(fixed)
    assert key(summer) == key(
        datetime.datetime(2025, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo(PARIS.key))
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((("x y", "z"), {}), (("x", "y z"), {})),
        (((), {"a": "b"}), (("a", "b"), {})),
        ((("a",), {}), (("a", "a"), {})),
        (((), {"a": 1, "b": 2}), ((), {"a": 2, "b": 1})),
        ((({"a": 1},), {}), ((), {"a": 1})),
    ],
)
def test_different_arguments_make_different_keys(one, other):
    assert call_key(search, *one) != call_key(search, *other)


def test_functions_of_one_name_in_two_modules_or_classes_have_different_keys():
    def named(function, module):
        function.__module__, function.__qualname__ = module, "report"
        return function

    shop = named(lambda region: 1, "shop")
    support = named(lambda region: 2, "support")
    assert call_key(shop, ("US",), {}) != call_key(support, ("US",), {})
    assert call_key(Users.count, ("US",), {}) != call_key(Orders.count, ("US",), {})


# Equal calls.


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {"region": "US"}),
        (("US", 10), {}),
        (("US",), {"limit": 10}),
        ((), {"limit": 10, "region": "US"}),
        ((), {"since": None, "region": "US"}),
        ((built("US"),), {}),
    ],
)
def test_each_spelling_of_a_call_has_one_key(args, kwargs):
    assert call_key(report, args, kwargs) == key("US")


def test_identity_order_and_nan_do_not_count():
    assert key("US", a=built("US"), b="US") == key("US", b=built("US"), a="US")
    assert key({8, 16}) == key({16, 8})
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})
    assert key({"x": {"a", "b"}}) == key({"x": {"b", "a"}})
    assert key(math.nan) == key(math.inf - math.inf) == key(-math.nan)


def test_a_default_that_changes_changes_the_key():
    def old(limit=10): ...

    def new(limit=20): ...

    old.__qualname__ = new.__qualname__ = "report"
    assert call_key(old, (), {}) != call_key(new, (), {})
    assert call_key(old, (20,), {}) == call_key(new, (), {})


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def doubled(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return 2 * function(*args, **kwargs)

    return wrapper


def times(number: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return number * function(*args, **kwargs)

        return wrapper

    return decorate


def times_by_default(number: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, number: int = number) -> Any:
            return number * function(*args)

        return wrapper

    return decorate


def times_by_attribute(number: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return wrapper.number * function(*args)  # type: ignore[attr-defined]

        wrapper.number = number  # type: ignore[attr-defined]
        return wrapper

    return decorate


class Times:
    def __init__(self, number: int, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.number, self.function = number, function

    def __call__(self, *args: Any) -> Any:
        return self.number * self.function(*args)


def as_partial(function: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    return functools.update_wrapper(functools.partial(function, *args), function)


def test_a_decorator_that_holds_its_function_alone_is_looked_through():
    bare, once, twice = (
        call_key(function, ("US", 10), {})
        for function in (report, wrapped(report), wrapped(wrapped(report)))
    )
    assert once == call_key(wrapped(report), (), {"region": "US"})
    assert once.rpartition(":")[0] == bare.rpartition(":")[0]
    assert len({bare, once, twice}) == 3  # who knows what a wrapper does with the answer?


def test_two_decorators_make_two_questions_of_one_function():
    one, other = doubled(tripled_once), wrapped(tripled_once)
    assert one(1) != other(1)
    assert call_key(one, (1,), {}) != call_key(other, (1,), {})
    assert call_key(wrapped(doubled(report)), ("US",), {}) != call_key(
        doubled(wrapped(report)), ("US",), {}
    )


def tripled_once(number):
    return 3 * number


@pytest.mark.parametrize(
    ("function", "held"),
    [
        (times(2)(report), "number"),
        (wrapped(times(2)(report)), "number"),
        (times(2)(wrapped(report)), "number"),
        (times_by_default(2)(report), "defaults of its own"),
        (times_by_attribute(2)(report), "wrapper"),
        (Times(2, report), "what a Times may hold"),
        (wrapped(Times(2, report)), "what a Times may hold"),
        (as_partial(report, "US"), "what a partial may hold"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_decorator_that_holds_more_is_refused_until_there_is_a_name(function, held):
    with pytest.raises(TypeError, match=rf"\.report is wrapped by a decorator that holds {held},"):
        call_key(function, ("US",), {})
    assert call_key(function, ("US",), {}, name="a") != call_key(function, ("US",), {}, name="b")


def test_what_remembers_answers_or_belongs_to_a_class_changes_no_question():
    assert call_key(functools.cache(report), ("US",), {}) == key("US")
    assert call_key(vars(Users)["count"], ("US",), {}) == call_key(Users.count, ("US",), {})


@pytest.mark.parametrize("function", [wrapped(Users().of), {"a": 1}.get, "text".startswith])
def test_a_method_whose_object_no_argument_shows_is_refused(function):
    with pytest.raises(TypeError, match="hides its object from the key"):
        call_key(function, ("US",), {})


# What is left out.


def sold(session, region, *words, limit=10, **filters): ...


def test_a_parameter_can_be_left_out_by_position_or_by_keyword():
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((Visitor(), "US"), {}),
        ((Visitor(), "US"), {"limit": 10}),
        ((), {"session": Visitor(), "region": "US"}),
        ((None, "US"), {}),
    ]
    keys = {call_key(sold, args, kwargs, ignore=("session",)) for args, kwargs in calls}
    assert len(keys) == 1
    assert call_key(sold, (None, "EU"), {}, ignore=("session",)) not in keys
    assert call_key(sold, (None, "US"), {}) not in keys


@pytest.mark.parametrize(
    ("ignored", "changed"),
    [("words", ((1, "US", "b"), {})), ("filters", ((1, "US", "a"), {"x": 2}))],
)
def test_all_that_a_star_takes_can_be_left_out(ignored, changed):
    one = call_key(sold, (1, "US", "a"), {"x": 1} if ignored == "filters" else {}, ignore=[ignored])
    args, kwargs = changed
    assert one == call_key(sold, args, kwargs, ignore=[ignored])
    assert call_key(sold, (1, "US"), {}) != call_key(sold, args, kwargs)


def test_the_object_of_a_method_can_be_left_out():
    one, other = (call_key(Users().of, ("US",), {}, ignore=("self",)) for _ in range(2))
    assert one == other == call_key(Users.of, (Visitor(), "US"), {}, ignore=("self",))
    assert one != call_key(Users().of, ("EU",), {}, ignore=("self",))


def test_a_name_that_is_no_parameter_cannot_be_left_out():
    for call in ({"session": 1, "region": 2}, {"session": 1, "region": 2, "sesion": 3}):
        with pytest.raises(
            ValueError, match="no parameter 'sesion' to ignore: it has session, reg"
        ):
            call_key(sold, (), call, ignore=("session", "sesion"))
    with pytest.raises(TypeError, match=r"ignore takes several names: write \('session',\)"):
        call_key(sold, (1, "US"), {}, ignore="session")


# Classes and dataclasses.


class Tenant:
    @classmethod
    def report(cls, region): ...


class OtherTenant(Tenant): ...


def test_a_class_method_has_its_class_as_an_argument():
    one = call_key(Tenant.report, ("US",), {})
    assert one == call_key(Tenant.report, (), {"region": "US"})
    assert one != call_key(OtherTenant.report, ("US",), {})


def local_class(secret: int) -> type:
    class Local:
        hidden = secret

    return Local


class Unfrozen(Filter): ...


@dataclasses.dataclass
class Open:
    region: str


class Slot:
    __slots__ = ("secret",)


@dataclasses.dataclass(frozen=True)
class OnSlot(Slot):
    region: str


@dataclasses.dataclass(frozen=True)
class OnText(str):
    region: str


def with_secret(value: Any) -> Any:
    object.__setattr__(value, "secret", 7)
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (local_class(1), r"<locals>\.Local is not found by that name, and has no key"),
        (type("Filter", (), {}), r"the class tests\.test_keys\.Filter is not found by that name"),
        (dataclasses.make_dataclass("Made", ["a"], frozen=True)(1), "Made is not found by that"),
        (Open("EU"), r"Open has no key, as it can change: make it @dataclass\(frozen=True\)"),
        (Unfrozen("EU"), r"a .+Unfrozen has no key\."),
        (with_secret(Filter("EU")), "Filter has no key, as it holds secret beside its fields"),
        (with_secret(OnSlot("EU")), "OnSlot has no key, as it holds secret beside its fields"),
        (OnText("EU"), "OnText has no key, as it holds what its base class does beside"),
        (Filter(object()), r"a builtins\.object has no key"),
        (list[int], r"a .+GenericAlias has no key"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_a_class_or_dataclass_that_does_not_show_all_is_refused(value, words):
    with pytest.raises(TypeError, match=f"argument 'since': .*{words}"):
        key("US", since=value)


def test_a_dataclass_is_the_same_by_its_fields_and_by_nothing_else():
    one, other = Scoped(built("EU"), seed=3), Scoped("EU", 10, 3)
    assert key(one) == key(other)
    assert one.words == "EU 3"  # now it holds that, too, and `other` does not
    assert key(one) == key(other) == key(one)
    assert key(Slotted(Filter({"a", "b"}))) == key(Slotted(Filter({"b", "a"})))
    unset = object.__new__(Filter)
    assert key(unset) not in {key(Filter(None)), key(Filter(None, None))}


# What is refused.


class Visitor:
    pass


class Text(str):
    pass


@pytest.mark.parametrize(
    "value",
    [
        Visitor(),
        Text("US"),
        bytearray(b"a"),
        1j,
        iter([]),
        ...,
        LocalProxy(lambda: Level.ONE),
        LocalProxy(lambda: Colour),
        datetime.datetime(2025, 7, 1, tzinfo=type("Zone", (datetime.tzinfo,), {})()),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"a": [value]}])
def test_a_type_that_it_does_not_know_is_refused(value, wrap):
    with pytest.raises(
        TypeError, match=r"argument 'since': a .+ has no key\. Pass what identifies"
    ):
        key("US", since=wrap(value))


def test_the_refusal_names_function_argument_type_and_what_to_do():
    with pytest.raises(TypeError) as refusal:
        key("US", since=Visitor())
    assert str(refusal.value) == (
        f"{__name__}.report: argument 'since': a {__name__}.Visitor has no key. "
        "Pass what identifies it, such as its id. What has a key: NoneType, bool, int, float, str, "
        "bytes, Decimal, UUID, date, time, datetime, timedelta, range, list, tuple, set, "
        "frozenset, dict, Enum, frozen dataclasses, classes."
    )


def test_what_contains_itself_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="'region' is nested too deeply, or contains itself"):
        key(endless)


def test_a_method_has_its_object_as_an_argument():
    with pytest.raises(TypeError, match=r"argument 'self': a .+Users has no key"):
        call_key(Users().of, ("US",), {})
    with pytest.raises(TypeError, match=r"argument 'self': a .+Users has no key"):
        call_key(Users.of, (Users(), "US"), {})


def make(domain: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def closure(user_id: int) -> str:
        return f"{user_id}@{domain}"

    def plain(user_id: int) -> str:
        return str(user_id)

    return closure, plain


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: 1, "all lambdas share this name"),
        (make("a")[0], "uses domain from the function around it"),
        (functools.partial(report), "has no name of a function"),
        (Users, "has no name of a function"),
        (max, "does not say which arguments"),
    ],
)
def test_a_function_whose_name_does_not_say_it_all_is_refused(function, words):
    with pytest.raises(TypeError, match=words):
        call_key(function, (), {})


def test_a_name_of_its_own_helps():
    one, other = make("a")[0], make("b")[0]
    by_name = [call_key(f, (1,), {}, name=n) for f, n in [(one, "a"), (other, "b"), (other, "a")]]
    assert by_name[0] == by_name[2] != by_name[1]


def test_a_nested_function_that_captures_nothing_has_a_key():
    assert "make.<locals>.plain" in call_key(make("a")[1], (1,), {})


def test_a_call_that_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="missing a required argument: 'region'"):
        key()


# The words in front.


def test_the_form_of_a_key():
    assert re.fullmatch(rf"shop:v1:{re.escape(__name__)}\.report:[0-9a-f]{{32}}", key("US"))
    assert call_key(users_by_region, ("US",), {}) == (
        "shop:v1:labkit.shop.queries.users_by_region:9f572935c78beaf541c8a3078da9ef9b"
    )


def test_each_namespace_and_version_has_keys_of_its_own():
    made = {
        call_key(report, ("US",), {}, namespace=namespace, version=version)
        for namespace in ("shop", "billing", "{shop}")
        for version in (1, 2, 11)
    }
    assert len({made_key.rpartition(":")[2] for made_key in made}) == len(made) == 9


@pytest.mark.parametrize("namespace", ["", "a:b", "a b", "shop*", "a\n", "shop?"])
def test_a_namespace_that_could_be_mistaken_is_refused(namespace):
    with pytest.raises(ValueError, match="a namespace has letters"):
        call_key(report, ("US",), {}, namespace=namespace)


# Any value. A decoder that gives back what was encoded shows that no two values share bytes.

ENUMS = [*HTTPStatus, *uuid.SafeUUID]
ZONES: list[datetime.tzinfo | None] = [None, UTC, PLUS_1, NAMED, *([PARIS] if PARIS else [])]
TEXT = st.text(
    st.sampled_from('a1 :,\\"\0é\ud800') | st.characters(), max_size=6
) | st.sampled_from(["int 1:1", "str 0:", "tuple 7:str 1:a", "None", "True", "1"])
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 30)
    | st.integers()
    | st.floats()
    | TEXT
    | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.decimals(allow_nan=False)
    | st.sampled_from(
        [Decimal("1"), Decimal("1.0"), Decimal("1E+1"), Decimal("10"), 0.0, -0.0, 1.0]
    )
    | st.uuids()
    | st.dates()
    | st.times(timezones=st.sampled_from([None, UTC, PLUS_1, NAMED]))
    | st.builds(
        lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
        st.datetimes(),
        st.sampled_from(ZONES),
        st.integers(0, 1),
    )
    | st.timedeltas()
    | st.sampled_from(ENUMS)
    | st.builds(range, st.integers(-3, 3), st.integers(-3, 3), st.integers(1, 2))
    | st.sampled_from([int, str, datetime.date, enum.Enum, HTTPStatus])
)


HASHABLE = st.recursive(
    ATOMS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.sets(HASHABLE, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.builds(Filter, inner, inner)
        | st.builds(Slotted, inner)
    ),
    max_leaves=8,
)
MAKE: dict[str, Callable[[bytes], Any]] = {
    "NoneType": lambda content: None,
    "bool": lambda content: {b"0": False, b"1": True}[content],
    "int": lambda content: int(content, 16),
    "float": lambda content: float(content),
    "str": lambda content: content.decode("utf-8", "surrogatepass"),
    "bytes": bytes,
    "Decimal": lambda content: Decimal(content.decode()),
    "UUID": lambda content: uuid.UUID(bytes=content),
    "date": lambda content: datetime.date.fromisoformat(content.decode()),
    "time": lambda content: moment(datetime.time, content),
    "datetime": lambda content: moment(datetime.datetime, content),
    "timedelta": lambda content: datetime.timedelta(*decode(content)),
    "list": lambda content: list(parts(content)),
    "tuple": lambda content: tuple(parts(content)),
    "set": lambda content: set(parts(content)),
    "frozenset": lambda content: frozenset(parts(content)),
    "dict": lambda content: dict(parts(content)),
    "Enum": lambda content: member(*decode(content)),
    "range": lambda content: range(*decode(content)),
    "class": lambda content: named(*decode(content)),
    "dataclass": lambda content: instance(*decode(content)),
}


def decode(encoded: bytes) -> Any:
    (value,) = parts(encoded)
    return value


def parts(encoded: bytes) -> Iterator[Any]:
    while encoded:
        tag, _, rest = encoded.partition(b" ")
        length, _, rest = rest.partition(b":")
        content, encoded = rest[: int(length)], rest[int(length) :]
        assert len(content) == int(length)
        yield MAKE[tag.decode()](content)


def moment(kind: Any, content: bytes) -> Any:
    text, fold, zone = decode(content)
    if isinstance(zone, tuple):
        zone = datetime.timezone(*zone)
    elif zone is not None:
        zone = zoneinfo.ZoneInfo(zone)
    return kind.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def named(module: str, name: str) -> Any:
    return getattr(sys.modules[module], name)


def member(module: str, name: str, value: Any) -> Any:
    return named(module, name)(value)


def instance(module: str, name: str, fields: dict[str, Any]) -> Any:
    made = object.__new__(named(module, name))
    for field, value in fields.items():
        object.__setattr__(made, field, value)
    return made


def form(value: Any) -> Any:
    """Return what says whether two values are the same, made another way than `encode` does."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [form(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted((form(item) for item in value), key=repr)
    if kind is dict:
        return kind, sorted(([form(k), form(v)] for k, v in value.items()), key=repr)
    if kind in (Filter, Slotted):
        return kind, form(value.region), form(value.limit)
    if kind in (datetime.datetime, datetime.time):
        return kind, repr(value.replace(tzinfo=None)), zone_form(value.tzinfo)
    return kind, hex(value) if kind is int else repr(value)


def zone_form(zone: datetime.tzinfo | None) -> tuple[str, str]:
    return type(zone).__name__, repr(
        (zone.utcoffset(None), zone.tzname(None), str(zone)) if zone else None
    )


PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


@settings(PATIENT, max_examples=500)
@given(VALUES)
def test_what_is_encoded_can_be_read_back(value):
    assert form(decode(encode(value))) == form(value)


@settings(PATIENT, max_examples=500)
@given(VALUES, VALUES)
def test_two_values_share_a_key_exactly_if_they_are_the_same(one, other):
    assert (key(one) == key(other)) is (form(one) == form(other))


# Two processes with different hash seeds.

WORKER = """
import base64, pickle, sys
from labkit.cache.keys import call_key
from labkit.shop import users_by_region
for line in sys.stdin:
    args, kwargs = pickle.loads(base64.b64decode(line))
    print(call_key(users_by_region, args, kwargs), flush=True)
"""


class Worker:
    """Makes keys in a process of its own, with a hash seed of its own."""

    def __init__(self, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def key(self, *args: Any, **kwargs: Any) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(base64.b64encode(pickle.dumps((args, kwargs))).decode() + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[Worker, Worker]]:
    both = Worker(1), Worker(2)
    yield both
    for worker in both:
        worker.process.communicate()


def rebuilt(value: Any, shuffle: random.Random) -> Any:
    """Return the same value, of new objects, its sets and dictionaries filled in another order."""
    kind = type(value)
    if kind in (set, frozenset, dict):
        items = list(value.items() if kind is dict else value)
        shuffle.shuffle(items)
        if kind is dict:
            return {rebuilt(k, shuffle): rebuilt(v, shuffle) for k, v in items}
        return kind(rebuilt(item, shuffle) for item in items)
    if kind in (list, tuple):
        return kind([rebuilt(item, shuffle) for item in value])
    return built(value) if kind is str else value


@settings(PATIENT, max_examples=200)
@given(VALUES, VALUES, st.randoms(use_true_random=False))
def test_equal_calls_agree_across_processes(workers, one, other, shuffle):
    here = call_key(users_by_region, (one, other), {})
    again = [rebuilt(value, shuffle) for value in (one, other)]
    assert workers[0].key(one, other) == here
    assert workers[1].key(limit=again[1], region=again[0]) == here
    assert workers[0].key(one) == workers[1].key(again[0], 1000)


@settings(PATIENT, max_examples=200)
@given(VALUES, VALUES)
def test_unequal_calls_never_collide_across_processes(workers, one, other):
    same = form(one) == form(other)
    assert (workers[0].key(one) == workers[1].key(other)) is same
    assert (workers[0].key(one, other) == workers[1].key(other, one)) is same


# The schemes that the lesson breaks are still broken.


def pickled(function: Any, args: Any, kwargs: Any) -> str:
    return hashlib.sha256(pickle.dumps((function.__name__, args, kwargs))).hexdigest()


def test_pickled_arguments_are_still_no_key():
    assert pickled(report, ("US", "US"), {}) != pickled(report, ("US", built("US")), {})
    assert pickled(report, (), {"a": 1, "b": 2}) != pickled(report, (), {"b": 2, "a": 1})
    assert pickled(Users.count, ("US",), {}) == pickled(Orders.count, ("US",), {})


def test_json_and_joined_text_still_collide():
    assert json.dumps({1: 2}) == json.dumps({"1": 2})
    assert " ".join(["x y", "z"]) == " ".join(["x", "y z"])
    assert " ".join(map(str, [1])) == " ".join(map(str, ["1"]))


def test_repr_still_shows_the_order_of_a_set():
    assert {8, 16} == {16, 8}
    assert repr({8, 16}) != repr({16, 8})


# The notebook's key function is this one, with fewer types.


@pytest.fixture(scope="module")
def lesson() -> dict[str, Any]:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    wanted = {"CONTENT", "bound", "encode", "name_of", "call_key", "pickled"}
    nodes = [node for node in ast.parse(code).body if names(node) & wanted]
    imports = "import functools, hashlib, inspect, pickle\n"
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(imports + "\n".join(map(ast.unparse, nodes)), namespace)
    return namespace


def names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return set()


CORE_TYPES = {type(None), bool, int, float, str, bytes, list, tuple, set, frozenset, dict}
CORE = [value for pair in DIFFERENT for value in pair if type(value) in CORE_TYPES]


def test_the_notebooks_key_function_is_labkits(lesson):
    assert len(CORE) > 50
    for value in CORE:
        args, kwargs = ("US", value), {"a": value, "since": [value]}
        assert lesson["call_key"](report, args, kwargs) == call_key(report, args, kwargs)
    for version, namespace in ((1, "shop"), (2, "billing")):
        ours, theirs = (
            make_key(report, ("US",), {}, namespace=namespace, version=version)
            for make_key in (call_key, lesson["call_key"])
        )
        assert ours == theirs


def test_the_notebook_refuses_what_labkit_refuses(lesson):
    calls: list[tuple[Any, tuple[Any, ...]]] = [
        (report, (Visitor(),)),
        (lambda: 1, ()),
        (make("a")[0], (1,)),
    ]
    for function, args in calls:
        for make_key in (call_key, lesson["call_key"]):
            with pytest.raises(TypeError):
                make_key(function, args, {})


def test_the_notebook_shows_the_articles_key_as_it_is(lesson):
    assert lesson["pickled"](report, ("US",), {}) == pickled(report, ("US",), {})


def test_a_digest_has_128_bits():
    assert keys.DIGEST_BYTES * 8 == 128
