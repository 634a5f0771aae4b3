"""The site that `make site` builds: its links, its pictures, and what a browser makes of it."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from scripts.site import ROOT, SiteError, describe_pictures, fold_exercises, wrap_sentences
from tests.browser import find_browser, page_of

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LESSONS = [path.stem for path in NOTEBOOKS]
PHONE, DESK = 390, 1280  # pixels
HEIGHT = 844
TIMEOUT = 120_000  # milliseconds, on a machine that does much else
EVERY = "LABKIT_ALL_PAGES" in os.environ
A_FEW = ["index.html", "notebooks/02_cache_decorator.html"]
LEAST_CONTRAST = 4.5  # WCAG 2 AA; 3 for large letters

needs_browser = pytest.mark.skipif(find_browser() is None, reason="no chromium on PATH")


def notebook_of(lesson: str) -> Any:
    return nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", as_version=4)


def digests() -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in NOTEBOOKS}


def without_network() -> list[str]:
    """Return what begins a command that then has no network, where that can be had."""
    command = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None:
        return []
    tried = subprocess.run([*command, "true"], capture_output=True)
    return [] if tried.returncode else command


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site once, as `make site` does, in a folder of the test's own."""
    into = tmp_path_factory.mktemp("built") / "site"
    before = digests()
    done = subprocess.run(
        [*without_network(), sys.executable, "-m", "scripts.site", "--into", str(into)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == f"The site is in {into}: open {into / 'index.html'}\n"
    assert digests() == before
    return into


class Read(HTMLParser):
    """What a page holds: its ids, its links, its pictures, its folded blocks, its words."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []  # by the browser, without a click
        self.images: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self.summaries: list[str] = []
        self.opened = 0
        self.text = ""
        self._tag = ""
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self._tag = tag
        if found.get("id"):
            self.ids.add(str(found["id"]))
        if tag == "a" and "href" in found:
            self.links.append(str(found["href"]))
        self.loaded += [str(found[name]) for name in ("src", "srcset", "data") if name in found]
        if tag == "link":
            clicked = found["rel"] in ("next", "prev", "index", "search")
            (self.links if clicked else self.loaded).append(str(found["href"]))
        if tag == "img":
            self.images.append(found)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "details":
            self.opened += "open" in found
        if tag == "summary":
            self.summaries.append("")

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._tag == "summary":
            self.summaries[-1] += data


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, Read]:
    """Read every page, by its path within the site."""
    return {path.relative_to(site).as_posix(): Read(path) for path in sorted(site.rglob("*.html"))}


# What is in the files.


def test_every_lesson_and_every_text_has_a_page(pages: dict[str, Read]) -> None:
    assert {f"notebooks/{lesson}.html" for lesson in LESSONS} <= set(pages)
    assert {"index.html", "search.html", "README.html", "CONTRIBUTING.html"} <= set(pages)
    for name in ("docs/claims.md", "notebooks/INSTRUCTOR.md"):
        assert (name.removesuffix(".md") + ".html" in pages) is (ROOT / name).exists()


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[str, Read]) -> None:
    seen = 0
    for name, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            assert target.is_file(), (name, link)
            other = target.resolve().relative_to(site.resolve()).as_posix()
            if parts.fragment and other in pages:
                assert unquote(parts.fragment) in pages[other].ids, (name, link)
            seen += 1
    assert seen > 1000


def test_nothing_that_a_page_loads_is_elsewhere(site: Path, pages: dict[str, Read]) -> None:
    for name, page in pages.items():
        for address in page.loaded:
            assert not urlsplit(address).netloc, (name, address)
        for link in page.links:
            assert urlsplit(link).scheme in ("", "https"), (name, link)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text()), sheet


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_picture_is_there_and_says_what_it_shows(pages: dict[str, Read], lesson: str) -> None:
    cells = notebook_of(lesson).cells
    told = [
        " ".join(after.source.replace("`", "").split()).lower()
        for cell, after in itertools.pairwise(cells)
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    ]
    images = pages[f"notebooks/{lesson}.html"].images

    assert len(images) == len(told)
    for image, text in zip(images, told, strict=True):
        alt = str(image["alt"]).removesuffix(" The text below describes it.")
        assert text.startswith(f"*the picture: {alt.lower()}")


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_output_that_is_committed_is_shown(pages: dict[str, Read], lesson: str) -> None:
    shown = pages[f"notebooks/{lesson}.html"].text
    printed = [
        output.text
        for cell in notebook_of(lesson).cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    ]

    assert printed
    for text in printed:
        assert text.strip("\n") in shown


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_exercise_has_its_hints_and_its_solution_folded(
    pages: dict[str, Read], lesson: str
) -> None:
    page = pages[f"notebooks/{lesson}.html"]
    exercises = importlib.import_module(f"labkit.lessons.lesson_{lesson[:2]}").EXERCISES
    expected = [
        title
        for exercise in exercises.values()
        for title in [f"Hint {n}" for n, _ in enumerate(exercise.hints, 1)] + ["Solution"]
    ]

    assert page.summaries == expected
    assert page.opened == 0
    for exercise in exercises.values():
        for hint in exercise.hints:
            assert hint in page.text


def test_each_page_has_one_title_and_no_level_is_left_out(pages: dict[str, Read]) -> None:
    for name, page in pages.items():
        assert page.headings[0] == 1, name
        assert page.headings.count(1) == 1, name
        for above, below in itertools.pairwise(page.headings):
            assert below <= above + 1, name


# What the script makes of a notebook.


def plotted() -> Any:
    output = nbformat.v4.new_output("display_data", {"image/png": ""})
    return nbformat.v4.new_code_cell("plot()", outputs=[output])


def test_a_picture_without_a_description_is_refused() -> None:
    prose = nbformat.v4.new_markdown_cell("And so on.")
    for cells in ([plotted()], [plotted(), prose]):
        with pytest.raises(SiteError, match=r"x\.ipynb, cell 0"):
            describe_pictures(nbformat.v4.new_notebook(cells=cells), "x.ipynb")


def test_the_first_sentence_of_a_description_is_the_alternative_text() -> None:
    prose = nbformat.v4.new_markdown_cell("*The picture: two bars,\nof 0.5 `GET`s. One is red.*")
    notebook = nbformat.v4.new_notebook(cells=[plotted(), prose])
    describe_pictures(notebook, "x.ipynb")

    alt = notebook.cells[0].metadata["mystnb"]["image"]["alt"]
    assert alt == "Two bars, of 0.5 GETs. The text below describes it."


def test_what_is_printed_in_columns_is_not_wrapped() -> None:
    texts = ["a    1\nbb  22\n", "✓ a sentence\n  and another\n"]
    outputs = [[nbformat.v4.new_output("stream", text=text)] for text in texts]
    cells = [nbformat.v4.new_code_cell("f()", outputs=output) for output in outputs]
    notebook = nbformat.v4.new_notebook(cells=cells)
    wrap_sentences(notebook)

    assert [cell.metadata.get("tags", []) for cell in notebook.cells] == [[], ["wraps"]]


def test_hints_come_after_the_cell_that_checks() -> None:
    cells = [nbformat.v4.new_code_cell(f'labkit.check("05.{n}", answer)') for n in (1, 2)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    fold_exercises(notebook)

    assert [cell.cell_type for cell in notebook.cells] == ["code", "markdown"] * 2
    assert "W1 R1 R2 W2 R3" in notebook.cells[1].source
    assert "def release(redis, key, token):" in notebook.cells[3].source


# What a browser makes of it.


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    browser = find_browser()
    assert browser is not None
    with page_of(browser) as page:
        page.set_default_timeout(TIMEOUT)
        yield page


@pytest.fixture
def page(browser_page: Page, address: str) -> Iterator[Page]:
    """Yield a page to which nothing but the site is given, and which may raise no error."""
    foreign: list[str] = []
    errors: list[str] = []

    def refuse(route: Any) -> None:
        foreign.append(route.request.url)
        route.abort()

    elsewhere = re.compile(rf"^(?!{re.escape(address)}/|file:|data:)")
    browser_page.route(elsewhere, refuse)
    browser_page.on("pageerror", note := lambda error: errors.append(str(error)))
    browser_page.goto(f"{address}/index.html")
    browser_page.evaluate("localStorage.clear()")
    yield browser_page
    browser_page.remove_listener("pageerror", note)
    browser_page.unroute(elsewhere)
    assert (foreign, errors) == ([], [])


def look(page: Page, width: int, theme: str) -> None:
    """Make the browser as wide as that, and let it prefer that theme."""
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")


# The contrast of each element that has letters of its own, once for each kind.
CONTRAST = """() => {
    const numbers = text => text.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => [[r, 0.2126], [g, 0.7152], [b, 0.0722]]
        .map(([v, share]) => [v / 255, share])
        .map(([v, share]) => share * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((a, b) => a + b);
    const found = {};
    const seen = new Set();
    for (const element of document.querySelectorAll("body :not(script, style)")) {
        if (![...element.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
        let kind = element.getAttribute("style");
        for (let at = element, n = 0; at && n < 5; at = at.parentElement, n++)
            kind += at.tagName + at.getAttribute("class");
        if (seen.has(kind) || !element.checkVisibility()) continue;
        seen.add(kind);
        const style = getComputedStyle(element);
        let behind = element, ground;
        do {
            ground = getComputedStyle(behind).backgroundColor;
            behind = behind.parentElement;
        } while (numbers(ground)[3] === 0 && behind);
        const large = parseFloat(style.fontSize) >= (style.fontWeight >= 700 ? 18.66 : 24);
        found[`${style.color} on ${ground}${large ? ", large" : ""}`] ??= element.outerHTML;
    }
    return Object.entries(found).map(([colours, html]) => {
        const pair = colours.split(" on ").map(numbers);
        if (pair.some(([r, g, b, alpha]) => (alpha ?? 1) !== 1)) return [colours, html, 0];
        const [dark, light] = pair.map(luminance).sort((a, b) => a - b);
        const ratio = (light + 0.05) / (dark + 0.05);
        return [colours, html.slice(0, 200), colours.endsWith("large") ? ratio * 1.5 : ratio];
    });
}"""


PLAIN_CODE = "document.querySelectorAll('pre').forEach(code => code.textContent = code.textContent)"


def assert_contrast(page: Page, name: str) -> None:
    """Assert that all letters contrast with the first ground that is behind them."""
    found = page.evaluate(CONTRAST)
    assert len(found) >= 5, name
    assert [each for each in found if each[2] < LEAST_CONTRAST] == [], name


def assert_accessible(page: Page, name: str, but: tuple[str, ...] = ()) -> None:
    """Assert that axe finds nothing, by all the rules that it has on by itself.

    Args:
        page: a page that is open.
        name: its path.
        but: rules to leave out.
    """
    off = {rule: {"enabled": False} for rule in but}
    options: dict[str, Any] = {"resultTypes": ["violations", "incomplete"], "rules": off}
    options["preload"] = False  # of stylesheets and media, for rules that are off, or need a video
    found = Axe().run(page, options=options).response
    broken = [
        (name, rule["id"], node["html"], node["failureSummary"])
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
    assert broken == []
    # Of a sign, a single letter, or code that is scrolled out of sight, axe cannot tell.
    assert {rule["id"] for rule in found["incomplete"]} <= {"color-contrast"}, name


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_axe_finds_nothing_and_no_page_scrolls_sideways(
    page: Page, address: str, pages: dict[str, Read], width: int, theme: str
) -> None:
    look(page, width, theme)
    for name in pages if EVERY or (width, theme) == (PHONE, "dark") else A_FEW:
        page.goto(f"{address}/{name}")
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert_contrast(page, name)
        if EVERY or name in A_FEW:
            assert_accessible(page, name)
        else:  # on long pages, axe takes seconds for code, whose contrast was just looked at
            page.evaluate(PLAIN_CODE)
            assert_accessible(page, name, ("color-contrast",))


@needs_browser
def test_a_telephone_shows_letters_of_a_legible_size(page: Page, address: str) -> None:
    look(page, PHONE, "light")
    page.goto(f"{address}/notebooks/14_capstone.html")
    sizes = page.evaluate(
        """() => ["article p", "article pre", "article td"].map(
            part => parseFloat(getComputedStyle(document.querySelector(part)).fontSize))"""
    )

    assert sizes[0] >= 16
    assert min(sizes) >= 12.5


@needs_browser
def test_what_is_too_wide_scrolls_within_itself_by_the_keyboard(page: Page, address: str) -> None:
    look(page, PHONE, "light")
    page.goto(f"{address}/notebooks/05_races.html")
    wide = page.locator("pre[tabindex]").first
    wide.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")

    look(page, DESK, "light")
    page.wait_for_function("!document.querySelector('pre').hasAttribute('tabindex')")


@needs_browser
def test_sentences_that_a_cell_printed_need_no_scrolling(page: Page, address: str) -> None:
    look(page, PHONE, "light")
    for lesson in LESSONS if EVERY else LESSONS[:3]:
        page.goto(f"{address}/notebooks/{lesson}.html")
        claims = page.locator(".cell_output pre", has_text=re.compile("^✓ |^You said"))
        assert claims.count() > 0
        widths = claims.evaluate_all("all => all.map(each => each.scrollWidth - each.clientWidth)")
        texts = claims.all_inner_texts()
        cut = [text for text, more in zip(texts, widths, strict=True) if more > 0]
        assert all(re.search(r"\S {2,}\S", text) for text in cut), cut


@needs_browser
def test_the_theme_follows_the_machine_until_a_reader_chooses(page: Page, address: str) -> None:
    def ground() -> list[int]:
        colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return [int(number) for number in re.findall(r"\d+", colour)[:3]]

    look(page, DESK, "dark")
    page.goto(f"{address}/index.html")
    assert max(ground()) < 50
    look(page, DESK, "light")
    assert min(ground()) > 200
    while page.evaluate("document.body.dataset.theme") != "dark":
        page.locator(".theme-toggle:visible").click()
    assert max(ground()) < 50
    page.goto(f"{address}/notebooks/05_races.html")
    assert max(ground()) < 50


@needs_browser
@pytest.mark.parametrize("opened", ["from a server", "as files"])
def test_the_search_finds_a_word(page: Page, address: str, site: Path, opened: str) -> None:
    start = address if opened == "from a server" else site.as_uri()
    look(page, DESK, "light")
    page.goto(f"{start}/index.html")
    page.get_by_role("searchbox").or_(page.get_by_placeholder("Search")).first.fill("stampede")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=stampede*")
    page.locator("#search-results li a").first.wait_for()
    page.locator("#search-results li a", has_text="05 · Races").first.click()
    page.wait_for_url("**/notebooks/05_races.html*")

    assert page.locator("h1").inner_text().startswith("05 · Races")


@needs_browser
def test_a_solution_is_seen_when_it_is_unfolded(page: Page, address: str) -> None:
    look(page, PHONE, "dark")
    page.goto(f"{address}/notebooks/05_races.html")
    folded = page.locator("details", has=page.locator("summary", has_text="Solution")).nth(1)
    code = folded.locator("pre")
    assert not code.is_visible()
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    code.wait_for(state="visible")

    assert "def release(redis, key, token):" in code.inner_text()


@needs_browser
def test_a_telephone_opens_the_list_of_pages_by_key_too(page: Page, address: str) -> None:
    look(page, PHONE, "light")
    page.goto(f"{address}/notebooks/05_races.html")
    button = page.get_by_role("button", name="All pages")
    assert button.get_attribute("aria-expanded") == "false"
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="06 · Missing TTL").first.wait_for(state="visible")

    assert button.get_attribute("aria-expanded") == "true"
