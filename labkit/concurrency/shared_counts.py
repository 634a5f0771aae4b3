"""What a QueryCache has counted in each worker of a web server, where other processes read it.

A worker's counts are in a file of its own, mapped into memory: to note a hit there is a store of
eight bytes, and costs a hit nothing that a load test could measure.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import Counter
from pathlib import Path

from labkit.cache.statistics import Statistics

NAMES = ("hits", "misses", "loads", "waits", "refused_fills", "bypasses")
NUMBER = struct.Struct("=Q")
SIZE = NUMBER.size * len(NAMES)
AT = {name: place * NUMBER.size for place, name in enumerate(NAMES)}
PATTERN = "counts-*"


class SharedStatistics(Statistics):
    """Counts as its base does, and shows what concerns readers in a file.

    Args:
        folder: where the file is made; its name ends with the process id.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        file = folder / PATTERN.replace("*", str(os.getpid()))
        file.write_bytes(bytes(SIZE))
        with file.open("r+b") as opened:
            self._shown = mmap.mmap(opened.fileno(), SIZE)
        self._loads = 0

    def count_hit(self) -> None:
        """Add one to the hits."""
        with self._lock:
            self.hits += 1
            NUMBER.pack_into(self._shown, AT["hits"], self.hits)

    def count(self, what: str, reason: str = "") -> None:
        """Add one to a count, or to one reason's count."""
        super().count(what, reason)
        if what in AT:
            with self._lock:
                counted = getattr(self, what)
                total = counted.total() if isinstance(counted, Counter) else counted
                NUMBER.pack_into(self._shown, AT[what], total)

    def count_load(self) -> None:
        """Take note that the cached function is called."""
        with self._lock:
            self._loads += 1
            NUMBER.pack_into(self._shown, AT["loads"], self._loads)


def counts(folder: Path) -> Counter[str]:
    """Return the counts of all workers, added up: by `NAMES`.

    Args:
        folder: where their files are.
    """
    total = Counter(dict.fromkeys(NAMES, 0))
    for file in folder.glob(PATTERN):
        data = file.read_bytes()
        for name, place in AT.items():
            total[name] += NUMBER.unpack_from(data, place)[0]
    return total
