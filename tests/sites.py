"""A web site in this process, on a loopback port, for tests of what sends requests."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

POLL = 0.02  # seconds between two looks at whether a site is to end; it is 0.5 by default


class Handler(BaseHTTPRequestHandler):
    """Keeps connections alive, and logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits 40 ms for the answer to its head

    def log_message(self, *_: Any) -> None:
        pass


class LocalSite(ThreadingHTTPServer):
    """Where it is, and a lock for what its handlers note."""

    daemon_threads = True
    request_queue_size = 64  # with five, the sixth who connects at once is let in a second later

    def __init__(self, handler: type[Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print a handler's error, unless its client has hung up: some do, and look at stderr."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


AnySite = TypeVar("AnySite", bound=LocalSite)


@contextmanager
def served(site: AnySite) -> Iterator[AnySite]:
    """Serve a site until the end of the `with` block."""
    with site:
        threading.Thread(target=site.serve_forever, args=(POLL,), daemon=True).start()
        yield site
        site.shutdown()
