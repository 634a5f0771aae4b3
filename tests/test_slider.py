"""The hit-ratio slider: a picture wherever it is looked at, and a slider where widgets run."""

from __future__ import annotations

import base64
import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.measure.plots import slider
from labkit.measure.plots.load import percentile
from labkit.measure.plots.slider import WIDGET, finding, mixture, picture, rate
from scripts.notebooks import execute, normalise
from tests.browser import find_browser, jupyterlab, open_notebook, page_of

PNG = b"\x89PNG"
CODE = """
import labkit
from tests.test_slider import HITS, MISSES
labkit.plots.hit_ratio(HITS, MISSES)
"""


@dataclass(frozen=True)
class Ran:
    a_second: float
    counts: dict[float, int]


HITS = Ran(2_000.0, {1.0: 60, 2.0: 40})
MISSES = Ran(5.0, {400.0: 3, 800.0: 1})
ratios = st.integers(0, 100).map(lambda percent: percent / 100)


def test_a_mixture_has_as_many_hits_and_misses_as_the_ratio_says() -> None:
    shares = mixture(HITS.counts, MISSES.counts, 0.8)

    assert shares == pytest.approx({1.0: 0.48, 2.0: 0.32, 400.0: 0.15, 800.0: 0.05})
    assert mixture(HITS.counts, MISSES.counts, 1) == pytest.approx({1.0: 0.6, 2.0: 0.4})
    assert mixture(HITS.counts, MISSES.counts, 0) == pytest.approx({400.0: 0.75, 800.0: 0.25})


def test_a_time_that_both_took_is_added_up() -> None:
    assert mixture({1.0: 1}, {1.0: 1}, 0.3) == pytest.approx({1.0: 1.0})


@given(ratios)
def test_p95_is_a_misss_until_fewer_than_one_in_twenty_miss(ratio: float) -> None:
    p95 = percentile(mixture(HITS.counts, MISSES.counts, ratio), 95)

    assert (p95 >= 400) == (ratio < 0.95)


@given(ratios)
def test_the_rate_is_that_of_times_which_add_up(ratio: float) -> None:
    """So many requests, one after another, of either kind."""
    seconds = ratio * 1000 / HITS.a_second + (1 - ratio) * 1000 / MISSES.a_second

    assert rate(HITS, MISSES, ratio) == pytest.approx(1000 / seconds)


def test_the_title_states_what_is_predicted() -> None:
    assert finding(HITS, MISSES, 0.8) == ("80 % hits: 24.8 requests a second, p50 2 ms, p95 400 ms")
    assert finding(HITS, MISSES, 1) == "100 % hits: 2,000 requests a second, p50 1 ms, p95 2 ms"


def test_pictures_of_two_ratios_differ_and_those_of_one_do_not() -> None:
    few, many = (picture(HITS, MISSES, ratio) for ratio in (0.8, 0.97))

    assert few.startswith(PNG)
    assert many.startswith(PNG)
    assert few != many
    assert picture(HITS, MISSES, 0.8) == few


@pytest.mark.parametrize("ratio", [0, 1])
def test_the_ends_have_a_picture_too(ratio: float) -> None:
    assert picture(HITS, MISSES, ratio).startswith(PNG)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    bundles: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def test_the_output_is_one_bundle_of_a_picture_and_a_widget(shown: list[dict[str, Any]]) -> None:
    slider.hit_ratio(HITS, MISSES)

    [bundle] = shown
    assert [*bundle] == ["text/plain", "image/png", WIDGET]
    assert base64.b64decode(bundle["image/png"]) == picture(HITS, MISSES, 0.8)


def test_without_ipywidgets_it_is_the_picture_alone(
    shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    slider.hit_ratio(HITS, MISSES, 0.5)

    [bundle] = shown
    assert [*bundle] == ["text/plain", "image/png"]


def test_to_move_the_slider_is_to_draw_anew() -> None:
    first = picture(HITS, MISSES, 0.8)
    scale, image = slider._slider(HITS, MISSES, 0.8, first).children

    assert (scale.value, scale.min, scale.max) == (80, 0, 100)
    assert image.value == first
    scale.value = 97
    assert image.value == picture(HITS, MISSES, 0.97)


def test_the_committed_lesson_holds_the_picture_and_no_widget() -> None:
    text = (Path(__file__).parents[1] / "notebooks" / "11_load_test.ipynb").read_text()
    [cell] = [
        cell
        for cell in json.loads(text)["cells"]
        if cell["cell_type"] == "code" and "labkit.plots.hit_ratio(" in "".join(cell["source"])
    ]
    [output] = cell["outputs"]

    assert {*output["data"]} == {"text/plain", "image/png"}
    assert WIDGET not in text


def test_a_widgets_name_is_not_committed() -> None:
    data = {"text/plain": "<a picture>", WIDGET: {"model_id": secrets.token_hex(16)}}
    output = nbformat.v4.new_output("display_data", data)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])
    normalise(notebook, "")

    assert [*notebook.cells[0].outputs[0].data] == ["text/plain"]


def test_where_a_kernel_runs_without_a_front_end_the_picture_is_there() -> None:
    """As nbclient runs it, and nbconvert."""
    cell = nbformat.v4.new_code_cell(CODE)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    execute(notebook, Path(__file__).parents[1])
    [output] = notebook.cells[0].outputs

    assert base64.b64decode(output.data["image/png"]).startswith(PNG)


BROWSER = find_browser()
SHOWN = ".jp-OutputArea-output .widget-image"


@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH to look with")
def test_in_jupyterlab_the_slider_moves_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    assert BROWSER is not None
    with jupyterlab() as address, page_of(BROWSER) as page:
        open_notebook(page, address, "notebooks/11_load_test.ipynb")
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(CODE.strip())
        page.keyboard.press("Shift+Enter")
        image = page.locator(SHOWN).first
        image.wait_for(timeout=60_000)
        before = image.get_attribute("src")
        handle = page.locator(".jp-OutputArea-output .noUi-handle").first
        handle.focus()
        handle.press("ArrowRight")
        page.wait_for_function(
            "([found, before]) => document.querySelector(found).src !== before", arg=[SHOWN, before]
        )
        assert page.locator(".widget-readout").first.inner_text() == "81"
        image.screenshot(path=str(Path(__file__).parents[1] / "test-artifacts" / "slider.png"))
