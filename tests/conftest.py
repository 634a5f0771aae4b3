"""What all tests share. Every SELECT that one sends to SQLite is a test of `tables_read`, too."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from labkit.errors import LabError
from labkit.servers import Keeper
from labkit.servers.redis import find_program
from tests.witness import Witness

os.environ["no_proxy"] = "127.0.0.1,localhost"  # what tests ask by themselves is on this machine


@pytest.fixture(autouse=True)
def _witnessed() -> Iterator[None]:
    with Witness() as witness:
        yield
    assert witness.missed == []


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    yield keeper
    keeper.close()


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have the labs of a file keep what they seed in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="module", params=["server", "wheel"])
def kind(request: pytest.FixtureRequest) -> str:
    """Give the kinds of Redis program that there are here, one after the other."""
    try:
        find_program(request.param)
    except LabError as error:
        pytest.skip(str(error).splitlines()[0])
    return str(request.param)
