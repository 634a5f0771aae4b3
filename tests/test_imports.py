"""Imports go one way, down; an application's part stands alone, and is quick to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest

import labkit
from labkit.errors import MissingExtra
from scripts.imports import MODULES, imported, part_of
from tests.helpers import REPOSITORY

# A part may import the parts of later lines, those of its own line not.
ORDER = (
    ("labkit.cli", "labkit.pytest_plugin"),
    ("labkit.doctor",),
    ("labkit.lessons",),
    ("labkit.audit", "labkit.operate"),
    ("labkit.concurrency",),
    ("labkit.lab",),
    ("labkit.measure", "labkit.shop"),
    ("labkit.servers", "labkit.named", "labkit.command"),
    ("labkit.errors",),
)
ALONE = ("labkit.cache", "labkit.baselines")  # at the side: they import nothing of labkit
USE_THEM = ("labkit.lessons", "labkit.audit", "labkit.operate", "labkit.concurrency")
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}
COURSE = ("fakeredis", "matplotlib", "jupyterlab", "ipykernel", "faker", "filelock", "tqdm")


# labkit/__init__.py imports nothing before it is asked; what stands there for type checkers, and
# each name's home, is looked at in a test of its own.
USES = {
    name: sorted(set(imported(path.read_text())))
    for name, path in MODULES.items()
    if name.startswith("labkit.")
}


def may_import(user: str, used: str) -> bool:
    if user == used:
        return True
    if user in ALONE:
        return False
    if used in ALONE:
        return user in USE_THEM
    return LEVEL[user] < LEVEL[used]


@pytest.mark.parametrize("module", USES)
def test_imports_go_down(module: str) -> None:
    wrong = [used for used in USES[module] if not may_import(part_of(module), part_of(used))]

    assert wrong == [], f"{module} is not above them"


def test_there_is_no_circle_not_even_one_hidden_in_a_function() -> None:
    graph = {module: {used for used in uses if used != module} for module, uses in USES.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" > ".join(error.args[1]))


@pytest.mark.parametrize(
    ("user", "code", "allowed"),
    [
        ("labkit.cache.keys", "import labkit.errors", False),
        ("labkit.shop.app", "def late():\n    from labkit.lab import start", False),
        ("labkit.shop.app", "from labkit.measure import timing", False),
        ("labkit.measure.timing", "from labkit import lab", False),
        ("labkit.lab", "from labkit.cache import keys", False),
        ("labkit.lessons.exercises", "from labkit.cache import keys", True),
        ("labkit.concurrency.stampede", "from labkit.lab import Lab", True),
    ],
)
def test_what_the_order_says(user: str, code: str, allowed: bool) -> None:
    [used] = imported(code)

    assert may_import(part_of(user), part_of(used)) is allowed


def test_plots_take_data() -> None:
    """They know nothing of who measures, so that measuring can draw."""
    drawing = {name for name in USES if name.startswith("labkit.measure.plots")}

    assert {used for name in drawing for used in USES[name]} <= drawing


# What an application imports.


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh Python has loaded after some code."""
    shown = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_labkit_imports_nothing_of_the_course() -> None:
    loaded = {name for name in loaded_by("import labkit") if name.startswith("labkit")}

    assert loaded == {"labkit", "labkit.errors"}


def test_the_cache_brings_no_package_of_the_course() -> None:
    loaded = loaded_by("import labkit.cache")

    parts = {part_of(name) for name in loaded if name.startswith("labkit.")}
    assert parts == {"labkit.cache", "labkit.errors"}
    assert loaded & set(COURSE) == set()


def test_all_that_the_cache_offers_is_there() -> None:
    import labkit.cache

    assert sorted(labkit.cache.__all__) == labkit.cache.__all__
    assert all(hasattr(labkit.cache, name) for name in labkit.cache.__all__)


def test_nothing_that_the_cache_offers_has_the_name_of_a_module_of_its() -> None:
    import labkit.cache

    modules = {name.rsplit(".")[-1] for name in MODULES if part_of(name) == "labkit.cache"}
    assert modules & set(labkit.cache.__all__) == set()


# The names that learners type.


def test_each_name_is_found_where_it_is_said_to_be_and_is_typed() -> None:
    source = (REPOSITORY / "labkit" / "__init__.py").read_text()
    typed = {
        alias.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    for name in labkit.__all__:
        assert getattr(labkit, name) is not None
        assert name in dir(labkit)
        assert name == "LabError" or labkit._HOMES[name] == typed[name]


def test_a_name_that_is_not_there_is_said_as_python_says_it() -> None:
    with pytest.raises(AttributeError, match="module 'labkit' has no attribute 'strat'"):
        labkit.strat  # type: ignore[attr-defined]  # noqa: B018


WITHOUT_THE_EXTRA = """
import sys
sys.modules["filelock"] = None  # as if it were not installed
import labkit.cache
try:
    {code}
except labkit.errors.MissingExtra as error:
    print(error)
"""


@pytest.mark.parametrize("code", ["labkit.start", "from labkit import start"])
def test_without_the_extra_start_says_in_one_line_what_to_install(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA.format(code=code)], capture_output=True, text=True
    )

    [line] = (done.stdout + done.stderr).splitlines()
    assert line.startswith("labkit.start belongs to the course and needs ")
    assert line.endswith("pip install 'labkit[lab]'")


def test_without_the_extra_the_command_says_so_too() -> None:
    code = (
        'import sys; sys.modules["filelock"] = None; from labkit.cli import main; main(["clean"])'
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    [line] = (done.stdout + done.stderr).splitlines()
    assert line.startswith("labkit: labkit clean belongs to the course and needs ")


def test_a_fault_of_labkits_own_is_not_taken_for_a_missing_package() -> None:
    broken = ModuleNotFoundError("No module named 'labkit.laboratory'", name="labkit.laboratory")

    with pytest.raises(ModuleNotFoundError, match="laboratory"):
        MissingExtra("labkit.start", broken)
