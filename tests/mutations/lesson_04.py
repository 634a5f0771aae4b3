"""The pitfalls of lesson 04: pitfall, file, text of the fixed version, broken text in its place."""

from __future__ import annotations

KEYS = "labkit/cache/keys.py"
EXERCISES = "labkit/lessons/lesson_04.py"
NOTEBOOK = "notebooks/04_key_collisions.ipynb"  # its cells are JSON: no quotes, no line breaks

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "two modules, one name: the module is left out",
        KEYS,
        'name = f"{function.__module__}.{function.__qualname__}"',
        "name = function.__qualname__",
    ),
    (
        "two classes, one name: the bare name",
        KEYS,
        'name = f"{function.__module__}.{function.__qualname__}"',
        'name = f"{function.__module__}.{function.__name__}"',
    ),
    (
        "a default spelled out or not",
        KEYS,
        "    arguments.apply_defaults()\n",
        "",
    ),
    (
        "by position or by keyword: not bound",
        KEYS,
        "_without(ignore, bound(function, args, kwargs), name)",
        "{'args': tuple(args), 'kwargs': dict(kwargs)}",
    ),
    (
        "pickled arguments",
        KEYS,
        "        question = encode((namespace, version, name, arguments, *decorators))\n",
        "        question = __import__('pickle').dumps((namespace, version, name, arguments))\n",
    ),
    (
        "repr of the arguments",
        KEYS,
        "        question = encode((namespace, version, name, arguments, *decorators))\n",
        "        question = repr((namespace, version, name, arguments)).encode()\n",
    ),
    (
        "1 and '1': no type tag",
        KEYS,
        'return b"%s %d:%s" % (tag.encode(), len(content), content)',
        'return b"%d:%s" % (len(content), content)',
    ),
    (
        "forged borders: no length",
        KEYS,
        'return b"%s %d:%s" % (tag.encode(), len(content), content)',
        'return b"%s %s;" % (tag.encode(), content)',
    ),
    (
        "the order of a set",
        KEYS,
        'content = b"".join(sorted(map(encode, value)))',
        'content = b"".join(map(encode, value))',
    ),
    (
        "the order of a dict, and of keywords",
        KEYS,
        'content = b"".join(sorted(map(encode, value.items())))',
        'content = b"".join(map(encode, value.items()))',
    ),
    (
        "unknown types: taken by their repr",
        KEYS,
        '        raise TypeError(f"a {kind.__module__}.{kind.__qualname__} has no key")',
        "        content = repr(value).encode()",
    ),
    (
        "True and 1: a bool is an int",
        KEYS,
        "kind, tag = type(value), type(value).__name__",
        "kind, tag = type(value), type(value).__name__.replace('bool', 'int')",
    ),
    (
        "0.0 and -0.0, Decimals: compared as numbers",
        KEYS,
        "    float: lambda value: repr(value).encode(),",
        "    float: lambda value: repr(value + 0).encode(),",
    ),
    (
        "Decimal 1.0 and 1.00",
        KEYS,
        "    Decimal: lambda value: str(value).encode(),",
        "    Decimal: lambda value: str(value.normalize()).encode(),",
    ),
    (
        "a time zone is dropped",
        KEYS,
        "value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo)",
        "value.replace(tzinfo=None).isoformat(), value.fold",
    ),
    (
        "a zone by its offset only",
        KEYS,
        "        return zone.key\n",
        '        return "ZoneInfo"\n',
    ),
    (
        "the hour that the clock repeats",
        KEYS,
        "value.replace(tzinfo=None).isoformat(), value.fold, ",
        "value.replace(tzinfo=None).isoformat(), 0, ",
    ),
    (
        "an Enum by its value only",
        KEYS,
        "encode((kind.__module__, kind.__qualname__, value.value))",
        "encode(value.value)",
    ),
    (
        "integers beyond 4,300 digits",
        KEYS,
        '    int: lambda value: b"%x" % value,',
        "    int: lambda value: str(value).encode(),",
    ),
    (
        "lambdas share a name",
        KEYS,
        '    if "<lambda>" in name:',
        '    if "<never>" in name:',
    ),
    (
        "closures share a name",
        KEYS,
        '    if getattr(function, "__closure__", None):',
        "    if False:",
    ),
    (
        "a method forgets its object",
        KEYS,
        "function, args = method.__func__, (method.__self__, *args)",
        "function, args = method, args",
    ),
    (
        "wrapped functions are refused",
        KEYS,
        "    function = inspect.unwrap(function)\n",
        "",
    ),
    (
        "hash() differs between processes",
        KEYS,
        "digest = hashlib.blake2b(question, digest_size=DIGEST_BYTES).hexdigest()",
        'digest = f"{hash(question) % 2**128:032x}"',
    ),
    (
        "a short digest",
        KEYS,
        "DIGEST_BYTES = 16 ",
        "DIGEST_BYTES = 3 ",
    ),
    (
        "the namespace and the version are for show only",
        KEYS,
        "encode((namespace, version, name, arguments, *decorators))",
        "encode((name, arguments, *decorators))",
    ),
    (
        "a namespace with a delimiter",
        KEYS,
        "    if not NAMESPACE.fullmatch(namespace):",
        "    if not NAMESPACE.match(namespace):",
    ),
    (
        "exercise 04.3: lengths that run on",
        EXERCISES,
        'return "".join(f"{len(part)}:{part}" for part in parts)',
        'return "".join(f"{len(part)}{part}" for part in parts)',
    ),
    (
        "exercise 04.2: defaults are forgotten",
        EXERCISES,
        "    bound.apply_defaults()\n",
        "",
    ),
    (
        "notebook: the bare name again",
        NOTEBOOK,
        "pickle.dumps((name_of(function), args, kwargs))",
        "pickle.dumps((function.__name__, args, kwargs))",
    ),
    (
        "notebook: not bound to the parameters",
        NOTEBOOK,
        "arguments.apply_defaults()",
        "pass",
    ),
    (
        "notebook: no length",
        NOTEBOOK,
        "(kind.__name__.encode(), len(content), content)",
        "(kind.__name__.encode(), 0, content)",
    ),
    (
        "notebook: no type",
        NOTEBOOK,
        "(kind.__name__.encode(), len(content), content)",
        "(kind.__name__[:0].encode(), len(content), content)",
    ),
    (
        "notebook: a set in its own order",
        NOTEBOOK,
        ".join(sorted(map(encode, value)))",
        ".join(map(encode, value))",
    ),
    (
        "notebook: closures have a name",
        NOTEBOOK,
        " in name or function.__closure__:",
        " in name:",
    ),
    (
        "notebook: no namespace and no version in the key",
        NOTEBOOK,
        "{namespace}:v{version}:{name}:{digest}",
        "{name}",
    ),
    (
        "notebook: lambdas have a name",
        NOTEBOOK,
        " in name or function.__closure__:",
        " == name or function.__closure__:",
    ),
    (
        "notebook: a fork draws a hash seed of its own",
        NOTEBOOK,
        "run_python(FORKING).split() if",
        "[run_python(FORKING).split()[0] for _ in range(3)] if",
    ),
    (
        "notebook: a request's tenant is not in the key",
        NOTEBOOK,
        "return encode([context(), key_of(function, args, kwargs)])",
        "return encode([key_of(function, args, kwargs)])",
    ),
    (
        "notebook: a context that does not say the tenant",
        NOTEBOOK,
        "within(lambda: g.tenant, encoded)",
        "within(lambda: None, encoded)",
    ),
    (
        "notebook: the view's cached function reads g, and has no argument",
        NOTEBOOK,
        "return cached(encoded)(newest_of)(g.tenant)",
        "return cached(encoded)(newest_here)()",
    ),
    (
        "notebook: the birthday formula expects nothing",
        NOTEBOOK,
        "return n * (n - 1) / 2 / 2**bits",
        "return n / 2**bits",
    ),
    (
        "notebook: no collision is counted",
        NOTEBOOK,
        "return sum(n * (n - 1) // 2 for n in digests.values())",
        "return 0 * sum(n * (n - 1) // 2 for n in digests.values())",
    ),
    (
        "notebook: the session is a part of the question",
        NOTEBOOK,
        'functools.partial(keys.call_key, ignore=(\\"session\\",))',
        "keys.call_key",
    ),
]
