"""A real JupyterLab, as `make lab` starts it, driven in a real headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from labkit.audit.site import steady_port
from tests.helpers import is_listening, wait_until

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TOKEN = "test"
START_TIMEOUT = 60.0  # seconds
RUN_TIMEOUT = 120_000  # milliseconds, for a whole notebook
KERNEL_READY = "Python 3 (ipykernel) | Idle"  # in the status bar
INDICATOR = ".jp-Notebook-ExecutionIndicator"
PROMPT = ".jp-CodeCell .jp-InputPrompt"
WIDTH, HEIGHT = 1280, 900
CHROMIUM_FLAGS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# If another has taken the port, JupyterLab is to end, and not to look for a port of its own.
FLAGS = ["--ServerApp.port_retries=0"]
if sys.platform == "linux":  # paths are too long for sockets elsewhere
    FLAGS.append("--KernelManager.transport=ipc")  # nobody takes a kernel's ports, either
SETTINGS: dict[str, Any] = {
    # Long notebooks are drawn piece by piece otherwise, and what is not drawn is not looked at.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}


def find_browser() -> str | None:
    """Return the path of a Chromium on this machine."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def jupyterlab(dark: bool = False) -> Iterator[str]:
    """Run JupyterLab on a copy of the notebooks; yield its address, without a path.

    Args:
        dark: whether to use the dark theme.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "notebooks", folder / "notebooks")
        settings = SETTINGS | (
            {"@jupyterlab/apputils-extension:themes": {"theme": "JupyterLab Dark"}} if dark else {}
        )
        config = folder / "config" / "labconfig"
        config.mkdir(parents=True)
        (config / "default_setting_overrides.json").write_text(json.dumps(settings))
        port = steady_port()  # JupyterLab takes it some seconds later
        environment = os.environ | {
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_RUNTIME_DIR": str(folder / "run"),
        }
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "lab.py"), "--no-browser"]
            + [f"--port={port}", f"--IdentityProvider.token={TOKEN}", *FLAGS],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if not wait_until(lambda: is_listening(port), START_TIMEOUT):
                raise TimeoutError("JupyterLab did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


@contextmanager
def page_of(browser_path: str) -> Iterator[Page]:
    """Yield a page of a fresh headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        yield page
        browser.close()


def open_notebook(page: Page, address: str, path: str | None = None) -> None:
    """Open a notebook, or what JupyterLab opens by itself, and wait for its kernel."""
    # With "reset", no notebook of an earlier visit is open beside it.
    page.goto(f"{address}/{f'lab/tree/{path}?reset&' if path else '?'}token={TOKEN}")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.get_by_text(KERNEL_READY).wait_for(timeout=60_000)


def run_all(page: Page) -> None:
    """Clear every output, run every cell, and wait until the last has ended."""
    choose(page, "Edit", "Clear Outputs of All Cells")
    page.wait_for_function(
        f"() => [...document.querySelectorAll('{PROMPT}')].every(e => e.innerText === '[ ]:')"
    )
    choose(page, "Run", "Run All Cells")
    # Every code cell has its number, and the kernel rests.
    page.wait_for_function(
        f"""() => document.querySelector('{INDICATOR}').dataset.status === 'idle'
            && [...document.querySelectorAll('{PROMPT}')]
                .every((e, n) => e.innerText === `[${{n + 1}}]:`)""",
        timeout=RUN_TIMEOUT,
    )


def choose(page: Page, menu: str, item: str) -> None:
    """Choose an item from a menu, as a person would."""
    page.locator(".lm-MenuBar-item", has_text=menu).first.click()
    page.locator(".lm-Menu-item", has_text=item).first.click()


def code_prompts(page: Page) -> list[str]:
    """Return what stands before each code cell: "[3]:", "[*]:" or "[ ]:"."""
    return page.locator(PROMPT).all_inner_texts()


def screenshots(page: Page, folder: Path, name: str) -> list[Path]:
    """Save the open notebook as pictures, a screen at a time, from top to bottom."""
    folder.mkdir(parents=True, exist_ok=True)
    # The scrolling part of the notebook, whatever JupyterLab calls it.
    find = """() => [...document.querySelectorAll('.jp-NotebookPanel *')]
        .filter(e => e.scrollHeight > e.clientHeight + 50
            && getComputedStyle(e).overflowY.match(/auto|scroll/))
        .sort((a, b) => b.scrollHeight - a.scrollHeight)[0]"""
    panel = page.evaluate_handle(find)
    height = int(panel.evaluate("e => e.scrollHeight"))
    step = int(panel.evaluate("e => e.clientHeight"))
    saved = []
    for number, top in enumerate(range(0, height, step)):
        panel.evaluate("(e, top) => { e.scrollTop = top }", top)
        page.wait_for_timeout(200)
        path = folder / f"{name}-{number:02}.png"
        page.screenshot(path=path)
        saved.append(path)
    return saved
