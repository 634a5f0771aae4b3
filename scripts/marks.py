"""A part of a page that `make notebooks` writes: it stands between two marks, which name it."""

from __future__ import annotations


def parted(page: str, name: str) -> tuple[str, str, str]:
    """Return what is before a part, the part, and what is after it. The marks are not of the part.

    Raises:
        ValueError: one of them is missing.
    """
    begin, end = f"<!-- {name}: written by `make notebooks` -->\n", f"<!-- /{name} -->"
    before, begun, rest = page.partition(begin)
    part, ended, after = rest.partition(end)
    if not (begun and ended):
        raise ValueError(f"the page lacks {begin.strip()} or {end}")
    return before + begin, part, end + after
