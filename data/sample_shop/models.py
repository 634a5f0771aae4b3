"""The shop's books."""

from decimal import Decimal

from flask_sqlalchemy import SQLAlchemy

from sample_shop.cache import cached

db = SQLAlchemy()


class Book(db.Model):
    """A book, and what it costs."""

    id = db.Column(db.Integer, primary_key=True)
    title = db.Column(db.String(100), nullable=False)
    genre = db.Column(db.String(20), nullable=False, index=True)
    published = db.Column(db.Date, nullable=False)
    price_cents = db.Column(db.Integer, nullable=False)


@cached(ttl=600)
def books_of(genre):
    """Return the books of a genre, the cheapest first."""
    books = db.select(Book).filter_by(genre=genre).order_by(Book.price_cents, Book.id)
    return [
        {
            "id": book.id,
            "title": book.title,
            "published": book.published,
            "price": Decimal(book.price_cents) / 100,
        }
        for book in db.session.scalars(books)
    ]
