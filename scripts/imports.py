"""Which modules of this repository some code imports: read from its text, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def name_of(path: Path) -> str:
    """Return the name by which a file of this repository is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    name_of(path): path
    for package in ("labkit", "tests")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imported(source: str) -> Iterator[str]:
    """Give the modules of labkit and tests that code imports, wherever: also in functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            assert node.module is not None
            # `from package import name`: a module, or a name in the package's __init__.
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [module if module in MODULES else node.module for module in modules]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] in ("labkit", "tests"))


def part_of(module: str) -> str:
    """Return the part of labkit that a module belongs to, such as `labkit.cache`."""
    return ".".join(module.split(".")[:2])
