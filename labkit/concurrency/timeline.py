"""A load that runs while Redis fails in five ways, and what its visitors have noticed.

    line = timeline(lab)
    print(line)
    line.plot()

Three shops are served at once: one on a single Redis, one behind Sentinels, one on a Cluster. Each
has its own load, an open loop of reads with some writes in it, which ends when hits have returned.
Then every question is asked again, and compared with the database. The Redis that is killed comes
back with a snapshot from before the load, whose entries count by its own tokens. The writes since
were all acknowledged, and none came while it was away.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from labkit.cache.settings import Settings
from labkit.concurrency.outage_shop import (
    BYPASS,
    HIT,
    MISS,
    NAMESPACE,
    READ,
    WRITTEN,
    Event,
    OutageShop,
    serve,
    too_old,
)
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.measure import plots
from labkit.measure.paced import Answered, Paced
from labkit.measure.plots.load import percentile
from labkit.measure.plots.timeline import Outage
from labkit.servers import Keeper
from labkit.servers.failover import (
    NEVER_MS,
    NOT_MEASURED,
    Clustered,
    Watched,
    can_fail,
    failing_program,
    start_alone,
    start_clustered,
    start_sentinels,
)
from labkit.servers.processes import comes_true

RATE = 40  # requests a second, of each load
WRITE_EACH = 10  # requests: one of so many is a write, until the fault is over
NOTICED = 0.3  # seconds after which whoever asks has noticed a fault
BEFORE = 0.8  # seconds of load before the fault
AFTER = 0.6  # seconds of load once hits have returned
AWAY = 0.8  # seconds that a Redis is killed or frozen for
QUIET = 0.1  # seconds without writes before one is killed
MOST_SECONDS = 40.0  # of one load, should hits not return
PATIENCE = 25.0  # seconds until it is said that hits have not returned, or what else is waited for
START_PATIENCE = 60.0  # seconds that a shop waits for the others to be served
ORDERS = 4  # of each shop: no two shops raise the same order's price
ROUNDS = 4  # how often the cache has to answer each question when all is quiet
TRIES = 10  # for each of these answers
PAUSE_SECONDS = Settings.pause_ms / 1000  # how long QueryCache spares a silent Redis
KILLED, FROZEN, EMPTIED, FAILOVER, TAKEOVER = (
    "killed", "frozen", "restarted empty", "Sentinel failover", "Cluster takeover",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """Something that happens to a Redis.

    Attributes:
        name: in words.
        begin: makes it happen.
        end: mends it, or waits until others have; returns when Redis serves again.
        seconds: between the two, and more on a busy machine: it ends when it was noticed.
        quiet: how long before its beginning the writes end, in seconds; None if it is they that
            notice it, and go on until it is over.
        prepare: called before the load.
        mends: whether `end` mends it. Else somebody else does, and there may be hits before it has
            returned.
    """

    name: str
    begin: Callable[[], object]
    end: Callable[[], object]
    seconds: float = 0.0
    quiet: float | None = None
    prepare: Callable[[], object] = lambda: None
    mends: bool = True


@dataclass(frozen=True)
class Episode:
    """What came of one fault. Times are seconds of one clock.

    Attributes:
        fault: its name.
        began: when the load did.
        begin: when the fault did.
        end: when Redis served again.
        back: when every worker that had hits before has had one again; None if it was not so.
        answers: all requests of the load.
        events: what the shop has noted.
        asked: how many questions were asked when all was quiet.
        hits: how many of those the cache has answered.
        stale: how many of those answers were not the database's.
        written: writes before this load.
    """

    fault: str
    began: float
    begin: float
    end: float
    back: float | None
    answers: list[Answered] = field(repr=False)
    events: list[Event] = field(repr=False)
    asked: int
    hits: int
    stale: int
    written: Sequence[Event] = field(default=(), repr=False)

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return len(self.answers)

    @property
    def failed(self) -> int:
        """How many of them were not answered with a status below 400."""
        return sum(not 0 < each.status < 400 for each in self.answers)

    @property
    def errors(self) -> int:
        """How many were answered with a status of 500 or more, or not at all."""
        return sum(each.status >= 500 or each.status == 0 for each in self.answers)

    @property
    def away_ms(self) -> float:
        """How long Redis was away, in milliseconds."""
        return 1000 * (self.end - self.begin)

    @property
    def back_ms(self) -> float:
        """How long after that hits returned, in milliseconds; infinite if they did not."""
        return math.inf if self.back is None else max(0.0, 1000 * (self.back - self.end))

    @property
    def p99(self) -> tuple[float, float, float]:
        """The p99 in milliseconds before the fault, from then until hits returned, and after.

        A request that was under way when the fault began is one of those in between.
        """
        back = math.inf if self.back is None else self.back
        parts: tuple[list[float], ...] = [], [], []
        for each in self.answers:
            is_before = each.due + each.seconds < self.begin
            parts[0 if is_before else 1 if each.due < back else 2].append(each.seconds)
        before, during, after = map(p99, parts)
        return before, during, after

    @property
    def slowest_ms(self) -> float:
        """How long the slowest request took, in milliseconds."""
        return 1000 * max(each.seconds for each in self.answers)

    @property
    def owed(self) -> int:
        """How many invalidations Redis did not take at once."""
        return _owed(self.events)

    @property
    def writes(self) -> int:
        """How many writes were committed and answered."""
        return sum(each.kind == WRITTEN for each in self.events)

    @property
    def too_old(self) -> int:
        """How many reads of the load gave less than a write that had been answered before."""
        return too_old([*self.written, *self.events])

    @property
    def lost(self) -> str:
        """Whether an invalidation was lost, so that an old answer came: "yes" or "none"."""
        return "yes" if self.stale or self.too_old else "none"


@dataclass(frozen=True)
class Timeline:
    """What came of all faults.

    Attributes:
        lanes: the episodes of each Redis, by its name.
    """

    lanes: dict[str, list[Episode]]

    @property
    def measured(self) -> bool:
        """Whether there was a Redis program to make fail."""
        return bool(self.lanes)

    def of(self, fault: str) -> Episode:
        """Return what came of a fault, by its name.

        Raises:
            KeyError: there was no such fault.
        """
        return {each.fault: each for each in self.episodes}[fault]

    @property
    def episodes(self) -> list[Episode]:
        """All of them."""
        return [each for lane in self.lanes.values() for each in lane]

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return sum(each.requests for each in self.episodes)

    @property
    def errors(self) -> int:
        """How many of them were answered with a 5xx, or not at all."""
        return sum(each.errors for each in self.episodes)

    @property
    def owed(self) -> int:
        """How many invalidations Redis did not take at once."""
        return sum(each.owed for each in self.episodes)

    @property
    def stale(self) -> int:
        """How many answers were not the database's, once all was quiet."""
        return sum(each.stale for each in self.episodes)

    @property
    def too_old(self) -> int:
        """How many reads under load gave less than a write that had been answered before."""
        return sum(each.too_old for each in self.episodes)

    @property
    def returned(self) -> bool:
        """Whether hits returned after each fault."""
        return all(each.back is not None for each in self.episodes)

    def __str__(self) -> str:
        if not self.measured:
            return NOT_MEASURED
        width = max(len(each.fault) for each in self.episodes)
        lines = [
            f"{'':{width}}            p99, in ms            in ms            invalidations  stale",
            f"{'':{width}}  requests  5xx  before  fault  after   away  hits back   owed  lost"
            "  answers",
        ]
        for each in self.episodes:
            before, during, after = each.p99
            lines.append(
                f"{each.fault:{width}}  {each.requests:8,}  {each.errors:3}  {before:6.0f}  "
                f"{during:5.0f}  {after:5.0f}  {each.away_ms:5,.0f}  {each.back_ms:9,.0f}  "
                f"{each.owed:2} of {each.writes:2}  {each.lost:4}  {each.stale} of {each.asked}"
            )
        return "\n".join(lines)

    def plot(self) -> None:
        """Draw the latency and the share of hits, with each fault where it was."""
        if not self.episodes:
            return
        began = min(each.began for each in self.episodes)
        plots.timeline(
            {
                name: [_drawn(each, began) for each in lane] for name, lane in self.lanes.items()
            }
        )  # fmt: skip


