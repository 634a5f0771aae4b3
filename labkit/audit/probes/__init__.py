"""The probes, in the order of the lessons that explain them.

Importing this package fills `labkit.audit.probe.PROBES`.
"""

from labkit.audit.probes import (
    contexts,
    copies,
    invalidation,
    keys,
    outages,
    races,
    ttl,
    values,
)

__all__ = ["contexts", "copies", "invalidation", "keys", "outages", "races", "ttl", "values"]
