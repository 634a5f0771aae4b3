"""A cache in each worker's own memory, which forgets what a message on a channel names.

Redis forgets a message as soon as it is sent: who is not connected does not get it.
(https://redis.io/docs/latest/develop/pubsub/, "at-most-once")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

CHANNEL = "invalidate"


class LocalCache:
    """Entries in a dictionary. A message with an entry's name removes it."""

    def __init__(self, client: redis.Redis) -> None:
        self.entries: dict[str, Any] = {}
        self.messages = client.pubsub()
        self.messages.subscribe(CHANNEL)

    def get(self, name: str, load: Callable[[], Any]) -> Any:
        """Return the entry; where there is none, what `load` returns, and keep it."""
        self.read_messages()
        if name not in self.entries:
            self.entries[name] = load()
        return self.entries[name]

    def read_messages(self) -> None:
        """Remove what messages have named since the last look."""
        while message := self.messages.get_message():
            if message["type"] == "message":
                self.entries.pop(message["data"].decode(), None)


class CarefulLocalCache(LocalCache):
    """Forgets everything when its connection was lost, and keeps nothing until it hears again."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self.hears = False
        assert self.messages.connection is not None
        self.messages.connection.register_connect_callback(self.on_connect)

    def on_connect(self, connection: object) -> None:
        """Called by redis-py when it has connected anew: a message may have been lost."""
        self.entries.clear()
        self.hears = False

    def get(self, name: str, load: Callable[[], Any]) -> Any:
        """Return the entry; where there is none, what `load` returns, and keep it if it hears."""
        value = super().get(name, load)
        if not self.hears:
            self.entries.clear()
        return value

    def read_messages(self) -> None:
        """Remove what messages have named; Redis' first one says that it will send more."""
        while message := self.messages.get_message():
            if message["type"] == "subscribe":
                self.hears = True
            elif message["type"] == "message":
                self.entries.pop(message["data"].decode(), None)
