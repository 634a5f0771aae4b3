"""Wrong answers to the exercises of lesson 07: exercise, answer, words of its message."""

from __future__ import annotations

import contextlib
import contextvars
from typing import Any

from flask import has_app_context
from sqlalchemy import event


def opened_by_the_caller(app: Any, job: Any) -> Any:
    with app.app_context():
        return lambda *args: job(*args)


def never_closed(app: Any, job: Any) -> Any:
    def run(*args: Any) -> Any:
        app.app_context().push()
        return job(*args)

    return run


def closed_only_if_it_goes_well(app: Any, job: Any) -> Any:
    def run(*args: Any) -> Any:
        context = app.app_context()
        context.push()
        answer = job(*args)
        context.pop()
        return answer

    return run


def forgets_to_return(app: Any, job: Any) -> Any:
    def run(*args: Any) -> None:
        with app.app_context():
            job(*args)

    return run


def drops_the_arguments(app: Any, job: Any) -> Any:
    def run(*args: Any) -> Any:
        with app.app_context():
            return job()

    return run


def swallows(app: Any, job: Any) -> Any:
    def run(*args: Any) -> Any:
        with app.app_context(), contextlib.suppress(KeyError):
            return job(*args)

    return run


def copies_the_callers(app: Any, job: Any) -> Any:
    copied = contextvars.copy_context()
    return lambda *args: copied.run(job, *args)


def one_for_all(app: Any, job: Any) -> Any:
    context = contextvars.copy_context()
    context.run(app.app_context().push)
    return lambda *args: context.run(job, *args)


def runs_it_at_once(app: Any, job: Any) -> Any:
    with app.app_context():
        return job()


def only_where_none_is_open(app: Any, job: Any) -> Any:
    assert has_app_context()
    return job


def unless_one_is_open(app: Any, job: Any) -> Any:
    def run(*args: Any) -> Any:
        if has_app_context():
            return job(*args)
        with app.app_context():
            return job(*args)

    return run


def generating(app: Any, job: Any) -> Any:
    def run(*args: Any) -> Any:
        with app.app_context():
            yield job(*args)

    return run


def at_once(session: Any, callback: Any) -> None:
    callback()


def never(session: Any, callback: Any) -> None:
    pass


def at_every_commit(session: Any, callback: Any) -> None:
    event.listen(session, "after_commit", lambda session: callback())


def at_the_next_commit(session: Any, callback: Any) -> None:
    event.listen(session, "after_commit", lambda session: callback(), once=True)


def listening_itself(session: Any, callback: Any) -> None:
    event.listen(session, "after_commit", callback)


def at_the_first_commit_unless_nested(session: Any, callback: Any) -> None:
    def committed(session: Any) -> None:
        if not session.in_nested_transaction():
            callback()

    event.listen(session, "after_commit", committed, once=True)


def at_every_root_commit(session: Any, callback: Any) -> None:
    def committed(session: Any) -> None:
        if not session.in_nested_transaction():
            callback()

    event.listen(session, "after_commit", committed)


def at_the_end_of_the_root(session: Any, callback: Any) -> None:
    waiting = [callback]

    def ended(session: Any, transaction: Any) -> None:
        if transaction.parent is None and waiting:
            waiting.pop()()

    event.listen(session, "after_transaction_end", ended)


def unless_a_savepoint_is_open(session: Any, callback: Any) -> None:
    """Leave the inner of two savepoints out, but not the outer one."""
    waiting, depth = [callback], [0]

    def began(session: Any, transaction: Any) -> None:
        depth[0] += transaction.nested

    def committed(session: Any) -> None:
        if waiting and depth[0] < 2:
            waiting.pop()()

    def ended(session: Any, transaction: Any) -> None:
        depth[0] -= transaction.nested

    event.listen(session, "after_transaction_create", began)
    event.listen(session, "after_commit", committed)
    event.listen(session, "after_transaction_end", ended)


def waiting_for_root(session: Any, callback: Any) -> list[Any]:
    waiting = [callback]

    def committed(session: Any) -> None:
        if waiting and not session.in_nested_transaction():
            waiting.pop()()

    event.listen(session, "after_commit", committed)
    return waiting


