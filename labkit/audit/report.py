"""What an audit has found, as text, HTML, JSON and JUnit's XML."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any
from xml.etree import ElementTree

from labkit.audit.probe import FAIL, NOT_APPLICABLE, PASS, Row
from labkit.measure.plots.style import PALETTE

MARKS = {PASS: "✓", FAIL: "✗", NOT_APPLICABLE: "–"}
COLOURS = {PASS: PALETTE["fixed"], FAIL: PALETTE["miss"], NOT_APPLICABLE: "inherit"}
WORDS = {PASS: "pass", FAIL: "fail", NOT_APPLICABLE: "do not apply"}
INDENT = " " * 6  # the width of a mark and a lesson


@dataclass(frozen=True)
class Scoreboard:
    """The rows of one cache.

    Attributes:
        name: the cache's.
        rows: one a pitfall.
        not_run: why there are none: this system cannot run the audit. Empty if it was run.
    """

    name: str
    rows: list[Row]
    not_run: str = ""

    @property
    def was_run(self) -> bool:
        """Whether the audit was run: what a claim on its rows passes as `measured`."""
        return not self.not_run

    @property
    def passes(self) -> bool:
        """Whether it was run, and no row has failed."""
        return self.was_run and not self.failed

    @property
    def failed(self) -> list[str]:
        """The names of the probes that the cache has failed."""
        return [row.probe for row in self.rows if row.outcome == FAIL]

    @property
    def passed(self) -> list[str]:
        """The names of the probes that the cache has passed."""
        return [row.probe for row in self.rows if row.outcome == PASS]

    def summary(self) -> str:
        """Return the counts in a line, or why there are none."""
        if self.not_run:
            return f"not run here: {self.not_run}"
        counts = Counter(row.outcome for row in self.rows)
        return ", ".join(f"{counts[each]} {word}" for each, word in WORDS.items())

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, as JSON takes it."""
        return {
            "cache": self.name,
            "passes": self.passes,
            "rows": [dataclasses.asdict(row) for row in self.rows],
        }

    def as_text(self, width: int = 0) -> str:
        """Return a table, aligned.

        Args:
            width: of the terminal, in letters: where a row has not the room, its evidence stands
                on the next line. 0 for rows of any length.
        """
        titles = max((len(row.title) for row in self.rows), default=0)
        longest = max((len(row.evidence) for row in self.rows), default=0)
        one_line = not width or len(INDENT) + titles + 2 + longest <= width
        lines = [f"{self.name}: {self.summary()}"]
        for row in self.rows:
            start = f"{MARKS[row.outcome]} {row.lesson}  "
            if one_line:
                lines.append(f"{start}{row.title:<{titles}}  {row.evidence}")
            else:
                lines += [f"{start}{row.title}", f"{INDENT}  {row.evidence}"]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.as_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return a table that takes its colours from the page, so that it reads on any."""
        title = f"<strong>{escape(self.name)}</strong>: {escape(self.summary())}"
        if not self.rows:
            return f"<p>{title}</p>"
        # JupyterLab centres tables, makes columns equally wide, and aligns cells at the right.
        style = "table-layout:auto;margin:0;max-width:100%"
        body = "".join(f"<tr>{''.join(_cells(row))}</tr>" for row in self.rows)
        table = f"<table style='{style}'><tbody>{body}</tbody></table>"
        return f"<p style='margin:0 0 0.5em'>{title}</p>{table}"


def _cells(row: Row) -> Iterator[str]:
    left = "text-align:left;overflow-wrap:anywhere"
    mark = f"color:{COLOURS[row.outcome]};font-weight:bold"
    yield f"<td style='{left};{mark}' title='{row.outcome}'>{MARKS[row.outcome]}</td>"
    yield f"<td style='{left}'>{escape(row.title)}</td>"
    yield f"<td style='{left}'>{escape(row.evidence)}</td>"
    yield f"<td style='{left};white-space:nowrap'>lesson {escape(row.lesson)}</td>"


def as_junit(name: str, rows: list[Row], error: str = "") -> bytes:
    """Return JUnit's XML: a test case for each row.

    Args:
        name: what was audited.
        rows: what has come of it.
        error: why it could not be run: a test case of its own then.
    """
    outcomes = Counter(row.outcome for row in rows)
    counts = {
        "tests": len(rows) + bool(error),
        "failures": outcomes[FAIL],
        "errors": int(bool(error)),
        "skipped": outcomes[NOT_APPLICABLE],
    }
    numbers = {key: str(count) for key, count in counts.items()}
    root = ElementTree.Element("testsuites", name="labkit audit")
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **numbers})
    for row in rows:
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=row.probe)
        if row.outcome == FAIL:
            failure = ElementTree.SubElement(case, "failure", type=FAIL, message=row.evidence)
            failure.text = in_words(row)
        elif row.outcome == NOT_APPLICABLE:
            ElementTree.SubElement(case, "skipped", message=row.evidence)
        else:
            ElementTree.SubElement(case, "system-out").text = row.evidence
    if error:
        case = ElementTree.SubElement(suite, "testcase", classname=name, name="audit")
        ElementTree.SubElement(case, "error", type="not auditable", message=error)
    ElementTree.indent(root)
    xml: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml + b"\n"


def in_words(row: Row) -> str:
    """Return what a row that is red says, where its title alone would say the contrary."""
    evidence = row.evidence.removesuffix(".")
    return f"It does not hold that {row.title}: {evidence} (lesson {row.lesson})."