def _drawn(episode: Episode, began: float) -> Outage:
    """Return what is drawn of an episode, its times from the beginning of the time line on."""
    return Outage(
        name=episode.fault,
        begin=episode.begin - began,
        end=episode.end - began,
        back=None if episode.back is None else episode.back - began,
        latencies=[(each.due - began, 1000 * each.seconds) for each in episode.answers],
        answers=[
            (each.at - began, each.kind == HIT)
            for each in episode.events
            if each.kind in (HIT, MISS, BYPASS)
        ],
        errors=episode.errors,
        told=f"{episode.owed} of {episode.writes} owed\nlost: {episode.lost}",
    )


def p99(seconds: Sequence[float]) -> float:
    """Return, in milliseconds, what 99 % did not exceed (nearest rank); not a number of none."""
    return 1000 * percentile(Counter(seconds), 99) if seconds else math.nan


def timeline(lab: Lab) -> Timeline:
    """Run all faults under load, and return what came of them. It takes some 15 seconds.

    Args:
        lab: its database is served, and the servers are of its Redis' kind. Where there is no Redis
            program, nothing is done.

    Raises:
        LabError: something does not start.
    """
    if not can_fail(lab.server):
        return Timeline({})
    program = failing_program(lab.server)
    lanes = {"one Redis": _alone, "Sentinel": _watched, "Cluster": _clustered}
    together = threading.Barrier(len(lanes))
    keepers = [Keeper() for _ in lanes]  # here: what a thread starts may outlive its exception
    try:
        with ThreadPoolExecutor(len(lanes)) as pool:
            under_way = [
                pool.submit(_lane, lab, program, faults_of, keeper, number, together)
                for number, (keeper, faults_of) in enumerate(
                    zip(keepers, lanes.values(), strict=True)
                )
            ]
            try:
                return Timeline(
                    dict(zip(lanes, (each.result() for each in under_way), strict=True))
                )
            except BaseException:  # the others would go on for a while
                for keeper in keepers:
                    keeper.close()
                raise
    finally:
        for keeper in keepers:
            keeper.close()


