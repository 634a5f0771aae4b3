"""Statements by the thousand: joins by relationship, inheritance of each kind, nested in each way.

Classes whose SQL reads tables that no statement names: a base class's, the one between two others,
a column_property's, those of what is loaded with an owner. `statements()` draws one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import (
    DeclarativeBase,
    Session,
    aliased,
    column_property,
    defer,
    immediateload,
    joinedload,
    load_only,
    mapped_column,
    relationship,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_polymorphic,
)


class Base(DeclarativeBase):
    __allow_unmapped__ = True
    id = mapped_column(sa.Integer, primary_key=True)


LABELLED = sa.Table(
    "labelled",
    Base.metadata,
    sa.Column("post_id", sa.ForeignKey("post.id"), primary_key=True),
    sa.Column("label_id", sa.ForeignKey("label.id"), primary_key=True),
)


class Label(Base):
    """Labels stand below labels, as in a tree."""

    __tablename__ = "label"
    above_id = mapped_column(sa.ForeignKey("label.id"))
    below = relationship("Label")


class Cat(Base):
    __tablename__ = "cat"
    posts = relationship("Post", back_populates="cat")
    places: Any
    rests: Any
    papers: Any
    spoken: Any
    ordered: Any


class Comment(Base):
    __tablename__ = "comment"
    post_id = mapped_column(sa.ForeignKey("post.id"))
    likes = relationship("Like", lazy="selectin")


class Like(Base):
    """Loaded with its comment, and with it the place, by a join."""

    __tablename__ = "liked"
    comment_id = mapped_column(sa.ForeignKey("comment.id"))
    place_id = mapped_column(sa.ForeignKey("place.id"))
    place = relationship("Place", lazy=False)


class Vote(Base):
    __tablename__ = "vote"
    post_id = mapped_column(sa.ForeignKey("post.id"))


class Log(Base):
    __tablename__ = "log"
    post_id = mapped_column(sa.ForeignKey("post.id"))


class Post(Base):
    __tablename__ = "post"
    cat_id = mapped_column(sa.ForeignKey("cat.id"))
    cat = relationship(Cat, back_populates="posts")
    comments = relationship(Comment)
    labels = relationship(Label, secondary=LABELLED)
    votes: Any
    logs: Any


Post.votes = column_property(
    sa.select(sa.func.count(Vote.id)).where(Vote.post_id == Post.id).scalar_subquery()
)
Post.logs = column_property(
    sa.select(sa.func.count(Log.id)).where(Log.post_id == Post.id).scalar_subquery(), deferred=True
)


class Place(Base):
    """Rest and Hotel have tables of their own, a Pub has none, a Bar is a Rest's subclass."""

    __tablename__ = "place"
    kind = mapped_column(sa.String)
    cat_id = mapped_column(sa.ForeignKey("cat.id"))
    cat = relationship(Cat, lazy="subquery")
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "place"}  # noqa: RUF012


class Pub(Place):
    __mapper_args__ = {"polymorphic_identity": "pub"}  # noqa: RUF012


class Rest(Place):
    __tablename__ = "rest"
    id = mapped_column(sa.ForeignKey("place.id"), primary_key=True)
    dish_id = mapped_column(sa.ForeignKey("dish.id"))
    dish = relationship("Dish", lazy="immediate")
    __mapper_args__ = {"polymorphic_identity": "rest"}  # noqa: RUF012


class Bar(Rest):
    __tablename__ = "bar"
    id = mapped_column(sa.ForeignKey("rest.id"), primary_key=True)
    __mapper_args__ = {"polymorphic_identity": "bar", "polymorphic_load": "inline"}  # noqa: RUF012


class Hotel(Place):
    __tablename__ = "hotel"
    id = mapped_column(sa.ForeignKey("place.id"), primary_key=True)
    stars = mapped_column(sa.Integer)
    __mapper_args__ = {"polymorphic_identity": "hotel", "polymorphic_load": "selectin"}  # noqa: RUF012


class Dish(Base):
    __tablename__ = "dish"


class Paper(ConcreteBase, Base):
    """Its subclass has a table that repeats its own."""

    __tablename__ = "paper"
    cat_id = mapped_column(sa.ForeignKey("cat.id"))
    __mapper_args__ = {"polymorphic_identity": "paper", "concrete": True}  # noqa: RUF012


class Map(Paper):
    __tablename__ = "map"
    id = mapped_column(sa.Integer, primary_key=True)
    cat_id = mapped_column(sa.ForeignKey("cat.id"))
    __mapper_args__ = {"polymorphic_identity": "map", "concrete": True}  # noqa: RUF012


