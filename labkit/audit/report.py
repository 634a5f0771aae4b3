"""What an audit has found, as text, HTML and JSON."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import Any

from labkit.audit.probe import FAIL, NOT_APPLICABLE, PASS, Row

MARKS = {PASS: "✓", FAIL: "✗", NOT_APPLICABLE: "–"}


@dataclass(frozen=True)
class Scoreboard:
    """The rows of one cache.

    Attributes:
        name: the cache's.
        rows: one a pitfall.
    """

    name: str
    rows: list[Row]

    @property
    def passes(self) -> bool:
        """Whether no row has failed."""
        return not self.failed

    @property
    def failed(self) -> list[str]:
        """The names of the probes that the cache has failed."""
        return [row.probe for row in self.rows if row.outcome == FAIL]

    @property
    def passed(self) -> list[str]:
        """The names of the probes that the cache has passed."""
        return [row.probe for row in self.rows if row.outcome == PASS]

    def summary(self) -> str:
        """Return the counts in a line."""
        counts = Counter(row.outcome for row in self.rows)
        words = {PASS: "pass", FAIL: "fail", NOT_APPLICABLE: "do not apply"}
        return ", ".join(f"{counts[each]} {word}" for each, word in words.items())

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, as JSON takes it."""
        return {
            "cache": self.name,
            "passes": self.passes,
            "rows": [dataclasses.asdict(row) for row in self.rows],
        }

    def __str__(self) -> str:
        width = max((len(row.title) for row in self.rows), default=0)
        lines = [
            f"{MARKS[row.outcome]} {row.lesson}  {row.title:<{width}}  {row.evidence}"
            for row in self.rows
        ]
        return "\n".join([f"{self.name}: {self.summary()}", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{MARKS[row.outcome]}</td><td>{row.lesson}</td>"
            f"<td style='text-align:left'>{escape(row.title)}</td>"
            f"<td style='text-align:left'>{escape(row.evidence)}</td></tr>"
            for row in self.rows
        )
        head = "<tr><th></th><th>lesson</th><th>what holds</th><th>what the run has shown</th></tr>"
        caption = f"<caption>{escape(self.name)}: {self.summary()}</caption>"
        return f"<table>{caption}<thead>{head}</thead><tbody>{rows}</tbody></table>"
