"""The pitfalls of lesson 08, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/08_lua_invalidation.ipynb"
INVALIDATION = "labkit/baselines/deletion.py"
LOCAL = "labkit/concurrency/local_cache.py"
PROCESSES = "labkit/servers/processes.py"
EXERCISES = "labkit/lessons/lesson_08.py"
PLOTS = "labkit/measure/plots"
COST_PLOT = f"{PLOTS}/invalidation.py"
BASIC_PLOTS = f"{PLOTS}/basic.py"
PLOT_STYLE = f"{PLOTS}/style.py"
TTL_PLOTS = f"{PLOTS}/ttl.py"
KEY_PLOTS = f"{PLOTS}/keys.py"
COPY_PLOTS = f"{PLOTS}/copies.py"
SCHEDULE_PLOT = f"{PLOTS}/schedules.py"
LANES = f"{PLOTS}/lanes.py"
CONTEXT_PLOT = f"{PLOTS}/contexts.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "keys that are nothing but a digest",
        NOTEBOOK,
        r""""fill_cache(keys.call_key)\n",
    "lab.redis.set(""",
        r""""fill_cache(bare_key)\n",
    "lab.redis.set(""",
    ),
    (
        "keys of a cluster without a hash tag",
        NOTEBOOK,
        r"""tagged = [f\"{{user}}:{number}\"""",
        r"""tagged = [f\"user:{number}\"""",
    ),
    (
        "workers that do not notice that they were cut off",
        NOTEBOOK,
        "story(careful=True)",
        "story(careful=False)",
    ),
    (
        "a cache that keeps what it has when its connection is new: labkit",
        LOCAL,
        'new."""\n        self.entries.clear()\n',
        'new."""\n        self.entries.copy()\n',
    ),
    (
        "a removal of more than is meant: labkit",
        INVALIDATION,
        'found: Any = client.keys(f"{tag}:*")',
        'found: Any = client.keys(f"{tag}*")',
    ),
    (
        "unpack of all keys at once: labkit",
        INVALIDATION,
        "for first = 1, #keys, 1000 do",
        "for first = 1, #keys, 100000 do",
    ),
    (
        "a key that leaves its SET after its entry was stored again: labkit",
        INVALIDATION,
        "        client.srem(set_of(tag), *batch)\n        removed += client.unlink(*batch)\n",
        "        removed += client.unlink(*batch)\n        client.srem(set_of(tag), *batch)\n",
    ),
    (
        "a SET that names what is gone: labkit",
        INVALIDATION,
        "        client.srem(set_of(tag), *batch)\n",
        "",
    ),
    (
        "a pattern without an end: the lesson",
        NOTEBOOK,
        r"0, \"orders:1:*\")",
        r"0, \"orders:1*\")",
    ),
    (
        "an entry that no SET names: the lesson",
        NOTEBOOK,
        r"lab.redis.set(\"users:43\", \"rows\", ex=300)",
        r"store(lab.redis, \"users\", \"users:43\", \"rows\")",
    ),
    (
        "an entry that is stored apart from its name: the lesson",
        NOTEBOOK,
        r"lab.redis.set(\"users:42\", \"rows\", ex=300)",
        r"store(lab.redis, \"users\", \"users:42\", \"rows\")",
    ),
    (
        "a script for one master of three: the lesson",
        NOTEBOOK,
        "for node in cluster.get_primaries():",
        "for node in cluster.get_primaries()[:1]:",
    ),
    (
        "a worker that outlives its kernel: labkit",
        PROCESSES,
        "            lines.put(line.strip())\n    os._exit(1)",
        "            lines.put(line.strip())",
    ),
    (
        "a pattern without escapes: the exercise",
        EXERCISES,
        r"""        prefix = prefix.replace(special, "\\" + special)""",
        "        prefix = prefix.replace(special, special)",
    ),
    (
        "all keys in one command: the exercise",
        EXERCISES,
        "        batch = keys[first : first + 1000]",
        "        batch = keys[first:]",
    ),
    (
        "SETs that name what is gone: the exercise",
        EXERCISES,
        "            redis.srem(name, *batch)\n",
        "            redis.scard(name)\n",
    ),
    (
        "SETs that name the last of many: the check",
        EXERCISES,
        "if named := len(names & {key.encode() for key in keys}):",
        "if named := 0:",
    ),
    (
        "no hash tag: the exercise",
        EXERCISES,
        'return f"{{{tag}}}:{name}"',
        'return f"{tag}:{name}"',
    ),
    (
        "a title that counts growth over sizes that a line does not have: labkit",
        COST_PLOT,
        "if len(set(spans.values())) > 1:",
        "if not spans:",
    ),
    (
        "a title that calls flat what was looked at over few sizes: labkit",
        COST_PLOT,
        "return max(points) >= FLAT_OVER * min(points) and max(costs)",
        "return max(costs)",
    ),
    (
        "a title that calls growth what may be noise: labkit",
        COST_PLOT,
        "math.pow(most / least, GROWS)",
        "1",
    ),
    (
        "a sixth line that is not drawn: labkit",
        COST_PLOT,
        "itertools.cycle(MARKERS)",
        "MARKERS",
    ),
    (
        "a title that names the slower of two that are alike: labkit",
        BASIC_PLOTS,
        "slow > CLEAR * fast",
        "slow >= fast",
    ),
    (
        "a title whose hit ratio is near five times, not clearly past it: labkit",
        BASIC_PLOTS,
        "points[ratio] > CLEAR * WANTED",
        "points[ratio] >= WANTED",
    ),
    (
        "a title that says never of what nearly was: labkit",
        BASIC_PLOTS,
        "points[ratio] * CLEAR < WANTED",
        "points[ratio] < WANTED",
    ),
    (
        "an arrow that ends where the curve does not: labkit",
        BASIC_PLOTS,
        "if gain >= WANTED)",
        "if gain >= 1)",
    ),
    (
        "a title that counts one calls: labkit",
        PLOT_STYLE,
        'f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"',
        'f"{number:,} {thing}s"',
    ),
    (
        "a title that says growth of what is alike with a TTL: labkit",
        TTL_PLOTS,
        "if without[-1] > CLEAR * most > 0:",
        "if without[-1] > most > 0:",
    ),
    (
        "a policy that is the best by chance: labkit",
        TTL_PLOTS,
        "close = [name for name in ratios if behind[name] <= CLOSE]",
        "close = [name for name in ratios if not behind[name]]",
    ),
    (
        "a policy that is the best of parts that others were not tried with: labkit",
        TTL_PLOTS,
        "if len(ratios) < 2 or any(set(own) != set(parts) for own in ratios.values()):",
        "if len(ratios) < 2:",
    ),
    (
        "a busiest second of nothing: labkit",
        TTL_PLOTS,
        "max(counts.values(), default=0)",
        "max(counts.values())",
    ),
    (
        "a promise kept for pairs that were not tried: labkit",
        KEY_PLOTS,
        "    if any(len(outcomes) < pairs for outcomes in kept.values()):",
        "    if not kept:",
    ),
    (
        "bytes counted that are places: labkit",
        KEY_PLOTS,
        "counted(column, 'place')",
        "counted(len(one), 'place')",
    ),
    (
        "a format that is faithful to what it was not given: labkit",
        COPY_PLOTS,
        'survived[name].get(value) == "same"',
        'survived[name].get(value, "same") == "same"',
    ),
    (
        "a title that says no stale entry where one is drawn: labkit",
        SCHEDULE_PLOT,
        'return "the check found nothing stale" if starts else "nothing stale remains"',
        'return "nothing stale remains"',
    ),
    (
        "a lane that is stale before 'stale from here': labkit",
        LANES,
        '["for now" if start is None or n < start else "stale" for n in range(len(values))]',
        '["stale"] * len(values)',
    ),
    (
        "a title that names one of two moments at which the entry goes: labkit",
        CONTEXT_PLOT,
        "for column in _gone(moments)])",
        "for column in _gone(moments)[:1]])",
    ),
]
