"""The properties of QueryCache, kept and broken: what, file, both texts, the tests that tell."""

from __future__ import annotations

MAIN = "labkit/cache/query_cache.py"
READS = "labkit/cache/reads.py"
QUESTIONS = "labkit/cache/questions.py"
COMMITS = "labkit/cache/commits.py"
SETTINGS = "labkit/cache/settings.py"
SIGNALS = "labkit/cache/signals.py"
BASIC = ("tests/test_query_cache.py",)

MUTATIONS: list[tuple[str, str, str, str, tuple[str, ...]]] = [
    (
        "a request with writes of its own reads the entry",
        MAIN,
        'return "writes are pending"',
        'return ""',
        BASIC,
    ),
    (
        "writes that were flushed are not pending",
        READS,
        "return any(WAITING in connection.info for connection in _connections(session))",
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
        MAIN,
        "if seen.by_text and not (trusted or question.given):",
        "if False:",
        BASIC,
    ),
    (
        "a listener without a context is not noticed",
        MAIN,
        "if self._context is None and session.dispatch.do_orm_execute:",
        "if False:",
        BASIC,
    ),
    (
        "the context is in no key",
        MAIN,
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
        MAIN,
        "return load() if outcome.data is None else loads(outcome.data)",
        "return outcome.answer() if outcome.data is None else loads(outcome.data)",
        BASIC,
    ),
    (
        "who waits shares the object of the load",
        MAIN,
        "return load() if outcome.data is None else loads(outcome.data)",
        "return outcome.answer()",
        BASIC,
    ),
    (
        "each thread loads for itself",
        MAIN,
        "outcome = self._flights.do(flight, lead, timeout=self._settings.lease_ms / 1000)",
        "outcome = lead()",
        BASIC,
    ),
    (
        "a TTL without jitter",
        MAIN,
        "ttl = jittered_ms(question.ttl, self._settings.jitter) / 1000",
        "ttl = question.ttl",
        BASIC,
    ),
    (
        "1 is the same argument as True",
        QUESTIONS,
        "call = (namespace, values, kinds, tuple(kwargs))",
        "call = (namespace, values, tuple(kwargs))",
        BASIC,
    ),
    (
        "two namespaces share what is remembered of keys",
        QUESTIONS,
        "call = (namespace, values, kinds, tuple(kwargs))",
        "call = (values, kinds, tuple(kwargs))",
        BASIC,
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
        MAIN,
        "        if not self._settings.mark_writes:\n",
        "        if True:\n",
        ("tests/test_lost_invalidations.py",),
    ),
    (
        "nothing is said before a commit",
        COMMITS,
        "after[before(*names) if before else callback] = names",
        "after[callback] = names",
        ("tests/test_lost_invalidations.py",),
    ),
]
