"""Operating a Redis with a cache in it: what it holds, what is hot or slow, and what to mend.

Everything here only reads: a test holds it to what the server itself has counted.
"""

from labkit.operate.acl import acl_line, acl_table
from labkit.operate.checklist import Checklist, checklist
from labkit.operate.hot import counted_keys, hot_keys
from labkit.operate.keyspace import keyspace
from labkit.operate.slow import latency, slow_commands
from labkit.operate.table import Table

__all__ = [
    "Checklist",
    "Table",
    "acl_line",
    "acl_table",
    "checklist",
    "counted_keys",
    "hot_keys",
    "keyspace",
    "latency",
    "slow_commands",
]
