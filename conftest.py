"""Seed the shop once, before notebooks run: none of them then shows a progress bar."""

from __future__ import annotations

import os

import pytest
from hypothesis import Phase, settings

import labkit

# For `make mutations`: that a test fails is enough to know, and the smallest case can take minutes.
settings.register_profile("mutations", phases=[Phase.explicit, Phase.generate])
# For a long run by hand of tests/test_query_cache_model.py; HYPOTHESIS_EXAMPLES says how long.
settings.register_profile(
    "long",
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "2000")),
    stateful_step_count=50,
    phases=[Phase.explicit, Phase.generate],
    print_blob=True,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start a lab of the default size in the process that leads the others, and close it."""
    if not hasattr(session.config, "workerinput"):
        labkit.start().close()
