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
    "deleted_by_name""",
        r""""fill_cache(bare_key)\n",
    "deleted_by_name""",
    ),
    (
        "keys of a cluster without a hash tag",
        NOTEBOOK,
        r"""fill_cluster(\"{{user}}:{}\")""",
        r"""fill_cluster(\"user:{}\")""",
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
        "        self.entries.clear()\n        self.hears = False\n\n    def get",
        "        self.hears = True\n\n    def get",
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
        "a SET that is emptied while others add to it: labkit",
        INVALIDATION,
        "    client.rename(set_of(tag), aside)\n",
        "    client.copy(set_of(tag), aside)\n",
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
        'redis.spop(f"tagged:{tag}", 1000)',
        'redis.spop(f"tagged:{tag}", 100000)',
    ),
    (
        "no hash tag: the exercise",
        EXERCISES,
        'return f"{{{tag}}}:{name}"',
        'return f"{tag}:{name}"',
    ),
]
