"""The `labkit` command: doctor, clean and audit."""

from __future__ import annotations

import argparse
import sys

from labkit.errors import LabError, MissingExtra


def main(arguments: list[str] | None = None) -> int:
    """Run the `labkit` command.

    Args:
        arguments: the words after `labkit`; those of this process by default.

    Returns:
        The exit status: 0, or 1 where something is wrong. 2 where an audit could not be run.
    """
    wishes = _parser().parse_args(arguments)
    try:
        return _audit(wishes) if wishes.command == "audit" else _run(wishes.command)
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 2 if wishes.command == "audit" else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labkit", description="The workbench under the course on caching database queries."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="say what this machine has of what the course needs")
    commands.add_parser("clean", help="remove the seeded databases")
    audit = commands.add_parser(
        "audit",
        help="put a cache through every pitfall of the lessons",
        description="Put a cache through every pitfall of the lessons, on a Redis of the audit's "
        "own, whose URL is in REDIS_URL.",
        epilog="Exit status: 0 if no row fails, 1 if one does, 2 if the audit could not be run.",
    )
    name = "PACKAGE.MODULE:NAME"
    audit.add_argument("target", metavar=name, help="a decorator, or a labkit.audit.Adapter")
    audit.add_argument(
        "--invalidate",
        metavar=name,
        help="a function that is called as invalidate(cached, *args), or as invalidate(cached) "
        "for all entries of a cached function",
    )
    form = audit.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON in place of the table")
    form.add_argument("--junit", metavar="FILE", help="write JUnit's XML to a file as well")
    return parser


def _audit(wishes: argparse.Namespace) -> int:
    try:
        from labkit.audit import command
    except ModuleNotFoundError as error:
        raise MissingExtra("labkit audit", error, "audit") from None

    return command.run(command.Wishes(wishes.target, wishes.invalidate, wishes.json, wishes.junit))


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
