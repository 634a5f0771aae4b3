"""Kernels that are spoken to by sockets.

Over TCP, Jupyter looks for free ports and lets go of them, and the kernel takes them a moment
later: of many that start at once, one or two find theirs taken, and end.
"""

from __future__ import annotations

import uuid
from typing import Any

from jupyter_client.manager import KernelManager


def by_sockets(folder: str, **options: Any) -> KernelManager:
    """Return what starts a kernel whose sockets lie in a folder.

    Args:
        folder: its path must be short, as those of sockets are.
        options: of KernelManager.
    """
    return KernelManager(
        transport="ipc", connection_file=f"{folder}/{uuid.uuid4().hex[:12]}.json", **options
    )
