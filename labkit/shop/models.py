"""The shop's tables: users, their orders, and the lines of each order."""

from __future__ import annotations

import datetime

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The base of the shop's models."""


db = SQLAlchemy(model_class=Base)


class User(db.Model):  # type: ignore[name-defined, misc]
    """A customer, in one of the regions."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(80), unique=True)
    region: Mapped[str] = mapped_column(String(10))
    email: Mapped[str] = mapped_column(String(120))
    name: Mapped[str] = mapped_column(String(120))
    orders: Mapped[list[Order]] = relationship(back_populates="user", order_by="Order.id")


class Order(db.Model):  # type: ignore[name-defined, misc]
    """What a user ordered on one day."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    placed_on: Mapped[datetime.date]
    user: Mapped[User] = relationship(back_populates="orders")
    # An order comes with its lines, in the same statement.
    lines: Mapped[list[OrderLine]] = relationship(lazy="joined", order_by="OrderLine.position")


class OrderLine(db.Model):  # type: ignore[name-defined, misc]
    """One product of an order."""

    __tablename__ = "order_lines"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012  (SQLAlchemy's own convention)

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[str] = mapped_column(String(40))
    quantity: Mapped[int]
    unit_price_cents: Mapped[int]
