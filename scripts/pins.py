"""Choose versions: writes constraints.txt for every Python and platform, and environment.yml.

What `make pins` runs. uv resolves for Python 3.11 and up, and all platforms, in one file, which
pip reads as constraints. environment.yml is for conda and Binder: the same packages at the same
versions, through pip, so that there is one set of pins.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
HEADER = "# Written by `make pins`. Do not edit: change pyproject.toml and run it again.\n"


def main() -> None:
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
        "      - -e .",
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
    main()
