"""The checklist of a Redis with a cache in it, and of the application that uses it, as code."""

from __future__ import annotations

import dataclasses
import textwrap
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import redis
from redis.exceptions import ResponseError

from labkit.errors import LabError
from labkit.operate.checks import SERVER_CHECKS, Verdict
from labkit.operate.clients import CLIENT_CHECKS, Held, clients_of
from labkit.operate.inspected import Inspected, NotLookedAt, why_not
from labkit.operate.table import cut

GOOD, MEND, NOT_LOOKED_AT = "good", "to mend", "not looked at"
MARKS = {GOOD: "✓", MEND: "✗", NOT_LOOKED_AT: "–"}
COLOURS = {GOOD: "#009E73", MEND: "#D55E00", NOT_LOOKED_AT: "inherit"}  # as in all pictures
CHECKS = (*SERVER_CHECKS, *CLIENT_CHECKS)


@dataclass(frozen=True)
class Line:
    """What has come of one check.

    Attributes:
        check: its name.
        outcome: "good", "to mend" or "not looked at".
        found: what was found; or why it was not looked at.
        why: why it is to be mended; else empty.
        how: how to mend it; else empty.
    """

    check: str
    outcome: str
    found: str
    why: str = ""
    how: str = ""

    @property
    def words(self) -> str:
        """What it says, in a line."""
        if self.outcome == NOT_LOOKED_AT:
            return f"not looked at: {self.found}"
        return f"{self.found}. Why: {self.why}. How: {self.how}" if self.why else self.found


@dataclass(frozen=True)
class Checklist:
    """The lines of one server, and perhaps one application.

    Attributes:
        server: its URL, without what is secret, and what it is.
        lines: one a check.
    """

    server: str
    lines: list[Line]

    @property
    def passes(self) -> bool:
        """Whether nothing is to be mended."""
        return not self.to_mend

    @property
    def to_mend(self) -> list[str]:
        """The names of the checks that have found something to mend."""
        return [line.check for line in self.lines if line.outcome == MEND]

    @property
    def was_looked_at(self) -> bool:
        """Whether anything could be looked at."""
        return any(line.outcome != NOT_LOOKED_AT for line in self.lines)

    def summary(self) -> str:
        """Return the counts in a line."""
        counts = Counter(line.outcome for line in self.lines)
        return ", ".join(f"{counts[outcome]} {outcome}" for outcome in MARKS)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, as JSON takes it."""
        lines = [dataclasses.asdict(line) for line in self.lines]
        return {"server": self.server, "passes": self.passes, "checks": lines}

    def as_text(self, width: int = 0) -> str:
        """Return a line for each check.

        Args:
            width: of the terminal, in letters, at which lines are wrapped; 0 for lines of any
                length.
        """
        names = max((len(line.check) for line in self.lines), default=0)
        lines = [f"{self.server}: {self.summary()}"]
        for line in self.lines:
            start = f"{MARKS[line.outcome]} {line.check:<{names}}  "
            text = start + line.words
            fits = not width or width < 2 * len(start)
            indent = " " * len(start)
            lines.append(text if fits else textwrap.fill(text, width, subsequent_indent=indent))
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.as_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return a table that takes its colours from the page, so that it reads on any."""
        left = "text-align:left;overflow-wrap:anywhere"
        rows = "".join(
            f"<tr><td style='{left};color:{COLOURS[line.outcome]};font-weight:bold' "
            f"title='{line.outcome}'>{MARKS[line.outcome]}</td>"
            f"<td style='{left};white-space:nowrap'>{escape(line.check)}</td>"
            f"<td style='{left}'>{escape(line.words)}</td></tr>"
            for line in self.lines
        )
        title = f"<strong>{escape(self.server)}</strong>: {escape(self.summary())}"
        style = "table-layout:auto;margin:0;max-width:100%"
        table = f"<table style='{style}'><tbody>{rows}</tbody></table>"
        return f"<p style='margin:0 0 0.5em'>{title}</p>{table}"


def checklist(
    url: str,
    app: str | None = None,
    *,
    ignore: Collection[str] = (),
    bound: int = 10_000,
    measured: int = 1_000,
    name: str = "",
) -> Checklist:
    """Look at a server, and an application, and say what to mend. The server is only read.

    Args:
        url: of one server; in a Cluster, of one node. Its password may be in REDISCLI_AUTH.
        app: the text `package.module:name` of a Flask application, or of what makes one. It is
            imported into this process, and does what it does when it starts.
        ignore: names of checks that are left out, such as "failover".
        bound: how many keys are looked at.
        measured: of how many of them the size is asked.
        name: what the server is called in place of its URL.

    Raises:
        LabError: the server or the application cannot be looked at, or there is no such check.
    """
    if unknown := [name for name in ignore if name not in CHECKS]:
        raise LabError(f"there is no check {unknown[0]!r}: there are {', '.join(CHECKS)}.")
    server = Inspected(url, bound, measured)
    try:
        held = None if app is None else clients_of(app)
        lines = list(_lines(server, held, ignore))
    except (redis.RedisError, OSError) as error:
        raise LabError(f"{server.shown} {why_not(error, server.options)}") from None
    finally:
        server.close()
    return Checklist(f"{name or server.shown} ({server.name})", lines)


def _lines(server: Inspected, held: list[Held] | None, ignore: Collection[str]) -> Iterator[Line]:
    for name, check in SERVER_CHECKS.items():
        yield _line(name, ignore, partial(check, server))
    if held is None:
        return
    for name, client_check in CLIENT_CHECKS.items():
        yield _line(name, ignore, partial(_of_clients, client_check, held, server))


def _of_clients(check: Callable[..., Verdict], held: list[Held], server: Inspected) -> Verdict:
    if not held:
        raise NotLookedAt("no client of redis-py was found in the application")
    return check(held, server)


def _line(name: str, ignore: Collection[str], check: Callable[[], Verdict]) -> Line:
    if name in ignore:
        return Line(name, NOT_LOOKED_AT, "ignored")
    try:
        verdict = check()
    except NotLookedAt as error:
        return Line(name, NOT_LOOKED_AT, str(error))
    except ResponseError as error:
        return Line(name, NOT_LOOKED_AT, f"the server answers with an error: {cut(str(error), 80)}")
    return Line(name, MEND if verdict.why else GOOD, verdict.found, verdict.why, verdict.how)
