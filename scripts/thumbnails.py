"""Make a thumbnail of each lesson from the picture that its run has drawn, and the README's table.

    python -m scripts.thumbnails

`make notebooks` does it too. A thumbnail holds a digest of the picture that it was made from, and
is made anew only when that has changed: so another Pillow changes no file.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from labkit.measure.plots.style import PALETTE
from scripts.lessons import DESCRIPTION, lesson_title
from scripts.marks import parted
from scripts.minutes import measured

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FOLDER = ROOT / "docs" / "thumbnails"
SHOWN = 220  # pixels wide in the README; a file has twice as many, for screens that are fine
TINTS = (0.0, 0.5)  # of each of the lessons' colours: how much white is mixed in
GREYS = (255, 213, 160, 96, 34)
SOURCE = "Source"  # what the digest is called in a thumbnail's PNG
# Which picture stands for a lesson: words of the code that draws it, which no other cell has.
DRAWN_BY = {
    "00_start_here": "labkit.plots.calls(",
    "01_baseline_query": "The loop asks once for each user",
    "02_cache_decorator": "labkit.plots.speed_up(",
    "03_pickle": "labkit.plots.copies(",
    "04_key_collisions": "labkit.plots.promises(kept)",
    "05_races": "delete_after_commit.plot(",
    "06_missing_ttl": "labkit.plots.deadlines(busy)",
    "07_app_context": "labkit.plots.transaction(broken)",
    "08_lua_invalidation": "labkit.plots.bars(of_the_four",
    "09_versioned_invalidation": "labkit.plots.invalidation_cost(costs)",
    "10_statement_keys": "labkit.plots.promises(tried)",
    "11_load_test": "labkit.plots.by_hit_ratio(p95s",
    "12_choosing_a_backend": "labkit.plots.backends(",
    "13_production": "line.plot()",
    "14_capstone": "labkit.plots.scoreboard(",
}


@dataclass(frozen=True)
class Picture:
    """A lesson's picture.

    Attributes:
        lesson: the notebook's name.
        title: what its first heading says, without the number.
        png: the picture, as the run has drawn it.
        alt: what is to be seen on it, in a sentence or two.
    """

    lesson: str
    title: str
    png: bytes
    alt: str

    @property
    def file(self) -> Path:
        """Where its thumbnail is."""
        return FOLDER / f"{self.lesson[:2]}.png"

    @property
    def digest(self) -> str:
        """What tells whether a thumbnail is of this picture, and made in today's way."""
        way = f"{2 * SHOWN} {colours()} ".encode()
        return hashlib.sha256(way + self.png).hexdigest()[:16]


def pictures() -> Iterator[Picture]:
    """Give each lesson's picture.

    Raises:
        ValueError: if a notebook has no such cell, or several, or no picture there.
    """
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        yield picture_of(notebook, path.stem)


def picture_of(notebook: NotebookNode, lesson: str) -> Picture:
    """Return the picture that stands for a lesson.

    Raises:
        ValueError: if its notebook has no such cell, or several, or no picture there.
    """
    words, cells = DRAWN_BY[lesson], notebook.cells
    found = [n for n, cell in enumerate(cells) if words in cell.source]
    drawn = [
        output.data["image/png"]
        for n in found
        for output in cells[n].get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    if len(found) != 1 or len(drawn) != 1:
        raise ValueError(f"{lesson}: {len(found)} cells, {len(drawn)} pictures by {words!r}")
    described = DESCRIPTION.match(cells[found[0] + 1].source)
    alt = beginning(described[1]) if described else ""
    return Picture(lesson, lesson_title(notebook), base64.b64decode(drawn[0]), alt)


def beginning(text: str) -> str:
    """Return the first two sentences of a text, in one line."""
    sentences = re.split(r"(?<=\.) ", " ".join(text.split()))
    said = " ".join(sentences[:2])
    return said[0].upper() + said[1:]


def colours() -> list[int]:
    """Return the palette of thumbnails: greys, and the colours that mean something in lessons."""
    found = [part for grey in GREYS for part in (grey, grey, grey)]
    for name in PALETTE.values():
        for tint in TINTS:
            parts = (int(name[first : first + 2], 16) for first in (1, 3, 5))
            found += [round(part + tint * (255 - part)) for part in parts]
    return found


def thumbnail(png: bytes) -> Image.Image:
    """Return a picture in small, in a few colours."""
    with Image.open(io.BytesIO(png)) as picture:
        rgb = Image.new("RGB", picture.size, "white")
        rgb.paste(picture, mask=picture.convert("RGBA").getchannel("A"))
    width = 2 * SHOWN
    small = rgb.resize((width, round(rgb.height * width / rgb.width)), Image.Resampling.LANCZOS)
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours())
    return small.quantize(palette=palette, dither=Image.Dither.NONE)


def is_of(picture: Picture) -> bool:
    """Return whether a picture's thumbnail is there, and was made from it."""
    if not picture.file.exists():
        return False
    with Image.open(picture.file) as kept:
        return bool(kept.info.get(SOURCE) == picture.digest)


def write(picture: Picture) -> None:
    """Write a picture's thumbnail."""
    about = PngInfo()
    about.add_text(SOURCE, picture.digest)
    FOLDER.mkdir(parents=True, exist_ok=True)
    thumbnail(picture.png).save(picture.file, optimize=True, pnginfo=about)


def table(surprises: dict[str, str]) -> str:
    """Return the README's table of lessons, in Markdown.

    Args:
        surprises: what surprises in each lesson, by its number.
    """
    lines = [
        "| | lesson | minutes | with exercises | what surprises | its picture |",
        "| --- | --- | ---: | ---: | --- | --- |",
    ]
    for picture, minutes in zip(pictures(), measured(), strict=True):
        number, (reading, in_all) = picture.lesson[:2], minutes.stated
        lesson = f"[{picture.title}](notebooks/{picture.lesson}.ipynb)"
        alt = picture.alt.replace("|", "/").replace('"', "&quot;")
        shown = f'<img src="docs/thumbnails/{number}.png" width="{SHOWN}" alt="{alt}">'
        lines.append(
            f"| {number} | {lesson} | {reading} | {in_all} | {surprises[number]} | {shown} |"
        )
    return "\n".join(lines) + "\n"


def with_table(readme: str) -> str:
    """Return the README with its table anew. What surprises is taken from its present rows.

    Raises:
        ValueError: if it has no marks, or does not say what surprises in some lesson.
    """
    before, present, after = parted(readme, "lessons")
    surprises = surprises_in(present)
    missing = {name[:2] for name in DRAWN_BY} - set(surprises)
    if missing:
        raise ValueError(f"README.md does not say what surprises in lessons {sorted(missing)}")
    return f"{before}\n{table(surprises)}\n{after}"


def surprises_in(text: str) -> dict[str, str]:
    """Return what surprises in each lesson, as a table says it."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"\d\d", cells[0]):
            found[cells[0]] = cells[-2] if "<img" in cells[-1] else cells[-1]
    return found


def main() -> int:
    """Write the thumbnails that are not there, and the README's table."""
    for picture in pictures():
        if not is_of(picture):
            write(picture)
            print(f"{picture.file.relative_to(ROOT)}: {picture.file.stat().st_size:,} bytes")
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
