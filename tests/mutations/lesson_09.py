"""The pitfalls of lesson 09, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/09_versioned_invalidation.ipynb"
TOKENS = "labkit/cache/tokens.py"
FILL = "labkit/cache/fill.lua"
MARK = "labkit/cache/mark.lua"
TAKE = "labkit/cache/take.lua"
EXERCISES = "labkit/lessons/lesson_09.py"
COUNTING = "labkit/lessons/counting.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "a counter in place of random tokens",
        NOTEBOOK,
        r"""evict=[\"token:users\"], **by_tokens)""",
        r"""evict=[\"version:users\"], **by_counts) if (token_pair := counter_pair) else 0""",
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
        "if entry is None or not entry.startswith(stamp_of(tokens)):",
        "if entry is None:",
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
        "token ~= ARGV[i + 1] or token:sub(1, 1) == '!'",
        "token and token:sub(1, 1) == '!'",
    ),
    (
        "a fill while a writer is under way: Lua",
        FILL,
        " or token:sub(1, 1) == '!'",
        "",
    ),
    (
        "one marker for all writers, which the first to end takes away: Lua",
        MARK,
        "if name ~= ARGV[1] and left > 0 and left <= 3600000 then",
        "if false then",
    ),
    (
        "a marker that no writer can end: Lua",
        MARK,
        "if name ~= ARGV[1] and left > 0 and left <= 3600000 then",
        "if left > 0 and left <= 3600000 then",
    ),
    (
        "a crashed writer that counts after its deadline, while others write: Lua",
        MARK,
        "if name ~= ARGV[1] and left > 0 and left <= 3600000 then",
        "if name ~= ARGV[1] then",
    ),
    (
        "a crashed writer whose marker stays for ever: Lua",
        TAKE,
        "if tonumber(deadline) > now and tonumber(deadline) <= now + 3600000 then",
        "if true then",
    ),
    (
        "a marker that is over once one of its writers is: Lua",
        TAKE,
        "            return false\n        end\n    end\n    return true",
        "            return false\n        else return true\n        end\n    end\n    return true",
    ),
    (
        "a marker that a server could evict: Lua",
        MARK,
        "redis.call('SET', KEYS[i], marker == '' and ARGV[i + 2] or marker)",
        "redis.call('SET', KEYS[i], marker == '' and ARGV[i + 2] or marker, 'EX', 3600)",
    ),
    (
        "a reader that takes a marker for a token: labkit",
        TOKENS,
        "return any(token.startswith(MARKER) for token in self.tokens)",
        "return False",
    ),
    (
        "a name that a marker cannot hold: labkit",
        TOKENS,
        "if not (writer.isascii() and writer.isalnum()):",
        "if not writer:",
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
        r"""for prefix in (\"\", \"{shop}:\")}""",
        r"""for prefix in (\"\", \"shop:\")}""",
    ),
    (
        "a reader that takes each marker for over: Lua",
        TAKE,
        "(marked and is_over(token))",
        "marked",
    ),
    (
        "a fill without what it was looked up with: labkit",
        TOKENS,
        "    read = list(found.tokens)\n",
        "    read = list(client.mget(keys[1:]))\n",
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
        "in_a_worker(lambda: _tokens_made(answer, client), answer, tick=0)",
        "in_a_worker(lambda: _tokens_made(answer, client), answer, tick=1)",
    ),
    (
        "two workers that begin alike are not compared: the exercise",
        EXERCISES,
        "if twice := tokens & again:",
        "if twice := set[bytes]():",
    ),
    (
        "a counter's error is shown as it is: the exercise",
        EXERCISES,
        '        if "not an integer" not in str(raised):\n            raise\n',
        "        raise\n",
    ),
    (
        "the second worker's server has gone on, not begun anew: the exercise",
        EXERCISES,
        "_tokens_made(answer, restarted)",
        "_tokens_made(answer, client)",
    ),
    (
        "the server's clock goes on: the exercise",
        COUNTING,
        'if script is None or "TIME" not in _text(script).upper():',
        'if script is None or "TIME" in _text(script).upper():',
    ),
    (
        "the token is replaced before one command only: the exercise",
        EXERCISES,
        "for moment in range(1, 10):",
        "for moment in range(3, 4):",
    ),
    (
        "workers begin in the past, so that a deadline has passed: the exercise",
        "labkit/lessons/worker.py",
        "BEGAN = 4_102_444_800 * 10**9",
        "BEGAN = 1_750_000_000 * 10**9",
    ),
]
