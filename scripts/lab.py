"""Open JupyterLab on the first lesson: what `make lab` runs."""

from __future__ import annotations

import os
import shutil
import sys
import webbrowser
from pathlib import Path

SETTINGS = Path(__file__).with_name("jupyterlab_settings.json")
FIRST_LESSON = "notebooks/00_start_here.ipynb"


def main() -> None:
    """Become JupyterLab, with the options that fit this machine."""
    # No news pop-up, no update check: nothing is fetched while you learn.
    overrides = Path(sys.prefix, "share", "jupyter", "lab", "settings", "overrides.json")
    overrides.parent.mkdir(parents=True, exist_ok=True)
    # In one step, for a JupyterLab that reads it meanwhile.
    copy = overrides.with_name(f"{overrides.name}.{os.getpid()}")
    shutil.copyfile(SETTINGS, copy)
    copy.replace(overrides)
    arguments = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--LabApp.default_url=/lab/tree/{FIRST_LESSON}",
    ]
    arguments += ["--LabApp.news_url=None"]
    arguments += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    arguments += ["--Application.log_level=WARN"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")
    if not _has_browser():
        arguments.append("--no-browser")
    arguments += sys.argv[1:]
    # So that `labkit` is found in JupyterLab's terminals.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.execv(sys.executable, arguments)


def _has_browser() -> bool:
    """Return whether a graphical browser can be opened here."""
    if sys.platform.startswith("linux") and "BROWSER" not in os.environ:
        if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
            return False  # what webbrowser would find then is a text browser
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


if __name__ == "__main__":
    main()
