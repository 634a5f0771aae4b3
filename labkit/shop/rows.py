"""The shop's rows, generated: the same ones on every machine, for the same numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator

SCHEMA_VERSION = 1  # raise it when a table or a row changes: databases are then made anew
SEED = 20260101
REGIONS = {"US": 0.4, "EU": 0.3, "APAC": 0.25, "LATAM": 0.05}  # with their shares of the users
YEAR = 2025
NAME_POOL = 400  # first names, and as many last names, asked of Faker
MOST_LINES = 5  # in one order
PRODUCTS = [
    f"{size} {tea}"
    for size in ("small", "medium", "large")
    for tea in ("Assam", "Ceylon", "Darjeeling", "Genmaicha", "Oolong", "Pu-erh", "Rooibos")
]

# Only Random.random() is used: Python promises its sequence for a seed, in every version.


def user_rows(users: int) -> Iterator[tuple[int, str, str, str, str]]:
    """Yield id, username, region, email and name of each user."""
    from faker import Faker  # slow to import, and needed only here

    faker = Faker("en_US")
    faker.seed_instance(SEED)
    first_names = [faker.first_name() for _ in range(NAME_POOL)]
    last_names = [faker.last_name() for _ in range(NAME_POOL)]
    rng = random.Random(f"{SEED} users").random
    for user_id in range(1, users + 1):
        name = f"{first_names[int(rng() * NAME_POOL)]} {last_names[int(rng() * NAME_POOL)]}"
        email = f"u{user_id}@example.com"
        yield user_id, f"user{user_id}", _region(rng()), email, name


def _region(point: float) -> str:
    for region, share in REGIONS.items():
        point -= share
        if point < 0:
            return region
    return region  # the shares add up to 1 but for rounding


def order_rows(users: int, orders: int) -> Iterator[tuple[int, int, str]]:
    """Yield id, user_id and placed_on (an ISO date) of each order."""
    rng = random.Random(f"{SEED} orders").random
    days = [f"{YEAR}-{month:02}-{day:02}" for month in range(1, 13) for day in range(1, 29)]
    for order_id in range(1, orders + 1):
        yield order_id, int(rng() * users) + 1, days[int(rng() * len(days))]


def line_rows(orders: int) -> Iterator[tuple[int, int, str, int, int]]:
    """Yield order_id, position, product, quantity and unit_price_cents of each order line."""
    rng = random.Random(f"{SEED} lines").random
    for order_id in range(1, orders + 1):
        for position in range(1, int(rng() * MOST_LINES) + 2):
            product = PRODUCTS[int(rng() * len(PRODUCTS))]
            yield order_id, position, product, int(rng() * 3) + 1, 300 + int(rng() * 4700)
