"""The pitfalls of lesson 03: pitfall, file, text of the fixed version, broken text in its place."""

from __future__ import annotations

CODEC = "labkit/cache/codec.py"
EXERCISES = "labkit/lessons/lesson_03.py"
NOTEBOOK = "notebooks/03_pickle.ipynb"  # its cells are JSON: no quotes, no line breaks

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "a detached instance in place of a row",
        NOTEBOOK,
        "    return dict(db.session.execute(statement).mappings().one())",
        "    return vars(db.session.get(User, user_id))",
    ),
    (
        "a lost update: the stale copy is merged",
        NOTEBOOK,
        '        db.session.get(User, 42).name = \\"Kim Park\\"',
        "        db.session.merge(pickle.loads(lab.redis.get(b'user:42'))).name = 'Kim Park'",
    ),
    (
        "code execution: an entry is unpickled",
        CODEC,
        "        value = orjson.loads(data)\n",
        "        value = (__import__('pickle') if data[:1] == b'c' else orjson).loads(data)\n",
    ),
    (
        "code execution: the signature is not looked at",
        NOTEBOOK,
        "return payload if hmac.compare_digest(entry, signed(payload)) else None",
        "return payload",
    ),
    (
        "a signature that leaves out the key",
        NOTEBOOK,
        'return hmac.digest(secret, f\\"{len(key)} {key} \\".encode() + payload, ',
        "return hmac.digest(secret, payload, ",
    ),
    (
        "corrupt data raises instead of being a miss",
        CODEC,
        "    except Exception as error:\n",
        "    except ZeroDivisionError as error:\n",
    ),
    (
        "user data that looks like a tag is not escaped",
        CODEC,
        "return len(keys) == 1 and keys[0].startswith(TAG)",
        "return False",
    ),
    (
        "user data that looks like a tag, in a list of rows",
        CODEC,
        "if min(map(len, rows)) < 2:",
        "if not all(rows):",
    ),
    (
        "a tuple becomes a list",
        CODEC,
        'return {"$tuple": _list(list(value), plain)}',
        "return _list(list(value), plain)",
    ),
    (
        "NaN becomes None",
        CODEC,
        'return value if math.isfinite(value) else {"$float": repr(value)}',
        "return value",
    ),
    (
        "NaN becomes None, in a column of rows",
        CODEC,
        'return "" if all(math.isfinite(item) for item in column if type(item) is float) else None',
        'return ""',
    ),
    (
        "a huge integer has no way in",
        CODEC,
        'return value if value in INT64 else {"$int": hex(value)}',
        "return value",
    ),
    (
        "the fold of a datetime is lost",
        CODEC,
        "    if not value.fold and (zone is None or _is_offset(zone)):\n",
        "    if zone is None or _is_offset(zone):\n",
    ),
    (
        "a time zone becomes an offset",
        CODEC,
        "    if type(zone) is not datetime.timezone:\n        return False\n    offset",
        "    if type(zone) is not datetime.timezone:\n        return True\n    offset",
    ),
    (
        "a time zone becomes an offset, in a column of rows",
        CODEC,
        "((value.tzinfo is None or value.tzinfo is UTC) and not value.fold)",
        "True",
    ),
    (
        "rows of differing keys are written as one table",
        CODEC,
        "    if set(map(tuple, rows)) != {keys}:\n        return None\n",
        "",
    ),
    (
        "an enum that the reader does not know is written",
        CODEC,
        "    if isinstance(value, Enum) and _enums.get(_name(kind)) is kind:\n",
        "    if isinstance(value, Enum):\n",
    ),
    (
        "subclasses are written as their base",
        CODEC,
        "OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS\n",
        "OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS\n",
    ),
    (
        "exercise 03.2: microseconds are not looked at",
        EXERCISES,
        "        if _read_duration(content) != duration:\n",
        "        if _read_duration(content) is None:\n",
    ),
    (
        "exercise 03.3: == is good enough",
        EXERCISES,
        "    if not _compares_digests(answer):\n",
        "    if False:\n",
    ),
    (
        "a Core table's rows are refused",
        CODEC,
        'return "".join(key) if own else key',
        "return key",
    ),
    (
        "an enum member that cannot be read back is stored",
        CODEC,
        "    if found is not member:\n",
        "    if False:\n",
    ),
]
