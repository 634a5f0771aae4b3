"""`flask querycache`: what it prints of a cache, and what it changes there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

import labkit
from labkit.cache import QueryCache
from labkit.cache.commands import querycache
from labkit.lab import Lab
from labkit.shop import User, db
from tests.caches import PATIENT_APP
from tests.helpers import REPOSITORY

COUNT = select(func.count(User.id).label("users"))


@pytest.fixture(scope="module", params=["server", "fake"])
def lab(request: pytest.FixtureRequest, own_data: None) -> Iterator[Lab]:
    with labkit.start(request.param, users=5, orders=10) as lab:
        lab.app.config.update(PATIENT_APP)
        yield lab


@pytest.fixture
def cache(lab: Lab) -> Iterator[QueryCache]:
    lab.redis.flushdb()
    cache = QueryCache()
    cache.init_app(lab.app, db, client=lab.redis)
    yield cache
    cache.close()


def run(app: Flask, *args: str) -> Any:
    return app.test_cli_runner().invoke(querycache, args)


def the_key(lab: Lab) -> str:
    [key] = lab.redis.keys("*:select:*")
    assert isinstance(key, bytes)
    return key.decode()


def test_stats_are_those_of_the_processes_that_have_missed(lab, cache):
    with lab.app.app_context():
        cache.rows(COUNT, ttl=60)
        cache.rows(COUNT, ttl=60)
        cache._noted_at = 0.0  # a second later
        cache.rows(COUNT.where(User.id < 3), ttl=60)
    told = json.loads(run(lab.app, "stats", "--json").output)

    assert (told["processes"], told["hits"], told["misses"]) == (1, 1, 2)
    assert told["tags"] == 2  # the table's, and everything's
    assert "hits                1" in run(lab.app, "stats").output


def test_stats_before_anything_was_asked(lab, cache):
    assert json.loads(run(lab.app, "stats", "--json").output)["processes"] == 0


def test_invalidate_by_tag(lab, cache):
    with lab.app.app_context():
        cache.rows(COUNT, ttl=60)
        assert run(lab.app, "invalidate", "orders", "Users").output == "invalidated  orders Users\n"
        cache.rows(COUNT, ttl=60)
    assert (cache.stats.hits, cache.stats.misses) == (0, 2)
    assert json.loads(run(lab.app, "invalidate", "*", "--json").output) == {"invalidated": ["*"]}
    assert run(lab.app, "invalidate").exit_code == 2


def test_inspect_says_whether_an_entry_counts(lab, cache):
    with lab.app.app_context():
        cache.rows(COUNT, ttl=60)
    key = the_key(lab)
    about = json.loads(run(lab.app, "inspect", key, "--json").output)

    assert about["counts"] is True
    assert (about["tags"], about["value"]) == (["*", "users"], "[{'users': 5}]")
    assert 50 < about["seconds left"] <= 60
    assert about["bytes"] == lab.redis.strlen(key)

    cache.invalidate("users")
    about = json.loads(run(lab.app, "inspect", key, "--json").output)
    assert (about["counts"], about["tags"]) == (False, ["*", "(replaced)"])
    assert "tags          * (replaced)" in run(lab.app, "inspect", key).output


def test_inspect_takes_what_it_finds(lab, cache):
    lab.redis.set("foreign", b"\x80 no entry of ours")
    lab.redis.rpush("a list", "1")

    about = json.loads(run(lab.app, "inspect", "foreign", "--json").output)
    assert (about["counts"], about["value"]) == (False, "cannot be read")
    for key in ("nothing", "a list"):
        result = run(lab.app, "inspect", key)
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert result.output.startswith("Error: ")


def test_without_a_cache_or_a_redis_there_is_one_line(tmp_path: Path):
    app = Flask("shop")
    assert run(app, "stats").output == (
        "Error: This application has no query cache: call cache.init_app.\n"
    )
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    app.config["QUERY_CACHE_URL"] = f"unix://{tmp_path}/none"  # nobody else can take it
    cache = QueryCache()
    cache.init_app(app, db)
    try:
        for command in (["stats"], ["invalidate", "users"], ["inspect", "key"]):
            result = run(app, *command)
            assert (result.exit_code, result.output.count("\n")) == (1, 1)
            assert result.output.startswith("Error: Redis does not answer.")
    finally:
        cache.close()


def test_flask_finds_the_commands_by_their_entry_point(tmp_path: Path):
    [found] = entry_points(group="flask.commands", name="querycache")
    assert found.load() is querycache

    (tmp_path / "bare.py").write_text("from flask import Flask\napp = Flask('bare')\n")
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "bare", "querycache", "stats"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: This application has no query cache: call cache.init_app.\n"
