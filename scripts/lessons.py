"""What each lesson's notebook says in the same way: its title, and what its pictures show."""

from __future__ import annotations

import re

from nbformat import NotebookNode

DESCRIPTION = re.compile(r"\*The picture: (.+?)\*", re.DOTALL)  # in the cell below a picture


def lesson_title(notebook: NotebookNode) -> str:
    """Return what a lesson is called, by its first heading: `# 05 · Races` is "Races"."""
    return str(notebook.cells[0].source.partition("\n")[0].partition(" · ")[2])
