"""`labkit audit`: what it prints, and the one line that it says where it cannot."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from labkit import command
from labkit.audit import PROBES, audit, run, site
from labkit.cli import main
from tests.helpers import REPOSITORY
from tests.small_probes import CACHE, use, write_module

AUDITS = dict(PROBES)  # before a test puts others in their place
DECORATOR = """
    def cached(function):
        def ask(*args):
            {}
            return function(*args)
        return ask
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_module(tmp_path, CACHE)
    use(monkeypatch)


def test_a_table_in_the_order_of_lessons(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "mine:cached"]) == 1

    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "cached: 1 pass, 1 fail, 1 do not apply",
        "✓ 02  all is well         1 SQL",
        "✗ 05  nothing breaks      <5> SQL for 1 expected & �[31m",
        "– 13  nothing is wanting  it has nothing to try",
        "It fails breaks.",
    ]
    assert said.err == ""


def test_json_is_the_same_in_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for _ in range(2):
        assert main(["audit", "mine:cached", "--json"]) == 1
        printed.append(capsys.readouterr().out)

    board = json.loads(printed[0])
    assert (board["cache"], board["passes"]) == ("cached", False)
    assert board["rows"][0] == {
        "probe": "holds",
        "title": "all is well",
        "lesson": "02",
        "outcome": "pass",
        "evidence": "1 SQL",
    }
    assert printed[0] == printed[1]


def test_junit_has_a_test_case_for_each_probe(tmp_path: Path) -> None:
    assert main(["audit", "mine:cached", "--junit", "report.xml"]) == 1

    [suite] = ElementTree.parse(tmp_path / "report.xml").getroot()
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "3", "failures": "1", "errors": "0", "skipped": "1"}
    cases = {case.get("name"): case[0] for case in suite}
    assert {name: case.tag for name, case in cases.items()} == {
        "holds": "system-out",
        "breaks": "failure",
        "lacks": "skipped",
    }
    assert cases["breaks"].get("message") == "<5> SQL for 1 expected & �[31m"
    assert "nothing breaks" in (cases["breaks"].text or "")
    assert "lesson 05" in (cases["breaks"].text or "")
    assert cases["lacks"].get("message") == "it has nothing to try"


@pytest.mark.parametrize("names", [("holds",), ("holds", "lacks"), ("lacks",)])
def test_what_does_not_apply_is_no_failure(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, *names)

    assert main(["audit", "mine:cached", "--invalidate", "mine:forget"]) == 0


def test_a_module_of_a_src_layout_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src" / "shop").mkdir(parents=True)
    write_module(tmp_path / "src" / "shop", CACHE, "cache")
    monkeypatch.syspath_prepend(tmp_path / "src")
    use(monkeypatch, "holds")

    assert main(["audit", "shop.cache:cached"]) == 0


MY_CACHE = """
    import functools

    class MyCache:
        def __init__(self, url): assert url.startswith("redis://")
        def memoize(self, ttl): return functools.cache
        def delete(self, cached, *args): cached.cache_clear()
        def delete_all(self, cached): cached.cache_clear()
        def close(self): pass
"""


def test_the_adapter_of_the_documentation(tmp_path: Path) -> None:
    blocks = re.findall(
        r"```python\n(.+?)```", (REPOSITORY / "docs" / "audit.md").read_text(), re.DOTALL
    )
    [adapter] = [block for block in blocks if "(Adapter)" in block]
    (tmp_path / "myapp").mkdir()
    write_module(tmp_path / "myapp", MY_CACHE, "cache")
    write_module(tmp_path / "myapp", adapter, "audited")
    board = audit("myapp.audited:Mine", probes=[AUDITS["caches"], AUDITS["invalidates_all"]])

    assert board.name == "MyCache 1.0"
    assert board.passed == ["caches", "invalidates_all"]


