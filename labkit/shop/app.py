"""The application factory, with a route for each query."""

from __future__ import annotations

from flask import Flask, Response, abort, jsonify, request
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from labkit.shop.models import db
from labkit.shop.queries import regional_report, regional_report_n_plus_one, users_by_region
from labkit.shop.rows import REGIONS

MOST_USERS = 1000  # rows in one answer


def create_app(database_url: str) -> Flask:
    """Return the shop as a Flask application on the given database.

    Args:
        database_url: an SQLAlchemy URL.
    """
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db.init_app(app)
    with app.app_context():
        prepare_engine(db.engine)

    @app.get("/users/<region>")
    def users(region: str) -> Response:
        limit = MOST_USERS
        if "limit" in request.args:
            limit = request.args.get("limit", 0, type=int)  # 0 too for what is no number
        if region not in REGIONS or not 1 <= limit <= MOST_USERS:
            abort(404)
        found = users_by_region(region, limit)
        return jsonify([{"id": user.id, "username": user.username} for user in found])

    @app.get("/report/<region>")
    def report(region: str) -> Response:
        if region not in REGIONS:
            abort(404)
        return jsonify(regional_report(region))

    @app.get("/report-n-plus-one/<region>")
    def report_n_plus_one(region: str) -> Response:
        if region not in REGIONS:
            abort(404)
        return jsonify(regional_report_n_plus_one(region))

    return app


def prepare_engine(engine: Engine) -> None:
    """Have SQLite keep foreign keys, as every other database does, and not wait for the disk."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_connection)


def _prepare_connection(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    # A lab's database is a copy: after a power cut there is nothing to lose but the copy.
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()
