"""The codec: what is read is what was written, to the type; and nothing but data is read."""

from __future__ import annotations

import collections
import contextlib
import datetime
import enum
import hmac
import json
import pickle
import string
import uuid
import zoneinfo
from decimal import Decimal
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, literal, select
from sqlalchemy.sql.elements import quoted_name

from labkit.cache.codec import CorruptData, NotStorable, dumps, loads, register
from labkit.lessons.exercises import Outcome, judge
from labkit.lessons.lesson_03 import sealed
from labkit.shop import User

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class Status(enum.Enum):
    PAID = "paid"
    OPEN = "open"


class Size(enum.IntEnum):
    SMALL = 1


class Tea(enum.StrEnum):
    ASSAM = "Assam"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Span(enum.Enum):
    WEEK = (datetime.timedelta(days=7), Decimal("1.0"))


class Unknown(enum.Enum):
    ONE = 1


class Lost(enum.Enum):
    """Members that their values, read from somewhere, do not lead back to."""

    NAN = float("nan")
    INSIDE = ("NaN", float("nan"))
    FOUND = 1.5
    SAME = 1.5  # another name of FOUND


class Signalling(enum.Enum):
    NAN = Decimal("sNaN")


class Hidden(enum.Enum):
    ONE = "one"

    @property
    def value(self) -> str:  # what is stored is not what it is looked up by
        return "hidden"


class Listed(enum.Enum):
    A = [1, {"a": 2}]  # noqa: RUF012 - a value that cannot be hashed


class Loose(enum.Enum):
    A = "a"

    @classmethod
    def _missing_(cls, value: object) -> Loose:
        return cls.A


register(Status, Size, Tea, Rights, Span, Lost, Signalling, Hidden, Listed, Loose)


class Pair(NamedTuple):
    one: int
    two: int


class Number(int):
    pass


class Text(str):
    __slots__ = ()


offsets = st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23))
zones = (
    st.none()
    | st.just(datetime.UTC)
    | st.sampled_from(ZONES).map(zoneinfo.ZoneInfo)
    | st.builds(datetime.timezone, offsets)
    | st.builds(datetime.timezone, offsets, st.sampled_from(["CET", "", "x"]))
)


def can_be_key(value: Any) -> bool:
    return not (isinstance(value, Decimal) and value.is_snan())


