"""What the tables of timings are made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured.
        measured: the value, with its unit.
        target: what must be reached, in words; empty for a peer, which stands for comparison.
        reached: whether it was.
    """

    what: str
    measured: str
    target: str = ""
    reached: bool = True


def duration(work: Callable[[], object]) -> float:
    """Return how long one call takes, in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
