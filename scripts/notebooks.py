"""Execute the notebooks whose inputs have changed, in place: what `make notebooks` runs.

A notebook's inputs are its code cells and labkit's source. Their digest is kept in the notebook's
metadata. Other metadata is reduced to what is the same on every machine, so that a diff shows what
changed; and where slides begin is written there. Lessons run on the wheel's server, which every
reader has, and know nobody's progress. What is made from the notebooks is made anew: the table of
minutes, the timetables, the README's table and its thumbnails, and where each claim comes from.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

import labkit
from scripts import claims, minutes, slides, thumbnails, timetable
from tests.kernels import kernel_manager

ROOT = Path(__file__).parents[1]
CELL_TIMEOUT = 60  # seconds
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
WIDGET = "application/vnd.jupyter.widget-view+json"
LOCAL_PATH = re.compile(r"/(?:root|home|work|tmp|Users|usr|var)/[\w./-]+|[A-Z]:\\\\")


def main(names: list[str]) -> int:
    """Bring notebooks up to date; return how many could not be."""
    os.environ["LABKIT_REDIS"] = "wheel"
    os.environ.pop("LABKIT_DATABASE", None)
    with tempfile.TemporaryDirectory() as nothing_solved:
        os.environ["LABKIT_PROGRESS"] = nothing_solved
        return bring_up_to_date(names)


def bring_up_to_date(names: list[str]) -> int:
    """Execute those whose inputs have changed; return how many could not be."""
    for orders in (300_000, 60_000):  # of all lessons, and of lesson 11
        labkit.start(orders=orders).close()  # seeds the shop, so that no output has a progress bar
    paths = [Path(name) for name in names] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    problems = 0
    for path in paths:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        digest = inputs(notebook)
        if notebook.metadata.get("labkit", {}).get("inputs") == digest:
            print(f"{path.name}: up to date")
            continue
        began = time.monotonic()
        execute(notebook, path.parent)
        found = list(blemishes(notebook))
        problems += len(found)
        normalise(notebook, digest)
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
        print(f"{path.name}: executed in {time.monotonic() - began:.0f} s", *found, sep="\n  ")
    minutes.TABLE.write_text(minutes.table(), encoding="utf-8")
    for follow in (timetable.main, thumbnails.main, claims.main):
        try:
            problems += follow()
        except ValueError as error:  # a lesson has grown out of its day, or lost its picture
            print(error)
            problems += 1
    return problems


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Execute a notebook in a folder."""
    with kernel_manager(kernel_name="python3") as manager:
        NotebookClient(
            notebook,
            km=manager,
            timeout=CELL_TIMEOUT,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=ERROR"],  # ipykernel may warn of how it is spoken to
        ).execute(cleanup_kc=True)  # it leaves alone what it is given


def inputs(notebook: NotebookNode) -> str:
    """Return a digest of what a notebook's outputs depend on."""
    digest = hashlib.sha256()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            digest.update(cell.source.encode() + b"\0")
    sources = (path for path in (ROOT / "labkit").rglob("*.*") if path.suffix in (".py", ".lua"))
    for path in sorted(sources):
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def normalise(notebook: NotebookNode, digest: str) -> None:
    """Drop what differs from run to run or machine to machine; number cells, and mark slides."""
    notebook.metadata = {
        "kernelspec": KERNEL,
        "language_info": {"name": "python"},
        "labkit": {"inputs": digest},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
            for output in cell.outputs:  # a widget's name is chance, and its kernel has ended
                output.get("data", {}).pop(WIDGET, None)
    slides.mark(notebook)


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring streams of one name: where a kernel cuts them is chance."""
    result: list[NotebookNode] = []
    for output in outputs:
        before = result[-1] if result else {}
        if output.output_type == "stream" and before.get("name") == output.name:
            result[-1].text += output.text
        else:
            result.append(output)
    return result


def blemishes(notebook: NotebookNode) -> list[str]:
    """Return what a reader should not find in committed outputs."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(f"cell {number}: an error or a warning in its output")
            texts = [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
            if match := LOCAL_PATH.search("".join(texts)):
                found.append(f"cell {number}: a path of this machine, {match.group()}")
    return found


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