folds = st.sampled_from([0, 1])
datetimes = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(), zones, folds,
)  # fmt: skip
times = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.times(), zones, folds
)
texts = st.text() | st.text(st.characters(categories=["Cs", "L"]), max_size=3)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | texts
    | st.binary()
    | st.decimals()
    | st.uuids()
    | datetimes
    | st.dates()
    | times
    | st.timedeltas()
    | st.sampled_from([*Status, *Size, *Tea, *Rights, *Span, Rights.READ | Rights.WRITE])
)
tag_like = st.sampled_from(["$", "$date", "$dict", "$rows", "$tuple", "$unknown", "$$", "a"])
keys = texts | tag_like | scalars.filter(can_be_key)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(tag_like, inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)
KINDS = [
    st.integers(), st.text(), st.decimals(), st.dates(), st.datetimes(), datetimes, st.floats(),
    st.uuids(), st.binary(), st.timedeltas(), times, scalars, st.lists(st.integers(), max_size=2),
]  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows with the same keys, each column of one kind, some of them null."""
    names = draw(st.lists(tag_like | st.text(max_size=3), unique=True, max_size=4))
    kinds = {name: draw(st.sampled_from(KINDS)) for name in names}
    kinds = {name: draw(st.sampled_from([kind, kind | st.none()])) for name, kind in kinds.items()}
    return draw(st.lists(st.fixed_dictionaries(kinds), max_size=5))


def exact(value: Any) -> Any:
    """Return what tells a value from any other: NaN equals itself here, 1 is not True."""
    if type(value) in (list, tuple):
        return type(value), [exact(item) for item in value]
    if type(value) is dict:
        return dict, [(exact(key), exact(item)) for key, item in value.items()]
    if isinstance(value, enum.Enum):
        return value
    if isinstance(value, datetime.datetime | datetime.time):
        return type(value), value.replace(tzinfo=None).isoformat(), value.fold, zone(value.tzinfo)
    return type(value), hex(value) if type(value) is int else repr(value)


def zone(tzinfo: datetime.tzinfo | None) -> Any:
    if isinstance(tzinfo, zoneinfo.ZoneInfo):
        return tzinfo.key
    return tzinfo and (tzinfo.utcoffset(None), tzinfo.tzname(None))


@given(values | tables())
@example([{"at": datetime.datetime(2025, 1, 1), "n": 1}] * 2)
@example([{"at": datetime.datetime(2025, 1, 1, tzinfo=BERLIN, fold=1), "n": 1}] * 2)
@example([{"at": datetime.datetime(2025, 1, 1, fold=1), "n": 1}] * 2)
@example([{"$date": "tomorrow"}, {"$date": "never"}])
@example([{"a": float("nan"), "b": 1.5}, {"a": None, "b": float("inf")}])
@example([{"a": Decimal(1), "b": 1}, {"a": None, "b": 2}, {"a": datetime.date.min, "b": 3}])
@example([{"a": 1}, {"b": 2}])
@example([{"a": 1, "b": Decimal(1)}, {"a": 2, "c": Decimal(2)}])
@example((1, [2, (3, [])]))
@example({"one": {"a": 1, "b": 2}, "two": {"a": 1, "b": 2}})
@example([{"a": 1, "b": Decimal(1)}, {"b": Decimal(1), "a": 1}])
@example({"$date": "tomorrow"})
@example({"$rows": [[], []]})
@example({1: "one", False: "no"})
@example([{1: 2, "b": Decimal(1)}])
@example(-0.0)
@example(10**5000)
@example("\ud83d\ude00")
def test_what_is_read_is_what_was_written(value: Any) -> None:
    assert exact(loads(dumps(value))) == exact(value)


@given(values)
def test_the_same_value_has_the_same_bytes(value: Any) -> None:
    assert dumps(loads(dumps(value))) == dumps(value)


@given(tables())
def test_writing_leaves_the_rows_alone(rows: list[dict[str, Any]]) -> None:
    before = exact(rows)
    dumps(rows)

    assert exact(rows) == before


@given(st.binary() | st.text().map(str.encode))
def test_whatever_the_bytes_there_is_a_value_or_corrupt_data(data: bytes) -> None:
    with contextlib.suppress(CorruptData):
        loads(data)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
TAGS = ["date", "datetime", "time", "timedelta", "decimal", "uuid", "bytes", "int", "float", "str"]
TAGS += ["tuple", "dict", "enum", "rows", "unknown"]


@given(st.sampled_from(TAGS), JSON | st.lists(JSON, min_size=2, max_size=2))
@example("datetime", ["2025-01-01T00:00:00", 0, "Europe"])  # a folder of zones
@example("datetime", ["2025-01-01T00:00:00", 0, "../../etc/passwd"])
@example("timedelta", [10**18, 0, 0])
@example("decimal", "one")
@example("enum", ["os.system", "true"])
def test_a_tag_with_anything_behind_it_is_a_value_or_corrupt_data(tag: str, content: Any) -> None:
    with contextlib.suppress(CorruptData):
        loads(json.dumps({f"${tag}": content}, separators=(",", ":")).encode())


@given(st.data())
def test_an_entry_that_was_cut_short_is_corrupt(data: st.DataObject) -> None:
    entry = dumps([{"at": datetime.datetime(2025, 1, 1), "n": Decimal("1.0")}])
    length = data.draw(st.integers(0, len(entry) - 1))

    with pytest.raises(CorruptData):
        loads(entry[:length])


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\x80\x04K\x01.",
        b"[1",
        b'{"$date":"yesterday"}',
        b'{"$enum":["builtins.exec","1"]}',
        b'{"$enum":["tests.test_codec.Status","gone"]}',
        b'{"$uuid":[1]}',
        b'{"$dict":[[[1],2]]}',
        b"[" * 2000 + b"]" * 2000,
    ],
)
def test_foreign_bytes_are_corrupt_data(entry: bytes) -> None:
    with pytest.raises(CorruptData, match="that this codec did not write"):
        loads(entry)


def test_a_pickle_is_not_run() -> None:
    entry = b"cbuiltins\nexec\n(S'import labkit; labkit.was_here = True'\ntR."

    with pytest.raises(CorruptData):
        loads(entry)


def test_text_is_not_bytes() -> None:
    with pytest.raises(TypeError, match="decode_responses"):
        loads("[]")  # type: ignore[arg-type]


cycle: list[Any] = []
cycle.append(cycle)
deep: Any = None
for _ in range(5000):
    deep = [deep]


class FixedZone(datetime.tzinfo):
    def utcoffset(self, _: Any) -> datetime.timedelta:
        return datetime.timedelta(0)

    dst = tzname = utcoffset  # type: ignore[assignment]


row = create_engine("sqlite://").connect().execute(select(literal(1).label("n"))).one()
REFUSED = [
    (row, "sqlalchemy.engine.row.Row cannot be stored"),
    (User(id=1), "labkit.shop.models.User cannot be stored"),
    (Pair(1, 2), "Pair cannot be stored"),
    (collections.OrderedDict(a=1), "collections.OrderedDict cannot be stored"),
    (collections.defaultdict(int, a=1), "collections.defaultdict cannot be stored"),
    (Number(1), "Number cannot be stored"),
    (Text("a"), "Text cannot be stored"),
    ({Text("a"): 1}, "Text cannot be stored"),
    ([{Text("a"): 1, "b": 2}], "Text cannot be stored"),
    ([{"a": 1, "b": 2}, collections.OrderedDict(a=1, b=2)], "OrderedDict cannot be stored"),
    ({1, 2}, "builtins.set cannot be stored"),
    (bytearray(b"a"), "builtins.bytearray cannot be stored"),
    (1j, "builtins.complex cannot be stored"),
    (len, "builtins.builtin_function_or_method cannot be stored"),
    (Unknown.ONE, "register(Unknown), or store its .value"),
    (Lost.NAN, "NAN: nan> cannot be stored: its value does not lead back to it"),
    (Lost.INSIDE, "does not lead back to it. Give it another value, or store its name"),
    (Signalling.NAN, "does not lead back to it"),
    (Hidden.ONE, "does not lead back to it"),
    (quoted_name("a", True), "quoted_name cannot be stored"),
    (datetime.datetime(2025, 1, 1, tzinfo=FixedZone()), "use zoneinfo.ZoneInfo, or UTC"),
    (cycle, "contains itself"),
    (deep, "nested too deeply"),
]


@pytest.mark.parametrize(("value", "words"), REFUSED, ids=lambda value: str(type(value).__name__))
@pytest.mark.parametrize("wrap", ["alone", "in a row", "beside a date"])
def test_what_would_not_come_back_is_refused(value: Any, words: str, wrap: str) -> None:
    today = datetime.date(2025, 7, 1)
    wrapped = {
        "alone": value,
        "in a row": [{"id": 1, "what": value}] * 2,
        "beside a date": [{"day": today, "what": value}, {"day": today, "what": value}],
    }[wrap]

    with pytest.raises(NotStorable) as refusal:
        dumps(wrapped)

    assert words in str(refusal.value)


def test_a_redefined_enum_must_be_registered_again() -> None:
    def define() -> type[enum.Enum]:
        class Again(enum.Enum):
            A = 1

        return Again

    old, new = define(), define()
    register(old, new)

    with pytest.raises(NotStorable):
        dumps(old["A"])
    assert loads(dumps(new["A"])) is new["A"]


def test_orjson_alone_loses_what_the_codec_keeps() -> None:
    values = [(1, 2), uuid.UUID(int=7), Status.PAID, Tea.ASSAM, float("nan")]

    assert all(type(orjson.loads(orjson.dumps(value))) is not type(value) for value in values)
    assert all(exact(loads(dumps(value))) == exact(value) for value in values)


def test_rows_hold_their_tags_once() -> None:
    rows = [{"id": n, "day": datetime.date(2025, 7, 1), "price": Decimal(n)} for n in range(100)]
    entry = dumps(rows)

    assert entry.count(b"$") == 3
    assert loads(entry) == rows
    assert len(entry) < 2 * len(pickle.dumps(rows))


def test_plain_rows_are_plain_json() -> None:
    rows = [{"id": n, "name": string.ascii_letters, "cost": "$5", "none": None} for n in range(9)]

    assert dumps(rows) == orjson.dumps(rows)
    assert loads(dumps(rows)) == rows


def test_what_an_enums_value_leads_back_to_is_stored() -> None:
    for member in (Lost.FOUND, Lost.SAME, Listed.A, Loose.A):
        assert loads(dumps([member, {member.name: member}])) == [member, {member.name: member}]


def test_an_enum_that_is_refused_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(NotStorable):
            dumps({Lost.NAN: 1})


cats = Table("cats", MetaData(), Column("id", Integer), Column("name", String))


def core_rows(table: Table, *columns: str) -> list[dict[str, Any]]:
    """Return rows of a Core table, as the message of the codec says to make them."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        cats.create(connection)
        connection.execute(cats.insert(), [{"id": n, "name": f"cat {n}"} for n in range(3)])
        if table is not cats:
            table = Table("cats", MetaData(), autoload_with=connection)
        selected = connection.execute(select(*(table.c[name] for name in columns)))
        return [dict(row._mapping) for row in selected]


