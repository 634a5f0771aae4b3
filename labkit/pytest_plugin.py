"""A pytest plugin: `pytest --labkit-audit PACKAGE.MODULE:NAME` adds a test for each probe.

Whoever has labkit installed loads this at each run of pytest. So it imports nothing of labkit, and
does nothing, unless the option is given.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from labkit.audit.probe import Probe
    from labkit.audit.target import Target

MARKER = "labkit_audit"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("labkit", "labkit: the audit of a cache")
    name = "PACKAGE.MODULE:NAME"
    group.addoption(
        "--labkit-audit",
        metavar=name,
        help="audit this decorator or labkit.audit.Adapter: a test for each probe, marked "
        f"{MARKER}, beside the tests that there are",
    )
    group.addoption(
        "--labkit-invalidate", metavar=name, help="what invalidates its entries: see `labkit audit`"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register what the option needs, if it is given.

    Raises:
        pytest.UsageError: only the other one is given, or a package is missing.
    """
    given = config.getoption("--labkit-audit")
    if given is None:
        if config.getoption("--labkit-invalidate") is not None:
            raise pytest.UsageError("--labkit-invalidate needs --labkit-audit")
        return
    try:
        from labkit.audit.target import Target
    except ModuleNotFoundError as error:
        raise pytest.UsageError(
            f"--labkit-audit needs {error.name}: pip install 'labkit[audit]'"
        ) from None

    config.addinivalue_line("markers", f"{MARKER}: a probe of --labkit-audit")
    target = Target(given, config.getoption("--labkit-invalidate"))
    config.pluginmanager.register(_Audit(target), "labkit-audit")


class _Audit:
    """The hooks of a run that audits.

    Args:
        target: what is audited.
    """

    def __init__(self, target: Target) -> None:
        self._target = target

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """See, once for all workers, that it can be audited: before any test runs."""
        from labkit.audit.run import first_call
        from labkit.errors import LabError

        if hasattr(session.config, "workerinput"):  # of pytest-xdist: who leads it has seen it
            return
        try:
            first_call(self._target)
        except LabError as error:
            raise pytest.UsageError(" ".join(str(error).split())) from None

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Collect the audit beside the files."""
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            audit = Probes.from_parent(collector, name="labkit-audit", nodeid=self._target.name)
            audit.target = self._target
            report.result.append(audit)
        return report


class Probes(pytest.Collector):
    """The probes of one target, as pytest collects them."""

    target: Target

    def collect(self) -> Iterator[pytest.Item]:
        """Give an item for each probe, in the order of the lessons."""
        from labkit.audit import every_probe

        for probe in every_probe():
            item = ProbeItem.from_parent(self, name=probe.name)
            item.probe, item.target = probe, self.target
            item.add_marker(MARKER)
            yield item


class ProbeItem(pytest.Item):
    """One probe, as a test."""

    probe: Probe
    target: Target

    def runtest(self) -> None:
        """Run it in a process of its own; fail with its evidence, and no traceback."""
        from labkit.audit.probe import FAIL, NOT_APPLICABLE
        from labkit.audit.report import in_words
        from labkit.audit.run import rows_of
        from labkit.errors import LabError

        try:
            [row] = rows_of(self.target, [self.probe])
        except LabError as error:
            pytest.fail(" ".join(str(error).split()), pytrace=False)
        if row.outcome == NOT_APPLICABLE:
            pytest.skip(row.evidence)
        if row.outcome == FAIL:
            pytest.fail(in_words(row), pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return what stands above a failure."""
        return self.path, None, f"{self.target.name}: {self.name}"
