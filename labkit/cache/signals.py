"""What a cache says of itself, by blinker, as Flask does.

Each is sent with the cache as the sender, and with keywords: `name` of the function or "rows", its
`key` where there is one, and the `reason` of a bypass, a refused fill, an error, or of the loss of
L1; `tags` of an invalidation. A hit of L1 sends `l1_hit` beside `hit`. (https://flask.palletsprojects.com/en/stable/signals/)
"""

from __future__ import annotations

import logging
from typing import Any

from blinker import NamedSignal, Namespace

log = logging.getLogger("labkit.cache")
_signals = Namespace()

hit = _signals.signal("querycache-hit")
l1_hit = _signals.signal("querycache-l1-hit")
miss = _signals.signal("querycache-miss")
bypass = _signals.signal("querycache-bypass")
wait = _signals.signal("querycache-wait")
fill_refused = _signals.signal("querycache-fill-refused")
invalidated = _signals.signal("querycache-invalidated")
l1_lost = _signals.signal("querycache-l1-lost")
error = _signals.signal("querycache-error")


def say(signal: NamedSignal, sender: object, **about: Any) -> None:
    """Send a signal. A listener that raises is logged, and the next one is called."""
    if not signal.receivers:
        return
    for receiver in signal.receivers_for(sender):
        try:
            receiver(sender, **about)
        except Exception:
            log.exception("a listener of %s has failed", signal.name)
