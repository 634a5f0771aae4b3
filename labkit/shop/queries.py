"""The queries that the lessons cache."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import extract, func, select

from labkit.shop.models import Order, OrderLine, User, db

ReportRow = dict[str, int]


def users_by_region(region: str, limit: int = 1000) -> list[User]:
    """Return a region's first users by id: the article's query, made deterministic.

    Without ORDER BY, which rows a LIMIT keeps is up to the database.
    """
    statement = select(User).where(User.region == region).order_by(User.id).limit(limit)
    return list(db.session.scalars(statement))


def regional_report(region: str) -> list[ReportRow]:
    """Return a region's sales by month: one heavy statement over users, orders and their lines.

    Returns:
        One row a month: month (1 to 12), orders, customers, revenue_cents.
    """
    month = extract("month", Order.placed_on).label("month")
    statement = (
        select(
            month,
            func.count(Order.id.distinct()).label("orders"),
            func.count(Order.user_id.distinct()).label("customers"),
            func.sum(OrderLine.quantity * OrderLine.unit_price_cents).label("revenue_cents"),
        )
        .join_from(User, Order, Order.user_id == User.id)
        .join(OrderLine, OrderLine.order_id == Order.id)
        .where(User.region == region)
        .group_by(month)
        .order_by(month)
    )
    return [
        {name: int(value) for name, value in row.items()}  # PostgreSQL sums to Decimal
        for row in db.session.execute(statement).mappings()
    ]


def regional_report_n_plus_one(region: str) -> list[ReportRow]:
    """Return the same report as `regional_report`, by a loop over the region's users."""
    orders: dict[int, int] = defaultdict(int)
    customers: dict[int, set[int]] = defaultdict(set)
    revenue_cents: dict[int, int] = defaultdict(int)
    for user in db.session.scalars(select(User).where(User.region == region)).all():
        for order in user.orders:
            month = order.placed_on.month
            orders[month] += 1
            customers[month].add(user.id)
            revenue_cents[month] += sum(
                line.quantity * line.unit_price_cents for line in order.lines
            )
    return [
        {
            "month": month,
            "orders": orders[month],
            "customers": len(customers[month]),
            "revenue_cents": revenue_cents[month],
        }
        for month in sorted(orders)
    ]
