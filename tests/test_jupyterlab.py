"""Lessons in real JupyterLab and real Chromium: opened, run, and looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser import (
    ROOT,
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
STDERR = ".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']"
ERROR = ".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']"
PICTURE = ".jp-OutputArea-output img[src^='data:image/png']"

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH to look with")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with jupyterlab() as started:
        yield started


@pytest.fixture
def page() -> Iterator[Page]:
    assert BROWSER is not None
    with page_of(BROWSER) as opened:
        yield opened


def test_lesson_00_opens_by_itself_and_runs_from_top_to_bottom(page: Page, address: str) -> None:
    page.goto(f"{address}/?token=test")
    page.wait_for_url("**/lab/tree/notebooks/00_start_here.ipynb*")
    open_notebook(page, address, "notebooks/00_start_here.ipynb")
    before = page.locator(".jp-CodeCell").count()
    run_all(page)
    screenshots(page, ARTIFACTS, "00_start_here")

    assert len(code_prompts(page)) == before > 0
    assert page.locator(ERROR).count() == 0
    assert page.locator(STDERR).count() == 0
    assert page.locator(PICTURE).count() >= 1
    assert page.get_by_text("official Jupyter news").count() == 0


def test_an_error_would_be_seen(page: Page, address: str) -> None:
    """Prove the checks above: a cell that fails shows what they look for."""
    open_notebook(page, address, "notebooks/00_start_here.ipynb")
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.type("import sys; print('careful', file=sys.stderr); 1 / 0")
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(ERROR)

    assert page.locator(STDERR).count() >= 1


def test_pictures_are_kept_where_they_can_be_looked_at(tmp_path: Path, page: Page) -> None:
    page.set_content("<div class='jp-NotebookPanel'><div style='height:300px;overflow-y:scroll'>"
                     "<div style='height:1000px'>long</div></div></div>")  # fmt: skip

    assert len(screenshots(page, tmp_path, "long")) == 4
