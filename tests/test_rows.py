"""The shop's rows are the same on every machine, in every run and in every database."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from sqlalchemy import select

import labkit
from labkit.shop.models import db
from labkit.shop.rows import MOST_LINES, PRODUCTS, REGIONS, line_rows, order_rows, user_rows
from tests.helpers import REPOSITORY, environment

USERS, ORDERS = 200, 1000
# If this changes, so do the rows: raise SCHEMA_VERSION, and execute the notebooks again.
GOLDEN = "736094166ce709c43e31fa85fea3deb2b53384b0284a74592544ed8426bc2caa"


def digest(rows: Iterable[tuple[Any, ...]]) -> str:
    text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def generated_rows() -> Iterator[tuple[Any, ...]]:
    yield from user_rows(USERS)
    yield from order_rows(USERS, ORDERS)
    yield from line_rows(ORDERS)


def test_the_rows_are_the_golden_ones():
    assert digest(generated_rows()) == GOLDEN


@pytest.mark.parametrize("hash_seed", ["4242"])
def test_the_rows_do_not_depend_on_the_hash_seed(hash_seed):
    code = "from tests.test_rows import *; print(digest(generated_rows()))"
    printed = subprocess.check_output(
        [sys.executable, "-c", code],
        env=environment(PYTHONHASHSEED=hash_seed),
        cwd=REPOSITORY,
        text=True,
    )
    assert printed.strip() == GOLDEN


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_every_database_ends_up_with_these_rows(database, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    with labkit.start("fake", database, users=USERS, orders=ORDERS) as lab, lab.app.app_context():
        tables = [db.metadata.tables[name] for name in ("users", "orders", "order_lines")]
        stored = [
            tuple(row)
            for table in tables
            for row in db.session.execute(select(table).order_by(*table.primary_key))
        ]
        assert lab.rows == {
            "users": USERS,
            "orders": ORDERS,
            "order_lines": len(stored) - USERS - ORDERS,
        }
    assert digest(stored) == GOLDEN


def test_users_are_numbered_and_have_an_email_and_a_region():
    users = list(user_rows(USERS))
    assert [user[0] for user in users] == list(range(1, USERS + 1))
    assert [user[1] for user in users] == [f"user{n}" for n in range(1, USERS + 1)]
    assert [user[3] for user in users] == [f"u{n}@example.com" for n in range(1, USERS + 1)]
    assert {user[2] for user in users} == set(REGIONS)


def test_the_regions_have_their_shares_of_the_users():
    found = Counter(region for _, _, region, _, _ in user_rows(10_000))
    for region, share in REGIONS.items():
        assert found[region] / 10_000 == pytest.approx(share, abs=0.02)


def test_more_users_leave_the_first_ones_as_they_are():
    assert list(user_rows(2 * USERS))[:USERS] == list(user_rows(USERS))


def test_every_order_is_of_a_user_that_exists():
    orders = list(order_rows(USERS, ORDERS))
    assert [order[0] for order in orders] == list(range(1, ORDERS + 1))
    assert {order[1] for order in orders} <= set(range(1, USERS + 1))


def test_every_order_has_one_to_five_lines():
    lines = Counter(line[0] for line in line_rows(ORDERS))
    assert set(lines) == set(range(1, ORDERS + 1))
    assert set(lines.values()) == set(range(1, MOST_LINES + 1)) == {1, 2, 3, 4, 5}


def test_lines_are_numbered_from_one_and_can_be_added_up():
    expected = 1
    previous = 0
    for order_id, position, product, quantity, unit_price_cents in line_rows(ORDERS):
        expected = expected + 1 if order_id == previous else 1
        assert position == expected
        assert product in PRODUCTS
        assert quantity in (1, 2, 3)
        assert 300 <= unit_price_cents < 5000
        previous = order_id
