"""Exercises of lesson 01, The baseline query."""

from __future__ import annotations

import datetime
import re
from typing import Any

from sqlalchemy import Select, create_engine, insert, text
from sqlalchemy.orm import Session

from labkit.lessons.exercises import Exercise, Raised, Wrong, call
from labkit.shop.models import Order, db

FORMAT = re.compile(r"\d+\.\d ms")


def _examine_milliseconds(answer: Any) -> None:
    for seconds, expected in [(0.0062, "6.2 ms"), (0.25, "250.0 ms"), (1.5, "1500.0 ms")]:
        got = call(answer, seconds)
        if not isinstance(got, str):
            raise Wrong(f"{seconds} s gave {got!r}, which is not text. It should be {expected!r}.")
        if got != expected and not FORMAT.fullmatch(got):
            raise Wrong(f"{seconds} s gave {got!r}: write it as {expected!r}, one decimal, a unit.")
        if got != expected:
            raise Wrong(f"{seconds} s gave {got!r}. A second has 1,000 milliseconds: {expected!r}.")


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _examine_newest_orders(answer: Any) -> None:
    statement = call(answer, 6)
    if not isinstance(statement, Select):
        kind = type(statement).__name__
        raise Wrong(f"it should return a db.select() statement, and returned a {kind}.")
    if statement.column_descriptions[0]["name"] not in ("Order", "id"):
        raise Wrong("it should select whole orders: db.select(Order).")
    # The same eight orders of two days, stored in two orders of insertion.
    first, second = (_ids(statement, reverse) for reverse in (False, True))
    if len(first) != 6:
        raise Wrong(f"of eight orders, newest_orders(6) gave {len(first)}.")
    for found in (first, second):
        if set(found[:4]) != {2, 4, 6, 8}:
            raise Wrong(f"orders 2, 4, 6 and 8 are the newest, and it gave {found} in this order.")
    if first != second:
        raise Wrong(
            f"two databases with the same rows, stored in another order, gave {first} and {second}."
            " Orders of one day are tied: what breaks the tie?"
        )


def _ids(statement: Select[Any], reverse: bool) -> list[int]:
    """Run a statement on eight orders, stored in one order of insertion or the other."""
    engine = create_engine("sqlite://")
    db.metadata.create_all(engine)
    days = {n: datetime.date(2025, 1, 1 if n % 2 else 2) for n in range(1, 9)}
    rows = [{"id": n, "user_id": 1, "placed_on": days[n]} for n in sorted(days, reverse=reverse)]
    with Session(engine) as session:
        # Without a primary key, the table gives its rows as they were stored.
        session.execute(text("DROP TABLE orders"))
        session.execute(text("CREATE TABLE orders (id INT, user_id INT, placed_on DATE)"))
        session.execute(insert(Order.__table__), rows)
        try:
            found = session.execute(statement).unique().all()
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise Raised(f"{type(error).__name__}: {reason}, when its statement was run.") from None
        return [row[0].id if isinstance(row[0], Order) else row[0] for row in found]


def newest_orders(limit):  # type: ignore[no-untyped-def]  # shown to learners as it stands
    return db.select(Order).order_by(Order.placed_on.desc(), Order.id.desc()).limit(limit)


def _examine_worth_caching(answer: Any) -> None:
    names = ("login", "search", "report")
    cases = [
        ((10_000, 500, 20), (1, 8, 300)),  # the most frequent
        ((10_000, 900, 20), (0.3, 8, 300)),  # neither
        ((10, 30, 9), (0.3, 8, 300)),  # the slowest
    ]
    for counts, medians in cases:
        calls = dict(zip(names, counts, strict=True))
        ms = dict(zip(names, medians, strict=True))
        got = call(answer, calls, ms)
        totals = {name: calls[name] * ms[name] for name in calls}
        best = max(totals, key=lambda name: totals[name])
        if got == best:
            continue
        if not isinstance(got, str) or got not in totals:
            raise Wrong(f"it should return one of the names {', '.join(totals)}, and gave {got!r}.")
        raise Wrong(
            f"with calls {calls} and ms {ms} it gave {got!r}, which takes "
            f"{totals[got]:,.0f} ms in all; {best!r} takes {totals[best]:,.0f} ms."
        )


def worth_caching(calls: dict[str, int], ms: dict[str, float]) -> str:
    return max(calls, key=lambda name: calls[name] * ms[name])


EXERCISES = {
    "01.1": Exercise(
        ask="Write milliseconds(seconds), which gives text such as '6.2 ms'.",
        examine=_examine_milliseconds,
        praise="the number and its unit agree.",
        hints=(
            "time.perf_counter() counts seconds. How many milliseconds is one?",
            "An f-string formats with one decimal like this: f'{number:.1f}'.",
        ),
        solution=milliseconds,
    ),
    "01.2": Exercise(
        ask="Write newest_orders(limit): a statement whose rows are the same everywhere.",
        examine=_examine_newest_orders,
        praise="every tie is broken, so the database has no choice left.",
        hints=(
            "Newest first: order by placed_on, descending.",
            "Many orders share a day. Add a column to the ordering that no two orders share.",
            "order_by(Order.placed_on.desc(), ...) takes several columns.",
        ),
        solution=newest_orders,
    ),
    "01.3": Exercise(
        ask="Write worth_caching(calls, ms): the query that takes the most time in all.",
        examine=_examine_worth_caching,
        praise="neither the slowest nor the most frequent as such: the product decides.",
        hints=(
            "What a query costs in all is its calls times its milliseconds.",
            "max(calls, key=...) finds the name for which a function of it is largest.",
        ),
        solution=worth_caching,
    ),
}
