"""Before notebooks run, seed the shop, so that none of them shows a progress bar.

They know nobody's progress: what this user has solved is neither shown nor changed by a test.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile

import nbval.kernel  # type: ignore[import-untyped]
import pytest
from hypothesis import Phase, settings

import labkit
from tests.kernels import by_sockets

# For `make mutations`: that a test fails is enough to know, and the smallest case can take minutes.
settings.register_profile("mutations", phases=[Phase.explicit, Phase.generate], deadline=None)
# For a long run by hand of tests/test_query_cache_model.py; HYPOTHESIS_EXAMPLES says how long.
settings.register_profile(
    "long",
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "2000")),
    stateful_step_count=50,
    phases=[Phase.explicit, Phase.generate],
    print_blob=True,
)
# How long one example takes is the machine's affair: a busy one would fail it.
settings.register_profile("labkit", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "labkit"))


collect_ignore_glob = ["notebooks/mine"]  # what `labkit reset` keeps for learners


def pytest_configure(config: pytest.Config) -> None:
    """Give this process, and the kernels that it starts, a folder for progress that is empty."""
    folder = tempfile.TemporaryDirectory(prefix="progress-")
    config.add_cleanup(folder.cleanup)
    os.environ["LABKIT_PROGRESS"] = folder.name
    if sys.platform == "linux":
        sockets = tempfile.TemporaryDirectory(prefix="lk")  # short: sockets have short paths
        config.add_cleanup(sockets.cleanup)
        nbval.kernel.KernelManager = functools.partial(by_sockets, sockets.name)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start a lab of the default size in the process that leads the others, and close it."""
    if not hasattr(session.config, "workerinput"):
        labkit.start().close()