@pytest.mark.parametrize("columns", [("id", "name"), ("name",)])
@pytest.mark.parametrize("table", [cats, Table("reflected", MetaData())], ids=lambda t: t.name)
def test_rows_of_a_core_table_are_stored(table: Table, columns: tuple[str, ...]) -> None:
    rows = core_rows(table, *columns)
    assert {type(key) for row in rows for key in row} == {quoted_name}
    today = datetime.date(2025, 7, 1)
    mixed = [*rows, {"id": 9, "name": None}]
    for value in (rows, rows[0], [{**row, "day": today} for row in rows], mixed, (rows, [rows])):
        entry = dumps(value)
        assert exact(loads(entry)) == exact(without_quotes(value))
        assert entry == dumps(without_quotes(value))
    assert {type(key) for row in rows for key in row} == {quoted_name}, "the rows were changed"


def without_quotes(value: Any) -> Any:
    if isinstance(value, dict):
        return {"".join(key): without_quotes(item) for key, item in value.items()}
    return type(value)(map(without_quotes, value)) if type(value) in (list, tuple) else value


def test_a_core_tables_name_can_look_like_a_tag() -> None:
    tagged = {quoted_name("$date", None): "tomorrow"}

    assert loads(dumps(tagged)) == loads(dumps([tagged])[1:-1]) == tagged


def test_rows_of_another_kind_beside_those_of_a_core_table_are_refused() -> None:
    rows: list[Any] = core_rows(cats, "id", "name")

    with pytest.raises(NotStorable, match="OrderedDict cannot be stored"):
        dumps([*rows, collections.OrderedDict(rows[0])])


same = hmac.compare_digest


def by_another_name(key: str, entry: bytes, secrets: list[bytes]) -> bytes | None:
    payload = entry[32:]
    return payload if any(same(entry, sealed(key, payload, each)) for each in secrets) else None


def two_functions_deep(key: str, entry: bytes, secrets: list[bytes]) -> bytes | None:
    def fits(secret: bytes) -> bool:
        made = sealed(key, entry[32:], secret)
        return all(hmac.compare_digest(entry[:n], made[:n]) for n in (32, len(entry)))

    return entry[32:] if any(map(fits, secrets)) else None


@pytest.mark.parametrize("opened", [by_another_name, two_functions_deep])
def test_however_compare_digest_is_called_an_answer_to_03_3_is_right(opened: Any) -> None:
    assert judge("03.3", opened)[0] is Outcome.RIGHT
