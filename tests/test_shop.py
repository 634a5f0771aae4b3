"""The shop: its queries, its routes and its databases, on SQLite and on PostgreSQL."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

import labkit
from labkit.lab import Lab
from labkit.shop import (
    Order,
    OrderLine,
    User,
    db,
    regional_report,
    regional_report_n_plus_one,
    users_by_region,
)
from labkit.shop.rows import REGIONS, line_rows, order_rows, user_rows

USERS, ORDERS = 300, 3000
DATABASES = ["sqlite", "postgres"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("data")
        patch.setenv("LABKIT_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module", params=DATABASES)
def lab(request, data) -> Iterator[Lab]:
    with labkit.start("fake", request.param, users=USERS, orders=ORDERS) as lab:
        yield lab


@pytest.fixture
def context(lab) -> Iterator[None]:
    with lab.app.app_context():
        yield


def expected_report(region: str) -> list[dict[str, int]]:
    """Compute a region's report from the generated rows, without a database."""
    members = {user[0] for user in user_rows(USERS) if user[2] == region}
    placed = {order[0]: order for order in order_rows(USERS, ORDERS) if order[1] in members}
    months: dict[int, dict[str, Any]] = {}
    for _, user_id, day in placed.values():
        month = months.setdefault(int(day[5:7]), {"orders": 0, "customers": set(), "revenue": 0})
        month["orders"] += 1
        month["customers"].add(user_id)
    for order_id, _, _, quantity, price in line_rows(ORDERS):
        if order_id in placed:
            months[int(placed[order_id][2][5:7])]["revenue"] += quantity * price
    return [
        {
            "month": number,
            "orders": month["orders"],
            "customers": len(month["customers"]),
            "revenue_cents": month["revenue"],
        }
        for number, month in sorted(months.items())
    ]


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("limit", [1, 7, USERS])
def test_users_by_region_are_the_first_by_id_in_one_statement(lab, context, region, limit):
    members = [user[0] for user in user_rows(USERS) if user[2] == region]
    with lab.observe(show=False) as seen:
        found = users_by_region(region, limit)
    assert [user.id for user in found] == members[:limit]
    assert seen.sql == 1
    assert "ORDER BY users.id" in seen.statements[0]


@pytest.mark.parametrize("region", REGIONS)
def test_the_report_is_what_plain_python_computes(lab, context, region):
    with lab.observe(show=False) as seen:
        report = regional_report(region)
    assert report == expected_report(region)
    assert seen.sql == 1
    assert {type(value) for row in report for value in row.values()} == {int}


@pytest.mark.parametrize("region", REGIONS)
def test_n_plus_one_gives_the_same_report_in_one_statement_more_than_users(lab, context, region):
    members = sum(user[2] == region for user in user_rows(USERS))
    with lab.observe(show=False) as seen:
        report = regional_report_n_plus_one(region)
    assert report == regional_report(region)
    assert seen.sql == 1 + members


def test_a_report_of_no_region_is_empty(context):
    assert regional_report("nowhere") == regional_report_n_plus_one("nowhere") == []


def test_the_route_of_users_answers_with_the_first_of_them(lab):
    answer = lab.app.test_client().get("/users/EU?limit=3")
    first = [user for user in user_rows(USERS) if user[2] == "EU"][:3]
    assert answer.status_code == 200
    assert answer.json == [{"id": user[0], "username": user[1]} for user in first]


def test_the_route_of_users_gives_all_without_a_limit(lab):
    answer = lab.app.test_client().get("/users/US")
    assert len(answer.json) == sum(user[2] == "US" for user in user_rows(USERS))


@pytest.mark.parametrize("route", ["report", "report-n-plus-one"])
def test_the_routes_of_reports_answer_with_the_report(lab, route):
    answer = lab.app.test_client().get(f"/{route}/LATAM")
    assert answer.status_code == 200
    assert answer.json == expected_report("LATAM")


@pytest.mark.parametrize(
    "path",
    [
        "/users/Mars",
        "/users/eu",
        "/report/Mars",
        "/report-n-plus-one/Mars",
        "/users/EU?limit=0",
        "/users/EU?limit=-1",
        "/users/EU?limit=1001",
        "/users/EU?limit=99999999999999999999",
        "/",
    ],
)
def test_what_does_not_exist_is_not_found_and_asks_nothing_of_the_database(lab, path):
    with lab.observe(show=False) as seen:
        assert lab.app.test_client().get(path).status_code == 404
    assert seen.sql == 0


