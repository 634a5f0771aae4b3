# ruff: noqa: E501
"""The properties of QueryCache, kept and broken: what, file, both texts, the tests that tell."""

from __future__ import annotations

MAIN = "labkit/cache/query_cache.py"
ANSWERS = "labkit/cache/answers.py"
INVALIDATION = "labkit/cache/invalidation.py"
READS = "labkit/cache/reads.py"
QUESTIONS = "labkit/cache/questions.py"
COMMITS = "labkit/cache/commits.py"
SETTINGS = "labkit/cache/settings.py"
SIGNALS = "labkit/cache/signals.py"
CLIENT = "labkit/cache/client.py"
SERVER = "labkit/cache/server.py"
TOKENS = "labkit/cache/tokens.py"
FILL = "labkit/cache/fill.lua"
MARK = "labkit/cache/mark.lua"
TAKE = "labkit/cache/take.lua"
RECOGNISE = "labkit/cache/recognise.lua"
BASIC = ("tests/test_query_cache.py",)
LOST = ("tests/test_lost_invalidations.py",)
OUTAGES = ("tests/test_outages.py",)
SCHEDULES = ("tests/test_query_cache_schedules.py",)
MODEL = ("tests/test_query_cache_model.py",)

MUTATIONS: list[tuple[str, str, str, str, tuple[str, ...]]] = [
    (
        "a request with writes of its own reads the entry",
        ANSWERS,
        'return "writes are pending"',
        'return ""',
        BASIC,
    ),
    (
        "writes that were flushed are not pending",
        READS,
        "return any(WAITING in each.info for each in transaction.connections if not each.closed)",
        "return False",
        BASIC,
    ),
    (
        "uncommitted rows of a connection are stored",
        READS,
        "if WAITING in connection.info or tables_written(sql, compiled):",
        "if False:",
        BASIC,
    ),
    (
        "tables that nobody has named are not learnt",
        QUESTIONS,
        "if self.by_table else []",
        "if False else []",
        BASIC,
    ),
    (
        "an entry made of another entry forgets its tags",
        READS,
        "        load.tables.update(tags)",
        "        pass",
        BASIC,
    ),
    (
        "text is stored without tags",
        ANSWERS,
        "if seen.by_text and not (trusted or question.given):",
        "if False:",
        BASIC,
    ),
    (
        "a listener without a context is not noticed",
        ANSWERS,
        "if self._context is None and session.dispatch.do_orm_execute:",
        "if False:",
        BASIC,
    ),
    (
        "the context is in no key",
        ANSWERS,
        "key = key_of(self._context() if self._context else None)",
        "key = key_of(None)",
        BASIC,
    ),
    (
        "entities are cached",
        MAIN,
        "        refuse_entities(statement)\n",
        "",
        BASIC,
    ),
    (
        "who waits gets the error of another's load",
        ANSWERS,
        "return load() if outcome.data is None else loads(outcome.data)",
        "return outcome.answer() if outcome.data is None else loads(outcome.data)",
        BASIC,
    ),
    (
        "who waits shares the object of the load",
        ANSWERS,
        "return load() if outcome.data is None else loads(outcome.data)",
        "return outcome.answer()",
        BASIC,
    ),
    (
        "each thread loads for itself",
        ANSWERS,
        "outcome = self._flights.do(flight, lead, timeout=self._settings.lease_ms / 1000)",
        "outcome = lead()",
        BASIC,
    ),
    (
        "a TTL without jitter",
        ANSWERS,
        "ttl = jittered_ms(question.ttl, self._settings.jitter) / 1000",
        "ttl = question.ttl",
        BASIC,
    ),
    (
        "1 is the same argument as True",
        QUESTIONS,
        "typed=True",
        "typed=False",
        ("tests/test_hit_path.py",),
    ),
    (
        "another database has the same key",
        QUESTIONS,
        'decided_by = {"database": url, "context": context}',
        'decided_by = {"context": context}',
        BASIC,
    ),
    (
        "a statement is remembered whatever the context",
        QUESTIONS,
        "asked = (url, namespace, engine.dialect.name, encode(context))",
        "asked = (url, namespace, engine.dialect.name)",
        BASIC,
    ),
    (
        "a listener that raises breaks the request",
        SIGNALS,
        "        except Exception:\n",
        "        except ZeroDivisionError:\n",
        BASIC,
    ),
    (
        "an unknown setting is taken",
        SETTINGS,
        "        if name not in known:\n",
        "        if False:\n",
        BASIC,
    ),
    (
        "a child of a fork keeps its parent's counts",
        MAIN,
        "        cache.stats.reset()\n        cache._begin()",
        "        cache._begin()",
        BASIC,
    ),
    (
        "a writer marks nothing before its commit",
        INVALIDATION,
        "        if not self._settings.mark_writes:\n",
        "        if True:\n",
        LOST,
    ),
    (
        "nothing is said before a commit",
        COMMITS,
        "after[before(*names) if before else callback] = names",
        "after[callback] = names",
        LOST,
    ),
    (
        "a refused mark leaves its write open",
        COMMITS,
        "                rollback(connection, *args, **options)\n                raise",
        "                raise",
        OUTAGES,
    ),
    (
        "a statement that was refused is told of",
        COMMITS,
        "                        del connection.info[WAITING]\n",
        "                        pass\n",
        OUTAGES,
    ),
    (
        "a demoted master is used",
        RECOGNISE,
        "local before = redis.pcall('GET', KEYS[1]) -- somebody may have put a list there\n",
        "local before = redis.pcall('GET', KEYS[1])\nif before == ARGV[1] then return end\n",
        OUTAGES,
    ),
    (
        "a server that started anew is not recognised",
        RECOGNISE,
        "if before ~= ARGV[1] then",
        "if false then",
        OUTAGES,
    ),
    (
        "a full memory cannot be recognised",
        RECOGNISE,
        "redis.call('DEL', KEYS[1]) -- allowed when memory is full, and so is what comes after it\n",
        "",
        OUTAGES,
    ),
    (
        "a full memory cannot be invalidated",
        MARK,
        "    redis.call('DEL', KEYS[i]) -- allowed when memory is full, and so is what comes after it\n",
        "",
        OUTAGES,
    ),
    (
        "any answer is a delivery",
        TOKENS,
        "        _check(answer, len(tags))\n",
        "",
        OUTAGES,
    ),
    (
        "threads connect one after the other",
        SERVER,
        "if not self._connecting.acquire(timeout=time_out):",
        "if not self._connecting.acquire():",
        OUTAGES,
    ),
    (
        "a full memory opens the breaker",
        SERVER,
        "        if not isinstance(error, OutOfMemoryError):",
        "        if True:",
        OUTAGES,
    ),
    (
        "an error opens no breaker",
        SERVER,
        "            self._breaker.failed()\n",
        "",
        OUTAGES,
    ),
    (
        "entries are used while an invalidation is owed",
        SERVER,
        '        if self._owed:\n            return "an',
        '        if False:\n            return "an',
        OUTAGES,
    ),
    (
        "what is owed is not waited for",
        SERVER,
        "            self._debts.wait_for(\n                lambda: self._ended >= first_with_it, self._settings.timeout_ms / 1000\n            )\n",
        "",
        ("tests/test_soak.py",),
    ),
    (
        "what could not be sent is forgotten",
        INVALIDATION,
        "            server.owe(marked, writer)\n",
        "            pass\n",
        OUTAGES,
    ),
    (
        "what is owed is not counted",
        INVALIDATION,
        '            self.stats.count("owed")\n',
        "",
        OUTAGES,
    ),
    (
        '"raise" commits all the same',
        INVALIDATION,
        '                raise InvalidationFailed(f"Nothing was committed. {error}") from error',
        "                pass",
        OUTAGES,
    ),
    (
        "corrupt bytes that come late are raised",
        ANSWERS,
        "            except CorruptData as error:  # it has come since the look",
        "            except ZeroDivisionError as error:  # it has come since the look",
        OUTAGES,
    ),
    (
        "a user's client decides how long is waited",
        CLIENT,
        '        "socket_timeout": time_out,',
        '        "socket_timeout": 10 * time_out,',
        OUTAGES,
    ),
    (
        "a list under a token costs the breaker",
        FILL,
        "redis.pcall('GET', KEYS[i])",
        "redis.call('GET', KEYS[i])",
        OUTAGES,
    ),
    (
        "a lease that never ends is waited for",
        TAKE,
        "return left < 0 or left > tonumber(ARGV[3]) or holder:sub(-#stamp) ~= stamp",
        "return holder:sub(1, 6) ~= 'lease:'",
        OUTAGES,
    ),
    (
        "a marker that never ends counts",
        TAKE,
        " and tonumber(deadline) <= now + 3600000",
        "",
        OUTAGES,
    ),
    (
        "one marker for all writers: the schedules",
        MARK,
        "if name ~= ARGV[1] and left > 0 and left <= 3600000 then",
        "if false then",
        SCHEDULES,
    ),
    (
        "a marker with a TTL: the schedules",
        MARK,
        "redis.call('SET', KEYS[i], marker == '' and ARGV[i + 2] or marker)",
        "redis.call('SET', KEYS[i], marker == '' and ARGV[i + 2] or marker, 'PX', 60000)",
        SCHEDULES,
    ),
    (
        "an entry without a TTL: the schedules",
        FILL,
        "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])",
        "redis.call('SET', KEYS[1], ARGV[1])",
        SCHEDULES,
    ),
    (
        "nobody marks: the schedules",
        INVALIDATION,
        "        writer = self._cache._mark(tables)\n",
        '        writer = ""\n',
        SCHEDULES,
    ),
    (
        "a commit that nobody is told of: the schedules",
        COMMITS,
        "                _call(calls)\n                raise\n            _tell(info, calls)",
        "                _call(calls)\n                raise",
        SCHEDULES,
    ),
    (
        "a policy that evicts markers is not warned of",
        SERVER,
        'if policy.startswith("allkeys"):',
        "if False:",
        SCHEDULES,
    ),
    (
        "objects that a session holds are stored",
        ANSWERS,
        "            session.expire_all()\n",
        "            pass\n",
        MODEL,
    ),
    (
        "a forgotten call's load is stored",
        TOKENS,
        "redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]); return 1",
        "return 1",
        BASIC,
    ),
    (
        "nobody marks: the state machine",
        INVALIDATION,
        "        if not self._settings.mark_writes:\n",
        "        if True:\n",
        MODEL,
    ),
    (
        "a snapshot of SQLite is never old",
        READS,
        "return bool(driver.in_transaction)",
        "return False",
        BASIC,
    ),
    (
        "a snapshot of PostgreSQL is never old",
        READS,
        "    return connection.info[LEVEL][1] not in EACH_STATEMENT\n",
        "    return False\n",
        ("tests/test_query_cache_postgres.py",),
    ),
    (
        "under READ COMMITTED nothing is stored in an open transaction",
        READS,
        'EACH_STATEMENT = ("READ COMMITTED", "AUTOCOMMIT")',
        'EACH_STATEMENT = ("AUTOCOMMIT",)',
        ("tests/test_query_cache_postgres.py",),
    ),
    (
        "a token that is used again: the state machine",
        TOKENS,
        "secrets.token_hex(8).encode()",
        'b"0" * 16',
        MODEL,
    ),
    (
        "a load that a write has overtaken is waited for",
        TAKE,
        " or holder:sub(-#stamp) ~= stamp",
        "",
        BASIC,
    ),
]
