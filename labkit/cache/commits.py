"""Invalidation at the right moment, after the root commit, and of what the session has written.

The root transaction is the outermost one. Its commit is the moment from which others can read what
was written; nothing may be invalidated before, or a reader refills the cache with the old row.
SQLAlchemy's `after_commit` also comes when a SAVEPOINT is released, long before that moment.
(https://docs.sqlalchemy.org/en/21/orm/session_events.html)

What nobody tells a session, and what its owner must therefore invalidate by hand: `text()`,
statements on a connection, INSERT, UPDATE or DELETE inside a CTE, `bulk_save_objects` and its
kin, triggers and ON DELETE CASCADE, other programs. A process that dies after its commit and before
its callbacks tells nobody either: the TTL is what is left. And a session that was given a
connection with a transaction of its own commits before that transaction does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, scoped_session

WAITING = "labkit.cache.commits"  # where a session keeps what waits, in its `info`

AnySession = Session | scoped_session[Any]
Callback = Callable[..., object]


class _Waiting:
    """What a session calls when its root transaction has been committed."""

    def __init__(self) -> None:
        self.names: dict[Callback, dict[str, None]] = {}  # in the order of the first mention
        self.committed = False


def after_root_commit(session: AnySession, callback: Callback, *names: str) -> None:
    """Call `callback(*names)` once the session's root transaction has been committed.

    If that is rolled back, or the session closed without a commit, nothing is called. The rollback
    of a SAVEPOINT changes nothing: it costs a needless miss, where forgetting would cost the truth.
    Several requests with one callback become one call, with the names of all.

    What a callback raises comes out of `session.commit()`, after every other callback was called.
    The commit stands, and the session can be used.

    Args:
        session: the session, or Flask-SQLAlchemy's `db.session`.
        callback: what to call, such as a cache's `invalidate`. The session has no transaction then.
        names: what to pass to it, such as tags or tables.
    """
    own: Session = session() if isinstance(session, scoped_session) else session
    if WAITING not in own.info:
        own.info[WAITING] = _Waiting()
        event.listen(own, "after_commit", _note_commit)
        event.listen(own, "after_transaction_end", _call_back)
    own.info[WAITING].names.setdefault(callback, {}).update(dict.fromkeys(names))


def _note_commit(session: Session) -> None:
    if not session.in_nested_transaction():  # else a SAVEPOINT was released: nothing is committed
        session.info[WAITING].committed = True


def _call_back(session: Session, transaction: SessionTransaction) -> None:
    # Not in after_commit: an error there would leave the session unusable, half way through.
    if transaction.parent is not None:
        return
    waiting: _Waiting = session.info[WAITING]
    session.info[WAITING] = _Waiting()
    errors = []
    for callback, names in waiting.names.items() if waiting.committed else ():
        try:
            callback(*names)
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


def watch_writes(sessions: Any, invalidate: Callback) -> Callable[[], None]:
    """Call `invalidate(*tables)` after each root commit with the names of the tables written to.

    Args:
        sessions: whose writes: `db.session`, a sessionmaker, a Session or its class.
        invalidate: takes names of tables. It is not called where nothing was written.

    Returns:
        A function that stops watching.
    """

    def on_flush(session: Session, _: object) -> None:
        after_root_commit_if_any(session, tables_flushed(session))

    def on_execute(state: ORMExecuteState) -> None:
        after_root_commit_if_any(state.session, tables_written(state))

    def after_root_commit_if_any(session: Session, tables: set[str]) -> None:
        if tables:
            after_root_commit(session, invalidate, *sorted(tables))

    def stop() -> None:
        event.remove(sessions, "after_flush", on_flush)
        event.remove(sessions, "do_orm_execute", on_execute)

    event.listen(sessions, "after_flush", on_flush)
    event.listen(sessions, "do_orm_execute", on_execute)
    return stop


def tables_written(state: ORMExecuteState) -> set[str]:
    """Return the tables that an INSERT, UPDATE or DELETE passed to `session.execute` writes to.

    No object in the session shows such a statement: `session.dirty` stays empty.

    Args:
        state: what SQLAlchemy passes to listeners of `do_orm_execute`.
    """
    if not (state.is_insert or state.is_update or state.is_delete):
        return set()
    statement: Any = state.statement
    tables = list(state.bind_mapper.tables) if state.bind_mapper else []
    return {table.name for table in [statement.table, *tables]}


def tables_flushed(session: Session) -> set[str]:
    """Return the tables that a flush writes to; call it in `before_flush` or `after_flush`.

    A changed relationship counts as a write to the table at its other end, too, as that may hold
    the foreign key. In doubt a table is named: a needless miss costs less than a stale answer.
    """
    tables: set[str] = set()
    for instance in (*session.new, *session.dirty, *session.deleted):
        state: Any = inspect(instance)
        if instance in session.dirty and not session.is_modified(instance):
            continue
        tables |= {table.name for table in state.mapper.tables}
        for relation in state.mapper.relationships:
            changed = state.attrs[relation.key].history.has_changes()
            if changed or instance in session.deleted:
                tables |= {table.name for table in relation.mapper.tables}
                tables |= {relation.secondary.name} if relation.secondary is not None else set()
    return tables
