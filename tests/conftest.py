"""Every SELECT that a test sends to SQLite is a test of `tables_read`, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.witness import Witness


@pytest.fixture(autouse=True)
def _witnessed() -> Iterator[None]:
    with Witness() as witness:
        yield
    assert witness.missed == []
