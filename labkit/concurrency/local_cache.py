"""A cache in each worker's own memory, which forgets what a message on a channel names.

Redis forgets a message as soon as it is sent: who is not connected does not get it.
(https://redis.io/docs/latest/develop/pubsub/, "at-most-once")

Run as a program, this is a worker with such a cache.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import create_engine, text

from labkit.servers.processes import Worker, read_task, worker

if TYPE_CHECKING:  # a worker starts sooner without
    from labkit.lab import Lab

MODULE = "labkit.concurrency.local_cache"
CHANNEL = "shop:invalidate"  # a channel belongs to the whole server, whatever the database
GREETING_TIMEOUT = 30.0  # seconds that Redis has to confirm a subscription


class LocalCache:
    """Entries in a dictionary. A message with an entry's name removes it."""

    def __init__(self, client: redis.Redis) -> None:
        self.entries: dict[str, Any] = {}
        self.messages: redis.client.PubSub = client.pubsub()  # type: ignore[no-untyped-call]
        self.messages.subscribe(CHANNEL)

    def get(self, name: str, load: Callable[[], Any]) -> Any:
        """Return the entry; where there is none, what `load` returns, and keep it."""
        while message := self.messages.get_message():
            self.receive(message)
        if name not in self.entries:
            self.entries[name] = load()
        return self.entries[name]

    def receive(self, message: dict[str, Any]) -> None:
        """Remove the entry that a message names."""
        if message["type"] == "message":
            self.entries.pop(message["data"].decode(), None)


class ForgetfulLocalCache(LocalCache):
    """Forgets everything when its connection was lost: a message may have been lost with it."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        assert self.messages.connection is not None
        self.messages.connection.register_connect_callback(self.on_connect)

    def on_connect(self, connection: object) -> None:
        """Called by redis-py when it has connected anew."""
        self.entries.clear()


class CarefulLocalCache(ForgetfulLocalCache):
    """Keeps nothing, either, until Redis has confirmed that it will send messages again."""

    hears = False

    def on_connect(self, connection: object) -> None:
        """Called by redis-py when it has connected anew."""
        super().on_connect(connection)
        self.hears = False

    def receive(self, message: dict[str, Any]) -> None:
        """Remove the entry that a message names; Redis' first one confirms the subscription."""
        super().receive(message)
        self.hears = self.hears or message["type"] == "subscribe"

    def get(self, name: str, load: Callable[[], Any]) -> Any:
        """Return the entry; where there is none, what `load` returns, and keep it if it hears."""
        value = super().get(name, load)
        if not self.hears:
            self.entries.clear()
        return value


@contextmanager
def local_workers(lab: Lab, count: int, user: int, careful: bool) -> Iterator[dict[str, Worker]]:
    """Run worker processes with caches of their own, by name. Ask one to be told a user's name.

    Args:
        lab: its Redis must be a real one, as other processes connect to it.
        count: how many. They are called "worker-1" and so on.
        user: the id of the user that they are asked for.
        careful: whether their caches are `CarefulLocalCache`s.

    Raises:
        LabError: the lab's Redis is simulated and cannot be shared.
    """
    task = {
        "redis": lab.redis_url, "database": lab.database_url, "user": user, "careful": careful,
    }  # fmt: skip
    names = [f"worker-{number}" for number in range(1, count + 1)]
    with ExitStack() as stack:
        yield {name: stack.enter_context(worker(MODULE, task)) for name in names}


def disconnect(client: redis.Redis, worker: Worker) -> None:
    """Have Redis end a worker's connection (CLIENT KILL), as a failover or a timeout does."""
    for each in client.client_list():
        if each["name"] == _client_name(worker.pid):
            client.client_kill_filter(_id=each["id"])


def _client_name(pid: int) -> str:
    return f"labkit-worker-{pid}"


def _wait_until_confirmed(cache: LocalCache) -> None:
    """Return when Redis has said that it will send messages: from then on none is lost.

    Raises:
        TimeoutError: it has not said so in time.
    """
    greeting = cache.messages.get_message(timeout=GREETING_TIMEOUT)
    if greeting is None:
        raise TimeoutError(f"Redis confirmed no subscription within {GREETING_TIMEOUT:g} s")
    cache.receive(greeting)


def main() -> None:
    """Be a worker: for each line, print the name of a user, out of its own cache."""
    task = read_task()
    retry = Retry(NoBackoff(), 3)  # a lost connection is made anew, without a word
    client = redis.Redis.from_url(task["redis"], client_name=_client_name(os.getpid()), retry=retry)
    engine = create_engine(task["database"])
    cache = (CarefulLocalCache if task["careful"] else LocalCache)(client)
    _wait_until_confirmed(cache)

    def load() -> str:
        with engine.connect() as connection:
            query = text("SELECT name FROM users WHERE id = :id")
            return str(connection.execute(query, {"id": task["user"]}).scalar_one())

    for _ in sys.stdin:
        print(cache.get(f"user:{task['user']}", load), flush=True)


if __name__ == "__main__":
    main()
