"""Lessons in real JupyterLab and real Chromium: opened, run, and looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser import (
    ROOT,
    choose,
    code_prompts,
    find_browser,
    jupyterlab,
    open_notebook,
    page_of,
    run_all,
    screenshots,
)

BROWSER = find_browser()
ARTIFACTS = ROOT / "test-artifacts"
# JupyterLab shows tracebacks and warnings alike, as this.
STDERR = ".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']"
PICTURE = ".jp-OutputArea-output img[src^='data:image/png']"

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH to look with")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with jupyterlab() as started:
        yield started


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    assert BROWSER is not None
    with page_of(BROWSER) as opened:
        yield opened


@pytest.fixture(scope="module")
def lesson(page: Page, address: str) -> Page:
    """Open a lesson once for tests that clear what it shows: a JupyterLab takes seconds to load."""
    open_notebook(page, address, "notebooks/00_start_here.ipynb")
    return page


def test_lesson_00_opens_by_itself_and_runs_from_top_to_bottom(page: Page, address: str) -> None:
    open_notebook(page, address)
    assert "/lab/tree/notebooks/00_start_here.ipynb" in page.url
    run_all(page)
    screenshots(page, ARTIFACTS, "00_start_here")

    lesson = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text())
    code_cells = [cell for cell in lesson["cells"] if cell["cell_type"] == "code"]
    assert len(code_prompts(page)) == len(code_cells)
    assert page.locator(STDERR).all_inner_texts() == []
    assert page.locator(PICTURE).count() >= 1
    assert page.locator(".jp-Dialog, .Toastify__toast").all_inner_texts() == []


@pytest.mark.parametrize("code", ["1 / 0", "import warnings; warnings.warn('careful')"])
def test_an_error_or_a_warning_would_be_seen(lesson: Page, code: str) -> None:
    """Prove the check above: a cell that fails or warns shows what it looks for."""
    choose(lesson, "Edit", "Clear Outputs of All Cells")
    lesson.wait_for_function("css => document.querySelector(css) === null", arg=STDERR)
    lesson.locator(".jp-CodeCell .cm-content").first.click()
    lesson.keyboard.press("Control+A")
    lesson.keyboard.type(code)
    lesson.keyboard.press("Shift+Enter")
    lesson.wait_for_selector(STDERR)


def test_pictures_are_kept_where_they_can_be_looked_at(tmp_path: Path, page: Page) -> None:
    page.goto("about:blank")
    page.set_content("<div class='jp-NotebookPanel'><div style='height:300px;overflow-y:scroll'>"
                     "<div style='height:1000px'>long</div></div></div>")  # fmt: skip

    assert len(screenshots(page, tmp_path, "long")) == 4