@pytest.mark.parametrize("limit", ["ten", "1.5", "", "9" * 5000])
def test_a_limit_that_is_no_number_is_not_found(lab, limit):
    assert lab.app.test_client().get(f"/users/EU?limit={limit}").status_code == 404


def test_what_is_added_after_seeding_gets_the_next_ids(context):
    user = User(username="new", region="EU", email="new@example.com", name="New")
    order = Order(user=user, placed_on=func.current_date())
    db.session.add(order)
    db.session.commit()
    assert user.id > USERS
    assert order.id > ORDERS
    db.session.delete(order)
    db.session.delete(user)
    db.session.commit()


def test_an_order_of_nobody_is_refused(context):
    db.session.add(Order(user_id=10**6, placed_on=func.current_date()))
    with pytest.raises(IntegrityError):
        db.session.commit()
    db.session.rollback()


def test_a_line_of_no_order_is_refused(context):
    line = OrderLine(order_id=10**6, position=1, product="tea", quantity=1, unit_price_cents=1)
    db.session.add(line)
    with pytest.raises(IntegrityError):
        db.session.commit()
    db.session.rollback()


def test_a_user_who_has_orders_cannot_be_deleted(context):
    with pytest.raises(IntegrityError):
        db.session.execute(User.__table__.delete().where(User.id == 1))
    db.session.rollback()


def test_seeding_leaves_the_models_as_they_were(lab):
    # PostgreSQL gets its foreign keys after the rows: the next database must get them as well.
    for table in (Order.__table__, OrderLine.__table__):
        assert "FOREIGN KEY" in str(CreateTable(table))


def test_the_database_has_every_foreign_key_and_index_of_the_models(lab, context):
    inspector = inspect(db.engine)
    for table in db.metadata.sorted_tables:
        keys = {key["constrained_columns"][0] for key in inspector.get_foreign_keys(table.name)}
        assert keys == {key.parent.name for key in table.foreign_keys}
        names = {index["name"] for index in inspector.get_indexes(table.name)}
        assert names >= {index.name for index in table.indexes}
        assert inspector.get_pk_constraint(table.name)["constrained_columns"] == [
            column.name for column in table.primary_key
        ]


@pytest.mark.parametrize("database", DATABASES)
def test_two_labs_in_one_process_do_not_see_each_others_writes(data, database):
    first = labkit.start("fake", database, users=USERS, orders=ORDERS)
    second = labkit.start("fake", database, users=USERS, orders=ORDERS)
    with first, second:
        with first.app.app_context():
            user = db.session.get_one(User, 1)
            user.name = "changed"
            db.session.commit()
        with second.app.app_context():
            assert db.session.get_one(User, 1).name == next(user_rows(USERS))[4]
        with first.app.app_context():
            assert db.session.get_one(User, 1).name == "changed"
    with (
        labkit.start("fake", database, users=USERS, orders=ORDERS) as third,
        third.app.app_context(),
    ):
        assert db.session.scalar(select(User.name).where(User.id == 1)) != "changed"


# Imports go one way. Here only the text of the modules is read.

LABKIT = Path(labkit.__file__).parent
UPPER = {"lessons", "audit", "schedule", "cache", "measure", "lab", "cli", "doctor"}
MAY_NOT_IMPORT = {
    "servers": {f"labkit.{name}" for name in UPPER | {"shop"}},
    "shop": {f"labkit.{name}" for name in UPPER} | {"redis", "fakeredis", "valkey"},
    "measure": {f"labkit.{name}" for name in UPPER - {"measure", "schedule", "cache"}},
}


def imported_names(source: str) -> Iterator[str]:
    """Yield the full name of each module, or name of a module, that is imported anywhere."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "labkit imports by full names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_under(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


@pytest.mark.parametrize("package", MAY_NOT_IMPORT)
def test_imports_go_one_way(package):
    modules = list((LABKIT / package).rglob("*.py"))
    assert len(modules) > 1
    for module in modules:
        for name in imported_names(module.read_text()):
            assert name != "labkit", f"{module.name} imports all of labkit"
            for forbidden in MAY_NOT_IMPORT[package]:
                assert not is_under(name, forbidden), f"{module.name} imports {name}"


def test_an_import_the_wrong_way_would_be_seen():
    source = "def f():\n    from labkit import lessons\n    import redis.client\n"
    assert set(imported_names(source)) == {"labkit.lessons", "redis.client"}
    assert is_under("redis.client", "redis")
    assert not is_under("labkit.labels", "labkit.lab")
