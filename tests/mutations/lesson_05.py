"""The pitfalls of lesson 05, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/05_races.ipynb"
LOADING = "labkit/cache/loading.py"
CROWD = "labkit/cache/crowd.py"
EXERCISES = "labkit/lessons/lesson_05.py"

MUTATIONS: list[tuple[str, str, str, str]] = [
    (
        "a counter written back after WATCH failed: no second try",
        NOTEBOOK,
        r'''"            except redis.WatchError:\n",
    "                pass"''',
        r'''"            except redis.WatchError:\n",
    "                return"''',
    ),
    (
        "an entry stamped with the token of the moment when it is stored",
        NOTEBOOK,
        r'''"    token = lab.redis.get(TOKEN)\n",
    "    if valid_region() is None:\n",
    "        yield\n",
    "        region = read_region()\n",
    "        yield\n",
    "        fill(keys=[KEY, TOKEN], args=[region, token])\n"''',
        r'''"    if valid_region() is None:\n",
    "        yield\n",
    "        region = read_region()\n",
    "        yield\n",
    "        fill(keys=[KEY, TOKEN], args=[region, lab.redis.get(TOKEN)])\n"''',
    ),
    (
        "a fill that sets without comparing",
        NOTEBOOK,
        "if redis.call('GET', KEYS[2]) == ARGV[2] then",
        "if true then",
    ),
    (
        "an entry that counts whatever its token",
        NOTEBOOK,
        "return region.decode() if data and stamp == token else None",
        "return region.decode() if data else None",
    ),
    (
        "a new token before the commit, and none after it",
        NOTEBOOK,
        r'''"def token_writer():\n",
    "    move_to(\"EU\")\n",
    "    yield\n",
    "    lab.redis.set(TOKEN, new_token())\n"''',
        r'''"def token_writer():\n",
    "    lab.redis.set(TOKEN, new_token())\n",
    "    yield\n",
    "    move_to(\"EU\")\n"''',
    ),
    (
        "a counter in place of a random token: after an eviction it counts from 1 again",
        NOTEBOOK,
        r"""return secrets.token_hex(8).encode()""",
        r"""return b'%d' % (1 + int((lab.redis.get(TOKEN) or b'0').replace(b'BUSY', b'0')))""",
    ),
    (
        "no BUSY before the commit",
        NOTEBOOK,
        r"""lab.redis.set(TOKEN, \"BUSY\", ex=60)""",
        "pass",
    ),
    (
        "a reader that fills while the writer is BUSY",
        NOTEBOOK,
        r"""if token != b\"BUSY\" and valid_region() is None:""",
        "if valid_region() is None:",
    ),
    (
        "a hundred threads without single-flight",
        NOTEBOOK,
        "rush(single_flight)",
        "rush(naive)",
    ),
    (
        "four processes without a lease",
        NOTEBOOK,
        "sum(stampede(lab, way))",
        r"sum(stampede(lab, \"single-flight\"))",
    ),
    (
        "no early loading, simulated",
        NOTEBOOK,
        "simulate(early=True)",
        "simulate(early=False)",
    ),
    (
        "no early loading, measured",
        NOTEBOOK,
        "loads_at_once(True, draw)",
        "loads_at_once(False, draw)",
    ),
    (
        "XFetch with its sign turned",
        NOTEBOOK,
        "return -load_seconds * beta * math.log(u) >= remaining",
        "return load_seconds * beta * math.log(u) >= remaining",
    ),
    (
        "every thread loads for itself: labkit",
        LOADING,
        "leads = key not in self._flights",
        "leads = True",
    ),
    (
        "single-flight that remembers its last answer: labkit",
        LOADING,
        "                del self._flights[key]",
        "                pass",
    ),
    (
        "everybody gets the lease: labkit",
        LOADING,
        "client.set(lease, token, nx=True, px=lease_ms)",
        "client.set(lease, token, px=lease_ms)",
    ),
    (
        "a lease without a TTL: labkit",
        LOADING,
        "client.set(lease, token, nx=True, px=lease_ms)",
        "client.set(lease, token, nx=True)",
    ),
    (
        "a holder that deletes the lease of another: labkit",
        LOADING,
        "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end",
        "redis.call('DEL', KEYS[1])",
    ),
    (
        "a failed load that keeps its lease: labkit",
        LOADING,
        "            finally:\n                client.eval",
        "            except ZeroDivisionError:\n                raise\n"
        "            else:\n                client.eval",
    ),
    (
        "a holder that does not look again: labkit",
        LOADING,
        "                value = client.get(key)  # stored between our look and our lease?\n",
        "",
    ),
    (
        "a crowd that outlives its kernel: labkit",
        CROWD,
        "    end_with_input()\n",
        "",
    ),
    (
        "releasing without looking: the exercise",
        EXERCISES,
        "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end",
        "redis.call('DEL', KEYS[1])",
    ),
    (
        "an order that does not end stale: the exercise",
        EXERCISES,
        'solution="W1 R1 R2 W2 R3"',
        'solution="R1 R2 W1 W2 R3"',
    ),
    (
        "the share of early loads grows with the time that is left: the exercise",
        EXERCISES,
        "return math.exp(-remaining / load_seconds)",
        "return 1 - math.exp(-remaining / load_seconds)",
    ),
    (
        "actors whose names end in a digit",
        "labkit/schedule.py",
        'return f"{name}.{number}" if name[-1].isdigit() else f"{name}{number}"',
        'return f"{name}{number}"',
    ),
    (
        "bytes against text is not said: the exercises",
        "labkit/lessons/replies.py",
        "    if isinstance(other, str):\n        notes().append(",
        "    if False:\n        notes().append(",
    ),
]
