"""The pitfalls of lesson 05, fixed and broken: what, file, the fixed text, the broken one."""

from __future__ import annotations

NOTEBOOK = "notebooks/05_races.ipynb"
LOADING = "labkit/cache/loading.py"
LEASE = "labkit/concurrency/lease.py"
TOKENS = "labkit/cache/tokens.py"
CROWD = "labkit/concurrency/stampede.py"
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
        r"""        store(region, token)\n",""",
        r"""        store(region, lab.redis.get(TOKEN))\n",""",
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
    "    lab.redis.set(TOKEN, new_token())"''',
        r'''"def token_writer():\n",
    "    lab.redis.set(TOKEN, new_token())\n",
    "    yield\n",
    "    move_to(\"EU\")"''',
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
        r"""lab.redis.set(TOKEN, \"!BUSY\", ex=60)""",
        "pass",
    ),
    (
        "a reader that fills while the writer is BUSY",
        NOTEBOOK,
        r"""if not token.startswith(b\"!\") and valid_region() is None:""",
        "if valid_region() is None:",
    ),
    (
        "a writer that takes the other's name out of the marker, too",
        NOTEBOOK,
        r"""local others = marker:gsub('!' .. ARGV[1], '')""",
        "local others = ''",
    ),
    (
        "a writer that enters itself in place of the other",
        NOTEBOOK,
        r"""if not marker or marker:sub(1, 1) ~= '!' then marker = '' end""",
        "marker = ''",
    ),
    (
        "a row from before the token, stored",
        NOTEBOOK,
        "            region = read_region()  # on a connection",
        "            read_region()  # on a connection",
    ),
    (
        "a lease's holder that fills without its tag",
        NOTEBOOK,
        r"""with_tag, without_tag, truth = stored_after(\"users\")""",
        "with_tag, without_tag, truth = stored_after()",
    ),
    (
        "a hundred threads without single-flight",
        NOTEBOOK,
        r"""flights.do(\"count\", load_when_all_wait, on_join=arrivals.release)""",
        "load_count()",
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
        "simulate(is_due)",
        "simulate(never)",
    ),
    (
        "no early loading, measured",
        NOTEBOOK,
        ", ten_lives(is_due)",
        ", ten_lives(never)",
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
        LEASE,
        "client.set(name, ours, nx=True, px=lease_ms)",
        "client.set(name, ours, px=lease_ms)",
    ),
    (
        "a lease without a TTL: labkit",
        LEASE,
        "client.set(name, ours, nx=True, px=lease_ms)",
        "client.set(name, ours, nx=True)",
    ),
    (
        "a holder that deletes the lease of another: labkit",
        TOKENS,
        "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end",
        "redis.call('DEL', KEYS[1])",
    ),
    (
        "a failed load that keeps its lease: labkit",
        LEASE,
        "    finally:\n        if taken:",
        "    except ZeroDivisionError:\n        raise\n    else:\n        if taken:",
    ),
    (
        "a holder that does not look again: labkit",
        LEASE,
        "            found = lookup(client, key, *tags)  # stored since our last look?\n",
        "            if not is_ours:\n                found = lookup(client, key, *tags)\n",
    ),
    (
        "a holder that stores whatever was written meanwhile: labkit",
        LEASE,
        "fill(client, key, value, ttl, found, *tags)",
        "fill(client, key, value, ttl, lookup(client, key, *tags), *tags)",
    ),
    (
        "callers that wait for a lease while nobody can fill: labkit",
        LEASE,
        "(is_ours or found.busy)",
        "is_ours",
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
        "a look and a delete in two pipelines are called right: the exercise",
        EXERCISES,
        "        answers = super().execute(raise_on_error)\n        self._client.answered()\n",
        "        answers = super().execute(raise_on_error)\n",
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
        "labkit/concurrency/schedule.py",
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
