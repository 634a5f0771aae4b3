"""What probes have cached: functions of a module, as an application has them.

Each runs a real SELECT, so that what the cache spares can be counted.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, inspect, select
from sqlalchemy.orm import Session

from labkit.audit.site import current
from labkit.shop.models import User

# What an application returns. Each comes back from a cache as it was, or the cache is another API.
VALUES: dict[str, Any] = {
    "None": None,
    "an empty list": [],
    "an empty dict": {},
    "an empty text": "",
    "zero": 0,
    "False": False,
    "rows": [{"id": 1, "region": "EU"}, {"id": 2, "region": "US"}],
    "a float": 0.1,
    "a Decimal": Decimal("12.50"),
    "a date": datetime.date(2025, 7, 1),
    "a datetime": datetime.datetime(2025, 7, 1, 12, 30, 15, 123456),
    "bytes": b"\x00\xff",
    "a time": datetime.time(12, 30),
    "an instant": datetime.datetime(2025, 7, 1, 12, 30, tzinfo=datetime.UTC),
    "a timedelta": datetime.timedelta(days=1, microseconds=1),
    "a UUID": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "a tuple": (1, 2),
    "a set": {1, 2},
    "a large integer": 2**70,
    "a dict by number": {1: "EU", 2: "US"},
    "rows of a report": [{"day": datetime.date(2025, 7, 1), "total": Decimal("0.10")}, None],
}


def region_of(user: int) -> str:
    """Return a user's region."""
    return current().region(user)


def region_of_buyer(user: int) -> str:
    """Return a buyer's region: this function's name begins as another's does."""
    return current().region(user)


def region_in_session(user: int) -> str:
    """Return a user's region as the application's session has it."""
    session = current().place.db.session
    region: str = session.execute(select(User.region).where(User.id == user)).scalar_one()
    return region


def value_named(name: str) -> Any:
    """Return one of `VALUES`."""
    current().region(1)
    return VALUES[name]


def rows_of(user: int) -> list[dict[str, Any]]:
    """Return a list, which its caller may change."""
    return [{"id": user, "region": current().region(user)}]


def size_of(name: str, parts: Any) -> str:
    """Return how many parts there are, which their order does not decide."""
    current().region(1)
    return f"{name} of {len(parts)}"


def describe(first: Any, second: Any = None) -> str:
    """Return a text that no other arguments give."""
    current().region(1)
    return f"{first!r} and {second!r}"


def both(first: Any, second: Any) -> str:
    """Return a text that no other arguments give, without a SELECT."""
    return f"{first!r} and {second!r}"


def order_of(*parts: Any, **named: Any) -> str:
    """Return a text that no other arguments give: the function takes any."""
    current().region(1)
    return f"{parts!r} and {sorted(named.items())!r}"


@dataclasses.dataclass(frozen=True)
class Shelf:
    """Something with a method, whose answer depends on what it holds."""

    region: str

    def label(self, user: int) -> str:
        """Return a text that no other shelf gives."""
        current().region(user)
        return f"{self.region} {user}"


def rows_selected(statement: Select[Any]) -> list[str]:
    """Run a statement, and return a text for each row: of plain values, and of what is loaded.

    As a listener for tenants does, it goes by an execution option of the statement's.
    """
    tenant = statement.get_execution_options().get("tenant")
    if tenant is not None:
        statement = statement.where(User.id == tenant)
    with Session(current().engine) as session:
        return [" ".join(map(_shown, row)) for row in session.execute(statement)]


def _shown(value: Any) -> str:
    if not isinstance(value, User):
        return str(value)
    loaded = "orders" not in inspect(value).unloaded
    return f"user{value.id} {'with' if loaded else 'without'} orders"
