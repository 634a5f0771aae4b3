"""How much memory is free: of this machine, or of the container that this process runs in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from labkit.servers import RedisServer

GB = 1_000_000_000  # bytes
ENOUGH = 4 * GB  # for a million entries, and for all else that a laptop has open
GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
# What a control group's files are called: its limit, what it uses, and in memory.stat, the part of
# that which is cached files and would be given up at once. (docs.kernel.org, cgroup-v1 and -v2)
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = ("memory.max", "memory.current", "inactive_file")


def most_entries(server: RedisServer) -> int:
    """Print and return how many entries a tag may have here, so that a small laptop does not swap.

    A million with 4 GB free, a hundred thousand with less; ten thousand on fakeredis, which is
    slow. What is free is looked at once: others who start at the same moment see the same.
    """
    free = free_bytes()
    if not server.is_real:
        most, why = 10_000, "is not asked for on fakeredis, which is slow"
    elif free >= ENOUGH:
        most, why = 1_000_000, "4 GB or more are free"
    else:
        most, why = 100_000, f"{free // (GB // 10) / 10:.1f} GB are free, less than 4"
    print(f"Memory    {why}: tags of up to {most:,} entries")
    return most


def free_bytes() -> int:
    """Return how much memory can still be had here without swapping, in bytes.

    It is what the machine has, or, in a container (Docker, a JupyterHub, Binder), what its limit
    leaves, if that is less.
    """
    machine: int = psutil.virtual_memory().available
    return max(0, min([machine, *_left_in_groups()]))


def _left_in_groups() -> Iterator[int]:
    """Give what each control group with a limit leaves to this process (Linux only), in bytes."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _left_above(GROUPS, path, VERSION_2)
        elif "memory" in controllers.split(","):
            yield from _left_above(GROUPS / "memory", path, VERSION_1)


def _left_above(root: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    """Look at a group and at all above it: a limit may be set on any of them.

    Within a container the path may be the one outside it. Then only the root is there, and is the
    container's own.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    limit, used, files = names
    for depth in range(len(parts) + 1):
        group = root.joinpath(*parts[:depth])
        try:
            allowed = int((group / limit).read_text())
            taken = int((group / used).read_text())
            statistics = dict(map(str.split, (group / "memory.stat").read_text().splitlines()))
        except (OSError, ValueError):  # not there, or "max": no limit
            continue
        yield allowed - taken + int(statistics.get(files, 0))
