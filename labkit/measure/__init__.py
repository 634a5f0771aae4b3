"""What ran, how often, and how long it took."""

from labkit.measure import plots  # and no more: the process that sends a load starts sooner

__all__ = ["plots"]
