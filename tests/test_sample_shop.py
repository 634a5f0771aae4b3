"""The sample shop works when it is run by hand, and its cache fails as lesson 14 says."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from labkit.audit.run import CAN_FORK
from labkit.servers import Keeper, start_redis
from tests.test_lesson_14 import mended

DATA = Path(__file__).parents[1] / "data"
MODULES = ("sample_shop", "sample_shop.cache", "sample_shop.models", "sample_shop.app")
GENRE = "/books?genre=novel"

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="the wheel's Redis is for Linux and macOS")


@pytest.fixture
def url() -> Iterator[str]:
    keeper = Keeper()
    try:
        url: str = start_redis("wheel", keeper).url
        yield url
    finally:
        keeper.close()


@pytest.fixture
def shop(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.syspath_prepend(str(DATA))
    app = importlib.import_module("sample_shop.app").create_app(f"sqlite:///{tmp_path}/books.db")
    try:
        yield app.test_client()
    finally:
        for name in MODULES:  # its Redis ends with this test
            del sys.modules[name]


@pytest.fixture
def mended_shop(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    """Give the same application, with lesson 14's cache in place of its own."""
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.syspath_prepend(str(DATA))
    names, cache = mended(), types.ModuleType("sample_shop.cache")
    vars(cache).update(cached=names["mended"], invalidate=names["invalidate"])
    monkeypatch.setitem(sys.modules, "sample_shop.cache", cache)
    app = importlib.import_module("sample_shop.app").create_app(f"sqlite:///{tmp_path}/books.db")
    try:
        yield app.test_client()
    finally:
        names["cache"]().close()
        for name in MODULES:
            sys.modules.pop(name, None)


def titles(shop: FlaskClient) -> list[Any]:
    return [(book["title"], book["price"]) for book in shop.get(GENRE).json or []]


def test_it_lists_books_from_the_cache(shop: FlaskClient, url: str) -> None:
    first, again = titles(shop), titles(shop)

    assert first == again == [("Dracula", "9.9"), ("Emma", "12.5")]
    assert redis.Redis.from_url(url).keys() == [b"bookshop:books_of:novel"]


def test_a_new_price_is_seen_at_once(shop: FlaskClient) -> None:
    titles(shop)
    answer = shop.post("/books/2/price", json={"price_cents": 1300})

    assert answer.json == {"id": 2, "price_cents": 1300}
    assert titles(shop) == [("Emma", "12.5"), ("Dracula", "13")]
    assert shop.post("/books/9/price", json={"price_cents": 1}).status_code == 404


def test_invalidate_without_arguments_forgets_all_calls(shop: FlaskClient, url: str) -> None:
    for genre in ("novel", "essay"):
        shop.get(f"/books?genre={genre}")
    cache, models = sys.modules["sample_shop.cache"], sys.modules["sample_shop.models"]
    cache.invalidate(models.books_of)

    assert redis.Redis.from_url(url).keys() == []


def test_its_flaw_can_be_seen_in_a_browser(shop: FlaskClient) -> None:
    """A hit gives a date in another form than a miss."""
    listed: list[Any] = [shop.get(GENRE).json for _ in ("miss", "hit")]
    miss, hit = (books[0]["published"] for books in listed)

    assert (miss, hit) == ("Wed, 26 May 1897 00:00:00 GMT", "1897-05-26")


def test_the_mended_cache_serves_the_same_shop(mended_shop: FlaskClient) -> None:
    first, again = (mended_shop.get(GENRE).json for _ in range(2))

    assert first == again
    mended_shop.post("/books/2/price", json={"price_cents": 1300})
    assert titles(mended_shop) == [("Emma", "12.5"), ("Dracula", "13")]


def test_the_mended_cache_is_used(mended_shop: FlaskClient, url: str) -> None:
    mended_shop.get(GENRE)
    [key] = redis.Redis.from_url(url).keys("bookshop:v1:*")
    redis.Redis.from_url(url).delete(key)

    assert titles(mended_shop) == [("Dracula", "9.9"), ("Emma", "12.5")]
    assert redis.Redis.from_url(url).exists(key)
