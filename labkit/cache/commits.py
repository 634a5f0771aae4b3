"""Invalidation at the right moment, after the root commit, and of what was written until then.

The root transaction is the outermost one. Its COMMIT is the moment from which others can read what
was written; nothing may be invalidated before, or a reader refills the cache with the old row.
SQLAlchemy's `after_commit` also comes when a SAVEPOINT is released, long before that moment, and
when a session ends that was given a connection with a transaction of its own. An engine's `commit`
comes before the COMMIT is sent. So the dialect is asked, which sends it.
(https://docs.sqlalchemy.org/en/21/core/events.html, /orm/session_events.html)

What a watcher of writes cannot know, and what their owner must invalidate by hand:

- other programs, and connections that pass SQLAlchemy by (`engine.raw_connection()`);
- triggers, rules, and functions called in a SELECT that write;
- foreign keys that the tables' own MetaData does not have, and SQLite's ON CONFLICT REPLACE in a
  table's definition, as far as rows of other tables go with those that are replaced;
- what stands behind the table's name: a view's tables, a partition, a table that inherits;
- a prepared transaction that another connection commits (`commit_prepared`);
- AUTOCOMMIT, if the dialect cannot say that it is on (pymssql's, without an own
  `detect_autocommit_setting`): each statement counts as one of an open transaction. Its tables are
  named at the `commit()`, and what still waits at a `rollback()` or a close is forgotten, though it
  was written for good;
- a process that dies after its COMMIT and before it has told anybody: the TTL is what is left.

Several processes and threads may watch at once: what waits belongs to one connection. Engines of
asyncio are not supported: `invalidate` would block the event loop.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from labkit.cache.writes import EVERYTHING as EVERYTHING
from labkit.cache.writes import may_commit, tables_written

# Where a session or a connection keeps what waits, and whom it belongs to, in its `info`.
WAITING = "labkit.cache.commits"
COMMITTED = f"{WAITING}.committed"
ERRORS = f"{WAITING}.errors"
OWNER = f"{WAITING}.owner"

AnySession = Session | scoped_session[Any]
Callback = Callable[..., object]
Calls = dict[Callback, dict[str, None]]  # the names for each, in the order of the first mention

log = logging.getLogger("labkit.cache")


def after_root_commit(session: AnySession, callback: Callback, *names: str) -> None:
    """Call `callback(*names)` once the session's root transaction has been committed.

    If that is rolled back, or the session closed without a commit, nothing is called. The rollback
    of a SAVEPOINT changes nothing: it costs a needless miss, where forgetting would cost the truth.
    Several requests with one callback become one call, with the names of all. If the session works
    in a transaction that its connection had before, that transaction's commit is the one.

    What a callback raises comes out of `session.commit()`, after every other callback was called.
    The commit stands, and the session can be used.

    Args:
        session: the session, or Flask-SQLAlchemy's `db.session`.
        callback: what to call, such as a cache's `invalidate`. The session has no transaction then.
        names: what to pass to it, such as tags or tables.
    """
    own: Session = session() if isinstance(session, scoped_session) else session
    _add(own.info, callback, names)


def watch_writes(sessions: Any, invalidate: Callback) -> Callable[[], None]:
    """Call `invalidate(*tables)` after each COMMIT with the names of the tables written to.

    Every statement is seen that passes through SQLAlchemy: of a flush, of `session.execute` and
    the bulk methods, and those on a connection. For text that is not plainly a SELECT the name is
    `EVERYTHING`, and a warning of the logger `labkit.cache` says so once.

    Where the database commits each statement by itself (AUTOCOMMIT), it is called after each. It is
    called from within `commit()`, so it must not use the session. What it raises comes out of that
    `commit()`; a session can be used then, and a bare connection after its `rollback()`.

    Args:
        sessions: an Engine: its writes alone. Or `db`, `db.session`, a sessionmaker, a Session:
            these may have several engines, some not made yet, so all of this process are watched.
        invalidate: takes names of tables. It is not called where nothing was written. If it has a
            method `before_commit`, that is called with them before the COMMIT is sent, and returns
            what to call after it. What that raises prevents the COMMIT.

    Returns:
        A function that stops watching; to call it twice does no harm.
    """
    target = sessions if isinstance(sessions, Engine) else Engine
    told: list[str] = []

    def before(connection: Connection, _: Any, sql: str, __: Any, context: Any, ___: Any) -> None:
        tables = tables_written(sql, getattr(context, "compiled", None))
        if tables:
            _listen_to(connection.dialect)
            _add(connection.info, invalidate, sorted(tables))
            if hasattr(invalidate, "before_commit") and _commits_by_itself(connection, sql):
                try:
                    connection.info[WAITING] = _announced(connection.info[WAITING])
                except BaseException:  # the statement is not sent
                    if not _is_open(connection.dialect, connection.connection):
                        del connection.info[WAITING]
                    raise
        if EVERYTHING in tables and not told:
            told.append(sql)
            log.warning("SQL written by hand invalidates everything (said once): %.60s", sql)

    def after(connection: Connection, _: Any, sql: str, *__: Any) -> None:
        if WAITING not in connection.info:
            return
        if not _is_open(connection.dialect, connection.connection):
            _tell(connection.info, connection.info.pop(WAITING))
        elif may_commit(sql):
            _tell(connection.info, connection.info[WAITING])  # and again after the COMMIT

    def stop() -> None:
        for name, listener in listeners.items():
            if event.contains(target, name, listener):
                event.remove(target, name, listener)

    listeners = {"before_cursor_execute": before, "after_cursor_execute": after}
    for name, listener in listeners.items():
        event.listen(target, name, listener)
    return stop


def _add(info: dict[Any, Any], callback: Callback, names: Any) -> None:
    info.setdefault(WAITING, {}).setdefault(callback, {}).update(dict.fromkeys(names))


def _announced(calls: Calls) -> Calls:
    """Let each callback that has a `before_commit` know, and return what to call afterwards."""
    after: Calls = {}
    for callback, names in calls.items():
        before = getattr(callback, "before_commit", None)
        after[before(*names) if before else callback] = names
    return after


def _commits_by_itself(connection: Connection, sql: str) -> bool:
    """Whether a statement will have been committed once it was executed."""
    driver: Any = connection.connection.dbapi_connection
    try:
        autocommit = connection.dialect.detect_autocommit_setting(driver)
    except NotImplementedError:
        autocommit = False
    return autocommit or may_commit(sql)


def _is_open(dialect: Dialect, connection: Any) -> bool:
    """Whether a transaction is open; else what was written can be read by others already."""
    driver = connection.dbapi_connection
    if hasattr(driver, "in_transaction"):  # SQLite's, where a RELEASE may have been the commit
        return bool(driver.in_transaction)
    try:
        return not dialect.detect_autocommit_setting(driver)
    except NotImplementedError:
        return True


def _listen_to(dialect: Dialect) -> None:
    """Have a dialect say when it has sent a COMMIT or a ROLLBACK; from then on, as long as it is.

    An engine has no event after the COMMIT, and one that raises before it would prevent it.
    """
    if hasattr(dialect, "labkit_listens"):
        return
    own: Any = dialect
    own.labkit_listens = True

    def tell_after(
        commit: Callable[..., None], rollback: Callable[..., None]
    ) -> Callable[..., None]:
        def commit_and_tell(connection: Any, *args: Any, **options: Any) -> None:
            info = connection.info
            try:
                calls = _announced(info.pop(WAITING, {}))
            except BaseException:
                # SQLAlchemy takes what could not be committed for ended, and would not end it.
                rollback(connection, *args, **options)
                raise
            try:
                commit(connection, *args, **options)
            except BaseException:  # nobody knows whether it was committed
                _call(calls)
                raise
            _tell(info, calls)

        return commit_and_tell

    def forget_at(rollback: Callable[..., None]) -> Callable[..., None]:
        def roll_back_and_forget(connection: Any, *args: Any, **options: Any) -> None:
            info = connection.info
            calls = info.pop(WAITING, {})
            fairy = connection.connection if isinstance(connection, Connection) else connection
            came_too_late = calls and not _is_open(dialect, fairy)
            rollback(connection, *args, **options)
            if came_too_late:  # such as half of an executemany under AUTOCOMMIT
                _tell(info, calls)

        return roll_back_and_forget

    own.do_commit = tell_after(dialect.do_commit, dialect.do_rollback)
    own.do_commit_twophase = tell_after(dialect.do_commit_twophase, dialect.do_rollback_twophase)
    own.do_rollback = forget_at(dialect.do_rollback)
    own.do_rollback_twophase = forget_at(dialect.do_rollback_twophase)


def _call(calls: Calls) -> list[Exception]:
    """Call every callback, and return what they have raised."""
    errors = []
    for callback, names in list(calls.items()):
        try:
            callback(*names)
        except Exception as error:
            errors.append(error)
    return errors


def _tell(info: dict[Any, Any], calls: Calls) -> None:
    """Call every callback of a connection; raise the first error, or have its session raise it."""
    errors = _call(calls)
    owner: SessionTransaction | None = info.get(OWNER, lambda: None)()
    if owner is not None and owner.session.get_transaction() is owner:
        # Here an error would leave the session unusable, half way through its commit.
        owner.session.info.setdefault(ERRORS, []).extend(errors)
    elif errors:
        raise errors[0]


@event.listens_for(Session, "after_begin")
def _own(session: Session, _: SessionTransaction, connection: Connection) -> None:
    root = session.get_transaction()
    assert root is not None
    if isinstance(connection, Connection):  # and not what an application's tests put in its place
        connection.info[OWNER] = weakref.ref(root)


@event.listens_for(Session, "after_commit")
def _note_commit(session: Session) -> None:
    root = session.get_transaction()
    if session.in_nested_transaction() or root is None:
        return  # a SAVEPOINT was released: nothing is committed
    calls: Calls = session.info.pop(WAITING, {})
    still_open = [each for each in root.connections if each.in_transaction()]
    if len(still_open) < max(1, len(root.connections)):
        session.info[COMMITTED] = calls
    for connection in still_open if calls else ():  # they began before the session joined them
        _listen_to(connection.dialect)
        for callback, names in calls.items():
            _add(connection.info, callback, names)


@event.listens_for(Session, "after_transaction_end")
def _end(session: Session, transaction: SessionTransaction) -> None:
    # Not in after_commit: there an error would leave the session unusable, half way through.
    if transaction.parent is not None:
        return
    session.info.pop(WAITING, None)
    errors = session.info.pop(ERRORS, []) + _call(session.info.pop(COMMITTED, {}))
    if errors:
        raise errors[0]
