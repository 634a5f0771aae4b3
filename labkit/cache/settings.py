"""The settings of a QueryCache: by argument, or by Flask's configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.cache.keys import NAMESPACE

PREFIX = "QUERY_CACHE_"
QUEUE, RAISE = "queue", "raise"


class SettingsError(ValueError):
    """A setting is missing or wrong. The message says which, and what it can be."""


@dataclass(frozen=True)
class Settings:
    """What can be set. In Flask's configuration each name is in capitals, after `QUERY_CACHE_`.

    Attributes:
        namespace: what every key begins with. In Redis Cluster it has a hash tag, such as {shop}.
        timeout_ms: the longest wait for Redis, in milliseconds.
        pause_ms: how long Redis is spared after an error, until it is tried again, in milliseconds.
        lease_ms: how long one caller may take to load for all, in milliseconds.
        jitter: the greatest part of a TTL that is taken off by chance: at least 0, below 1.
        mark_writes: whether a writer marks its tables before its COMMIT, so that one that crashes
            after it leaves no stale answer. It costs one more command for a transaction.
        mark_ms: how long such a mark counts, in milliseconds: longer than any COMMIT takes.
        failed_invalidation: "queue": an invalidation that Redis does not take is sent again until
            it does, and this process uses no entry meanwhile. "raise": it raises as well; with
            `mark_writes` before the COMMIT, which is then not sent.
        l1_entries: how many entries each process keeps by itself as well, in front of Redis; 0 for
            none.
        l1_bytes: the most memory that those take, in bytes.
        l1_stale_ms: the longest time that those are used without a proof that Redis' messages of
            what has changed arrive, in milliseconds.
    """

    namespace: str = "querycache"
    timeout_ms: int = 250
    pause_ms: int = 1_000
    lease_ms: int = 10_000
    jitter: float = 0.1
    mark_writes: bool = True
    mark_ms: int = 60_000
    failed_invalidation: str = QUEUE
    l1_entries: int = 0
    l1_bytes: int = 2**26
    l1_stale_ms: int = 100

    def __post_init__(self) -> None:
        for name in ("timeout_ms", "pause_ms", "lease_ms", "mark_ms", "l1_stale_ms"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= 3_600_000:
                raise _wrong(name, value, "a whole number of milliseconds, 1 to 3,600,000")
        for name in ("l1_entries", "l1_bytes"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise _wrong(name, value, "a whole number, 0 or more")
        if type(self.jitter) not in (int, float) or not 0 <= self.jitter < 1:
            raise _wrong("jitter", self.jitter, "a number of at least 0, below 1")
        if type(self.mark_writes) is not bool:
            raise _wrong("mark_writes", self.mark_writes, "True or False")
        if self.failed_invalidation not in (QUEUE, RAISE):
            raise _wrong("failed_invalidation", self.failed_invalidation, "'queue' or 'raise'")
        if not isinstance(self.namespace, str) or not NAMESPACE.fullmatch(self.namespace):
            raise _wrong("namespace", self.namespace, "letters, digits and . _ - { }")


def _wrong(name: str, value: object, right: str) -> SettingsError:
    return SettingsError(f"{PREFIX}{name.upper()} (or {name}=) is {right}, not {value!r}.")


def settings_from(**given: Any) -> Settings:
    """Return the settings that arguments give.

    Raises:
        SettingsError: one is unknown or wrong.
    """
    known = [each.name for each in dataclasses.fields(Settings)]
    for name in given:
        if name not in known:
            raise SettingsError(
                f"QueryCache has no setting {name!r} ({PREFIX}{name.upper()}). "
                f"It has {', '.join(known)}."
            )
    return Settings(**given)


def settings_of(config: Mapping[str, Any], name: str) -> tuple[str | None, Settings]:
    """Return the URL of Redis and the settings in a Flask application's configuration.

    Args:
        config: the application's.
        name: the application's, which is the namespace unless the configuration has another.

    Raises:
        SettingsError: one is unknown or wrong.
    """
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in config.items()
        if name.startswith(PREFIX)
    }
    url = given.pop("url", None)
    given.setdefault("namespace", name)
    return url, settings_from(**given)
