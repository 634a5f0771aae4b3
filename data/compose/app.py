"""The application of compose.yaml: one cached question, and what its cache says of itself."""

from __future__ import annotations

import os
from pathlib import Path

import redis
from flask import Flask, Response, jsonify
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from labkit.cache import QueryCache

db, cache = SQLAlchemy(), QueryCache()


@cache.query(ttl=60, tags=["answers"])
def answer() -> int:
    """Return what the database says."""
    return int(db.session.execute(text("SELECT 42")).scalar_one())


def create_app() -> Flask:
    """Return the application, with the Redis and the database of its environment."""
    app = Flask("shop")
    app.config.from_prefixed_env()  # such as FLASK_QUERY_CACHE_TIMEOUT_MS
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get("DATABASE_URL", "sqlite://")
    db.init_app(app)
    password = Path(os.environ["REDIS_PASSWORD_FILE"]).read_text().strip()
    client = redis.Redis.from_url(os.environ["REDIS_URL"], password=password)
    cache.init_app(app, db, client=client)

    @app.get("/")
    def index() -> Response:
        return jsonify(answer=answer(), hits=cache.stats.hits, misses=cache.stats.misses)

    return app