# Where it cannot be run.


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one line that is said, in place of a traceback."""
    assert main(["audit", *words]) == command.NOT_RUN
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("labkit audit: ")
    return line.removeprefix("labkit audit: ")


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("nowhere:cached", "there is no module nowhere here: nowhere:cached."),
        ("mine.sub:cached", "there is no module mine.sub here: mine.sub:cached."),
        ("mine:cashed", "mine has no cashed: mine:cashed."),
        ("mine", "'mine' names nothing: write PACKAGE.MODULE:NAME."),
        ("mine.py:cached", "there is no module mine.py here: mine.py:cached."),
        ("mine:number", "mine:number is not callable."),
    ],
)
def test_what_is_not_there(target: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, target).startswith(why)


def test_what_invalidates_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "mine:cached", "--invalidate", "mine:x") == "mine has no x: mine:x."
    why = refused(capsys, "mine:cached", "--invalidate", "mine:number")
    assert why == "mine:number is not callable."


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("1 /", "bad cannot be imported: SyntaxError: "),
        ("import mined", "bad cannot be imported: No module named 'mined'."),
        ("raise OSError('a\\n  b')", "bad cannot be imported: OSError: a b."),
        ("raise SystemExit('usage')", "bad cannot be imported: SystemExit: usage."),
        (DECORATOR.format("raise KeyError('x')"), "bad:cached raises at its first call: KeyError"),
        (DECORATOR.format("import os; os._exit(0)"), "bad:cached ends its process at its first"),
        ("def cached(function): return 7", "bad:cached raises at its first call: TypeError: "),
    ],
)
def test_what_fails_at_once(
    code: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_module(tmp_path, code, "bad")

    assert refused(capsys, "bad:cached").startswith(why)


@pytest.mark.parametrize(
    ("server", "where"),
    [
        ("redis.Redis(host='redis.example.org')", "redis.example.org:6379"),
        ("redis.Redis()", "localhost:6379"),
        ("redis.Redis(host='192.0.2.1', port=1)", "192.0.2.1:1"),
        ("redis.Redis(unix_socket_path='/run/redis.sock')", "/run/redis.sock"),
    ],
)
def test_a_redis_of_somebody_elses(
    server: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said also where the cache hides what went wrong."""
    hidden = f"import redis, contextlib\n            with contextlib.suppress(Exception): {server}"
    write_module(tmp_path, DECORATOR.format(f"{hidden}.get('key')"), "bad")

    why = refused(capsys, "bad:cached")
    assert why.startswith(f"bad:cached connects to {where}, which is not the audit's Redis: ")


def test_what_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "PROBE_SECONDS", 0.7)
    write_module(tmp_path, "while True: pass", "bad")

    why = refused(capsys, "bad:cached")
    assert why == "bad:cached does not answer its first call: it was ended after 0.7 s."


def test_a_file_that_cannot_be_written_is_said_before_the_audit_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("labkit.audit.command.audit", None)

    why = refused(capsys, "mine:cached", "--junit", str(tmp_path))
    assert why == f"{tmp_path} cannot be written: Is a directory."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_is_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "mine:cached", "--junit", "/dev/full"]) == command.NOT_RUN
    assert capsys.readouterr().err.count("\n") == 1


def test_junit_says_too_that_it_could_not_be_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = refused(capsys, "mine:cashed", "--junit", "report.xml")

    [suite] = ElementTree.parse(tmp_path / "report.xml").getroot()
    assert suite.get("errors") == "1"
    assert suite[0][0].get("message") == why


def test_a_system_that_cannot_audit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(site, "choose_redis", lambda choice: ("fake", "none here"))
    assert refused(capsys, "mine:cached").endswith("pip install 'labkit[audit]'.")
    monkeypatch.setattr(run, "CAN_FORK", False)
    assert refused(capsys, "mine:cached").endswith("Run it on Linux, on macOS or in WSL.")


@pytest.mark.parametrize(
    "words", [[], ["mine:cached", "--wrong"], ["a:b", "--json", "--junit", "x"]]
)
def test_words_that_it_does_not_know(words: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["audit", *words])


def test_an_interruption_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("labkit.audit.command.audit", interrupted)

    assert main(["audit", "mine:cached"]) == command.INTERRUPTED
    assert capsys.readouterr().err == "labkit audit: interrupted\n"


def test_who_sits_at_a_terminal_sees_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["audit", "mine:cached"])

    seen = capsys.readouterr().err.split("\r\x1b[K")
    assert seen == ["", *(f"{ended} of 3 probes" for ended in range(4)), ""]


def test_a_terminal_that_has_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))

    assert main(["audit", "mine:cached"]) == 1
    assert b"\n? 02  all is well         1 SQL\n" in written.getvalue()


def test_a_reader_that_has_read_enough(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["audit", "mine:cached"]) == 1
    assert capfd.readouterr().err == ""


def test_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)

    assert main(["audit", "mine:cached"]) == 1


def test_a_package_that_is_missing() -> None:
    code = (
        'sys.modules["flask"] = None\nfrom labkit.cli import main\nsys.exit(main(["audit", "a:b"]))'
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True
    )

    assert done.returncode == command.NOT_RUN
    [line] = done.stderr.splitlines()
    assert line.endswith("needs flask: pip install 'labkit[audit]'")
