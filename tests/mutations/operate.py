# ruff: noqa: E501
"""`labkit acl` and `labkit checklist`, kept and broken: what, file, both texts, the tests that tell."""

from __future__ import annotations

PERMISSIONS = "labkit/cache/permissions.py"
ACL = "labkit/operate/acl.py"
CHECKS = "labkit/operate/checks.py"
CLIENTS = "labkit/operate/clients.py"
INSPECTED = "labkit/operate/inspected.py"
READING = "labkit/operate/reading.py"
KEYSPACE = "labkit/operate/keyspace.py"
HOT = "labkit/operate/hot.py"
SLOW = "labkit/operate/slow.py"
COMMAND = "labkit/operate/command.py"
CHECKLIST = "labkit/operate/checklist.py"
THE_ACL = ("tests/test_acl.py",)
THE_CHECKLIST = ("tests/test_checklist.py",)
REPORTS = ("tests/test_operate.py",)

MUTATIONS: list[tuple[str, str, str, str, tuple[str, ...]]] = [
    (
        "a command that nothing needs is allowed",
        PERMISSIONS,
        '    "mget": "a hit",',
        '    "mget": "a hit",\n    "exists": "nothing",',
        THE_ACL,
    ),
    (
        "a command that a script calls is not allowed",
        PERMISSIONS,
        '    "pttl": "the scripts: how long a lease lasts",\n',
        "",
        THE_ACL,
    ),
    (
        "every key is allowed",
        PERMISSIONS,
        '"resetkeys", *patterns, "resetchannels", "-@all", *(f"+{each}" for each in commands)',
        '"resetkeys", "~*", "resetchannels", "-@all", *(f"+{each}" for each in commands)',
        THE_ACL,
    ),
    (
        "a namespace may be that of another, which begins with it",
        PERMISSIONS,
        'keys = [f"{name}:*",',
        'keys = [f"{name}*",',
        THE_ACL,
    ),
    (
        "a key that moves to another node of a cluster is refused",
        PERMISSIONS,
        '    "asking": "a key that is moving to another node",\n',
        "",
        THE_ACL,
    ),
    (
        "the user keeps what it was allowed before",
        ACL,
        'f"ACL SETUSER {user} reset on"',
        'f"ACL SETUSER {user} on"',
        THE_ACL,
    ),
    (
        "the password stands in the line",
        ACL,
        'return ["#" + hashlib.sha256(password.encode()).hexdigest()]',
        'return [">" + password]',
        THE_ACL,
    ),
    (
        "a user without a password is let in",
        ACL,
        "    if password is None:\n        return []",
        '    if password is None:\n        return ["nopass"]',
        THE_ACL,
    ),
    (
        "who administers Redis is overwritten",
        ACL,
        'if user == "default":',
        "if False:",
        THE_ACL,
    ),
    (
        "no limit of memory is well",
        CHECKS,
        "    if limit:\n",
        "    if True:\n",
        THE_CHECKLIST,
    ),
    (
        "noeviction is well",
        CHECKS,
        'if policy == "noeviction":',
        "if False:",
        THE_CHECKLIST,
    ),
    (
        "tokens may be evicted",
        CHECKS,
        'if policy.startswith("allkeys") and _caches(server):',
        "if False:",
        THE_CHECKLIST,
    ),
    (
        "allkeys is never well",
        CHECKS,
        'if policy.startswith("allkeys") and _caches(server):',
        'if policy.startswith("allkeys"):',
        THE_CHECKLIST,
    ),
    (
        "a save that has failed is not seen",
        CHECKS,
        'if _told(server, "rdb_last_bgsave_status") == "err":',
        "if False:",
        THE_CHECKLIST,
    ),
    (
        "snapshots are well",
        CHECKS,
        'if schedule := server.config("save"):',
        "if schedule := False:",
        THE_CHECKLIST,
    ),
    (
        "a stranger is taken for one who knows the password",
        INSPECTED,
        'if name not in ("username", "password")',
        "if True",
        THE_CHECKLIST,
    ),
    (
        "a unix socket that everybody can open is well",
        CHECKS,
        "if not mode & 0o007:",
        "if True:",
        THE_CHECKLIST,
    ),
    (
        "an open bind is well",
        CHECKS,
        'each.lstrip("-") in EVERYWHERE',
        "False",
        THE_CHECKLIST,
    ),
    (
        "keys without a TTL are well",
        CHECKS,
        "if key.ttl_ms < 0]",
        "if key.ttl_ms < -1]",
        THE_CHECKLIST,
    ),
    (
        "a QueryCache's own tokens need a TTL",
        CHECKS,
        "if not key.name.startswith(own) and key.name not in servers]",
        "if key.name not in servers]",
        THE_CHECKLIST,
    ),
    (
        "what is called a token needs no TTL, whoever it is of",
        INSPECTED,
        "if found == 1]",
        "if True]",
        THE_CHECKLIST,
    ),
    (
        "big keys are well",
        CHECKS,
        "if sizes[name] > BIG)",
        "if sizes[name] > 10 * BIG)",
        THE_CHECKLIST,
    ),
    (
        "a key without a namespace is well",
        CHECKS,
        "if not prefix_of(name)]",
        "if not name]",
        THE_CHECKLIST,
    ),
    (
        "a replica is taken for a master",
        CHECKS,
        '    if about.get("role") != "slave":\n        return Verdict("a master',
        '    if True:\n        return Verdict("a master',
        THE_CHECKLIST,
    ),
    (
        "a server without replicas is well",
        CHECKS,
        "    if not online:\n",
        "    if False:\n",
        THE_CHECKLIST,
    ),
    (
        "two Sentinels will do",
        CHECKS,
        "if listening < SENTINELS:",
        "if listening < 2:",
        THE_CHECKLIST,
    ),
    (
        "a cluster whose masters have no replica is well",
        CHECKS,
        "    if alone:\n",
        "    if False:\n",
        THE_CHECKLIST,
    ),
    (
        "a Sentinel is taken for a server with keys",
        INSPECTED,
        'if "sentinel" in (about.get("redis_mode"), about.get("server_mode")):',
        "if False:",
        THE_CHECKLIST,
    ),
    (
        "what the user may not ask is bad",
        CHECKLIST,
        "        return Line(name, NOT_LOOKED_AT, str(error))",
        '        return Line(name, MEND, str(error), "?", "?")',
        THE_CHECKLIST,
    ),
    (
        "it passes though nothing could be looked at",
        COMMAND,
        "    if not found.was_looked_at:\n",
        "    if False:\n",
        THE_CHECKLIST,
    ),
    (
        "the exit status is 0 whatever is found",
        COMMAND,
        "WELL if found.passes else TO_MEND",
        "WELL",
        THE_CHECKLIST,
    ),
    (
        "the password of a URL is shown",
        INSPECTED,
        'return SECRET.sub(lambda found: "***@" if found[0].endswith("@") else "***", text)',
        "return text",
        THE_CHECKLIST,
    ),
    (
        "the keys that are looked at are not bounded",
        READING,
        "while len(found) < bound and",
        "while",
        THE_CHECKLIST,
    ),
    (
        "a client without time-outs is well",
        CLIENTS,
        "lambda each: each.answer is not None,",
        "lambda each: True,",
        THE_CHECKLIST,
    ),
    (
        "a client that tries again and again is well",
        CLIENTS,
        "return (1 + self.retries) * max(self.answer, self.connection)",
        "return max(self.answer, self.connection)",
        THE_CHECKLIST,
    ),
    (
        "a pool without a limit is well",
        CLIENTS,
        "lambda each: each.connections < limit,",
        "lambda each: True,",
        THE_CHECKLIST,
    ),
    (
        "any client will do for a cluster",
        CLIENTS,
        "if (cluster and not isinstance(each.client, CLUSTERS))",
        "if False",
        THE_CHECKLIST,
    ),
    (
        "any client will do for Sentinel's servers",
        CLIENTS,
        "or (watched and not _asks_sentinel(each.client))",
        "or False",
        THE_CHECKLIST,
    ),
    (
        "an application's own output stands in the report",
        CLIENTS,
        "with contextlib.redirect_stdout(sys.stderr):",
        "with contextlib.nullcontext():",
        THE_CHECKLIST,
    ),
    (
        "an entry counts in the report though a token was replaced",
        KEYSPACE,
        "if len(homes[name]) < len(stamp):",
        "if not homes[name]:",
        REPORTS,
    ),
    (
        "a report makes the keys hot that it reads",
        READING,
        "if untouched else commands\n",
        "if False else commands\n",
        REPORTS,
    ),
    (
        "hot keys are told where nothing was counted",
        HOT,
        'if not policy.endswith("lfu"):',
        "if False:",
        REPORTS,
    ),
    (
        "another cache's answers are counted",
        HOT,
        "signals.hit.connected_to(counts.hit, sender=cache),\n        signals.miss.connected_to(counts.miss, sender=cache),",
        "signals.hit.connected_to(counts.hit),\n        signals.miss.connected_to(counts.miss),",
        REPORTS,
    ),
    (
        "values stand in the slow log's report",
        SLOW,
        'name_and_key = text.split(" ")[:2]',
        'name_and_key = text.split(" ")',
        REPORTS,
    ),
]
