"""The shop: `flask --app sample_shop.app run`."""

import os
from datetime import date

from flask import Flask, abort, jsonify, request

from sample_shop.cache import invalidate
from sample_shop.models import Book, books_of, db

BOOKS = [
    ("Emma", "novel", date(1815, 12, 23), 1250),
    ("Dracula", "novel", date(1897, 5, 26), 990),
    ("Walden", "essay", date(1854, 8, 9), 1100),
]


def create_app(database_url=None):
    """Return the application; a new database gets a few books."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = (
        database_url or os.environ.get("DATABASE_URL") or "sqlite:///bookshop.db"
    )
    db.init_app(app)
    with app.app_context():
        db.create_all()
        if db.session.query(Book).count() == 0:
            for title, genre, published, price_cents in BOOKS:
                book = Book(title=title, genre=genre, published=published, price_cents=price_cents)
                db.session.add(book)
            db.session.commit()

    @app.get("/books")
    def books():
        return jsonify(books_of(request.args.get("genre", "novel")))

    @app.post("/books/<int:book_id>/price")
    def set_price(book_id):
        book = db.session.get(Book, book_id) or abort(404)
        book.price_cents = int(request.json["price_cents"])
        db.session.commit()
        invalidate(books_of, book.genre)
        return jsonify(id=book.id, price_cents=book.price_cents)

    return app
