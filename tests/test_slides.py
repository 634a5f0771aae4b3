"""The lessons as slides: where they begin, and that each fits, in a real headless Chromium."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from playwright.sync_api import Page

from scripts import slides
from scripts.slides import HEIGHT, WIDTH, blocks, deck, html, laid_out, mark, pieces, whole
from tests.browser import find_browser, page_of

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
BROWSER = find_browser()
looks = pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH to look with")
# Which are looked at: one with formulas, one with cut cells, one with tables that scroll.
FEW = ("02_cache_decorator", "13_production", "14_capstone")
SHOWN = (
    NOTEBOOKS
    if os.environ.get("LABKIT_ALL_SLIDES")
    else [path for path in NOTEBOOKS if path.stem in FEW]
)

# For each slide, shown as a person sees it: how far its content reaches, and what scrolls in it.
MEASURE = """() => {
    const found = []
    for (const slide of Reveal.getSlides()) {
        const {h, v} = Reveal.getIndices(slide)
        Reveal.slide(h, v)
        const scale = Reveal.getScale(), frame = slide.getBoundingClientRect()
        let right = 0, bottom = 0, boxes = 0, cut = 0
        for (const each of slide.querySelectorAll('*')) {
            const box = each.closest('.jp-RenderedHTML')
            if (box && box !== each) continue  // it moves with its box
            const {right: r, bottom: b, width} = each.getBoundingClientRect()
            if (width) {
                right = Math.max(right, (r - frame.left) / scale)
                bottom = Math.max(bottom, (b - frame.top) / scale)
            }
            if (each.scrollWidth > each.clientWidth + 1 && each.clientWidth
                && getComputedStyle(each).overflowX !== 'visible') cut += 1
            if (each.scrollHeight > each.clientHeight + 1 && each.clientHeight
                && getComputedStyle(each).overflowY !== 'visible') {
                if (each === box) boxes += 1
                else cut += 1
            }
        }
        found.push({h, v, right, bottom, boxes, cut, text: slide.innerText})
    }
    return found
}"""
# The only outputs that may scroll: whole scoreboards.
EDGE = 20  # pixels that stay free at the lower edge
SCROLLING = {"14_capstone": 2}


def read(path: Path) -> NotebookNode:
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def measured(page: Page, file: Path) -> list[dict[str, Any]]:
    """Return what is on each slide of a file, in the pixels of a slide."""
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.goto(file.as_uri())
    page.wait_for_function("() => window.Reveal && Reveal.isReady()")
    found: list[dict[str, Any]] = page.evaluate(MEASURE)
    return found


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    assert BROWSER is not None
    with page_of(BROWSER) as opened:
        yield opened


@pytest.fixture(scope="module", params=SHOWN, ids=[path.stem for path in SHOWN])
def shown(
    request: pytest.FixtureRequest, page: Page, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[dict[str, Any]], list[str]]:
    """Return a lesson's name, what is on each of its slides, and what they ask the network for."""
    path: Path = request.param
    file = tmp_path_factory.mktemp("slides") / f"{path.stem}.html"
    file.write_text(html(read(path), path.stem), encoding="utf-8")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    found = measured(page, file)
    return path.stem, found, [url for url in asked if not url.startswith(("file:", "data:"))]


@looks
def test_each_slide_fits(shown: tuple[str, list[dict[str, Any]], list[str]]) -> None:
    lesson, found, _ = shown
    too_large = [each for each in found if each["right"] > WIDTH or each["bottom"] > HEIGHT - EDGE]

    assert len(found) > 10
    assert too_large == []
    assert [each for each in found if each["cut"]] == []
    assert sum(each["boxes"] for each in found) == SCROLLING.get(lesson, 0)


@looks
def test_they_need_no_network(shown: tuple[str, list[dict[str, Any]], list[str]]) -> None:
    _, _, asked = shown

    assert asked == []


@looks
def test_all_of_the_lesson_is_there(shown: tuple[str, list[dict[str, Any]], list[str]]) -> None:
    lesson, found, _ = shown
    on_slides = "".join("".join(each["text"] for each in found).split())
    notebook = read(next(path for path in NOTEBOOKS if path.stem == lesson))

    assert "$h$" not in on_slides
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert "".join(cell.source.split()) in on_slides
        for word in re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE):
            assert "".join(re.sub(r"[*`]", "", word).split()) in on_slides


@looks
def test_an_answer_does_not_stand_below_its_question(
    shown: tuple[str, list[dict[str, Any]], list[str]],
) -> None:
    _, found, _ = shown

    for each in found:
        _, _, below = each["text"].partition("Your guess:")
        assert "You said" not in below, each["text"]


@looks
@pytest.mark.parametrize(
    ("style", "seen"),
    [
        ("height: 900px", "bottom"),
        ("width: 1400px", "right"),
        ("height: 20px; overflow: auto", "cut"),
    ],
)
def test_a_slide_that_does_not_fit_would_be_seen(
    page: Page, tmp_path: Path, style: str, seen: str
) -> None:
    """Prove the check above, by what is too high, too wide, or cut off."""
    text = f"# 99 · Any\n\n<div style='{style}'>one<br>two<br>three<br>four</div>"
    file = tmp_path / "any.html"
    file.write_text(html(made(markdown(text)), "any"), encoding="utf-8")
    [only] = measured(page, file)

    limits = {"bottom": HEIGHT - EDGE, "right": WIDTH, "cut": 0}
    assert seen in [name for name, limit in limits.items() if only[name] > limit]