Cat.places = relationship(Place, viewonly=True)
Cat.rests = relationship(Rest, viewonly=True)
Cat.papers = relationship(Paper, viewonly=True)

# A relationship to an aliased class over a join: the comments' tables are in no mapper of it.
SPOKEN = sa.join(Post, Comment, Comment.post_id == Post.id).join(Vote, Vote.post_id == Post.id)
SPOKEN_POST = aliased(Post, SPOKEN, flat=True)
Cat.spoken = relationship(SPOKEN_POST, primaryjoin=SPOKEN_POST.cat_id == Cat.id, viewonly=True)
Cat.ordered = relationship(
    Post,
    viewonly=True,
    order_by=sa.select(sa.func.count(Log.id)).where(Log.post_id == Post.id).scalar_subquery(),
)


def filled() -> sa.Engine:
    """Return a database in memory with a few rows of each class, so that loaders have work."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        cat = Cat()
        places: list[Place] = [kind(cat=cat) for kind in (Place, Pub, Hotel)]
        places += [kind(cat=cat, dish=Dish()) for kind in (Rest, Bar)]
        posts = [
            Post(cat=cat, labels=[Label(below=[Label()])], comments=[Comment()]) for _ in range(2)
        ]
        session.add_all([*places, *posts, Paper(), Map()])
        session.flush()
        for post in posts:
            post.comments[0].likes = [Like(place=place) for place in places]
            session.add_all([Vote(post_id=post.id), Log(post_id=post.id)])
        session.execute(sa.update(Base.metadata.tables["paper"]).values(cat_id=cat.id))
        session.execute(sa.update(Base.metadata.tables["map"]).values(cat_id=cat.id))
        session.commit()
    return engine


# Each way from one class to another, by relationship.
ROADS: dict[Any, list[Any]] = {
    Cat: [Cat.posts, Cat.places, Cat.rests, Cat.papers, Cat.spoken, Cat.ordered],
    Post: [Post.cat, Post.comments, Post.labels],
    Comment: [Comment.likes],
    Like: [Like.place],
    Place: [Place.cat],
    Pub: [Pub.cat],
    Rest: [Rest.cat, Rest.dish],
    Bar: [Bar.cat, Bar.dish],
    Hotel: [Hotel.cat],
    Label: [Label.below],
    Dish: [],
    Paper: [],
    Map: [],
}
SUBCLASSES: dict[Any, list[Any]] = {Place: [Pub, Rest, Bar, Hotel], Rest: [Bar], Paper: []}


@st.composite
def entities(draw: st.DrawFn) -> tuple[Any, Any]:
    """A class and what stands for it in a statement: itself, an alias, all of its subclasses."""
    kind = draw(st.sampled_from(list(ROADS)))
    forms = [lambda: kind, lambda: aliased(kind)]
    if SUBCLASSES.get(kind):
        forms.append(lambda: with_polymorphic(kind, "*"))
        forms.append(lambda: with_polymorphic(kind, [SUBCLASSES[kind][0]], flat=True))
    return kind, draw(st.sampled_from(forms))()


@st.composite
def flat(draw: st.DrawFn) -> tuple[Any, Any]:
    """A SELECT of ids, joined along relationships, and the column that it selects."""
    kind, entity = draw(entities())
    made = sa.select(entity.id)
    for _ in range(draw(st.integers(0, 2))):
        if not ROADS[kind]:
            break
        road = draw(st.sampled_from(ROADS[kind]))
        along = getattr(entity, road.key)
        target = road.property.mapper.class_
        how = draw(st.sampled_from(["join", "outer", "of_type", "any"]))
        if road.key == "spoken" and how == "of_type":
            how = "join"
        if how == "any":
            asked = along.any if road.property.uselist else along.has
            made = made.where(asked())
            continue
        if how == "of_type":
            chosen = draw(st.sampled_from([target, *SUBCLASSES.get(target, [])]))
            entity = aliased(chosen)
            made, target = made.join(along.of_type(entity)), chosen
        else:
            entity = target
            if road.key == "spoken":
                entity = SPOKEN_POST
            elif road.key != "cat":
                entity = aliased(target)
                along = along.of_type(entity)
            else:
                entity = aliased(Cat)
                along = along.of_type(entity)
            made = made.join(along, isouter=how == "outer")
        kind = target
    return kind, made.limit(draw(st.integers(1, 5)))


def _in(inner: Any) -> Any:
    label = aliased(Label)
    return sa.select(label.id).where(label.id.in_(inner))


def _exists(inner: Any) -> Any:
    return sa.select(aliased(Label).id).where(inner.exists())


def _subquery(inner: Any) -> Any:
    return sa.select(inner.subquery().c[0])


def _counted(inner: Any) -> Any:
    """As Flask-SQLAlchemy's db.paginate counts."""
    return sa.select(sa.func.count()).select_from(inner.subquery())


