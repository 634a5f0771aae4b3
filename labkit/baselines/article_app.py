"""The article's application, as far as its start matters: where its tables are made, and when.

They are made where the module is run as a program. gunicorn imports it: then they are not, and
each request meets a database without tables. Made at the import, they would be there, but each
worker would have its own, as a database in memory is private to its process.
"""

from __future__ import annotations

from flask import Flask, Response, jsonify
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

USERS = 10_000
MOST = 1_000  # users in an answer

app = Flask("article")
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///:memory:"
db = SQLAlchemy(app)


class User(db.Model):  # type: ignore[name-defined, misc]
    """A user of a region."""

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(80), unique=True)
    region: Mapped[str] = mapped_column(String(10))


@app.get("/users/us")
def users_us() -> Response:
    """Answer with the first users of the US."""
    first = db.select(User).filter_by(region="US").order_by(User.id).limit(MOST)
    return jsonify(
        [{"id": user.id, "username": user.username} for user in db.session.scalars(first)]
    )


def seed() -> None:
    """Make the tables, and as many users."""
    with app.app_context():
        db.create_all()
        for number in range(USERS):
            db.session.add(User(username=f"user{number}", region="US" if number % 3 else "EU"))
        db.session.commit()


if __name__ == "__main__":
    seed()
    app.run()
