"""All caches on one table: what `make bench` ends with, and the picture that the README shows."""

from __future__ import annotations

from pathlib import Path

from labkit.audit import Scoreboard, audit
from labkit.audit.adapters import every_adapter
from labkit.audit.report import MARKS

PICTURE = Path(__file__).parents[1] / "docs" / "scoreboard.svg"


def main() -> None:
    """Audit every cache, print the table, and draw the picture."""
    boards = [audit(adapter) for adapter in every_adapter()]
    print("\n".join(table(boards)))
    draw(boards)
    print(f"Drawn: {PICTURE.relative_to(PICTURE.parents[1])}")


def table(boards: list[Scoreboard]) -> list[str]:
    """Return the lines of a table: a row a probe, by lesson; a column a cache; and the sums."""
    names = [row.probe for row in boards[0].rows]
    lessons = [row.lesson for row in boards[0].rows]
    columns = [name_and_version(board.name) for board in boards]
    first = max(map(len, [*names, *MARKS]))
    widths = [max(map(len, column)) for column in columns]

    def line(lesson: str, name: str, cells: list[str]) -> str:
        parts = [f"{cell:^{width}}" for cell, width in zip(cells, widths, strict=True)]
        return "  ".join([f"{lesson:2}", f"{name:{first}}", *parts]).rstrip()

    lines = [line("", "", [column[part] for column in columns]) for part in (0, 1)]
    for number, (lesson, name) in enumerate(zip(lessons, names, strict=True)):
        is_first = not number or lesson != lessons[number - 1]
        cells = [MARKS[board.rows[number].outcome] for board in boards]
        lines.append(line(lesson if is_first else "", name, cells))
    for outcome, mark in MARKS.items():
        counts = [sum(row.outcome == outcome for row in board.rows) for board in boards]
        lines.append(line(mark, outcome, [*map(str, counts)]))
    return lines


def name_and_version(name: str) -> tuple[str, str]:
    """Return a cache's name and its version, which is empty if it has none."""
    word, _, version = name.rpartition(" ")
    return (word, version) if version[:1].isdigit() else (name, "")


def draw(boards: list[Scoreboard], picture: Path = PICTURE) -> None:
    """Write the picture."""
    import matplotlib as mpl

    from labkit.measure.plots import scoreboard

    mpl.use("Agg")
    picture.parent.mkdir(exist_ok=True)
    rows = [(row.lesson, row.title) for row in boards[0].rows]
    outcomes = {board.name: [row.outcome for row in board.rows] for board in boards}
    scoreboard(rows, outcomes, picture)


if __name__ == "__main__":
    main()
