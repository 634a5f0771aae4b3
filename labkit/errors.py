"""The one exception that labkit raises for a mistake a person can mend."""

from __future__ import annotations


class LabError(Exception):
    """Something outside labkit is not as it should be.

    Its message is for people: what went wrong, then what to do, in one or two lines. In a
    notebook only that message is shown, not a traceback through labkit's files.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in place of a traceback (an IPython hook)."""
        return [f"LabError: {self}"]


class MissingExtra(LabError, ImportError):
    """A name of the course was asked for where only `labkit.cache` is installed.

    Args:
        name: what was asked for.
        error: which package could not be imported.
        extra: of labkit, which brings it.
    """

    def __init__(self, name: str, error: ModuleNotFoundError, extra: str = "lab") -> None:
        if (error.name or "").partition(".")[0] == "labkit":
            raise error  # labkit itself is broken: no extra would mend that
        super().__init__(
            f"{name} belongs to the course and needs {error.name}: pip install 'labkit[{extra}]'"
        )
