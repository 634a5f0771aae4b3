"""An invalidation that Redis has acknowledged, and that a failover loses: made, counted, mended.

A master answers before its replicas have what it was told. If it dies then, and a replica takes
over that had not got it, the replica has the old entry and the old token: it counts.
(https://redis.io/docs/latest/operate/oss_and_stack/management/replication/)

    print(lost(lab))
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass

import redis

from labkit.cache import QueryCache, tokens
from labkit.lab import Lab
from labkit.servers.failover import NOT_MEASURED, Replicated, can_fail, replicated

ASKED = 20  # answers that are looked at after the failover
ENTRIES = 8  # of the QueryCache
TTL = 3_600  # seconds
SHORT_TTL = 2.5  # seconds: the failover is over long before
ACK_MS = 50  # milliseconds that a WAIT waits
PATIENCE_MS = 20_000  # milliseconds
ALONE, OTHER, WAITED, RENEWED, EXPIRED = (  # the names of the ways
    "tokens alone", "WAIT 1, another replica has it", "WAIT 1, none has it: owed",
    "tokens renewed (QueryCache)", "a TTL of 2.5 s",
)  # fmt: skip
TWO = "QueryCache, old master serves"
PRICES = {
    ALONE: "stale until the TTL ends",
    OTHER: "a WAIT each write",
    WAITED: "a WAIT each write, and one sent again",
    EXPIRED: "a miss each TTL",
    TWO: "until the old master is a replica",
}


class SmallCache:
    """One entry with a token, as lesson 09 builds it; the database is a number.

    Attributes:
        value: what the database has.
    """

    def __init__(self, client: redis.Redis, name: str, ttl: float = TTL) -> None:
        self.value = 1
        self._client, self._name, self._ttl = client, name, ttl

    def read(self) -> int:
        """Return the entry if it counts, else what the database has, and store that."""
        found = tokens.lookup(self._client, f"entry:{self._name}", self._name)
        if found.value is not None:
            return int(found.value)
        read = self.value
        key, stored = f"entry:{self._name}", str(read).encode()
        tokens.fill(self._client, key, stored, self._ttl, found, self._name)
        return read

    def write(self) -> None:
        """Write to the database, and invalidate: when it returns, the master has answered."""
        self.value += 1
        self.invalidate()

    def invalidate(self) -> None:
        """Replace the token."""
        tokens.invalidate(self._client, self._name)

    def stale(self, asked: int = ASKED) -> int:
        """Return how many of so many answers are not what the database has."""
        return sum(self.read() != self.value for _ in range(asked))


@dataclass
class Database:
    """What is true.

    Attributes:
        value: the answer to every question.
    """

    value: int = 1


class Renewed:
    """The same with `QueryCache` as it is: it renews a token at each server that it meets anew."""

    def __init__(self, client: redis.Redis, database: Database) -> None:
        self._database = database
        # Nothing here is about time-outs, and the machine may be busy.
        self._cache = QueryCache(client, namespace="renewed", timeout_ms=10_000, pause_ms=1)

        @self._cache.query(ttl=TTL, tags=("prices",), by_table=False, name="price")
        def price(number: int) -> int:
            return self._database.value

        self._price = price

    def write(self) -> int:
        """Write, and invalidate; return how many invalidations were not acknowledged."""
        self._database.value += 1
        before = self._cache.stats.owed
        self._cache.invalidate("prices")
        return self._cache.stats.owed - before

    def stale(self, asked: int = ASKED) -> int:
        """Return how many of so many answers are not what the database has."""
        answers = [self._price(number % ENTRIES) for number in range(asked)]
        return sum(answer != self._database.value for answer in answers)

    def misses(self) -> int:
        """Return how many answers were loaded since the last time."""
        found = self._cache.stats.misses
        self._cache.stats.reset()
        return found

    def close(self) -> None:
        """Stop watching writes."""
        self._cache.close()


@dataclass(frozen=True)
class Outcome:
    """What came of one way.

    Attributes:
        way: in words.
        told: what the writer has heard.
        stale: how many of `ASKED` answers were stale, right after the failover.
        then: the same, once what the way has for it was done.
        price: in words.
    """

    way: str
    told: str
    stale: int
    then: int
    price: str


@dataclass(frozen=True)
class Lost:
    """What came of all ways.

    Attributes:
        outcomes: by their names.
        stale_seconds: how long the entry with the short TTL was stale, from its fill on.
        misses: how many of the QueryCache's `ENTRIES` had to be loaded anew.
    """

    outcomes: dict[str, Outcome]
    stale_seconds: float
    misses: int

    @property
    def measured(self) -> bool:
        """Whether there was a Redis program to make fail."""
        return bool(self.outcomes)

    def __str__(self) -> str:
        if not self.measured:
            return NOT_MEASURED
        width = max(map(len, self.outcomes))
        lines = [f"{'':{width}}  {'the writer hears':16}  {'stale':>8}  {'mended':>8}  price"]
        lines += [
            f"{each.way:{width}}  {each.told:16}  {each.stale:2} of {ASKED}  {each.then:2} of "
            f"{ASKED}  {each.price}"
            for each in self.outcomes.values()
        ]
        return "\n".join(lines)


def lost(lab: Lab) -> Lost:
    """Lose the same invalidation in each way, by one failover, and return what came of them.

    Args:
        lab: the servers are of its Redis' kind. Where there is no Redis program, nothing is done.

    Raises:
        LabError: the servers do not come up.
    """
    if not can_fail(lab.server):
        return Lost({}, 0.0, 0)
    with replicated(lab.server) as group, ExitStack() as stack:
        client, database = group.client(), Database()
        small = {way: SmallCache(client, way) for way in (ALONE, OTHER, WAITED)}
        small[EXPIRED] = SmallCache(client, EXPIRED, SHORT_TTL)
        renewed = stack.enter_context(closing(Renewed(group.client(), database)))
        renewed.stale()
        for cache in small.values():
            cache.read()
        filled = time.monotonic()
        client.wait(len(group.replicas), PATIENCE_MS)  # all have everything
        heard = _write(group, client, small, renewed)
        renewed.misses()
        chosen, second = group.replicas
        group.fail_over(chosen)
        second.ask("REPLICAOF", *chosen.address)  # it is needed later

        short = small.pop(EXPIRED)
        short_stale, seconds = _last_stale(short, filled)
        asked: dict[str, SmallCache | Renewed] = {**small, RENEWED: renewed}
        stale = {way: each.stale() for way, each in asked.items()}
        small[WAITED].invalidate()  # what was owed is sent again, to the new master
        then = {way: each.stale() for way, each in asked.items()}
        misses = renewed.misses()
        prices = PRICES | {RENEWED: f"{misses} of {ENTRIES} entries miss once"}
        outcomes = [Outcome(way, heard[way], stale[way], then[way], prices[way]) for way in asked]
        outcomes += [Outcome(EXPIRED, "OK", short_stale, short.stale(), prices[EXPIRED])]
        outcomes += [_two_masters(group, renewed, database)]
        return Lost({each.way: each for each in outcomes}, seconds, misses)


def _write(
    group: Replicated, client: redis.Redis, small: Mapping[str, SmallCache], renewed: Renewed
) -> dict[str, str]:
    """Write in each way, while replicas get nothing of it; return what the writers have heard."""
    chosen, second = group.replicas
    group.cut(chosen)
    small[OTHER].write()
    got = {OTHER: client.wait(1, PATIENCE_MS)}
    group.cut(second)
    for way in (ALONE, EXPIRED, WAITED):
        small[way].write()
    got[WAITED] = client.wait(1, ACK_MS)  # WAIT is about this connection's writes, and is on it
    owed = renewed.write()
    heard = {way: f"OK, replicas: {counted}" for way, counted in got.items()}
    return heard | {ALONE: "OK", RENEWED: f"{owed} owed" if owed else "OK"}


def _two_masters(group: Replicated, reader: Renewed, database: Database) -> Outcome:
    """Promote a replica while the master lives on, and somebody goes on reading from that."""
    old, [new, *_] = group.master, group.replicas
    group.link(new)
    reader.stale()
    group.fail_over(new, kill=False)
    with closing(Renewed(group.client(), database)) as writer:
        owed = writer.write()
        stale = reader.stale()
        group.demote(old)
        return Outcome(TWO, f"{owed} owed" if owed else "OK", stale, reader.stale(), PRICES[TWO])


def _last_stale(cache: SmallCache, filled: float) -> tuple[int, float]:
    """Ask until an answer is right.

    Returns:
        How many of the first `ASKED` answers were not, and how long after the fill the last wrong
        one was asked for, in seconds.
    """
    stale, asked, last, deadline = 0, 0, 0.0, time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < deadline:
        now = time.monotonic()
        if cache.read() == cache.value:
            break
        asked, last = asked + 1, now - filled
        stale += asked <= ASKED
        time.sleep(0.002)
    return stale, last
