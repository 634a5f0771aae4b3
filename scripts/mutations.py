"""Put each pitfall back in place of its fix and see a test fail: what `make mutations` runs.

The pairs of fixed and broken text are in tests/mutations, a file for each lesson, and one for the
QueryCache. Each pair is tried on a copy of the repository, with the tests of `make test` that use
the changed file, or those that it names: first all of them as the code stands, which must pass,
then with the broken text, of which one must fail. That a notebook's outputs belong to its code is
not counted: it would catch any change.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from scripts.imports import MODULES, ROOT, imported, name_of, part_of

WORKERS = 2
QUERY_CACHE = "QueryCache"
LEFT_OUT = (".git", ".venv", ".hypothesis", "__pycache__", "test-artifacts", ".*_cache")
FIRST_FAILURE = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[\d+m")
PASSED, FAILED = 0, 1  # pytest's exit codes


@dataclass(frozen=True)
class Mutation:
    """A fix, and the pitfall that it mended.

    Attributes:
        lesson: its number, two digits; or "query_cache".
        pitfall: what is broken.
        file: where, relative to the repository.
        fixed: the text that mends it. It occurs once in the file.
        broken: the text to put in its place.
        tests: the files that should tell; empty for all that use the changed file.
    """

    lesson: str
    pitfall: str
    file: str
    fixed: str
    broken: str
    tests: tuple[str, ...] = ()

    def apply(self, root: Path) -> str:
        """Break the copy of the repository in `root`; return the file's text as it was."""
        path = root / self.file
        whole = path.read_text()
        if whole.count(self.fixed) != 1:
            raise ValueError(f"{self.file} does not have once: {self.fixed}")
        path.write_text(whole.replace(self.fixed, self.broken))
        return whole


def mutations() -> Iterator[Mutation]:
    """Give all mutations, lesson by lesson."""
    for path in sorted((ROOT / "tests" / "mutations").glob("[a-z]*.py")):
        lesson = path.stem.removeprefix("lesson_")
        for row in importlib.import_module(f"tests.mutations.{path.stem}").MUTATIONS:
            yield Mutation(lesson, *row)


def _reader(script: str) -> str:
    """Return the module beside a Lua script that reads it."""
    path = ROOT / script
    [module] = [each for each in path.parent.glob("*.py") if f'"{path.name}"' in each.read_text()]
    return str(module.relative_to(ROOT))


def files_that_test(mutation: Mutation) -> list[str]:
    """Return the test files and notebooks that use the file of a mutation, notebooks last."""
    if mutation.tests:
        return list(mutation.tests)
    notebooks = [f"notebooks/{path.name}" for path in _notebooks(mutation.lesson)]
    if mutation.file in notebooks:
        return [mutation.file]
    if mutation.file.startswith("labkit/lessons/"):
        return ["tests/test_answers.py", *notebooks]
    file = mutation.file
    if file.endswith(".lua"):
        file = _reader(file)
    return _tests_that_use(name_of(ROOT / file)) + notebooks


def _tests_that_use(module: str) -> list[str]:
    """Return the test files that import a module, by way of others too, the nearest first.

    The way goes through its own part of labkit and through what tests share. From there on up,
    nearly all would be found. The tests of QueryCache, which is made of all the rest and takes
    minutes, are left to the mutations that name them.
    """
    tests: list[str] = []
    found = waiting = {module}
    while waiting:
        tests += sorted(name for name in waiting if _is_near(name))
        waiting = {user for used in waiting for user in _users_of(used, part_of(module))} - found
        found = found | waiting
    return [str(MODULES[name].relative_to(ROOT)) for name in tests]


def _is_near(module: str) -> bool:
    return module.startswith("tests.test_") and QUERY_CACHE not in MODULES[module].read_text()


def _users_of(module: str, part: str) -> list[str]:
    """Return which modules of a part of labkit, and of the tests, import a module."""
    near = (name for name in MODULES if part_of(name) == part or name.startswith("tests."))
    return [name for name in near if module in _imported(name)]


@functools.cache
def _imported(module: str) -> frozenset[str]:
    return frozenset(imported(MODULES[module].read_text()))


def _notebooks(lesson: str) -> list[Path]:
    return sorted((ROOT / "notebooks").glob(f"{lesson}_*.ipynb"))


def first_failure(root: Path, tests: Iterable[str]) -> str | None:
    """Run tests of the copy in `root` up to the first failure; return its name, None if all pass.

    Raises:
        RuntimeError: pytest could not run them.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests],
        cwd=root,
        env=os.environ
        | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        | {"HYPOTHESIS_PROFILE": "mutations"},
        capture_output=True,
        text=True,
    )
    if done.returncode == PASSED:
        return None
    failure = FIRST_FAILURE.search(COLOUR.sub("", done.stdout))
    if done.returncode != FAILED or not failure:
        raise RuntimeError(f"pytest {' '.join(tests)}:\n{done.stdout}{done.stderr}")
    return failure[1]


def main() -> int:
    """Print the table; return how many mutations no test caught."""
    parser = argparse.ArgumentParser(description="Put each pitfall back and see a test fail.")
    parser.add_argument("lessons", nargs="*", help="only these lessons, such as 04")
    wanted = parser.parse_args().lessons
    chosen = [mutation for mutation in mutations() if not wanted or mutation.lesson in wanted]
    with tempfile.TemporaryDirectory(prefix="labkit-mutations-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(WORKERS):
            copy = Path(folder, str(number), ROOT.name)
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
            copies.put(copy)
        with ThreadPoolExecutor(WORKERS) as pool:
            if not _all_pass(
                pool, copies, {tuple(files_that_test(mutation)) for mutation in chosen}
            ):
                return 1
            caught = pool.map(lambda mutation: _caught_by(mutation, copies), chosen)
            return _print(chosen, caught)


def _all_pass(
    pool: ThreadPoolExecutor, copies: SimpleQueue[Path], groups: set[tuple[str, ...]]
) -> bool:
    def unbroken(group: tuple[str, ...]) -> str | None:
        copy = copies.get()
        try:
            return first_failure(copy, group)
        finally:
            copies.put(copy)

    failures = [name for name in pool.map(unbroken, sorted(groups)) if name]
    for name in failures:
        print(f"{name} fails as the code stands: nothing can be said of mutations.")
    return not failures


def _caught_by(mutation: Mutation, copies: SimpleQueue[Path]) -> str | None:
    copy = copies.get()
    whole = mutation.apply(copy)
    try:
        return first_failure(copy, files_that_test(mutation))
    finally:
        (copy / mutation.file).write_text(whole)
        copies.put(copy)


def _print(chosen: list[Mutation], caught: Iterator[str | None]) -> int:
    width = max((len(mutation.pitfall) for mutation in chosen), default=0)
    survivors = 0
    for mutation, test in zip(chosen, caught, strict=True):
        survivors += test is None
        verdict = f"caught by {test}" if test else "SURVIVED"
        print(f"{mutation.lesson}  {mutation.pitfall:{width}}  {verdict}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutations were caught.")
    return survivors


if __name__ == "__main__":
    sys.exit(min(main(), 100))
