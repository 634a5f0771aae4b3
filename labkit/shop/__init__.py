"""The example application: a shop with users, orders and order lines."""

from labkit.shop.app import create_app
from labkit.shop.models import Order, OrderLine, User, db
from labkit.shop.queries import regional_report, regional_report_n_plus_one, users_by_region

__all__ = [
    "Order",
    "OrderLine",
    "User",
    "create_app",
    "db",
    "regional_report",
    "regional_report_n_plus_one",
    "users_by_region",
]
