"""Build the site of the executed lessons: what `make site` runs.

Sphinx, with MyST-NB and the theme Furo, makes it from copies in `build/site-source`, laid out as
the repository is. Nothing is executed, and nothing fetched. The copies have what a page needs, and
a notebook in JupyterLab does not: each picture its alternative text, each exercise its hints and
its solution, folded. A link to a file that is no page leads to a page that shows the file.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import importlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from sphinx.cmd.build import main as sphinx_build

from labkit.lessons import solution
from labkit.lessons.exercises import Exercise
from scripts.lessons import DESCRIPTION

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "docs" / "site"  # conf.py, and what it serves as it stands
TEXTS = ("README.md", "CONTRIBUTING.md", "data/README.md", "docs/*.md", "notebooks/*.md")
SENTENCE = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)
COLUMNS = re.compile(r"\S {2,}\S")
CHECKED = re.compile(r'^labkit\.check\("([\d.]+)"', re.MULTILINE)
LINK = re.compile(r"(?P<before>\]\(|\bsrc=\")(?P<target>[^)\s\"#]+)")
FENCED = re.compile(r"^ *(```+|~~~+).*?^ *\1", re.DOTALL | re.MULTILINE)
IMAGES = {".gif", ".jpg", ".png", ".svg", ".webp"}
LEXERS = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "bash"}


class SiteError(Exception):
    """A page cannot be made; the message says of what, and why."""


def main() -> int:
    """Build the site, and print where it is; return the exit status."""
    parser = argparse.ArgumentParser(description="Build the site of the executed lessons.")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "site", help="a folder")
    into: Path = parser.parse_args().into
    try:
        build(into)
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The site is in {_from_here(into)}: open {_from_here(into / 'index.html')}")
    return 0


def build(into: Path) -> None:
    """Build the site.

    Args:
        into: the folder of the site, which is replaced. So is one beside it, whose name ends with
            `-source`, for what the site is made from.

    Raises:
        SiteError: a page cannot be made, or Sphinx has an error or a warning.
    """
    source = into.with_name(f"{into.name}-source")
    for folder in (into, source):
        shutil.rmtree(folder, ignore_errors=True)
    write_source(source)
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--jobs=auto"]
    # What Sphinx keeps for the next time is no part of the site.
    kept = ["--doctree-dir", str(source / ".doctrees"), "--conf-dir", str(SETTINGS)]
    if sphinx_build(["--builder=html", *options, *kept, str(source), str(into)]):
        raise SiteError("Sphinx could not build the site: see above.")


def write_source(source: Path) -> None:
    """Write what Sphinx makes the site from.

    Raises:
        SiteError: a picture lacks its description, or a link leads nowhere.
    """
    pages = Pages(source)
    lessons = sorted((ROOT / "notebooks").glob("*.ipynb"))
    for path in lessons:
        notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        describe_pictures(notebook, path.name)
        wrap_sentences(notebook)
        fold_exercises(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = pages.linked(cell.source, path)
        nbformat.write(notebook, pages.place(path))  # type: ignore[no-untyped-call]
    texts = [path for pattern in TEXTS for path in sorted(ROOT.glob(pattern))]
    for path in texts:
        text = pages.linked(path.read_text(encoding="utf-8"), path)
        pages.place(path).write_text(text, encoding="utf-8")
    pages.write_files()
    readme = ROOT / "README.md"
    start = pages.linked(front_page(readme.read_text(encoding="utf-8")), readme)
    (source / "index.md").write_text(start + contents(lessons, texts, source), encoding="utf-8")


def describe_pictures(notebook: NotebookNode, name: str) -> None:
    """Give each picture the alternative text that MyST-NB asks of its cell.

    What a picture shows is told in the prose that follows it, for everybody. Its first sentence is
    the alternative text, so that nobody is read the whole of it twice.

    Raises:
        SiteError: a cell has several pictures, or no description follows it.
    """
    following = [*(cell.source for cell in notebook.cells[1:]), ""]
    for number, (cell, after) in enumerate(zip(notebook.cells, following, strict=True)):
        pictures = sum("image/png" in output.get("data", {}) for output in cell.get("outputs", ()))
        if not pictures:
            continue
        described = DESCRIPTION.match(after)
        if pictures > 1 or described is None:
            raise SiteError(f"{name}, cell {number}: one picture, and *The picture: ...* after it.")
        text = " ".join(described[1].replace("`", "").split())
        first = SENTENCE.match(text)
        told = first[0] if first else text
        alt = f"{told[0].upper()}{told[1:]} The text below describes it."
        cell.metadata["mystnb"] = {"image": {"alt": alt}}


def wrap_sentences(notebook: NotebookNode) -> None:
    """Tag the cells that print sentences, whose long lines may be wrapped, and no columns."""
    for cell in notebook.cells:
        printed = "".join(output.get("text", "") for output in cell.get("outputs", ()))
        if printed and not COLUMNS.search(printed):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "wraps"]


def fold_exercises(notebook: NotebookNode) -> None:
    """Put the hints and the solution of each exercise after the cell that checks it, folded."""
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "code":
            folded = "\n\n".join(map(folded_help, CHECKED.findall(cell.source)))
            if folded:
                cells.append(nbformat.v4.new_markdown_cell(folded))  # type: ignore[no-untyped-call]
    notebook.cells = cells


def folded_help(exercise_id: str) -> str:
    """Return the hints and the solution of an exercise as Markdown, each folded."""
    module = importlib.import_module(f"labkit.lessons.lesson_{exercise_id.partition('.')[0]}")
    exercise: Exercise = module.EXERCISES[exercise_id]
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        solution(exercise_id)
    blocks = [
        (f"Hint {number}", f"<p>{html.escape(hint)}</p>")
        for number, hint in enumerate(exercise.hints, 1)
    ]
    blocks.append(("Solution", f"```python\n{shown.getvalue().strip()}\n```"))
    return "\n\n".join(
        f"<details><summary>{title}<span> of exercise {exercise_id}</span></summary>\n\n"
        f"{text}\n\n</details>"
        for title, text in blocks
    )


@dataclass
class Pages:
    """The pages that Sphinx makes the site from, and the files that they link to.

    Attributes:
        source: the folder of the pages.
        shown: files of the repository that are no pages, and are linked to.
    """

    source: Path
    shown: set[Path] = field(default_factory=set)

    def place(self, path: Path) -> Path:
        """Return where a file of the repository is copied to, in a folder that is there."""
        copy = self.source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        return copy

    def linked(self, text: str, page: Path) -> str:
        """Return the Markdown of a page with its links as the site needs them.

        Images are copied. A link to a file that is no page becomes one to a page that shows it.

        Raises:
            SiteError: a link leads to nothing in the repository.
        """

        def link(found: re.Match[str]) -> str:
            if re.match(r"\w+:", found["target"]):
                return found[0]
            target = Path(os.path.normpath(page.parent / found["target"]))
            if not target.is_file() or not target.is_relative_to(ROOT):
                raise SiteError(f"{page.relative_to(ROOT)} links to {found['target']}: no file.")
            if target.suffix in IMAGES:
                shutil.copyfile(target, self.place(target))
            elif target.suffix not in (".ipynb", ".md"):
                self.shown.add(target)
                return found[0] + ".md"
            return found[0]

        parts = _around(FENCED, text)
        return "".join(part if code else LINK.sub(link, part) for part, code in parts)

    def write_files(self) -> None:
        """Write a page for each file that is linked to and is no page."""
        for path in sorted(self.shown):
            copy = self.place(path)
            name = path.relative_to(ROOT).as_posix()
            lexer = LEXERS.get(path.suffix, "text")
            page = f"---\norphan: true\n---\n\n# {name}\n\n````{lexer}\n{path.read_text()}\n````\n"
            copy.with_name(copy.name + ".md").write_text(page)


def front_page(readme: str) -> str:
    """Return the site's first page: what README says before its sections, and the lessons."""
    head, *sections = re.split(r"^(?=## )", readme, flags=re.MULTILINE)
    [lessons] = [section for section in sections if section.startswith("## The lessons\n")]
    return head + lessons


def contents(lessons: list[Path], texts: list[Path], source: Path) -> str:
    """Return the Markdown of the two tables of contents at the side of each page."""
    titles = {"README.md": "How to run it: the README", "data/README.md": "What the tables hold"}
    names = [path.relative_to(ROOT).with_suffix("").as_posix() for path in lessons]
    about = []
    for path in texts:
        name = path.relative_to(ROOT)
        title = titles.get(name.as_posix())
        page = name.with_suffix("").as_posix()
        about.append(f"{title} <{page}>" if title else page)
    return _toctree("Lessons", names) + _toctree("About", about)


def _toctree(caption: str, entries: list[str]) -> str:
    listed = "\n".join(entries)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"


def _around(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, bool]]:
    """Yield a text piece by piece, each with whether the pattern matches it."""
    end = 0
    for found in pattern.finditer(text):
        yield text[end : found.start()], False
        yield found[0], True
        end = found.end()
    yield text[end:], False


def _from_here(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    sys.exit(main())
