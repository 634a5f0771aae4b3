"""Seed the shop once, before notebooks run: none of them then shows a progress bar."""

from __future__ import annotations

import pytest

import labkit


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start a lab of the default size in the process that leads the others, and close it."""
    if not hasattr(session.config, "workerinput"):
        labkit.start().close()