FaultsOf = Callable[[Path, Keeper], tuple[object, list[Fault]]]


def _lane(
    lab: Lab,
    program: Path,
    faults_of: FaultsOf,
    keeper: Keeper,
    number: int,
    together: threading.Barrier,
) -> list[Episode]:
    try:
        told, faults = faults_of(program, keeper)
        shop = serve(lab, told, keeper, range(number * ORDERS + 1, (number + 1) * ORDERS + 1))
        with Paced(shop.url, RATE, keeper.directory) as sender:
            for question in shop.questions:
                shop.ask(question)
            compared(shop)  # until the cache has answered each of them
            together.wait(START_PATIENCE)
            return [_episode(shop, sender, fault) for fault in faults]
    except threading.BrokenBarrierError:
        raise LabError("another shop was not served.") from None
    except BaseException:
        together.abort()
        raise


def _episode(shop: OutageShop, sender: Paced, fault: Fault) -> Episode:
    first = len(shop.events())
    fault.prepare()
    reads = [shop.path(question) for question in shop.questions]
    mixed = _with_writes(shop)
    once, at_first = list[str](), mixed
    if fault.quiet is not None:
        once, at_first = mixed[: int(RATE * (BEFORE - fault.quiet))], []
    began = sender.begin(reads, MOST_SECONDS, once, at_first)
    _sleep_until(began + BEFORE)
    comes_true(lambda: _has_hits(shop.events()[first:], once), PATIENCE)
    workers = _pids([each for each in shop.events()[first:] if each.kind == HIT])
    begin = time.perf_counter()
    fault.begin()
    _sleep_until(begin + fault.seconds)
    if fault.seconds:
        comes_true(lambda: _is_noticed(shop.events()[first:], fault, begin), PATIENCE)
    mended = time.perf_counter()
    fault.end()
    end = time.perf_counter()
    sender.calm()
    back = _wait_for_hits(shop, workers, mended if fault.mends else end)
    time.sleep(AFTER)
    answers = sender.end()
    events = shop.events()[first:]
    written = [each for each in shop.events()[:first] if each.kind == WRITTEN]
    return Episode(
        fault.name, began, begin, end, back, answers, events, *compared(shop), written
    )  # fmt: skip


