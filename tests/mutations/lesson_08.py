"""The pitfalls of lesson 08, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/08_lua_invalidation.ipynb"
INVALIDATION = "labkit/baselines/deletion.py"
LOCAL = "labkit/concurrency/local_cache.py"
PROCESSES = "labkit/concurrency/processes.py"
EXERCISES = "labkit/lessons/lesson_08.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "keys that are nothing but a digest",
        NOTEBOOK,
        r""""fill_cache(keys.call_key)\n",
    "by_name""",
        r""""fill_cache(bare_key)\n",
    "by_name""",
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
        "a script for one master of three: the lesson",
        NOTEBOOK,
        "for node in cluster.get_primaries():",
        "for node in cluster.get_primaries()[:1]:",
    ),
    (
        "a worker that outlives its kernel: labkit",
        PROCESSES,
        "    sys.stdin.read()\n    os._exit(1)",
        "    sys.stdin.read()",
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
        "no hash tag: the exercise",
        EXERCISES,
        'return f"{{{tag}}}:{name}"',
        'return f"{tag}:{name}"',
    ),
]
