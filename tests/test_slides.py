"""The lessons as slides: where they begin, and that each fits, in a real headless Chromium."""

from __future__ import annotations

import os
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
                && getComputedStyle(each).overflowY !== 'visible') each === box ? boxes += 1 : cut += 1
        }
        found.push({h, v, right, bottom, boxes, cut, text: slide.innerText})
    }
    return found
}"""
# The only outputs that may scroll: whole scoreboards.
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
