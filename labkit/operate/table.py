"""A small table that reads well in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

LONGEST = 70  # letters of a cell


@dataclass(frozen=True)
class Table:
    """What was found, a line each.

    Attributes:
        title: what it is, and how much was looked at.
        columns: their names.
        rows: a value for each column; None where there is none.
        note: what is not to be known here, or how to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    note: str = ""

    def column(self, name: str) -> list[Any]:
        """Return the values of a column.

        Raises:
            ValueError: there is no such column.
        """
        return [row[self.columns.index(name)] for row in self.rows]

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the rows, as JSON takes them."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def __str__(self) -> str:
        lines = [self.title]
        if self.rows:
            cells = [self.columns, *([shown(value) for value in row] for row in self.rows)]
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
            right = self._right()
            lines += [_line(row, widths, right) for row in cells]
        return "\n".join([*lines, *filter(None, [self.note])])

    __repr__ = __str__

    def _right(self) -> list[bool]:
        """Return which columns have numbers."""
        return [
            any(isinstance(value, int | float) for value in values)
            for values in zip(*self.rows, strict=True)
        ]

    def _repr_html_(self) -> str:
        """Return a table that takes its colours from the page, so that it reads on any."""
        html = f"<p style='margin:0 0 0.5em'><strong>{escape(self.title)}</strong></p>"
        if self.rows:
            aligned = ["right" if right else "left" for right in self._right()]
            body = [_html("th", self.columns, aligned)]
            body += [_html("td", [shown(value) for value in row], aligned) for row in self.rows]
            style = "table-layout:auto;margin:0;max-width:100%"
            html += f"<table style='{style}'><tbody>{''.join(body)}</tbody></table>"
        return html + (f"<p>{escape(self.note)}</p>" if self.note else "")


def _line(cells: Sequence[str], widths: list[int], right: list[bool]) -> str:
    aligned = [
        cell.rjust(width) if numeric else cell.ljust(width)
        for cell, width, numeric in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(aligned).rstrip()


def _html(tag: str, cells: Sequence[str], aligned: list[str]) -> str:
    style = "overflow-wrap:anywhere;text-align:"
    return (
        "<tr>"
        + "".join(
            f"<{tag} style='{style}{side}'>{escape(cell)}</{tag}>"
            for cell, side in zip(cells, aligned, strict=True)
        )
        + "</tr>"
    )


def shown(value: Any) -> str:
    """Return a value as a cell shows it."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
    return cut(str(value), LONGEST)


def cut(text: str, longest: int) -> str:
    """Return a text in one line, without what a terminal would obey, and no longer than this."""
    text = "".join(each if each.isprintable() else "�" for each in " ".join(text.split()))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def in_bytes(number: float) -> str:
    """Return a number of bytes as people say it, in units of 1,024."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1024:
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} GB"
