"""The pitfalls of lesson 06, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/06_missing_ttl.ipynb"
TTL = "labkit/cache/ttl.py"
SPARE = "labkit/servers/spare.py"
EXERCISES = "labkit/lessons/lesson_06.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "no TTL in place of an hour",
        NOTEBOOK,
        r"looks[ttl] = day(ttl)\n",
        r"looks[ttl] = day(None)\n",
    ),
    (
        "a full Redis takes the page down",
        NOTEBOOK,
        r"outcome(forgiving_page, small, user_id)",
        r"outcome(page, small, user_id)",
    ),
    (
        "searches without a TTL drive out the reports",
        NOTEBOOK,
        "= reports_left(3600)",
        "= reports_left(None)",
    ),
    (
        "a policy that may not evict what has no TTL",
        NOTEBOOK,
        r"reports_left(None, \"allkeys-lfu\")",
        r"reports_left(None, \"volatile-lfu\")",
    ),
    (
        "a full Redis whose TTLs have not passed",
        NOTEBOOK,
        "let_pass(3600, small)",
        "let_pass(60, small)",
    ),
    (
        "LRU in place of LFU before a scan",
        NOTEBOOK,
        r"ratios = {policy: replay(policy) for policy in policies}",
        r"ratios = {policy: replay(policy.replace(\"lfu\", \"lru\")) for policy in policies}",
    ),
    (
        "noeviction in place of a policy when favourites change",
        NOTEBOOK,
        "room=800_000, policy=policy)",
        "room=800_000)",
    ),
    (
        "a TTL that is not checked where it is given: the lesson",
        NOTEBOOK,
        r"    checked_ttl(ttl)\n",
        r"    ttl = ttl or 60\n",
    ),
    (
        "a TTL of zero or less: labkit",
        TTL,
        "if not ttl >= SHORTEST:",
        "if ttl != ttl:",
    ),
    (
        "a TTL of NaN: labkit",
        TTL,
        "if not ttl >= SHORTEST:",
        "if ttl < SHORTEST:",
    ),
    (
        "a TTL of True: labkit",
        TTL,
        "isinstance(ttl, bool) or not isinstance(ttl, int | float)",
        "not isinstance(ttl, int | float)",
    ),
    (
        "a TTL of None: labkit",
        TTL,
        "    if isinstance(ttl, bool) or",
        "    if ttl is None:\n        return ttl\n    if isinstance(ttl, bool) or",
    ),
    (
        "a moment in place of a duration: labkit",
        TTL,
        "    if ttl > LONGEST:",
        "    if False:",
    ),
    (
        "a plain SET loses the TTL: the lesson",
        NOTEBOOK,
        r"lab.redis.set(\"views:7\", 42, keepttl=True)",
        r"lab.redis.set(\"views:7\", 42)",
    ),
    (
        "a plain SET loses the TTL: the exercise",
        EXERCISES,
        "redis.set(key, value, xx=True, keepttl=True)",
        "redis.set(key, value, xx=True)",
    ),
    (
        "an entry that never expires between two commands: the check",
        EXERCISES,
        '            self.delete("entry")\n',
        '            self.exists("entry")\n',
    ),
    (
        "chance that is the same each time: the check",
        EXERCISES,
        "return chance if drawn % 2 else min(1 - chance, JUST_BELOW_1)",
        "return chance",
    ),
    (
        "no jitter: the lesson",
        NOTEBOOK,
        "return max(1, int(1000 * ttl * (1 - spread * random())))",
        "return max(1, int(1000 * ttl))",
    ),
    (
        "no jitter: labkit",
        TTL,
        "int(1000 * checked_ttl(ttl) * (1 - spread * random()))",
        "int(1000 * checked_ttl(ttl))",
    ),
    (
        "no jitter: the exercise",
        EXERCISES,
        "int(1000 * (shortest + (longest - shortest) * random()))",
        "int(1000 * longest)",
    ),
    (
        "jitter that lengthens: labkit",
        TTL,
        "(1 - spread * random())",
        "(1 + spread * random())",
    ),
    (
        "jitter that lengthens: the lesson",
        NOTEBOOK,
        "(1 - spread * random())",
        "(1 + spread * random())",
    ),
    (
        "a server given by URL is limited",
        SPARE,
        '        spare = start_redis("auto" if server.kind == "url" else server.kind, keeper)\n',
        '        spare = server if server.kind == "url" else start_redis(server.kind, keeper)\n',
    ),
    (
        "an integer beyond all floats raises OverflowError",
        "labkit/cache/ttl.py",
        "    if not ttl >= SHORTEST:",
        "    if not float(ttl) >= SHORTEST:",
    ),
]
