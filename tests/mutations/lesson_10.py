"""The pitfalls of lesson 10, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/10_statement_keys.ipynb"
STATEMENTS = "labkit/cache/statements.py"
EXERCISES = "labkit/lessons/lesson_10.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "literal text in place of the final key",
        NOTEBOOK,
        r'''params, context: statement_key(\n",
    "        statement, dialect, params, context=context\n",
    "    ),\n"''',
        r'''params, context: literal_text(\n",
    "        statement\n",
    "    ),\n"''',
    ),
    (
        "a refusal that is cached under its text",
        NOTEBOOK,
        r'''"        stats[\"bypass\"] += 1\n"''',
        r'''"        stats[\"miss\"] += 1\n"''',
    ),
    (
        "nobody watches what is written",
        NOTEBOOK,
        "lambda *tables: tokens.invalidate(lab.redis, *tables)",
        "lambda *tables: None",
    ),
    (
        "the SQL without its structure: labkit",
        STATEMENTS,
        "parts = (dialect.name, compiled.string, _stable(cache_key.key))",
        "parts = (dialect.name, compiled.string)",
    ),
    (
        "no context: labkit",
        STATEMENTS,
        "dict(options), dict(context or {})",
        "dict(options), {}",
    ),
    (
        "no execution options: labkit",
        STATEMENTS,
        "dict(options), dict(context or {})",
        "{}, dict(context or {})",
    ),
    (
        "values of the statement that was remembered: labkit",
        STATEMENTS,
        "        extracted_parameters=cache_key.bindparams,\n",
        "",
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
        STATEMENTS,
        "if name not in pure or not built_in:",
        "if False:",
    ),
    (
        "FOR UPDATE has a key: labkit",
        STATEMENTS,
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
        STATEMENTS,
        "eager = {each for each in mapper.relationships if each.lazy in EAGER}",
        "eager = set[RelationshipProperty[Any]]()",
    ),
    (
        "a function known by its name alone: labkit",
        STATEMENTS,
        "if name not in pure or not built_in:",
        "if name not in pure:",
    ),
    (
        "a function of another schema: labkit",
        STATEMENTS,
        '[*getattr(element, "packagenames", ()), name]',
        "[name]",
    ),
    (
        "criteria in a loader option have a key: labkit",
        STATEMENTS,
        'if any(getattr(each, "_extra_criteria", ()) for each in choices):',
        "if False:",
    ),
    (
        "an option for all relationships has a key: labkit",
        STATEMENTS,
        "if any(map(_loads_all, choices)):",
        "if False:",
    ),
    (
        "a SELECT that writes has a key: labkit",
        STATEMENTS,
        "if isinstance(element, UpdateBase):",
        "if False:",
    ),
    (
        "text in a suffix has a key: labkit",
        STATEMENTS,
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
        "for each, name in names if each.expanding and each.key in in_sets",
        "for each, name in names if each.expanding",
    ),
    (
        "structures are forgotten under another thread: labkit",
        STATEMENTS,
        "    return structure\n\n\ndef _read(",
        "    return _structures[known]\n\n\ndef _read(",
    ),
    (
        "the table between two others is not read: labkit",
        STATEMENTS,
        "clauses += [relation.primaryjoin, relation.secondary]",
        "clauses += [relation.primaryjoin]",
    ),
    (
        "subclasses are not read: labkit",
        STATEMENTS,
        "{*mapper.self_and_descendants, *(each.mapper for each in eager)}",
        "{each.mapper for each in eager}",
    ),
    (
        "the wrong letters: the exercise",
        EXERCISES,
        'REFUSED = {"b", "d", "f"}',
        'REFUSED = {"b", "d", "e"}',
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
    (
        "types are praised and not looked at: the exercise",
        EXERCISES,
        ', {"a": Id(1)}, {"a": Id(0)}, {"a": Name("1")}]',
        "]",
    ),
]
