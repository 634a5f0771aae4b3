"""The pitfalls of lesson 13, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/13_production.ipynb"
COPIES = "labkit/concurrency/near_copies.py"
PROXY = "labkit/servers/proxy.py"
ADDRESSES = "labkit/concurrency/addresses.py"
TLS = "labkit/servers/tls.py"
PERMISSIONS = "labkit/cache/permissions.py"
EXERCISES = "labkit/lessons/lesson_13.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "an invalidation that is not lost: the replica's link is not cut",
        NOTEBOOK,
        r"        group.cut(replica)\n",
        r"        client.wait(2, 5_000)\n",
    ),
    (
        "a cache that keeps nothing in the process: the lesson",
        NOTEBOOK,
        "near, ask_near = open_cache(**near_by.PATIENT)",
        "near, ask_near = open_cache(timeout_ms=10_000)",
    ),
    (
        "messages that are not held up: the lesson",
        NOTEBOOK,
        "way.hold()",
        "way.release()",
    ),
    (
        "a connection that is not dropped: the lesson",
        NOTEBOOK,
        "near_by.drop_messages(node, near)",
        'near_by.warm(near, ask_near, \\"EU\\")',
    ),
    (
        "a password that is right: the lesson",
        NOTEBOOK,
        r"wrong = f\"redis://:guessed@127.0.0.1:{node.port}/0\"",
        r"wrong = node.url",
    ),
    (
        "a certificate that everybody trusts: the lesson",
        NOTEBOOK,
        r"\"without it\": server.url(authority=False)",
        r"\"without it\": server.url()",
    ),
    (
        "a user that may do everything: the lesson",
        NOTEBOOK,
        r"        admin.execute_command(*line.split(\" \"))\n",
        r"        admin.execute_command(*line.split(\" \"), \"+@all\", \"~*\")\n",
    ),
    (
        "a Redis without a limit that is called good: the lesson",
        NOTEBOOK,
        r"admin.config_set(\"maxmemory\", \"256mb\")",
        r"admin.config_get(\"maxmemory\")",
    ),
    (
        "an answer of Redis that counts as L1's: labkit",
        COPIES,
        "return Answer(value, L1 if cache.stats.l1_hits > near else source)",
        "return Answer(value, L1 if source == REDIS else source)",
    ),
    (
        "messages of an own fill that are still under way: labkit",
        COPIES,
        "    _hear(cache)  # of its own fill, which may have come after the first look\n",
        "    pass\n",
    ),
    (
        "a proxy that holds nothing: labkit",
        PROXY,
        "                if is_held:\n",
        "                if not is_held:\n",
    ),
    (
        "a reader that outlives who started it: labkit",
        COPIES,
        "    commands = end_with_input()\n",
        "    get = lambda: sys.stdin.readline().strip() or sys.exit(1)\n"
        '    commands = __import__("types").SimpleNamespace(get=get)\n',
    ),
    (
        "a loopback that is down: labkit",
        ADDRESSES,
        "flags | IFF_UP",
        "flags & ~IFF_UP",
    ),
    (
        "a log that is shown to learners: labkit",
        ADDRESSES,
        "log.propagate = False",
        "log.propagate = True",
    ),
    (
        "a certificate for another name: labkit",
        TLS,
        'OF_THE_SERVER = f"subjectAltName=IP:{HOST}',
        'OF_THE_SERVER = f"subjectAltName=IP:127.0.0.2',
    ),
    (
        "a port of TLS beside one without: labkit",
        TLS,
        '"port 0", f"tls-port {made.port}"',
        'f"port {made.port}"',
    ),
    (
        "L1 without the permission that it needs: labkit acl --l1",
        PERMISSIONS,
        "commands |= (L1 if l1 else {})",
        "commands |= (L1 if False else {})",
    ),
    (
        "L1's permission for everybody: labkit acl",
        PERMISSIONS,
        "commands |= (L1 if l1 else {})",
        "commands |= (L1 if True else {})",
    ),
    (
        "a host's name that is taken for the mistake: the exercise",
        EXERCISES,
        '    if " connecting to " in said:\n',
        '    if " connecting to " in said and "password" not in said:\n',
    ),
    (
        "everybody who tries after the pause: the exercise",
        EXERCISES,
        "last = failed if tried is None else tried",
        "last = failed",
    ),
    (
        "tokens that are taken for entries: the exercise",
        EXERCISES,
        'if not key.startswith("token:")}',
        'if not key.startswith("none:")}',
    ),
    (
        "hosts that are called after no mistake: the check",
        EXERCISES,
        "for said, expected in SAID:\n",
        "for said, expected in SAID[:3]:\n",
    ),
]