# The rules, on notebooks of a few cells.


def markdown(text: str) -> NotebookNode:
    cell: NotebookNode = nbformat.v4.new_markdown_cell(text)
    return cell


def code(source: str, lines: int = 0) -> NotebookNode:
    outputs = [nbformat.v4.new_output("stream", text="a line\n" * lines)] if lines else []
    cell: NotebookNode = nbformat.v4.new_code_cell(source, outputs=outputs, execution_count=1)
    return cell


def made(*cells: NotebookNode) -> NotebookNode:
    notebook: NotebookNode = nbformat.v4.new_notebook(cells=list(cells))
    return notebook


def marks(*cells: NotebookNode) -> list[str]:
    """Return what is written into each cell's metadata."""
    notebook = made(*cells)
    mark(notebook)
    return [cell.metadata.get("slideshow", {}).get("slide_type", "") for cell in notebook.cells]


def title() -> NotebookNode:
    return markdown("# 99 · Any")


def short() -> NotebookNode:
    return markdown("A sentence.")


def high() -> NotebookNode:
    """Return a cell of which two are more than a slide."""
    return code("pass", lines=20)


def test_a_heading_begins_a_slide_and_what_fits_stays() -> None:
    assert marks(title(), short(), markdown("## An idea"), short(), code("pass")) == [
        "slide",
        "",
        "slide",
        "",
        "",
    ]


def test_what_does_not_fit_begins_a_subslide() -> None:
    assert marks(title(), high(), high(), short()) == ["slide", "", "subslide", ""]


def test_so_does_an_exercise_and_what_follows_a_prediction() -> None:
    asked = code('guess = labkit.predict("How many?", 1)')

    assert marks(title(), asked, code("guess.reveal(2)")) == ["slide", "", "subslide"]
    assert marks(title(), markdown("**99.1** Write it."), short()) == ["slide", "subslide", ""]


def test_a_heading_further_down_begins_a_slide_and_is_cut_in_the_html() -> None:
    cell = markdown("The end of one.\n\n## Another\n\nIts text.")

    assert marks(title(), short(), cell) == ["slide", "", "slide"]
    assert [(piece.begins, piece.cell.source) for piece in pieces(cell)] == [
        ("", "The end of one."),
        ("slide", "## Another\n\nIts text."),
    ]


def test_a_heading_of_exercises_keeps_the_first() -> None:
    cell = markdown("## Exercises\n\n**99.1** Write it.\n\nMore of it.")

    assert [piece.begins for piece in pieces(cell)] == ["slide"]


def test_a_picture_keeps_its_description_and_not_what_follows() -> None:
    cell = markdown("*The picture: a bar.*\n\nWhy it is so.")

    assert [piece.cell.source for piece in pieces(cell)] == [
        "*The picture: a bar.*",
        "Why it is so.",
    ]


def test_prose_is_cut_between_paragraphs_only() -> None:
    paragraphs = [("word " * 300).strip(), "```\n" + "line\n\n" * 6 + "```", "- one\n- two"]
    found = pieces(markdown("\n\n".join(paragraphs)))

    assert list(blocks("\n\n".join(paragraphs))) == paragraphs
    assert len(found) > 1
    assert "\n\n".join(piece.cell.source for piece in found).split() == " ".join(paragraphs).split()


def test_long_output_stands_below_its_code_and_goes_on() -> None:
    found = pieces(code("pass", lines=60))
    texts = [piece.cell.outputs[0].text for piece in found[1:]]

    assert (found[0].cell.source, found[0].cell.outputs) == ("pass", [])
    assert "".join(texts) == 60 * "a line\n"
    assert [piece.cell.source for piece in found[1:]] == len(texts) * [""]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_marks_of_the_lessons_are_those_of_the_rules(path: Path) -> None:
    notebook = read(path)
    before = deepcopy(notebook)
    mark(notebook)

    assert [cell.metadata for cell in notebook.cells] == [cell.metadata for cell in before.cells]
    assert len(list(laid_out(notebook, whole))) == len(notebook.cells)
    assert deck(notebook).cells[0].metadata["slideshow"]["slide_type"] == "slide"


def test_formulas_are_drawn_and_code_is_left_alone() -> None:
    drawn = slides.with_formulas("Let $h$ be it. `$(pwd) $x$`\n\n$$\\frac{a}{b}$$\n\n```\n$y$\n```")

    assert re.findall(r'alt="([^"]+)"', drawn) == ["h", "\\frac{a}{b}"]
    assert "`$(pwd) $x$`" in drawn
    assert "```\n$y$\n```" in drawn


def test_no_dollar_that_is_no_formula_is_taken_for_one() -> None:
    found = {
        match["block"] or match["inline"]
        for path in NOTEBOOKS
        for cell in read(path).cells
        if cell.cell_type == "markdown"
        for match in slides.CODE_OR_FORMULA.finditer(cell.source)
        if not match["code"]
    }

    assert found
    assert all(re.fullmatch(r"[\w\s\\{}()^/<>=+.,·×-]+", each) for each in found), found


def test_reveal_is_the_release_that_is_written_down() -> None:
    folder = slides.TEMPLATES / "slides" / "reveal"
    [version] = re.findall(r"reveal\.js (\S+), MIT", (folder / "README.md").read_text())

    assert version in (folder / "reveal.js").read_text(encoding="utf-8")
    assert "Permission is hereby granted" in (folder / "LICENSE").read_text()
