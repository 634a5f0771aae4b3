"""Kernels that are spoken to by sockets.

Over TCP, Jupyter looks for free ports and lets go of them, and the kernel takes them a moment
later: of many that start at once, one or two find theirs taken, and end.
"""

from __future__ import annotations

import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client.manager import KernelManager


@contextmanager
def kernel_manager(**options: Any) -> Iterator[Any]:
    """Give what starts a kernel, by sockets where the system has them.

    Args:
        options: of KernelManager.
    """
    if sys.platform == "win32":
        yield KernelManager(**options)
        return
    with tempfile.TemporaryDirectory(prefix="lk") as folder:
        yield by_sockets(folder, **options)


def by_sockets(folder: str, **options: Any) -> KernelManager:
    """Return what starts a kernel whose sockets lie in a folder.

    Args:
        folder: its path must be short, as those of sockets are.
        options: of KernelManager.
    """
    return KernelManager(
        transport="ipc", connection_file=f"{folder}/{uuid.uuid4().hex[:12]}.json", **options
    )
