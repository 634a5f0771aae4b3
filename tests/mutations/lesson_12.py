"""The pitfalls of lesson 12, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/12_choosing_a_backend.ipynb"
KINDS = "labkit/concurrency/kinds.py"
BACKENDS = "labkit/concurrency/backends.py"
MEMCACHED = "labkit/servers/memcached.py"
DOORS = "labkit/servers/two_doors.py"
PLOT = "labkit/measure/plots/backends.py"
EXERCISES = "labkit/lessons/lesson_12.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "a second worker that is stale: the lesson deletes in both",
        NOTEBOOK,
        r"    first[kind].delete(\"user:42\")\n",
        r"    [worker[kind].delete(\"user:42\") for worker in (first, second)]\n",
    ),
    (
        "workers that are told by nobody: the lesson",
        NOTEBOOK,
        r"lab.redis.publish(\"shop:invalidate\", \"user:42\")",
        r"lab.redis.publish(\"shop:invalidate\", \"user:43\")",
    ),
    (
        "a hit ratio that forgets the miss which stores: the lesson",
        NOTEBOOK,
        "return 1 - 1 / (1 + hits)",
        "return min(1, hits)",
    ),
    (
        "an answer that may never be old, and is cached: the lesson",
        NOTEBOOK,
        "if ttl == 0:",
        "if ttl < 0:",
    ),
    (
        "a cache for what saves nothing: the lesson",
        NOTEBOOK,
        "if saved < 10:",
        "if saved < 0:",
    ),
    (
        "many people's requests that are counted for each of them: the lesson",
        NOTEBOOK,
        "each = requests / answers",
        "each = requests",
    ),
    (
        "a visit that is read, then written: the lesson counts it whole",
        NOTEBOOK,
        r"second[kind].set(\"visits\", seen_by_second + 1)",
        r"second[kind].increment(\"visits\")",
    ),
    (
        "a stranger's pickle that is read: labkit",
        KINDS,
        "if mode == MODE_PICKLE:",
        "if mode == -1:",
    ),
    (
        "errors of Memcached that nobody waits for: labkit",
        KINDS,
        "default_noreply=False",
        "default_noreply=True",
    ),
    (
        "a connection that is not made anew after a restart: labkit",
        KINDS,
        "attempts=2",
        "attempts=1",
    ),
    (
        "an entry that was there, and counts as added: labkit",
        KINDS,
        "orjson.dumps(value), nx=True)",
        "orjson.dumps(value), nx=False)",
    ),
    (
        "a worker that an interrupted cell ends: labkit",
        BACKENDS,
        "signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "signal.signal(signal.SIGINT, signal.SIG_DFL)",
    ),
    (
        "workers whose last answer is not waited for: labkit",
        BACKENDS,
        'for _ in range(asked["times"]):',
        "for _ in range(1):",
    ),
    (
        "a socket that others may enter: labkit",
        MEMCACHED,
        '"-a", "0700"',
        '"-a", "0777"',
    ),
    (
        "a limit that Memcached is not told: labkit",
        MEMCACHED,
        '"-m", str(megabytes)',
        '"-m", str(MEGABYTES)',
    ),
    (
        "a server that comes back with nothing of what was saved: labkit",
        DOORS,
        "client.save()",
        "client.ping()",
    ),
    (
        "a title that calls the fastest wrong where it is not clearly faster: labkit",
        PLOT,
        "if medians[best] <= CLEAR * medians[first]:",
        "if medians[best] <= medians[first]:",
    ),
    (
        "keys that are cut off: the exercise",
        EXERCISES,
        "return hashlib.sha256(key.encode()).hexdigest()",
        "return key.replace(' ', '_')[:MEMCACHED_KEY]",
    ),
    (
        "keys that look like other texts' keys: the check",
        EXERCISES,
        "for text in sorted(made.keys() - set(TEXTS)):",
        "for text in sorted(made.keys() & set()):",
    ),
    (
        "a visit that is lost: the exercise",
        EXERCISES,
        "    cache.add(key, 0)\n    return cache.increment(key)\n",
        "    cache.set(key, (cache.get(key) or 0) + 1)\n    return cache.get(key)\n",
    ),
    (
        "a visit that nobody else counts meanwhile: the check",
        EXERCISES,
        "if len(self.calls) == self._moment:",
        "if len(self.calls) == 0:",
    ),
    (
        "requests that are a share of the changes: the exercise",
        EXERCISES,
        "return writes * hits / (1 - hits)",
        "return writes * hits",
    ),
]
