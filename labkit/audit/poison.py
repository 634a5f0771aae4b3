"""Values that run code once they are unpickled, in the wrapping that a cache gives its own."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import os
import pickle
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

BEGINS = re.compile(rb"\x80[\x02-\x05]")  # a pickle, of protocol 2 to 5
PROTOCOLS = (0, 2, 4)
BASE64 = re.compile(rb"[A-Za-z0-9+/]{8,}={0,2}")
COMPRESSED = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08|BZh|\xfd7zXZ")  # as they begin
COMPRESSIONS: list[tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = [
    (zlib.decompress, zlib.compress),
    (gzip.decompress, gzip.compress),
    (bz2.decompress, bz2.compress),
    (lzma.decompress, lzma.compress),
]
WRAPPINGS = 2  # such as base64 around zlib
BIN8 = 0xC4  # msgpack: bytes, after a byte that says how many


class _Bomb:
    """What runs code when its pickle is read: it makes a folder."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)


def poisoned(value: bytes, path: Path) -> list[bytes]:
    """Return what a stranger may write in place of a value, if it holds a pickle somewhere.

    Args:
        value: as a cache has stored it: a pickle as it is, compressed, in base64, or within a
            message; or anything else.
        path: of the folder that is made if one of them is unpickled.
    """
    return [*_bombs(path), *_within(value, path, WRAPPINGS)]


def _bombs(path: Path) -> list[bytes]:
    return [pickle.dumps(_Bomb(path), protocol) for protocol in PROTOCOLS]


def _within(value: bytes, path: Path, wrappings: int) -> Iterator[bytes]:
    """Give the value with a bomb wherever a pickle begins in it, be it wrapped."""
    bomb = pickle.dumps(_Bomb(path), 2)
    for begin in BEGINS.finditer(value):
        yield _in_place(value, begin.start(), bomb)
    if not wrappings:
        return
    for begin in COMPRESSED.finditer(value):
        for decompress, compress in COMPRESSIONS:
            with suppress(Exception):  # of another kind, or none
                inner = decompress(value[begin.start() :])
                head = value[: begin.start()]
                yield from (head + compress(each) for each in _wrapped(inner, path, wrappings))
    for run in BASE64.finditer(value):
        with suppress(ValueError):
            inner = base64.b64decode(run[0], validate=True)
            for each in _wrapped(inner, path, wrappings):
                yield value[: run.start()] + base64.b64encode(each) + value[run.end() :]


def _wrapped(inner: bytes, path: Path, wrappings: int) -> Iterator[bytes]:
    if inner[-1:] == b".":  # a pickle ends so, one of protocol 0 as well
        yield from _bombs(path)
    yield from _within(inner, path, wrappings - 1)


def _in_place(value: bytes, begin: int, bomb: bytes) -> bytes:
    """Put a bomb where a pickle begins: to the end, or for as long as msgpack says."""
    if begin >= 2 and value[begin - 2] == BIN8 and len(bomb) < 256:
        end = begin + value[begin - 1]
        return value[: begin - 1] + bytes([len(bomb)]) + bomb + value[end:]
    return value[:begin] + bomb
