"""The pitfalls of lesson 07, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/07_app_context.ipynb"
COMMITS = "labkit/cache/commits.py"
WRITES = "labkit/cache/writes.py"
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
        "the starter's own session in a job",
        NOTEBOOK,
        "of_a_job = job_outcome(session_of_a_job)",
        "of_a_job = session_of_a_job() and mine",
    ),
    (
        "a fill from the snapshot that the context has begun with",
        NOTEBOOK,
        "entry_after(by_column_in_its_own_context, begin_snapshot)",
        "entry_after(by_column, begin_snapshot)",
    ),
    (
        "a letter that is written before the commit",
        NOTEBOOK,
        r"""    db.session.flush()  # sent to the database, and not committed\n""",
        r"""    db.session.commit()\n""",
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
        "    if session.in_nested_transaction() or root is None:",
        "    if root is None:",
    ),
    (
        "the commit of a session that has joined a transaction",
        NOTEBOOK,
        "joined(after_root_commit)",
        "joined(wait_at_root)",
    ),
    (
        "after_commit in place of the root commit: the exercise",
        EXERCISES,
        "        if waiting and not session.in_nested_transaction():",
        "        if waiting:",
    ),
    (
        "listening to every session is called right: the exercise",
        EXERCISES,
        "        _after_anothers_commit,\n",
        "",
    ),
    (
        "the context of a caller is called the job's own: the exercise",
        EXERCISES,
        "        g.caller = True\n",
        "",
    ),
    (
        "called at the end of a root that was rolled back",
        COMMITS,
        "    session.info.pop(WAITING, None)\n    errors = session.info.pop(ERRORS, []) + _call(",
        "    left = session.info.pop(WAITING, {})\n    errors = _call(left) + _call(",
    ),
    (
        "what waited is not forgotten with its transaction",
        COMMITS,
        "    session.info.pop(WAITING, None)\n",
        "",
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
        WRITES,
        "    if compiled is None:",
        "    if True:",
    ),
    (
        "a write on the connection, not said aloud",
        NOTEBOOK,
        r'"    changed(db.session, \"users\")\n"',
        r'"    pass\n"',
    ),
    (
        "a text that is not understood counts as no write",
        WRITES,
        "    if writes is None:\n        return {EVERYTHING}\n",
        "    if writes is None:\n        return set()\n",
    ),
]
