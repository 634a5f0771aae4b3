"""A second module, with a function whose name another module has too."""

from __future__ import annotations

from labkit.audit.site import current


def region_of(user: int) -> str:
    """Return another answer than the function of the same name in `questions`."""
    return f"{current().region(user)}, says another module"
