"""The pitfalls of lesson 09, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/09_versioned_invalidation.ipynb"
TOKENS = "labkit/cache/tokens.py"
FILL = "labkit/cache/fill.lua"
EXERCISES = "labkit/lessons/lesson_09.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "a counter in place of random tokens",
        NOTEBOOK,
        "random = actors(random_token, lambda: lab.redis.set(TOKEN, random_token()))",
        "random = actors(lambda: 1, lambda: lab.redis.incr(TOKEN))",
    ),
    (
        "an entry that counts whatever its tokens",
        NOTEBOOK,
        "counts = entry is not None and entry.startswith(stamp)",
        "counts = entry is not None",
    ),
    (
        "one of several tokens is not asked for",
        NOTEBOOK,
        r"""answer, current = lookup(\"report\", \"users\", \"orders\")\n",
    "    if answer""",
        r"""answer, current = lookup(\"report\", \"users\")\n",
    "    if answer""",
    ),
    (
        "an entry that counts whatever its tokens: labkit",
        TOKENS,
        "counts = entry is not None and entry.startswith(stamp)",
        "counts = entry is not None",
    ),
    (
        "a fill that compares the first token only: Lua",
        FILL,
        "for i = 2, #KEYS do",
        "for i = 2, math.min(2, #KEYS) do",
    ),
    (
        "a fill that does not compare: Lua",
        FILL,
        "~= ARGV[i + 1] then",
        "== 1 then",
    ),
    (
        "an entry without a deadline: Lua",
        FILL,
        "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])",
        "redis.call('SET', KEYS[1], ARGV[1])",
    ),
    (
        "a counter in the story of the eviction",
        NOTEBOOK,
        r"""story(by_random, new_token_to_evict, \"token:users\")""",
        r"""story(by_counter, count_up, \"version:users\")""",
    ),
    (
        "a version in the key",
        NOTEBOOK,
        '    answer, current = lookup(f\\"users:{region}\\", \\"users\\")',
        "    return by_version(region)",
    ),
    (
        "no hash tag in a cluster",
        NOTEBOOK,
        r"""for prefix in (\"\", \"{shop}:\") if""",
        r"""for prefix in (\"\", \"shop:\") if""",
    ),
    (
        "a reader that replaces the tokens of others: labkit",
        TOKENS,
        "client.set(name, new_token(), nx=True)",
        "client.set(name, new_token())",
    ),
    (
        "a fill without what it was looked up with: labkit",
        TOKENS,
        "1000 * ttl, *found.tokens]",
        "1000 * ttl, *client.mget(keys[1:])]",
    ),
    (
        "a token that is used again: labkit",
        TOKENS,
        "return secrets.token_hex(8).encode()",
        'return b"1"',
    ),
    (
        "tokens one by one: the exercise",
        EXERCISES,
        """        redis.mset({f"token:{tag}": secrets.token_hex(8) for tag in tags})""",
        """        [redis.set(f"token:{tag}", secrets.token_hex(8)) for tag in tags]""",
    ),
    (
        "a fill without WATCH: the exercise",
        EXERCISES,
        "        pipe.watch(token_key)\n        if pipe.get(token_key)",
        "        if redis.get(token_key)",
    ),
    (
        "a clock is good enough: the exercise",
        EXERCISES,
        "in_a_worker(work, answer, tick=0)",
        "in_a_worker(work, answer, tick=1)",
    ),
    (
        "two workers that begin alike are not compared: the exercise",
        EXERCISES,
        "if twice := tokens & in_a_worker(work, answer, tick=1):",
        "if twice := set[bytes]():",
    ),
    (
        "a counter's error is shown as it is: the exercise",
        EXERCISES,
        '        if "not an integer" not in str(raised):\n            raise\n',
        "        raise\n",
    ),
]
