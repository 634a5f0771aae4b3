"""How much memory is free: of the machine, or what a container's limit leaves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from labkit.measure import memory
from labkit.measure.memory import GB, free_bytes, most_entries
from labkit.servers import RedisServer

REAL, FAKE = RedisServer("wheel", "Valkey", "9.1.2"), RedisServer("fake", "fakeredis", "2")
UNLIMITED_1 = 9_223_372_036_854_771_712  # what version 1 says where there is no limit


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of control groups in place of the machine's, which has 8 GB free."""
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "fs")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    machine = SimpleNamespace(available=8 * GB)
    monkeypatch.setattr("psutil.virtual_memory", lambda: machine)
    return tmp_path


def put(groups: Path, own: str, **folders: dict[str, object]) -> None:
    """Write what /proc/self/cgroup says, and groups: "_" stands for "/" in their folders."""
    (groups / "own").write_text(own)
    for name, files in folders.items():
        folder = groups / "fs" / name.replace("_", "/").strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file.replace("__", ".")).write_text(f"{content}\n")


def version_2(limit: object, used: int, files: int = 0) -> dict[str, object]:
    return {
        "memory__max": limit,
        "memory__current": used,
        "memory__stat": f"anon {used - files}\ninactive_file {files}",
    }


def version_1(limit: object, used: int, files: int = 0) -> dict[str, object]:
    return {
        "memory__limit_in_bytes": limit,
        "memory__usage_in_bytes": used,
        "memory__stat": f"inactive_file 1\ntotal_inactive_file {files}",
    }


def test_without_control_groups_it_is_what_the_machine_has(groups):
    assert free_bytes() == 8 * GB


def test_a_containers_limit_leaves_what_is_not_used_or_only_cached_files(groups):
    put(groups, "0::/\n", _=version_2(2 * GB, GB, files=GB // 4))

    assert free_bytes() == 1.25 * GB


@pytest.mark.parametrize("limit", ["max", 64 * GB])
def test_a_group_without_a_limit_or_with_one_above_the_machine_leaves_the_machines(groups, limit):
    put(groups, "0::/\n", _=version_2(limit, GB))

    assert free_bytes() == 8 * GB


def test_a_limit_may_be_that_of_a_group_above(groups):
    put(
        groups,
        "0::/user/hub\n",
        user=version_2(3 * GB, GB),
        user_hub=version_2("max", GB),
    )

    assert free_bytes() == 2 * GB


def test_the_tightest_of_several_limits_counts(groups):
    put(
        groups,
        "0::/user/hub\n",
        user=version_2(9 * GB, 3 * GB),
        user_hub=version_2(2 * GB, GB),
    )

    assert free_bytes() == GB


def test_in_a_container_of_version_1_its_group_is_the_root_of_what_it_sees(groups):
    own = "5:cpu:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n"
    put(groups, own, memory=version_1(2 * GB, GB, files=GB // 2))

    assert free_bytes() == 1.5 * GB


def test_version_1_says_no_limit_by_a_large_number(groups):
    put(groups, "4:cpuset,memory:/\n", memory=version_1(UNLIMITED_1, GB))

    assert free_bytes() == 8 * GB


def test_a_path_that_leads_out_of_what_a_container_sees_is_not_followed(groups):
    (groups / "memory.max").write_text("1\n")
    (groups / "memory.current").write_text("1\n")
    (groups / "memory.stat").write_text("inactive_file 0\n")
    put(groups, "0::/../..\n", _=version_2(2 * GB, GB))

    assert free_bytes() == GB


def test_a_group_over_its_limit_leaves_nothing(groups):
    put(groups, "0::/\n", _=version_2(GB, 2 * GB))

    assert free_bytes() == 0


@pytest.mark.parametrize(
    ("server", "free", "most", "said"),
    [
        (REAL, 4 * GB, 1_000_000, "4 GB or more are free"),
        (REAL, 4 * GB - 1, 100_000, "3.9 GB are free, less than 4"),
        (REAL, GB // 2, 100_000, "0.5 GB are free, less than 4"),
        (FAKE, 8 * GB, 10_000, "fakeredis"),
    ],
)
def test_a_tag_has_as_many_entries_as_fit_and_it_is_said(
    monkeypatch, capsys, server, free, most, said
):
    monkeypatch.setattr(memory, "free_bytes", lambda: free)

    assert most_entries(server) == most
    printed = capsys.readouterr().out
    assert printed.startswith("Memory    ")  # as nbval_sanitize.cfg knows it
    assert printed.endswith(f": tags of up to {most:,} entries\n")
    assert said in printed
