"""Make slides of the lessons: a file of HTML each, in build/slides, that needs no network.

    python -m scripts.slides [notebooks/05_races.ipynb ...]
    python -m scripts.slides --mark [...]      only mark the notebooks' cells

Where a slide begins follows from rules, and stands in the notebooks' metadata, which nbconvert and
jupyterlab-rise read. `make notebooks` keeps it up to date. The rules:

- a heading begins a slide;
- what would make a slide higher than the screen begins a sub-slide, below it;
- so does an exercise, and so does what follows a prediction: nobody sees an answer too early.

A cell that is higher than a screen by itself stays one cell in the metadata. In the HTML its prose
is cut between two paragraphs, and its output stands below its code.
"""

from __future__ import annotations

import argparse
import base64
import io
import math
import re
import struct
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
TEMPLATES = Path(__file__).parent / "templates"
BUILD = ROOT / "build" / "slides"
WIDTH, HEIGHT = 1280, 720  # CSS pixels, scaled to whatever screen there is
ROOM = 640  # pixels: what is left between the margins, less a reserve for other fonts

# How high what slides.css shows is, in its pixels.
GAP = 10  # below a cell, a paragraph, a heading
PROSE_LINE, PROSE_LETTERS = 30, 112
CODE_LINE, CODE_FRAME = 24, 12
TEXT_LINE, TEXT_LETTERS, TEXT_FRAME = 22, 114, 6
ROW_OF_PROSE, ROW_OF_HTML = 36, 36
HIGHEST_PICTURE, HIGHEST_TABLE = 460, 560
LINES_OF_TEXT = 26  # of an output, on a slide of its own
HEADINGS = {1: 58, 2: 46, 3: 38}

FENCE = "```"
PICTURE = "*The picture: "  # how a picture's description begins
HEADING = re.compile(r"^(#{1,3}) ")
EXERCISE = re.compile(r"^\*\*\d\d\.\d\*\*")
CODE_OR_FORMULA = re.compile(
    r"(?P<code>```.*?```|`[^`]*`)|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+)\$", re.DOTALL
)


@dataclass
class Piece:
    """What stays together on a slide: a cell, or a part of one.

    Attributes:
        cell: a cell with nothing but this piece in it.
        height: in pixels, as it is expected to be.
        begins: "slide" or "subslide" where one begins with this piece, whatever the height.
    """

    cell: NotebookNode
    height: float
    begins: str = ""


def mark(notebook: NotebookNode) -> None:
    """Write into each cell's metadata whether a slide or a sub-slide begins with it.

    Here cells are not cut: one that has a heading further down begins a slide.
    """
    for cell, [(_, kind)] in zip(notebook.cells, laid_out(notebook, whole), strict=True):
        cell.metadata.pop("slideshow", None)
        if kind:
            cell.metadata["slideshow"] = {"slide_type": kind}


