"""Results of load tests: what is read is what was written, whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from labkit.errors import LabError
from labkit.measure.histogram import histogram
from labkit.measure.load import Load
from labkit.measure.results import NOT_SAVED, beside, keep, save, saved


def run(*milliseconds: int, seconds: float = 2.0) -> Load:
    times = histogram()
    for each in milliseconds:
        times.record_value(1000 * each)
    return Load(len(milliseconds), 0, 1, 4, seconds, times, times)


RUNS = {"no cache": run(10, 20), "all hits": run(1, 1, 1, 2)}


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "loads" / "mine.json"
    save(RUNS, file)
    again = saved(file)

    assert [*map(str, again.values())] == [*map(str, RUNS.values())]
    assert [*again] == [*RUNS]
    assert all(again[name].counts == RUNS[name].counts for name in RUNS)


def test_a_second_save_replaces_the_first_and_leaves_no_other_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    save(RUNS, file)
    save({"one": run(5)}, file)

    assert [*saved(file)] == ["one"]
    assert [*tmp_path.iterdir()] == [file]


def test_no_file_holds_no_runs(tmp_path: Path) -> None:
    assert saved(tmp_path / "none.json") == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": {"latency": "x"}}'])
def test_what_save_has_not_written_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text)

    with pytest.raises(LabError, match=r"mine\.json holds no results of a load test"):
        saved(file)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LabError, match="cannot be written"):
        save(RUNS, tmp_path / "file" / "mine.json")


def test_runs_stand_beside_those_of_the_same_name() -> None:
    table = beside({"all hits": run(1, 1, 1, 1), "new": run(7)}, RUNS)
    head, same, new = table.splitlines()

    assert head.split() == ["before", "now", "ratio", "p95", "before", "now"]
    assert same.split() == ["all", "hits", "2/s", "2/s", "×1.00", "2.0", "ms", "1.0", "ms"]
    assert new.split() == ["new", "–", "0/s"]


def test_nothing_that_was_answered_before_gives_no_ratio() -> None:
    assert "–" in beside({"a": run(1)}, {"a": run()})


# As the lesson does it: each run is held against the one before, whatever the disk says.


def test_a_run_is_kept_and_held_against_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"

    assert keep(RUNS, file) == "There is no earlier run to compare with."
    assert keep({"all hits": run(1, 1)}, file) == beside({"all hits": run(1, 1)}, RUNS)
    assert [*saved(file)] == ["all hits"]


def test_where_nothing_can_be_written_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept.json"
    save(RUNS, file)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", refuse)

    assert keep(RUNS, file) == beside(RUNS, RUNS) + "\n" + NOT_SAVED
    assert keep(RUNS, tmp_path / "none" / "kept.json").splitlines()[1:] == [NOT_SAVED]
    assert [*tmp_path.glob("*.json")] == [file]


def test_what_cannot_be_read_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    file.write_text("{")

    assert keep(RUNS, file) == "There is no earlier run to compare with."
    assert [*saved(file)] == [*RUNS]
