"""What the audit's probes stand on: targets, the guard, fresh processes, and lines of evidence."""

from __future__ import annotations

import os
import socket
import sys
import types
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from labkit.audit import PROBES, NotAuditable, Scoreboard, audit
from labkit.audit.adapter import Decorator
from labkit.audit.adapters.query_cache import QueryCacheAdapter
from labkit.audit.probe import one_line
from labkit.audit.site import Place
from labkit.audit.target import Target, found

# A cache as a notebook or a project may have it. It takes its Redis from the environment.
SOURCE = """
import functools, os
import redis

def cached(function):
    client = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)

    @functools.wraps(function)
    def answer(*args):
        key = f"shop:{function.__qualname__}:{args!r}"
        kept = client.get(key)
        if kept is None:
            kept = function(*args)
            client.set(key, kept, ex=60)
        return kept

    return answer
"""


def in_module(name: str, source: str = SOURCE) -> Any:
    """Return a module that only this process has."""
    module = types.ModuleType(name)
    exec(source, module.__dict__)
    return module


class TestFound:
    def test_finds_what_a_text_names(self) -> None:
        name = "labkit.audit.adapters.query_cache:QueryCacheAdapter"

        assert found(name) is QueryCacheAdapter

    def test_finds_what_stands_within_a_class(self) -> None:
        assert found("labkit.audit.site:Place.client") is Place.client

    @pytest.mark.parametrize("given", [len, QueryCacheAdapter, None])
    def test_leaves_everything_else_as_it_is(self, given: object) -> None:
        assert found(given) is given

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("labkit", "'labkit' names nothing: write PACKAGE.MODULE:NAME."),
            (":cached", "':cached' names nothing: write PACKAGE.MODULE:NAME."),
            ("labkit.audit:", "'labkit.audit:' names nothing: write PACKAGE.MODULE:NAME."),
            ("no_such.cache:cached", "there is no module no_such here: no_such.cache:cached."),
            ("labkit.no_such:cached", "there is no module labkit.no_such here: "
             "labkit.no_such:cached."),
            ("labkit.audit:cached", "labkit.audit has no cached: labkit.audit:cached."),
            ("labkit.audit:audit.no", "labkit.audit has no no: labkit.audit:audit.no."),
        ],
    )  # fmt: skip
    def test_says_why_there_is_nothing(self, text: str, why: str) -> None:
        with pytest.raises(NotAuditable) as refused:
            found(text)

        assert str(refused.value) == why

    @pytest.mark.parametrize(
        ("source", "why"),
        [
            ("import not_installed", "No module named 'not_installed'."),
            ("import shop", "No module named 'shop'."),  # which the module's name begins with
            ("1 / 0", "ZeroDivisionError: division by zero."),
            ("def", "SyntaxError: invalid syntax (shop_cache.py, line 1)."),
        ],
    )
    def test_says_what_keeps_a_module_from_being_imported(
        self, source: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "shop_cache.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)

        with pytest.raises(NotAuditable) as refused:
            found("shop_cache:cached")

        assert str(refused.value) == f"shop_cache cannot be imported: {why}"


class TestTarget:
    @pytest.fixture(autouse=True)
    def _urls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "environ", dict(os.environ))

    def test_a_module_is_imported_when_the_url_is_set(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = "import os\nURL = os.environ['REDIS_URL']\ndef cached(function): return URL"
        (tmp_path / "early_cache.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        target = Target("early_cache:cached")

        cache = cast(Decorator, target.open(Place("redis://the-audits-own", cast(Any, None))))

        assert target.name == "early_cache:cached"
        assert cache._target(None) == "redis://the-audits-own"

    @pytest.mark.parametrize(
        ("given", "name"), [(QueryCacheAdapter, QueryCacheAdapter.name), (in_module, "in_module")]
    )
    def test_is_called_as_it_calls_itself(self, given: object, name: str) -> None:
        assert Target(given).name == name

    def test_what_cannot_be_called_is_no_target(self) -> None:
        with pytest.raises(NotAuditable, match="int is not callable"):
            audit(cast(Any, 3), probes=[])


class TestGuard:
    @pytest.fixture
    def elsewhere(self) -> Iterator[socket.socket]:
        """A server that notes who connects."""
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            server.setblocking(False)
            yield server

    def refusal(self, url: str) -> str:
        def cached(function: Callable[..., Any]) -> Callable[..., Any]:
            redis.Redis.from_url(url).set("key", "value")
            return function

        with pytest.raises(NotAuditable) as refused:
            audit(cached, probes=[])
        return str(refused.value).removeprefix(cached.__qualname__)

    def test_a_cache_that_connects_elsewhere_is_refused_before_it_does(
        self, elsewhere: socket.socket
    ) -> None:
        port = elsewhere.getsockname()[1]

        said = self.refusal(f"redis://127.0.0.1:{port}")

        assert said == (
            f" connects to 127.0.0.1:{port}, which is not the audit's Redis: take the URL from the "
            "environment's REDIS_URL, or a client as an argument."
        )
        with pytest.raises(BlockingIOError):
            elsewhere.accept()

    @pytest.mark.parametrize("url", ["redis://redis.example:6379", "unix:///run/redis.sock"])
    def test_names_and_unix_sockets_are_refused_too(self, url: str) -> None:
        where = url.removeprefix("redis://").removeprefix("unix://")

        assert self.refusal(url).startswith(f" connects to {where}, which is not the audit's")

    def test_a_cache_that_goes_elsewhere_in_a_fresh_process_is_refused(
        self, elsewhere: socket.socket
    ) -> None:
        port = elsewhere.getsockname()[1]
        source = f"""
import os, redis
class Mine:
    name = "mine"
    def __init__(self, place):
        pass
    def wrap(self, function, ttl):
        if os.environ.get("PYTHONHASHSEED") in ("1", "2"):
            redis.Redis(port={port}).get("key")
        return function
    def close(self):
        pass
"""
        mine = in_module("__main__", source).Mine

        with pytest.raises(NotAuditable, match=f"mine connects to (127.0.0.1|localhost):{port}"):
            audit(mine, probes=[PROBES["hash_seed"]])
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


class TestFreshProcess:
    """A class of a module is brought there for QueryCache's own rows."""

    def row(self, given: Any) -> str:
        board: Scoreboard = audit(given, probes=[PROBES["fresh_process"]])
        return f"{board.rows[0].outcome}: {board.rows[0].evidence}"

    def test_what_a_cell_defines_is_brought_there(self) -> None:
        cached = in_module("__main__").cached

        assert self.row(cached) == "pass: 0 SQL for 0 expected in the other process"

    def test_a_module_that_is_no_file_is_brought_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = in_module("made_up")
        monkeypatch.setitem(sys.modules, "made_up", module)

        assert self.row(module.cached) == "pass: 0 SQL for 0 expected in the other process"

    def test_a_cache_that_keeps_its_answers_to_itself_fails(self) -> None:
        row = self.row(lambda function: lru_cache(function))

        assert row == "fail: 1 SQL for 0 expected in the other process"

    def test_a_cache_that_holds_a_client_cannot_be_brought_there(self) -> None:
        client = redis.Redis()

        def cached(function: Callable[..., Any]) -> Callable[..., Any]:
            return function if client else len

        assert self.row(cached).startswith(
            "does not apply: it cannot be brought into a fresh process: cannot pickle '_thread"
        )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("5 SQL for 1 expected", "5 SQL for 1 expected"),
        ("two\n  lines\t", "two lines"),
        ("<Client object at 0x7f3a10b2c8d0>", "<Client object at 0x…>"),
        ("to 127.0.0.1:40133 and localhost:1", "to 127.0.0.1:… and localhost:…"),
        ("no /tmp/labkit-x1/redis1/log here", "no … here"),
        ("x" * 91, "x" * 89 + "…"),
        ("x" * 90, "x" * 90),
    ],
)
def test_a_line_of_evidence_has_nothing_of_one_run(text: str, line: str) -> None:
    assert one_line(text) == line
