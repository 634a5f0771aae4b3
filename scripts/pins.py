"""Choose versions: writes constraints.txt for every Python and platform, and environment.yml.

What `make pins` runs. uv resolves for Python 3.11 and up, and all platforms, in one file, which
pip reads as constraints. environment.yml is for conda and Binder: the same packages at the same
versions, through pip, so that there is one set of pins. Then, and alone with `--check`, uv resolves
each Python and platform from those pins, from wheels only, without installing anything.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
HEADER = "# Written by `make pins`. Do not edit: change pyproject.toml and run it again.\n"


PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = (
    "x86_64-manylinux_2_28",
    "aarch64-manylinux_2_28",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
)


def main() -> int:
    """Write both files, unless only a check is asked for; return how many checks fail."""
    parser = argparse.ArgumentParser(description="Choose versions, and check that they suffice.")
    parser.add_argument("--check", action="store_true", help="only check: write nothing")
    if not parser.parse_args().check:
        write()
    return check()


def write() -> None:
    """Resolve, and write both files."""
    resolved = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--upgrade"]
        + ["--no-header", "--no-annotate", "--python-version=3.11", "--all-extras"]
        + ["pyproject.toml"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pins = "".join(f"{line}\n" for line in resolved.splitlines() if " @ " not in line)
    (ROOT / "constraints.txt").write_text(HEADER + pins)
    (ROOT / "environment.yml").write_text(environment(pins))


def check() -> int:
    """Print, for each Python and platform, whether the pins suffice; return how many do not."""
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    versions = {line.partition(" ;")[0] for line in pinned}
    failures = 0
    for python, platform in itertools.product(PYTHONS, PLATFORMS):
        problem, found = _resolve(python, platform)
        if loose := sorted(found - versions):
            problem = f"not pinned: {', '.join(loose)}"
        failures += bool(problem)
        print(f"Python {python}  {platform:22}  {problem or f'{len(found)} wheels'}", flush=True)
    return failures


def _resolve(python: str, platform: str) -> tuple[str, set[str]]:
    """Return what keeps pip from installing there, if anything, and which pins it would install."""
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [sys.executable, "-m", "uv", "pip", "install", "--dry-run", f"--target={empty}"]
            + [f"--python-version={python}", f"--python-platform={platform}"]
            + ["--only-binary=:all:", "--constraints=constraints.txt"]
            + ["--requirements=pyproject.toml", "--all-extras"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        return " ".join(done.stderr.partition("error: ")[2].split()), set()
    lines = [line.strip() for line in done.stderr.splitlines()]
    return "", {line.removeprefix("+ ") for line in lines if line.startswith("+ ")}


def environment(pins: str) -> str:
    """Return environment.yml: pyproject.toml's packages, at the versions of constraints.txt."""
    names = {Requirement(line).name.lower() for line in direct_requirements()}
    direct = [line for line in pins.splitlines() if Requirement(line).name.lower() in names]
    lines = [
        HEADER.rstrip(),
        "name: query-caches",
        "channels:",
        "  - conda-forge",
        "dependencies:",
        "  - python=3.12",
        "  - pip",
        "  - pip:",
        "      - -c constraints.txt",
        *(f'      - "{extras(pin)}"' for pin in direct),
        "      - -e .[lab]",
    ]
    return "\n".join(lines) + "\n"


def extras(pin: str) -> str:
    """Return a pin with the extras that pyproject.toml asks of the package."""
    requirement = Requirement(pin)
    for line in direct_requirements():
        asked = Requirement(line)
        if asked.name.lower() == requirement.name.lower():
            requirement.extras |= asked.extras
    return str(requirement).replace('"', "'")


def direct_requirements() -> list[str]:
    """Return every requirement that pyproject.toml names, but for labkit itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines: list[str] = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        lines += extra
    return [line for line in lines if Requirement(line).name != "labkit"]


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
