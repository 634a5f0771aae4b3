"""The pitfalls of lesson 07, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/07_app_context.ipynb"
COMMITS = "labkit/cache/commits.py"
EXERCISES = "labkit/lessons/lesson_07.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "no context in the job",
        NOTEBOOK,
        r'''"def best_month_job(region):\n",
    "    with app.app_context():\n"''',
        r'''"def best_month_job(region):\n",
    "    if True:\n"''',
    ),
    (
        "no context in the job: the exercise",
        EXERCISES,
        "        with app.app_context():\n            return job(*args)",
        "        return job(*args)",
    ),
    (
        "an old object in place of columns",
        NOTEBOOK,
        r'''"    return db.session.scalar(db.select(User.region).filter_by(id=42))\n"''',
        r'''"    return db.session.scalar(db.select(User).filter_by(id=42)).region\n"''',
    ),
    (
        "an object without populate_existing",
        NOTEBOOK,
        "populate_existing=True",
        "populate_existing=False",
    ),
    (
        "an instance in place of its id",
        NOTEBOOK,
        "job_outcome(write_letter_to, row.id)",
        "job_outcome(write_letter, user)",
    ),
    (
        "an instance after a commit is safe: the exercise",
        EXERCISES,
        'HANDED_OVER = {"b", "d", "e"}',
        'HANDED_OVER = {"a", "b", "d", "e"}',
    ),
    (
        "the view cached in place of the query",
        NOTEBOOK,
        r"app.view_functions[\"welcome\"] = welcome\n",
        r"app.view_functions[\"welcome\"] = cached_view(welcome)\n",
    ),
    (
        "after_commit in place of the root commit: the lesson",
        NOTEBOOK,
        "if not session.in_nested_transaction():",
        "if True:",
    ),
    (
        "after_commit in place of the root commit: labkit",
        COMMITS,
        "    if not session.in_nested_transaction():  # else",
        "    if True:  # else",
    ),
    (
        "after_commit in place of the root commit: the exercise",
        EXERCISES,
        "        if waiting and not session.in_nested_transaction():",
        "        if waiting:",
    ),
    (
        "called at the end of a root that was rolled back",
        COMMITS,
        "waiting.names.items() if waiting.committed else ():",
        "waiting.names.items():",
    ),
    (
        "what waited is not forgotten with its transaction",
        COMMITS,
        "    session.info[WAITING] = _Waiting()\n    errors",
        "    errors",
    ),
    (
        "forgotten with a savepoint that is rolled back",
        COMMITS,
        "    if transaction.parent is not None:\n        return\n",
        "",
    ),
    (
        "a bulk update unnoticed: the lesson",
        NOTEBOOK,
        r"event.listen(db.session, \"do_orm_execute\", notice)\n",
        r"event.listen(db.session, \"do_orm_execute\", print)\n",
    ),
    (
        "a bulk update unnoticed: labkit",
        COMMITS,
        "    if not (state.is_insert or state.is_update or state.is_delete):\n",
        "    if True:\n",
    ),
    (
        "a write on the connection, not said aloud",
        NOTEBOOK,
        r'"    changed(db.session, \"users\")\n"',
        r'"    pass\n"',
    ),
]