def _with_writes(shop: OutageShop) -> list[str]:
    """Return what is asked for in turn while there are writes: each order's price is raised."""
    questions, orders = shop.questions, shop.orders
    return [
        shop.write_path(orders[turn // WRITE_EACH % len(orders)])
        if turn % WRITE_EACH == WRITE_EACH // 2
        else shop.path(questions[turn % len(questions)])
        for turn in range(WRITE_EACH * len(orders))
    ]


def _has_hits(events: Sequence[Event], once: Sequence[str]) -> bool:
    """Whether there are hits, and all writes have ended that are sent once.

    Who owes an invalidation has none: so each worker must have had one since its last write.
    """
    written = {each.pid: each.at for each in events if each.kind == WRITTEN}
    hits = {each.pid: each.at for each in events if each.kind == HIT}
    ended = sum(each.kind == WRITTEN for each in events)
    wanted = sum(path.startswith("POST ") for path in once)
    owe = [pid for pid, at in written.items() if hits.get(pid, 0.0) < at]
    return bool(hits) and not owe and ended >= wanted


def _is_noticed(events: Sequence[Event], fault: Fault, begin: float) -> bool:
    """Whether reads were answered without Redis, and an invalidation is owed if anybody writes."""
    late = {each.kind for each in events if each.at > begin + NOTICED}
    owes = _owed(events) > 0 and any(each.kind == WRITTEN and each.at > begin for each in events)
    return {BYPASS, READ} <= late and (owes or fault.quiet is not None)


def _owed(events: Sequence[Event]) -> int:
    """Return how many invalidations Redis did not take at once."""
    written = [each for each in events if each.kind == WRITTEN]
    counts = [[each.owed for each in written if each.pid == pid] for pid in _pids(written)]
    return sum(max(own) - min(own) for own in counts)


def _wait_for_hits(shop: OutageShop, workers: set[int], since: float) -> float | None:
    """Return when the last of these workers had its first hit; None if one had none in time."""
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        hits = [each for each in shop.events() if each.kind == HIT and each.at >= since]
        if set() < workers <= _pids(hits):
            return max(min(hit.at for hit in hits if hit.pid == pid) for pid in workers)
        time.sleep(0.02)
    return None


def _pids(events: Sequence[Event]) -> set[int]:
    return {each.pid for each in events}


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.perf_counter()))


def compared(shop: OutageShop) -> tuple[int, int, int]:
    """Ask every question several times while nobody writes, and compare with the database.

    Where a busy machine has had Redis answer too late, the answer is the database's, and says
    nothing of the cache: then it is asked once more, after a while, and so on.

    Returns:
        How many answers of the cache were wanted, how many came, and how many were not right.
    """
    seen = len(shop.events())
    hits = wrong = 0
    for question in shop.questions * ROUNDS:
        for _ in range(TRIES):
            wrong += shop.ask(question) != shop.truth(question)
            new = shop.events()[seen:]
            seen += len(new)
            if any(each.kind == HIT for each in new):
                hits += 1
                break
            time.sleep(2 * PAUSE_SECONDS / TRIES)
    return ROUNDS * len(shop.questions), hits, wrong


# The faults of each Redis.


def _alone(program: Path, keeper: Keeper) -> tuple[object, list[Fault]]:
    group = start_alone(program, keeper)
    node = group.node
    snapshots: list[bytes] = []  # one from before the load: its entries are as they were then
    # The writes that the snapshot has not heard of are all acknowledged: none is owed meanwhile.
    killed = Fault(
        KILLED, node.kill, lambda: node.start(snapshots[-1]), AWAY, QUIET,
        prepare=lambda: snapshots.append(node.saved()),
    )  # fmt: skip
    frozen = Fault(FROZEN, node.freeze, node.thaw, AWAY)
    emptied = Fault(EMPTIED, node.kill, node.start, quiet=0.0)
    return group.told, [killed, frozen, emptied]


def _watched(program: Path, keeper: Keeper) -> tuple[object, list[Fault]]:
    group = start_sentinels(program, keeper, down_after_ms=NEVER_MS)
    return group.told, [_failover(FAILOVER, group)]


def _clustered(program: Path, keeper: Keeper) -> tuple[object, list[Fault]]:
    group = start_clustered(program, keeper, NAMESPACE, node_timeout_ms=NEVER_MS)
    return group.told, [_failover(TAKEOVER, group)]


def _failover(name: str, group: Watched | Clustered) -> Fault:
    """Return a fault that others mend: not before it begins, however still the master stands."""

    def begin() -> None:
        group.replace_the_dead()
        group.master.kill()

    return Fault(name, begin, group.wait_for_successor, AWAY, mends=False)
