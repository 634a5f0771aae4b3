"""The `labkit` command: doctor and clean."""

from __future__ import annotations

import argparse
import sys

from labkit.errors import LabError, MissingExtra


def main(arguments: list[str] | None = None) -> int:
    """Run the `labkit` command.

    Args:
        arguments: the words after `labkit`; those of this process by default.

    Returns:
        The exit status: 0, or 1 where something is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="labkit", description="The workbench under the course on caching database queries."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="say what this machine has of what the course needs")
    commands.add_parser("clean", help="remove the seeded databases")
    try:
        return _run(parser.parse_args(arguments).command)
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 1


def _run(command: str) -> int:
    try:
        from labkit.doctor import doctor
        from labkit.shop.stored import remove_seeded
    except ModuleNotFoundError as error:
        raise MissingExtra(f"labkit {command}", error) from None

    if command == "doctor":
        return 1 if doctor() else 0
    removed = remove_seeded()
    print(f"Removed {', '.join(removed)}." if removed else "Nothing to remove.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