def forgotten_at_any_rollback(session: Any, callback: Any) -> None:
    waiting = waiting_for_root(session, callback)
    event.listen(session, "after_rollback", lambda session: waiting.clear())


def forgotten_at_no_rollback(session: Any, callback: Any) -> None:
    waiting_for_root(session, callback)


def forgotten_at_the_roots_rollback_only(session: Any, callback: Any) -> None:
    waiting = waiting_for_root(session, callback)

    def rolled_back(session: Any) -> None:
        if not session.in_nested_transaction():
            waiting.clear()

    event.listen(session, "after_rollback", rolled_back)


def only_the_last(session: Any, callback: Any) -> None:
    if "waiting" in session.info:
        session.info["waiting"][:] = [callback]
        return
    session.info["waiting"] = waiting_for_root(session, callback)
    waiting = session.info["waiting"]

    def ended(session: Any, transaction: Any) -> None:
        if transaction.parent is None:
            waiting.clear()

    event.listen(session, "after_transaction_end", ended)


def at_any_sessions_commit(session: Any, callback: Any) -> None:
    waiting = [callback]

    def committed(any_session: Any) -> None:
        if waiting and not any_session.in_nested_transaction():
            waiting.pop()()

    def ended(any_session: Any, transaction: Any) -> None:
        if transaction.parent is None:
            waiting.clear()

    event.listen(type(session), "after_commit", committed)
    event.listen(type(session), "after_transaction_end", ended)


WRONG: list[tuple[str, Any, str]] = [
    ("07.1", lambda app, job: job, "found no context open"),
    ("07.1", opened_by_the_caller, "found no context open"),
    ("07.1", only_where_none_is_open, "found no context open"),
    ("07.1", runs_it_at_once, "it ran the job at once"),
    ("07.1", lambda app, job: app.app_context(), "should return a function"),
    ("07.1", copies_the_callers, "of the application 'caller'"),
    ("07.1", one_for_all, "shared one context"),
    ("07.1", never_closed, "0 contexts were closed"),
    ("07.1", closed_only_if_it_goes_well, "left open"),
    ("07.1", forgets_to_return, "and the function None"),
    ("07.1", drops_the_arguments, "it gave the job [()]"),
    ("07.1", swallows, "nobody heard of it"),
    ("07.1", unless_one_is_open, "the job was given that one"),
    ("07.1", generating, "it did not call the job, and gave a generator"),
    ("07.1", lambda app, job: None, "end with `return`"),
    ("07.2", {"a", "b", "d", "e"}, "three can be used to the full, and 4 are named"),
    ("07.2", {"b", "c", "d"}, "three it is, and not these three"),
    ("07.2", {"b", "d", "f"}, "whether an object of the session is in it"),
    ("07.2", set(), "and 0 are named"),
    ("07.2", {"B"}, "the letters are a to f"),
    ("07.2", [["b", "d", "e"]], "is not one"),
    ("07.2", "b, d", "and 2 are named"),
    ("07.2", '{"b", "d"}', "and 2 are named"),
    ("07.2", 3, "a set of letters"),
    ("07.3", at_once, "at once"),
    ("07.3", listening_itself, "the callback takes nothing"),
    ("07.3", at_the_first_commit_unless_nested, "was called 0 times"),
    ("07.3", never, "was not called"),
    ("07.3", at_every_commit, "after the next commit"),
    ("07.3", at_the_next_commit, "a savepoint was released, and it called"),
    ("07.3", unless_a_savepoint_is_open, "the outer of two savepoints"),
    ("07.3", at_every_root_commit, "after the next commit"),
    ("07.3", at_the_end_of_the_root, "the root was rolled back, and it called"),
    ("07.3", forgotten_at_any_rollback, "was forgotten"),
    ("07.3", forgotten_at_no_rollback, "Who forgets it"),
    ("07.3", forgotten_at_the_roots_rollback_only, "A close is no rollback"),
    ("07.3", only_the_last, "two callbacks were kept"),
    ("07.3", at_any_sessions_commit, "another session was committed"),
    ("07.3", "after_commit", "a function is asked for"),
]
