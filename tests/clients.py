"""A client of a server of each kind, for fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from labkit import LabError
from labkit.servers import Keeper, start_redis

KINDS = ["server", "wheel", "fake"]


@contextmanager
def client_of(kind: str) -> Iterator[redis.Redis]:
    """Give a client of a server that ends with the `with` block; skip where there is no such."""
    keeper = Keeper()
    try:
        try:
            server = start_redis(kind, keeper)
        except LabError as error:
            pytest.skip(str(error).splitlines()[0])
        with server.connect() as client:
            yield client
    finally:
        keeper.close()
