"""Wrong answers to the exercises of lesson 00: exercise, answer, words of its message."""

from __future__ import annotations

from typing import Any

WRONG: list[tuple[str, Any, str]] = [
    ("00.1", 4, "one statement a call"),
    ("00.1", 1, "all four asked the same"),
    ("00.1", 2, "still in Redis"),
    ("00.1", 5, "Write the four keys down"),
    ("00.1", "3", "whole number"),
    ("00.1", True, "whole number"),
    ("00.1", None, "whole number"),
    ("00.2", lambda hits, misses: misses / max(1, hits + misses), "gave 0.2"),
    ("00.2", lambda hits, misses: hits / misses if misses else 1.0, "gave 4.0"),
    ("00.2", lambda hits, misses: 100 * hits / (hits + misses), "gave 80.0"),
    ("00.2", lambda hits, misses: 1 - misses / max(1, hits + misses), "before the first"),
    ("00.2", lambda hits, misses: round(hits / max(1, hits + misses), 1), "gave 0.7"),
    ("00.2", lambda hits, misses: None, "end with `return`"),
    ("00.2", 0.8, "a function is asked for"),
]
