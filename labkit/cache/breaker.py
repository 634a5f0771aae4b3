"""A circuit breaker: calls are spared while a server does not answer, and one finds out if it does.

Due to Nygard, "Release It!" (2007); see also https://martinfowler.com/bliki/CircuitBreaker.html
"""

from __future__ import annotations

import threading
import time


class Breaker:
    """Whether a server may be asked: after an error, one call in each pause, until one succeeds.

    Args:
        pause: how long nobody asks after an error, in seconds.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self._opened_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the last that was heard of the server is an error."""
        return self._opened_at is not None

    def allows(self) -> bool:
        """Whether this call may ask. After an error, `True` makes it the one that tries."""
        if self._opened_at is None:
            return True
        with self._lock:
            now = time.monotonic()
            if self._opened_at is not None and now < self._opened_at + self._pause:
                return False
            if self._opened_at is not None:
                self._opened_at = now  # the others go on sparing it meanwhile
            return True

    def failed(self) -> None:
        """Say that a call has failed."""
        with self._lock:
            self._opened_at = time.monotonic()

    def succeeded(self) -> None:
        """Say that a call has succeeded."""
        if self._opened_at is not None:
            with self._lock:
                self._opened_at = None
