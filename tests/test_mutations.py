"""The pairs of fixed and broken code are true to the code, and the script that tries them is too.

That a test catches each of them is shown by `make mutations`, which takes longer than `make test`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.imports import ROOT
from scripts.mutations import Mutation, files_that_test, first_failure, mutations

ALL = list(mutations())
LESSONS = ["03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13"]


def code(text: str, file: str) -> str:
    """Return the Python in a file's text, that of a notebook's code cells included."""
    if not file.endswith(".ipynb"):
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def test_every_lesson_on_pitfalls_has_mutations_of_its_notebook_and_its_exercises():
    for lesson in LESSONS:
        files = {mutation.file for mutation in ALL if mutation.lesson == lesson}
        assert any(file.startswith(f"notebooks/{lesson}_") for file in files), lesson
        assert f"labkit/lessons/lesson_{lesson}.py" in files


def test_no_mutation_is_listed_twice():
    names = [(mutation.lesson, mutation.pitfall) for mutation in ALL]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("mutation", ALL, ids=lambda mutation: mutation.pitfall)
def test_a_mutation_changes_code_that_is_there_into_code_that_runs(tmp_path, mutation):
    path = tmp_path / mutation.file
    path.parent.mkdir(parents=True)
    path.write_text((ROOT / mutation.file).read_text())

    fixed = code(mutation.apply(tmp_path), mutation.file)
    broken = code(path.read_text(), mutation.file)

    if mutation.file.endswith(".lua"):
        assert broken != fixed
    else:
        assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(fixed))


@pytest.mark.parametrize("text", ["nothing of it", "twice twice"])
def test_a_mutation_whose_text_is_not_there_once_is_refused(tmp_path, text):
    (tmp_path / "file.py").write_text(text)

    with pytest.raises(ValueError, match="does not have once: twice"):
        Mutation("04", "any", "file.py", "twice", "thrice").apply(tmp_path)


@pytest.fixture
def suite(tmp_path: Path) -> Callable[[str], Path]:
    def write(test: str) -> Path:
        (tmp_path / "tests").mkdir()
        (tmp_path / "tests" / "test_it.py").write_text(test)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("test", "failure"),
    [
        ("def test_it():\n    assert True\n", None),
        ("def test_ok(): pass\ndef test_no(): assert 0 == 1\n", "tests/test_it.py::test_no"),
        ("import pytest\n@pytest.fixture\ndef f(): 1 / 0\ndef test_f(f): pass\n",
         "tests/test_it.py::test_f"),
    ],
)  # fmt: skip
def test_the_first_failure_is_found(suite, test, failure):
    assert first_failure(suite(test), ["tests/test_it.py"]) == failure


def test_tests_that_cannot_run_are_no_failure(suite):
    with pytest.raises(RuntimeError, match="no tests ran"):
        first_failure(suite(""), ["tests/nowhere.py"])


def test_each_mutation_is_tried_with_tests_that_are_there():
    for mutation in ALL:
        tests = files_that_test(mutation)
        assert tests
        assert all((ROOT / test).exists() for test in tests)
        assert "tests/test_notebooks.py" not in tests


@pytest.mark.parametrize(
    ("file", "tests", "others"),
    [
        ("cache/keys.py", ["test_keys.py", "test_statements.py"], ["test_commits.py"]),
        ("cache/writes.py", ["test_written_tables.py", "test_commits.py"], ["test_keys.py"]),
        ("cache/elements.py", ["test_statements.py", "test_tables_read.py"], ["test_commits.py"]),
        ("cache/fill.lua", ["test_loading.py"], ["test_statements.py"]),
        ("measure/plots/lanes.py", ["test_plots.py"], ["test_loading.py"]),
        ("measure/plots/ttl.py", ["test_plots.py"], ["test_ttl.py"]),
    ],
)
def test_tests_are_found_by_way_of_the_modules_that_they_import(file, tests, others):
    found = files_that_test(Mutation("08", "any", f"labkit/{file}", "any", "any"))

    assert {f"tests/{name}" for name in tests} <= set(found)
    assert not {f"tests/{name}" for name in others} & set(found)
    assert "notebooks/08_" in found[-1]


def test_the_tests_that_import_the_module_itself_come_first():
    found = files_that_test(Mutation("04", "any", "labkit/cache/keys.py", "any", "any"))

    assert found.index("tests/test_keys.py") < found.index("tests/test_statements.py")
