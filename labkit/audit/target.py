"""What is audited: something that opens a cache, found by its name or given as it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from labkit.audit.adapter import Adapter, adapter_of, name_of
from labkit.audit.probe import one_line
from labkit.audit.site import Place
from labkit.errors import LabError
from labkit.named import named

LONGEST = 500  # letters of a message
URLS = ("REDIS_URL", "CACHE_REDIS_URL", "QUERY_CACHE_URL", "LABKIT_AUDIT_URL")


class NotAuditable(LabError):
    """There is nothing to audit, or it cannot be reached. The message says why."""


class Target:
    """A cache that can be opened again and again, in processes of its own.

    Args:
        given: an adapter or a decorator, or the text `package.module:name` that names one.
        invalidate: as of `labkit.audit.adapter.Decorator`; it may be such a text too.
    """

    def __init__(self, given: Any, invalidate: Any = None) -> None:
        self.given, self.invalidate = given, invalidate
        self.name = shown(given)

    def open(self, place: Place) -> Adapter:
        """Open the cache at a place. A module that is named is imported now, when REDIS_URL is set.

        This is for a process of the audit's own, as importing the module anew spoils any other.

        Raises:
            NotAuditable: there is no such module or name, or it cannot be called.
        """
        for name in URLS:
            os.environ[name] = place.url
        named = {package_of(each) for each in (self.given, self.invalidate)}
        forget_imported(named - {"", "labkit"})
        given, invalidate = found(self.given), found(self.invalidate)
        for value, meant in ((given, self.given), (invalidate, self.invalidate)):
            if value is not None and not callable(value):
                raise NotAuditable(f"{shown(meant)} is not callable.")
        make: Callable[[Place], Adapter] = adapter_of(given, invalidate)
        return make(place)


def shown(given: Any) -> str:
    """Return what messages call something: the text that names it, if it was given by one."""
    return given if isinstance(given, str) else name_of(given)


def package_of(given: Any) -> str:
    """Return the package that a text `package.module:name` is of; "" for anything else."""
    return given.partition(":")[0].partition(".")[0] if isinstance(given, str) else ""


def forget_imported(packages: set[str]) -> None:
    """Have packages imported anew: what is imported by now has read another REDIS_URL, or none.

    So it is under pytest, whose conftest.py may import the application.
    """
    for module in list(sys.modules):
        if module.partition(".")[0] in packages:
            del sys.modules[module]


def found(given: Any) -> Any:
    """Return what a text `package.module:name` names; anything else as it is.

    Raises:
        NotAuditable: there is no such module, or it has no such name.
    """
    if not isinstance(given, str):
        return given
    try:
        return named(given)
    except LabError as error:
        raise NotAuditable(one_line(str(error), LONGEST)) from None
