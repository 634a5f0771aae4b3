"""The matrix of notebooks, Redises and databases tells passed from failed, and from not run."""

from __future__ import annotations

from collections import Counter

import pytest

from scripts import matrix
from scripts.matrix import NOTEBOOKS, failed, missing, outcomes, table

REPORT = """<testsuites><testsuite>
<testcase classname="notebooks.{name}.ipynb" name="Cell 0"/>
<testcase classname="notebooks.{name}.ipynb" name="Cell 1"><failure message="no"/></testcase>
<testcase classname="notebooks.{name}.ipynb" name="Cell 2"><error message="no"/></testcase>
</testsuite></testsuites>"""


def test_outcomes_are_counted_by_notebook():
    counts = outcomes(REPORT.format(name=NOTEBOOKS[1]))

    assert counts[NOTEBOOKS[1]] == {"passed": 1, "failed": 2}
    assert counts[NOTEBOOKS[0]] == {}


@pytest.mark.parametrize(
    ("counts", "verdict"), [({"passed": 3}, False), ({"passed": 3, "failed": 1}, True), ({}, True)]
)
def test_a_notebook_that_was_not_run_has_failed(counts, verdict):
    assert failed(Counter(counts)) is verdict


def test_the_table_has_a_row_a_notebook_and_a_column_a_pair():
    lines = table({"wheel+postgres": outcomes(REPORT.format(name=NOTEBOOKS[1]))}).splitlines()

    assert lines[0].split() == ["wheel+postgres"]
    assert [line.split()[0] for line in lines[1:]] == NOTEBOOKS
    assert lines[2].endswith("2 failed")
    assert lines[1].endswith("0 failed")


def test_a_redis_that_is_not_there_is_said_and_left_out(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", ["matrix", "server+sqlite"])

    assert "PATH" in missing("server")
    assert missing("fake") == ""
    assert matrix.main() == 1  # nothing was run, so nothing has passed
    assert "server+sqlite: left out, " in capsys.readouterr().out


def test_a_column_that_does_not_exist_is_said_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["matrix", "server+oracle"])

    with pytest.raises(SystemExit) as ended:
        matrix.main()
    assert ended.value.code == 2
    assert "no such column: server+oracle" in capsys.readouterr().err
