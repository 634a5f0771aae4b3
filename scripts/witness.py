"""Hold `tables_read` to SQLite's own word, over every SELECT that the notebooks send.

What `make witness` runs. Each notebook's cells are run in a process of their own. SQLite's
authorizer names the tables that a statement reads; one that `tables_read` does not name is printed,
and is a failure.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

ROOT = Path(__file__).parents[1]


def main(names: list[str]) -> int:
    """Print a line for each notebook; return how many have a statement that was missed."""
    paths = [Path(name) for name in names] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    if len(paths) == 1:
        return run(paths[0])
    command = [sys.executable, "-m", "scripts.witness"]
    return sum(subprocess.run([*command, str(path)], cwd=ROOT).returncode != 0 for path in paths)


def run(path: Path) -> int:
    """Run a notebook's cells and print what the witness saw; return how many were missed."""
    from tests.witness import Witness

    cells = nbformat.read(path, as_version=4).cells  # type: ignore[no-untyped-call]
    shell = InteractiveShell.instance()
    with Witness() as witness:
        for cell in cells:
            if cell.cell_type == "code":
                with capture_output():
                    result = shell.run_cell(cell.source)  # type: ignore[no-untyped-call]
                result.raise_error()
    counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(witness.seen.items()))
    print(f"{path.name}: {counts}", *witness.missed, sep="\n  ", flush=True)
    return len(witness.missed)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 100))
