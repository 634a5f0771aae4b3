"""The pitfalls of lesson 10, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/10_statement_keys.ipynb"
STATEMENTS = "labkit/cache/statements.py"
ELEMENTS = "labkit/cache/elements.py"
REFUSALS = "labkit/cache/refusal.py"
STABLE = "labkit/cache/stable.py"
COMMITS = "labkit/cache/commits.py"
WRITES = "labkit/cache/writes.py"
EXERCISES = "labkit/lessons/lesson_10.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "literal text in place of the final key",
        NOTEBOOK,
        "return statement_key(asked.statement, dialect, asked.params, context=asked.context)",
        "return literal_text(asked.statement)",
    ),
    (
        "the small key without the values",
        NOTEBOOK,
        "small_key = key_of(sql, values, structure, beside, only_known)",
        "small_key = key_of(sql, structure, beside, only_known)",
    ),
    (
        "the small key without the structure",
        NOTEBOOK,
        "small_key = key_of(sql, values, structure, beside, only_known)",
        "small_key = key_of(sql, values, beside, only_known)",
    ),
    (
        "the small key without options and context",
        NOTEBOOK,
        "small_key = key_of(sql, values, structure, beside, only_known)",
        "small_key = key_of(sql, values, structure, only_known)",
    ),
    (
        "the small key without refusals",
        NOTEBOOK,
        "small_key = key_of(sql, values, structure, beside, only_known)",
        "small_key = key_of(sql, values, structure, beside)",
    ),
    (
        "the small key sees no callable",
        NOTEBOOK,
        "if any(each.callable for each in asked.statement._generate_cache_key().bindparams):",
        "if False:",
    ),
    (
        "the small key sees no variants of a type",
        NOTEBOOK,
        r"if getattr(getattr(part, \"type\", None), \"_variant_mapping\", None):",
        "if False:",
    ),
    (
        "a refusal that is counted as a miss",
        NOTEBOOK,
        r'''"    except NotCacheable:\n",
    "        stats[\"bypass\"] += 1\n"''',
        r'''"    except NotCacheable:\n",
    "        stats[\"miss\"] += 1\n"''',
    ),
    (
        "a context that does not reach the key",
        NOTEBOOK,
        "key = statement_key(statement, dialect, params, context=context)",
        "key = statement_key(statement, dialect, params)",
    ),
    (
        "tags from a walk over the statement",
        NOTEBOOK,
        "served, true = after_the_delete(2, tags_of)",
        "served, true = after_the_delete(2, tables_walked)",
    ),
    (
        "an entry without the token of everything",
        NOTEBOOK,
        "return sorted({*tables_read(statement, dialect), EVERYTHING})",
        "return sorted(tables_read(statement, dialect))",
    ),
    (
        "nobody watches what is written",
        NOTEBOOK,
        "lambda *tables: tokens.invalidate(lab.redis, *tables)",
        "lambda *tables: None",
    ),
    (
        "a request that asks the cache after its own write",
        NOTEBOOK,
        "    if has_written(db.session()):",
        "    if False:",
    ),
    (
        "no marker before the commit",
        NOTEBOOK,
        r"tokens.mark(lab.redis, \"writer1\", \"users\", deadline_ms=60_000)",
        "pass",
    ),
    (
        "the SQL without its structure: labkit",
        STATEMENTS,
        "parts = (dialect.name, compiled.string, stable(said.key), types_of(elements))",
        "parts = (dialect.name, compiled.string)",
    ),
    (
        "no context: labkit",
        STATEMENTS,
        "    known = Known.of(dialect, pure, trusted)\n    try:",
        "    known, context = Known.of(dialect, pure, trusted), {}\n    try:",
    ),
    (
        "no execution options: labkit",
        STATEMENTS,
        "encode((values, dict(options), *rest))",
        "encode((values, *rest))",
    ),
    (
        "values of the statement that was remembered: labkit",
        STATEMENTS,
        "extracted_parameters=cache_key.bindparams if structure.compiled.cache_key else None",
        "extracted_parameters=None",
    ),
    (
        "values passed to execute are left out: labkit",
        STATEMENTS,
        "given = {**(cache_key.params or {}), **(params or {})}",
        "given = {**(cache_key.params or {})}",
    ),
    (
        "an IN in the order in which it came: labkit",
        STATEMENTS,
        "values[name] = sorted({encode(value) for value in values[name]})",
        "values[name] = [encode(value) for value in values[name]]",
    ),
    (
        "volatile functions have keys: labkit",
        REFUSALS,
        "if not built_in or not (known.function(name) or texts is not None):",
        "if False:",
    ),
    (
        "FOR UPDATE has a key: labkit",
        REFUSALS,
        'if getattr(element, "_for_update_arg", None) is not None:',
        "if False:",
    ),
    (
        "a parameter that is a function has a key: labkit",
        STATEMENTS,
        "if any(parameter.callable for parameter in cache_key.bindparams):",
        "if False:",
    ),
    (
        "eager relationships are not read: labkit",
        ELEMENTS,
        "eager = [each for each in mapper.relationships if each.lazy in EAGER]",
        "eager = list[RelationshipProperty[Any]]()",
    ),
    (
        "a function known by its name alone: labkit",
        REFUSALS,
        "if not built_in or not (known.function(name) or texts is not None):",
        "if not (known.function(name) or texts is not None):",
    ),
    (
        "a function of another schema: labkit",
        REFUSALS,
        '[*getattr(function, "packagenames", ()), name]',
        "[name]",
    ),
    (
        "criteria in a loader option have a key: labkit",
        REFUSALS,
        'if any(getattr(each, "_extra_criteria", ()) for each in choices):',
        "if False:",
    ),
    (
        "an option for all relationships has a key: labkit",
        REFUSALS,
        "if any(map(_loads_all, choices)):",
        "if False:",
    ),
    (
        "a SELECT that writes has a key: labkit",
        REFUSALS,
        "if isinstance(element, UpdateBase):",
        "if False:",
    ),
    (
        "text in a suffix has a key: labkit",
        REFUSALS,
        "if any(getattr(element, name, None) for name in HAND_WRITTEN):",
        "if False:",
    ),
    (
        "whether a value is required, as the first statement had it: labkit",
        STATEMENTS,
        "        _check=False,\n",
        "",
    ),
    (
        "a row as if it were a set: labkit",
        STATEMENTS,
        "for each, name in names if each.expanding and each.key in sets",
        "for each, name in names if each.expanding",
    ),
    (
        "structures are forgotten under another thread: labkit",
        STATEMENTS,
        "    return structure\n\n\ndef _without_data(",
        "    return _structures[question]\n\n\ndef _without_data(",
    ),
    (
        "tables by a walk over the statement, not by what is compiled: labkit",
        ELEMENTS,
        "_with_parts([statement, *visited])",
        "_with_parts([statement])",
    ),
    (
        "what the compiler does not visit has no parts: labkit",
        ELEMENTS,
        'waiting.extend(getattr(element, "get_children", tuple)())',
        "pass",
    ),
    (
        "what loaders send is not compiled: labkit",
        ELEMENTS,
        "parts += written(loading, dialect)",
        "pass",
    ),
    (
        "the way to what is loaded is not read: labkit",
        ELEMENTS,
        ".join(getattr(owner, relation.key))",
        "",
    ),
    (
        "a tree is refused, as the way to what is loaded leads to its own class: labkit",
        ELEMENTS,
        "owner = aliased(relation.parent.entity)",
        "owner = relation.parent.entity",
    ),
    (
        "the order of what is loaded is not read: labkit",
        ELEMENTS,
        "order_by(*(relation.order_by or ()))",
        "order_by()",
    ),
    (
        "an aliased class over a join, of an option, is read as its class: labkit",
        ELEMENTS,
        'if getattr(each, "is_aliased_class", False)',
        "if False",
    ),
    (
        "a column that is deferred, and then not: labkit",
        ELEMENTS,
        '[undefer("*")] if undeferred else []',
        "[]",
    ),
    (
        "types are what SQLAlchemy's key holds of them: labkit",
        STATEMENTS,
        "question = (*question, *types_of(visitors.iterate(statement)))",
        "question = (*question, 0)",
    ),
    (
        "operators are all the same: labkit",
        REFUSALS,
        "if isinstance(operator, custom_op) and not OPERATOR.fullmatch(operator.opstring):",
        "if False:",
    ),
    (
        "a text may say now: labkit",
        STATEMENTS,
        "if isinstance(each, str) and not SETTLED.fullmatch(each):",
        "if False:",
    ),
    (
        "subclasses are not read: labkit",
        ELEMENTS,
        "[*mapper.self_and_descendants, *(each.mapper for each in eager)]",
        "[each.mapper for each in eager]",
    ),
    (
        "the wrong letters: the exercise",
        EXERCISES,
        'REFUSED = {"b", "d", "f"}',
        'REFUSED = {"b", "d"}',
    ),
    (
        "a refusal that is stored: the exercise",
        EXERCISES,
        '        stats["bypass"] += 1\n        return run(statement)',
        "        key = statement",
    ),
    (
        "parameters without their types: the exercise",
        EXERCISES,
        "(name, type(value).__name__, repr(value))",
        "(name, str(value))",
    ),
    # What was written, and when it is told.
    (
        "foreign keys are not followed: labkit",
        WRITES,
        "if done == INSERTED or not isinstance(table, Table):",
        "if True:",
    ),
    (
        "a write in a CTE unnoticed: labkit",
        WRITES,
        "        if isinstance(part, UpdateBase):",
        "        if part is statement and isinstance(part, UpdateBase):",
    ),
    (
        "text that writes taken for a SELECT: labkit",
        WRITES,
        "return frozenset() if reads and not HOLDS_A_WRITE.search(sql, reads.end()) else None",
        "return frozenset()",
    ),
    (
        "a statement under AUTOCOMMIT waits for a commit: labkit",
        COMMITS,
        "        return not dialect.detect_autocommit_setting(driver)",
        "        return True",
    ),
    (
        "what invalidate raises breaks the commit: labkit",
        COMMITS,
        "    if owner is not None and owner.session.get_transaction() is owner:",
        "    if False and owner:",
    ),
    (
        "told before the COMMIT: labkit",
        COMMITS,
        "            try:\n                commit(",
        "            _tell(info, calls)\n            try:\n                commit(",
    ),
    (
        "a bulk write that returns objects is judged by its text: labkit",
        WRITES,
        "    statement = compiled.statement if statement is None else statement\n",
        "    statement = compiled.statement\n",
    ),
    (
        "the commit of two phases unnoticed: labkit",
        COMMITS,
        "    own.do_commit_twophase = tell_after(dialect.do_commit_twophase)\n",
        "",
    ),
    (
        "what is rolled back is told after the next commit: labkit",
        COMMITS,
        "            calls = info.pop(WAITING, {})\n            fairy",
        "            calls = info.get(WAITING, {})\n            fairy",
    ),
    (
        "an update by an SQL expression unnoticed: labkit",
        COMMITS,
        "        if tables:\n            _listen_to",
        "        if tables and not context.compiled.postfetch:\n            _listen_to",
    ),
    (
        "a delete names each `secondary` of its class, which may be a join: labkit",
        COMMITS,
        "        if tables:\n            _listen_to",
        """\
        owner = connection.info.get(OWNER, lambda: None)()
        for gone in owner.session.deleted if owner else ():
            ways = gone.__mapper__.relationships
            tables |= {each.secondary.name for each in ways if each.secondary is not None}
        if tables:
            _listen_to""",
    ),
    (
        "a session of an application's tests, bound to a mock, cannot begin: labkit",
        COMMITS,
        "    if isinstance(connection, Connection):  # and not",
        "    if True:  # and not",
    ),
    (
        "a type by its class alone: labkit",
        STABLE,
        "words = [stable(type(kind)), stable(state)]",
        "words = [stable(type(kind))]",
    ),
    (
        "text that nobody vouches for has a key: labkit",
        REFUSALS,
        "    if text is not None and text not in dict(known.trusted):",
        "    if False:",
    ),
    (
        "types are praised and not looked at: the exercise",
        EXERCISES,
        'alike: list[dict[str, Any]] = [{"a": Id(1)}, {"a": Id(0)}, {"a": Name("1")}]',
        "alike: list[dict[str, Any]] = []",
    ),
    (
        "a text that forges a separator is not tried: the exercise",
        EXERCISES,
        "_examine_texts(answer, [*questions, *_forged(answer)])",
        "pass",
    ),
    (
        "equal texts are always one object: the exercise",
        EXERCISES,
        'anew = "".join(["U", "S"])',
        'anew = "US"',
    ),
]
