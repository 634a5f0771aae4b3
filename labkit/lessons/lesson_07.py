"""Exercises of lesson 07, The application context."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from flask import Flask, current_app, g, has_app_context
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session

from labkit.lessons.exercises import Exercise, NotAttempted, Raised, Wrong, call, letters


def _examine_with_context(answer: Any) -> None:
    app, other = Flask("examined"), Flask("caller")
    closed: list[int] = []
    app.teardown_appcontext(lambda error: closed.append(1))
    calls: list[tuple[Any, ...]] = []

    def job(*args: Any) -> str:
        calls.append(args)
        if not has_app_context():
            raise Wrong("in the thread, the job found no context open.")
        if current_app.name != app.name:
            raise Wrong(f"the job found a context of the application {current_app.name!r}.")
        if "caller" in g:
            raise Wrong("its caller had a context open, and the job was given that one.")
        if "seen" in g:
            raise Wrong("two runs of the job shared one context. Open a new one for each.")
        g.seen = True
        return f"answer {args}"

    with other.app_context():  # the caller's own context must make no difference
        wrapped = call(answer, app, job, shown="(app, job)")
        if calls:
            raise Wrong("it ran the job at once. It should return a function that will.")
        if not callable(wrapped):
            raise Wrong(f"it should return a function, and returned {wrapped!r}.")
        for args in (("US", 3), ()):
            before = len(calls)
            got = _in_a_thread(wrapped, *args)
            if len(calls) == before:
                kind = type(got).__name__
                raise Wrong(f"called with {args!r}, it did not call the job, and gave a {kind}.")
            if calls[-1:] != [args]:
                raise Wrong(f"called with {args!r}, it gave the job {calls[-1:]!r}.")
            if got != f"answer {args}":
                raise Wrong(f"the job returned {f'answer {args}'!r}, and the function {got!r}.")
        if len(closed) != 2:
            raise Wrong(f"the job ran twice, and {len(closed)} contexts were closed.")
        _examine_failing_job(answer, app, closed)
    with app.app_context():
        g.caller = True
        _in_a_thread(copy_context().run, wrapped)


def _examine_failing_job(answer: Any, app: Flask, closed: list[int]) -> None:
    def fail() -> None:
        raise KeyError("no such region")

    try:
        _in_a_thread(answer(app, fail))
    except Raised:
        pass
    else:
        raise Wrong("the job raised a KeyError, and nobody heard of it.")
    if len(closed) != 3:
        raise Wrong("the job raised an error, and its context was left open.")


def _in_a_thread(wrapped: Callable[..., Any], *args: Any) -> Any:
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(wrapped, *args)
    error = future.exception()
    if isinstance(error, Wrong):
        raise error
    if error is not None:
        words = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise Raised(f"{words}, in a thread, when its function was called with {args!r}.")
    if future.result() is ...:
        raise NotAttempted
    return future.result()


def with_context(app, job):  # type: ignore[no-untyped-def]  # shown to learners as it stands
    def run(*args):  # type: ignore[no-untyped-def]
        with app.app_context():
            return job(*args)

    return run


HANDED_OVER = {"b", "d", "e"}
ITSELF = " No listener can be removed while its event is under way: note that it has nothing to do."


def _examine_handed_over(answer: Any) -> None:
    named = letters(answer, "abcdef")
    if len(named) != len(HANDED_OVER):
        raise Wrong(f"three can be used to the full, and {len(named)} are named.")
    if named != HANDED_OVER:  # which letter is wrong is not said: six tries would find them all
        raise Wrong(
            "three it is, and not these three. What a thing is made of decides, not how it is "
            "wrapped: ask of each whether an object of the session is in it. Then try it in a cell."
        )


def _examine_keep(answer: Any) -> None:
    for examine in (
        _after_a_commit,
        _after_a_savepoint,
        _after_a_rolled_back_savepoint,
        _after_a_rollback,
        _after_a_close,
        _after_two,
        _after_anothers_commit,
    ):
        engine = create_engine("sqlite://")
        try:
            with Session(engine) as session:
                _examine_keep_in(session, examine, answer)
        except (Wrong, NotAttempted, Raised):
            raise
        except Exception as error:
            words = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
            reason = ITSELF if "mutated during iteration" in words else ""
            raise Raised(f"{words}, in a function that listens to the session.{reason}") from error
        engine.dispose()


def _examine_keep_in(session: Session, examine: Callable[..., None], answer: Any) -> None:
    calls: list[str] = []

    def keep(name: str = "called") -> None:
        def callback(*args: Any) -> None:
            if args:
                raise Wrong("the callback takes nothing, and it was given the session.")
            calls.append(name)

        session.execute(text("SELECT 1"))
        call(answer, session, callback, shown="(session, callback)", may_be_none=True)

    examine(session, keep, calls)


Keep = Callable[..., None]


def _after_a_commit(session: Session, keep: Keep, calls: list[str]) -> None:
    keep()
    if calls:
        raise Wrong("it called the callback at once. Nothing is committed yet.")
    session.commit()
    if not calls:
        raise Wrong("the root transaction was committed, and the callback was not called.")
    session.execute(text("SELECT 1"))
    session.commit()
    if len(calls) > 1:
        raise Wrong("the callback was called again after the next commit. Once is enough.")


def _after_a_savepoint(session: Session, keep: Keep, calls: list[str]) -> None:
    keep()
    outer = session.begin_nested()
    inner = session.begin_nested()
    inner.commit()
    if calls:
        raise Wrong("a savepoint was released, and it called the callback. The root is still open.")
    outer.commit()
    if calls:
        raise Wrong("the outer of two savepoints was released, and it called the callback.")
    session.commit()
    if len(calls) != 1:
        raise Wrong(
            "a savepoint was released, then the root committed: the callback should have "
            f"been called once, and was called {len(calls)} times."
        )


def _after_a_rolled_back_savepoint(session: Session, keep: Keep, calls: list[str]) -> None:
    keep()
    session.begin_nested().rollback()
    session.commit()
    if len(calls) != 1:
        raise Wrong(
            "a savepoint was rolled back, then the root committed: what was written before the "
            "savepoint is there, and the callback was forgotten."
        )


def _after_a_rollback(session: Session, keep: Keep, calls: list[str]) -> None:
    keep()
    session.begin_nested().commit()
    session.rollback()
    if calls:
        raise Wrong("the root was rolled back, and it called the callback.")
    session.execute(text("SELECT 1"))
    session.commit()
    if calls:
        raise Wrong(
            "the root was rolled back. It called the callback later, when the next transaction "
            "was committed. Who forgets it?"
        )


def _after_a_close(session: Session, keep: Keep, calls: list[str]) -> None:
    keep()
    session.close()
    session.execute(text("SELECT 1"))
    session.commit()
    if calls:
        raise Wrong(
            "the session was closed without a commit, and it called the callback at the next one. "
            "A close is no rollback: which event comes at the end of every transaction?"
        )


def _after_two(session: Session, keep: Keep, calls: list[str]) -> None:
    keep("first")
    keep("second")
    session.commit()
    if sorted(calls) != ["first", "second"]:
        raise Wrong(f"two callbacks were kept, and after the commit it had called {calls}.")


def _after_anothers_commit(session: Session, keep: Keep, calls: list[str]) -> None:
    keep()
    engine = create_engine("sqlite://")
    with Session(engine) as other:
        other.execute(text("SELECT 1"))
        other.commit()
    engine.dispose()
    if calls:
        raise Wrong("another session was committed, and it called the callback.")


def keep_until_root_commit(session, callback):  # type: ignore[no-untyped-def]  # shown as it stands
    waiting = [callback]

    def committed(session):  # type: ignore[no-untyped-def]
        if waiting and not session.in_nested_transaction():
            waiting.pop()()

    def ended(session, transaction):  # type: ignore[no-untyped-def]
        if transaction.parent is None:
            waiting.clear()

    event.listen(session, "after_commit", committed)
    event.listen(session, "after_transaction_end", ended)


EXERCISES = {
    "07.1": Exercise(
        ask="Write with_context(app, job): a function that runs the job in a context of its own.",
        examine=_examine_with_context,
        praise="each run has a context of its own, and it is closed even if the job fails.",
        hints=(
            "Which thread must open the context: the one that calls with_context, or the job's?",
            "Define a function inside: def run(*args), with the context opened in it. Return run.",
            "`with app.app_context():` opens a context, and closes it whatever happens.",
        ),
        solution=with_context,
    ),
    "07.2": Exercise(
        ask="Which of six things can a job use to the full when the request is over?",
        examine=_examine_handed_over,
        praise="values that belong to nobody, and no object of a session.",
        hints=(
            "What needs a session to load what is missing cannot be handed over.",
            "Rows can be handed over if what they hold can. What does db.select(User) put in them?",
        ),
        solution=HANDED_OVER,
    ),
    "07.3": Exercise(
        ask="Write keep_until_root_commit(session, callback).",
        examine=_examine_keep,
        praise="after the root commit, once, and never after a rollback.",
        hints=(
            "after_commit also comes at a savepoint's release; session.in_nested_transaction() is "
            "true then.",
            "A list with the callback in it can be emptied: when it was called, and when the root "
            "transaction has ended without a commit.",
            "Every transaction ends with after_transaction_end, also one that is closed. For a "
            "savepoint, transaction.parent is not None.",
            'event.listen(session, "after_commit", function) listens to this session alone.',
        ),
        solution=keep_until_root_commit,
    ),
}
