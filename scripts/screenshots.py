"""Run notebooks in JupyterLab and save screenshots of them, to be looked at.

    python -m scripts.screenshots [--dark] [00_start_here ...]

The pictures go to test-artifacts/.
"""

from __future__ import annotations

import argparse
import sys

from tests.browser import (
    ROOT,
    find_browser,
    jupyterlab,
    open_notebook,
    page_of,
    run_all,
    screenshots,
)


def main() -> int:
    """Save the screenshots and print their names."""
    parser = argparse.ArgumentParser(description="Screenshots of notebooks in JupyterLab.")
    parser.add_argument("names", nargs="*", help="notebooks, without .ipynb; all by default")
    parser.add_argument("--dark", action="store_true", help="in JupyterLab's dark theme")
    arguments = parser.parse_args()
    browser = find_browser()
    if browser is None:
        print("No chromium on PATH: install it (Debian: apt install chromium).", file=sys.stderr)
        return 1
    found = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    with jupyterlab(arguments.dark) as address, page_of(browser) as page:
        for name in arguments.names or found:
            open_notebook(page, address, f"notebooks/{name}.ipynb")
            run_all(page)
            suffix = "-dark" if arguments.dark else ""
            for path in screenshots(page, ROOT / "test-artifacts", name + suffix):
                print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
