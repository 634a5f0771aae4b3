"""A notebook as text, and back, to edit it outside JupyterLab.

    python -m scripts.cells notebooks/05_races.ipynb   writes 05_races.py
    python -m scripts.cells 05_races.py                writes notebooks/05_races.ipynb

The text is in the percent format, which editors know: `# %%` begins a code cell, `# %% [markdown]`
prose, whose lines begin with `# `. Tags stand behind that: `# %% tags=["nbval-ignore-output"]`.
Outputs are not in it: `python -m scripts.notebooks` executes the notebook anew.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode, v4

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
MARK = re.compile(r"# %%(?P<prose> \[markdown\])?(?: tags=(?P<tags>\[.*\]))?")


def main(name: str) -> None:
    """Write the other form of a notebook, or of its text.

    Raises:
        ValueError: the text has a line that belongs to no cell.
    """
    given = Path(name)
    if given.suffix == ".ipynb":
        notebook = nbformat.read(given, as_version=4)  # type: ignore[no-untyped-call]
        made = Path(f"{given.stem}.py")
        made.write_text(as_text(notebook), encoding="utf-8")
    else:
        made = NOTEBOOKS / f"{given.stem}.ipynb"
        notebook = as_notebook(given.read_text(encoding="utf-8"))
        nbformat.write(notebook, made)  # type: ignore[no-untyped-call]
    print(f"{made.name}: {len(notebook.cells)} cells")


def as_text(notebook: NotebookNode) -> str:
    """Return a notebook's cells as text, without their outputs.

    Raises:
        ValueError: the text would not be the notebook: a cell is neither code nor prose, or has a
            line that begins a cell.
    """
    return "\n".join(map(_cell_as_text, notebook.cells))


def _cell_as_text(cell: NotebookNode) -> str:
    tags = cell.metadata.get("tags")
    mark = "# %%" if cell.cell_type == "code" else "# %% [markdown]"
    lines = cell.source.split("\n")
    if cell.cell_type not in ("code", "markdown") or any(map(MARK.fullmatch, lines)):
        raise ValueError(f"this cell cannot be written as text: {cell.source[:60]}")
    if cell.cell_type != "code":
        lines = [f"# {line}" if line else "#" for line in lines]
    return "\n".join([f"{mark} tags={json.dumps(tags)}" if tags else mark, *lines]) + "\n"


def as_notebook(text: str) -> NotebookNode:
    """Return the notebook that a text describes, not executed.

    Raises:
        ValueError: a line belongs to no cell, or one of prose does not begin with `# `.
    """
    cells: list[NotebookNode] = []
    for number, line in enumerate(text.split("\n"), 1):
        if mark := MARK.fullmatch(line):
            make: Any = v4.new_markdown_cell if mark["prose"] else v4.new_code_cell
            tags = json.loads(mark["tags"] or "[]")
            cells.append(make(metadata={"tags": tags} if tags else {}))
        elif not cells:
            raise ValueError(f"line {number} stands above the first cell: {line}")
        elif cells[-1].cell_type == "code":
            cells[-1].source += f"{line}\n"
        elif line and line[:2] not in ("#", "# "):
            raise ValueError(f"line {number} is prose, and does not begin with '# ': {line}")
        else:
            cells[-1].source += f"{line[2:]}\n"
    for cell in cells:
        cell.source = cell.source.strip("\n")
    notebook: NotebookNode = v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    return notebook


if __name__ == "__main__":
    main(sys.argv[1])