def _cte(inner: Any) -> Any:
    return sa.select(inner.cte().c[0])


def _scalar(inner: Any) -> Any:
    return sa.select(inner.limit(1).scalar_subquery()).select_from(aliased(Label))


def _union(inner: Any) -> Any:
    return sa.union_all(sa.select(inner.subquery().c[0]), sa.select(aliased(Label).id))


def _except(inner: Any) -> Any:
    both = sa.except_(sa.select(aliased(Label).id), sa.select(inner.subquery().c[0]))
    return sa.select(both.subquery().c[0])


def _ordered(inner: Any) -> Any:
    return sa.select(aliased(Label).id).order_by(inner.limit(1).scalar_subquery())


def _case(inner: Any) -> Any:
    label = aliased(Label)
    return sa.select(sa.case((label.id > 0, inner.limit(1).scalar_subquery()), else_=None))


def _grouped(inner: Any) -> Any:
    scalar = inner.limit(1).scalar_subquery()
    counted = sa.select(sa.func.count()).select_from(aliased(Label))
    return counted.group_by(scalar).having(scalar > 0)


def _window(inner: Any) -> Any:
    over = sa.func.row_number().over(partition_by=inner.limit(1).scalar_subquery())
    return sa.select(over).select_from(aliased(Label))


def _joined(inner: Any) -> Any:
    rows, label = inner.subquery(), aliased(Label)
    return sa.select(label.id).join(rows, rows.c[0] == label.id)


def _recursive(inner: Any) -> Any:
    start = sa.select(inner.subquery().c[0]).cte(recursive=True)
    more = start.union(sa.select(start.c[0] + 1).where(start.c[0] < 3))
    return sa.select(more.c[0])


NESTED: list[Callable[[Any], Any]] = [
    _in, _exists, _subquery, _counted, _cte, _scalar, _union, _except, _ordered, _case, _grouped,
    _window, _joined, _recursive,
]  # fmt: skip


@st.composite
def nests(draw: st.DrawFn) -> Callable[[Callable[[Any], Any]], Any]:
    """A function that puts a SELECT inside of up to three others, changed by what it is given."""
    _, innermost = draw(flat())
    wraps = draw(st.lists(st.sampled_from(NESTED), max_size=3))

    def build(change: Callable[[Any], Any]) -> Any:
        made = change(innermost)
        for wrap in wraps:
            made = wrap(made if isinstance(made, sa.Select) else sa.select(made.subquery().c[0]))
        return made

    return build


def nested() -> st.SearchStrategy[Any]:
    """A SELECT of columns, inside of up to three others."""
    return nests().map(lambda build: build(lambda innermost: innermost))


LOADERS = [selectinload, joinedload, subqueryload, immediateload]


@st.composite
def loading(draw: st.DrawFn) -> Any:
    """A SELECT of entities, with options that say what is loaded with them."""
    kind, entity = draw(entities())
    made = sa.select(entity)
    option = draw(st.none() | options(kind, entity))
    made = made if option is None else made.options(option)
    if draw(st.booleans()):
        made = made.where(entity.id.in_(draw(flat())[1]))
    return made


@st.composite
def options(draw: st.DrawFn, kind: Any, entity: Any) -> Any:
    """A loader option along up to three relationships, with what its end may say."""
    option: Any = None
    for _ in range(draw(st.integers(1, 3))):
        if not ROADS[kind]:
            break
        road = draw(st.sampled_from(ROADS[kind]))
        name = draw(st.sampled_from(LOADERS)).__name__
        target = road.property.mapper.class_
        along = getattr(entity, road.key)
        entity = target
        if SUBCLASSES.get(target) and draw(st.booleans()):
            kinds = draw(st.sampled_from(["*", SUBCLASSES[target][:1]]))
            entity = with_polymorphic(target, kinds, flat=True)
            along = along.of_type(entity)
        load = getattr(option, name) if option is not None else globals()[name]
        option, kind = load(along), target
        if road.key == "spoken":
            return option
    if option is not None and kind is Post and draw(st.booleans()):
        return draw(st.sampled_from([option.undefer(Post.logs), option.load_only(Post.id)]))
    if option is None and kind is Place and entity is Place:
        return selectin_polymorphic(Place, draw(st.sampled_from([[Rest], [Rest, Bar], [Hotel]])))
    if option is None and entity is Post:
        return draw(st.sampled_from([undefer(Post.logs), defer(Post.votes), load_only(Post.id)]))
    return option


def statements() -> st.SearchStrategy[Any]:
    """One of all of these."""
    return st.one_of(nested(), loading())