def deck(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook of the pieces, each with its place in the slides, and formulas drawn."""
    slides = deepcopy(notebook)
    slides.cells = []
    for placed in laid_out(notebook, pieces):
        for piece, kind in placed:
            piece.cell.metadata["slideshow"] = {"slide_type": kind or "-"}
            piece.cell.id = f"piece-{len(slides.cells):03}"
            if piece.cell.cell_type == "markdown":
                piece.cell.source = with_formulas(piece.cell.source)
            slides.cells.append(piece.cell)
    return slides


def laid_out(
    notebook: NotebookNode, cut: Callable[[NotebookNode], list[Piece]]
) -> Iterator[list[tuple[Piece, str]]]:
    """Give each cell's pieces, each with what begins with it: "slide", "subslide" or "".

    Args:
        notebook: the lesson.
        cut: what cuts a cell into pieces: `pieces`, or `whole`.
    """
    height = math.inf
    is_begun = False
    for cell in notebook.cells:
        placed = []
        for piece in cut(cell):
            kind = piece.begins if is_begun else "slide"
            if not kind and height + piece.height > ROOM:
                kind = "subslide"
            height = piece.height if kind else height + piece.height
            is_begun = True
            placed.append((piece, kind))
        yield placed
        if "labkit.predict(" in cell.source:
            height = math.inf  # the answer does not stand below the question


def pieces(cell: NotebookNode) -> list[Piece]:
    """Return a cell's pieces, in their order."""
    return pieces_of_prose(cell) if cell.cell_type == "markdown" else pieces_of_code(cell)


def whole(cell: NotebookNode) -> list[Piece]:
    """Return a cell as one piece."""
    found = pieces(cell)
    kinds = [piece.begins for piece in found]
    begins = "slide" if "slide" in kinds else kinds[0]
    return [Piece(cell, sum(piece.height for piece in found), begins)]


def pieces_of_prose(cell: NotebookNode) -> list[Piece]:
    """Cut a cell of prose before headings and exercises, and where it is too high."""
    found: list[Piece] = []
    parts: list[str] = []

    def cut() -> None:
        if parts:
            height = sum(height_of(part) for part in parts)
            found.append(Piece(_with(cell, "\n\n".join(parts)), height, begins(parts[0])))
            parts.clear()

    for block in blocks(cell.source):
        too_high = sum(height_of(part) for part in [*parts, block]) > ROOM
        is_below_heading = all(HEADING.match(part) for part in parts)  # and stays there
        if begins(block) == "slide" or (not is_below_heading and (begins(block) or too_high)):
            cut()
        parts.append(block)
        if block.startswith(PICTURE):
            cut()  # it belongs to the picture above, and the rest need not
    cut()
    return found or [Piece(_with(cell, ""), 0)]


def pieces_of_code(cell: NotebookNode) -> list[Piece]:
    """Leave a code cell whole, or cut it below its code, and its texts after some lines."""
    whole = Piece(deepcopy(cell), height_of_code(cell.source) + height_of_outputs(cell.outputs))
    if whole.height <= ROOM or not cell.outputs:
        return [whole]
    code = deepcopy(cell)
    code.outputs = []
    found = [Piece(code, height_of_code(cell.source))]
    for output in cell.outputs:
        for part in _parts(output):
            below = deepcopy(cell)
            below.source, below.outputs = "", [part]
            found.append(Piece(below, height_of_outputs([part])))
    return found


def blocks(source: str) -> Iterator[str]:
    """Give the paragraphs, lists, tables, headings and fenced texts of a Markdown source."""
    kept: list[str] = []
    in_fence = False
    for line in source.split("\n"):
        in_fence ^= line.lstrip().startswith(FENCE)
        if line.strip() or in_fence:
            kept.append(line)
        elif kept:
            yield "\n".join(kept)
            kept = []
    if kept:
        yield "\n".join(kept)


def begins(block: str) -> str:
    """Return what begins with a block of Markdown."""
    if HEADING.match(block):
        return "slide"
    return "subslide" if EXERCISE.match(block) else ""


def height_of(block: str) -> float:
    """Return how high a block of Markdown is, in pixels."""
    lines = block.split("\n")
    if heading := HEADING.match(block):
        return HEADINGS[len(heading[1])] + GAP
    if lines[0].lstrip().startswith(FENCE):
        return TEXT_LINE * (len(lines) - 2) + 2 * GAP
    if lines[0].startswith("|"):
        return ROW_OF_PROSE * sum(_wrapped(line, PROSE_LETTERS) for line in lines) + GAP
    if re.match(r"- |\d+\. ", block):
        items = re.split(r"\n(?=- |\d+\. )", block)
        return sum(PROSE_LINE * _wrapped(item, PROSE_LETTERS - 4) for item in items) + GAP
    return PROSE_LINE * _wrapped(block, PROSE_LETTERS) + GAP


def height_of_code(source: str) -> float:
    """Return how high the code of a cell is, in pixels."""
    return CODE_LINE * (source.count("\n") + 1) + CODE_FRAME + GAP if source else 0


def height_of_outputs(outputs: list[NotebookNode]) -> float:
    """Return how high a cell's outputs are, in pixels."""
    return sum(_height_of_output(output) for output in outputs)


def _height_of_output(output: NotebookNode) -> float:
    data = output.get("data", {})
    if "image/png" in data:
        return min(size_of(data["image/png"])[1], HIGHEST_PICTURE) + GAP
    if "text/html" in data:
        rows = "".join(data["text/html"]).count("<tr")
        return min(ROW_OF_HTML * rows + 4 * GAP, HIGHEST_TABLE) + GAP
    lines = "".join(output.get("text") or data.get("text/plain", "")).rstrip("\n").split("\n")
    return TEXT_LINE * sum(_wrapped(line, TEXT_LETTERS) for line in lines) + TEXT_FRAME


def _parts(output: NotebookNode) -> Iterator[NotebookNode]:
    """Give an output, or the parts of a text that is higher than a slide."""
    if output.output_type != "stream" or _height_of_output(output) <= ROOM:
        yield output
        return
    lines = "".join(output.text).rstrip("\n").split("\n")
    for first in range(0, len(lines), LINES_OF_TEXT):
        part = deepcopy(output)
        part.text = "\n".join(lines[first : first + LINES_OF_TEXT]) + "\n"
        yield part


def size_of(png: str) -> tuple[int, int]:
    """Return the width and the height of a picture in base64, in pixels."""
    width, height = struct.unpack(">II", base64.b64decode(png[:64])[16:24])
    return width, height


def with_formulas(source: str) -> str:
    """Draw the formulas of a Markdown source, so that no MathJax is needed."""

    def drawn(found: re.Match[str]) -> str:
        if found["code"]:
            return found[0]
        picture = _formula(found["block"] or found["inline"])
        return f"\n\n{picture}\n\n" if found["block"] else picture

    return CODE_OR_FORMULA.sub(drawn, source)


def _formula(tex: str) -> str:
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    picture = io.BytesIO()
    depth = math_to_image(f"${tex}$", picture, FontProperties(size=16), dpi=72, format="svg")
    data = base64.b64encode(picture.getvalue()).decode()
    style = f"vertical-align: -{depth:.0f}pt"
    alt = tex.replace('"', "&quot;")
    return (
        f'<img class="formula" style="{style}" alt="{alt}" src="data:image/svg+xml;base64,{data}">'
    )


def html(notebook: NotebookNode, name: str) -> str:
    """Return a lesson's slides as HTML, with everything in it that they need."""
    from nbconvert import SlidesExporter
    from traitlets.config import Config

    exporter = SlidesExporter(  # type: ignore[no-untyped-call]
        config=Config(SlidesExporter={"reveal_width": str(WIDTH), "reveal_height": str(HEIGHT)}),
        template_name="slides",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    text, _ = exporter.from_notebook_node(deck(notebook), {"metadata": {"name": name}})
    return str(text)


def _with(cell: NotebookNode, source: str) -> NotebookNode:
    piece = deepcopy(cell)
    piece.source = source
    return piece


def _wrapped(text: str, letters: int) -> int:
    """Return how many lines a text takes: its links and marks are not shown."""
    shown = re.sub(r"\]\([^)]*\)|[*`\[]", "", text.replace("\n", " "))
    return max(1, math.ceil(len(shown) / letters))


def main() -> int:
    """Write slides, or the marks for them."""
    parser = argparse.ArgumentParser(description="Slides of the lessons, in build/slides.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="all lessons by default")
    parser.add_argument("--mark", action="store_true", help="only write the cells' metadata")
    arguments = parser.parse_args()
    for path in arguments.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        if arguments.mark:
            mark(notebook)
            nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
            continue
        BUILD.mkdir(parents=True, exist_ok=True)
        file = BUILD / f"{path.stem}.slides.html"
        file.write_text(html(notebook, path.stem), encoding="utf-8")
        print(file.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
