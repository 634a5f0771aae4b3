"""`pytest --labkit-audit`: a test for each probe, and nothing at all without the option."""

from __future__ import annotations

import importlib
import sys
import tomllib
from typing import Any

import pytest

from tests.helpers import REPOSITORY
from tests.small_probes import CACHE, use, write_module
from tests.test_imports import loaded_by

pytest_plugins = ["pytester"]

# As its entry point loads it, whether this labkit was installed with one or not.
PLUGIN = ("-p", "labkit.pytest_plugin")
AUDIT = "--labkit-audit=mine:cached"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    use(monkeypatch)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    write_module(pytester.path, CACHE)
    pytester.makepyfile(test_others="def test_of_the_project(): pass")
    return pytester


def run(project: pytest.Pytester, *words: str) -> pytest.RunResult:
    return project.runpytest_inprocess(*PLUGIN, *words)


def test_a_test_for_each_probe_beside_those_of_the_project(project: pytest.Pytester) -> None:
    result = run(project, AUDIT, "-v", "-rs", "--strict-markers")

    result.assert_outcomes(passed=2, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*collected 4 items",
            "test_others.py::test_of_the_project PASSED*",
            "mine:cached::holds PASSED*",
            "mine:cached::breaks FAILED*",
            "mine:cached::lacks SKIPPED (it has nothing to try)*",
            "*_ mine:cached: breaks _*",
            "It does not hold that nothing breaks: <5> SQL for 1 expected & �* (lesson 05).",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*pytest_plugin.py:*: *Fail*")


@pytest.mark.parametrize(
    ("words", "outcomes"),
    [
        (("-k", "holds"), {"passed": 1, "deselected": 3}),
        (("-k", "not breaks"), {"passed": 2, "skipped": 1, "deselected": 1}),
        (("-m", "labkit_audit and not slow"), {"passed": 1, "failed": 1, "skipped": 1}),
    ],
)
def test_probes_are_chosen_as_tests_are(
    words: tuple[str, ...], outcomes: dict[str, int], project: pytest.Pytester
) -> None:
    run(project, AUDIT, *words).assert_outcomes(**{"deselected": 1, **outcomes})


def test_a_folder_without_tests_is_no_matter(project: pytest.Pytester) -> None:
    (project.path / "test_others.py").unlink()

    result = run(project, AUDIT, "--labkit-invalidate=mine:forget", "-k", "holds")
    assert result.ret == pytest.ExitCode.OK


def test_what_conftest_has_imported_is_opened_on_the_audits_redis(
    project: pytest.Pytester,
) -> None:
    project.makeconftest("import mine\ndef pytest_runtest_setup(): assert mine.client")

    run(project, AUDIT, "-k", "holds").assert_outcomes(passed=1, deselected=3)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--labkit-audit=mine:cashed",), "ERROR: mine has no cashed: mine:cashed."),
        (("--labkit-invalidate=mine:forget",), "ERROR: --labkit-invalidate needs --labkit-audit"),
    ],
)
def test_what_could_not_be_run_is_said_in_a_line(
    words: tuple[str, ...], why: str, project: pytest.Pytester
) -> None:
    result = run(project, *words)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [why]


def test_a_package_that_is_missing(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("labkit.audit")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "flask", None)
    result = run(project, AUDIT)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --labkit-audit needs flask: pip install 'labkit[audit]'" in result.errlines


def test_workers_share_the_probes(project: pytest.Pytester) -> None:
    """In processes of their own, where the probes are the audit's."""
    chosen = (AUDIT, "-k", "caches or others", "-n", "2", "--dist", "load")
    result = project.runpytest_subprocess(*PLUGIN, "-p", "xdist", *chosen)

    result.assert_outcomes(passed=2)


def test_without_the_option_it_does_nothing(project: pytest.Pytester) -> None:
    result = run(project, "--markers")
    result.stdout.no_fnmatch_line("*labkit*")

    run(project).assert_outcomes(passed=1)


def test_it_is_light() -> None:
    loaded = loaded_by("import labkit.pytest_plugin")

    labkits = {name for name in loaded if name.startswith("labkit")}
    assert labkits == {"labkit", "labkit.errors", "labkit.pytest_plugin"}
    assert loaded & {"redis", "flask", "sqlalchemy"} == set()


def test_its_entry_point_is_there() -> None:
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    [module] = project["project"]["entry-points"]["pytest11"].values()

    assert hasattr(importlib.import_module(module), "pytest_addoption")
