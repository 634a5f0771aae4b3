"""The audit: any cache, put through every pitfall of the lessons.

In the spirit of Maelstrom, which does it for distributed systems.
(https://github.com/jepsen-io/maelstrom)
"""

from labkit.audit import probes  # noqa: F401  (it fills PROBES)
from labkit.audit.adapter import Adapter, Decorator, DoesNotApply
from labkit.audit.notebook import ONE_A_LESSON, scoreboard
from labkit.audit.probe import PROBES, Row
from labkit.audit.report import Scoreboard
from labkit.audit.run import audit, every_probe
from labkit.audit.target import NotAuditable

__all__ = [
    "ONE_A_LESSON",
    "PROBES",
    "Adapter",
    "Decorator",
    "DoesNotApply",
    "NotAuditable",
    "Row",
    "Scoreboard",
    "audit",
    "every_probe",
    "scoreboard",
]
