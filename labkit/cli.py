"""The `labkit` command: doctor, clean, progress, reset, audit, load, acl and checklist."""

from __future__ import annotations

import argparse
import sys

from labkit.errors import LabError, MissingExtra

VISIT = "visit"  # the query parameter of a miss
WITH_STATUS_2 = ("audit", "acl", "checklist", "progress", "reset")  # where it cannot be done


def main(arguments: list[str] | None = None) -> int:
    """Run the `labkit` command.

    Args:
        arguments: the words after `labkit`; those of this process by default.

    Returns:
        The exit status: 0, or 1 where something is wrong. 2 where an audit, a checklist or an ACL
        could not be made, progress not read, or a notebook not restored.
    """
    wishes = _parser().parse_args(arguments)
    try:
        if wishes.command in ("acl", "checklist"):
            return _operate(wishes)
        if wishes.command in ("progress", "reset"):
            return _learn(wishes)
        if wishes.command == "audit":
            return _audit(wishes)
        return _load(wishes) if wishes.command == "load" else _run(wishes.command)
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 2 if wishes.command in WITH_STATUS_2 else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labkit", description="The workbench under the course on caching database queries."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="say what this machine has of what the course needs")
    commands.add_parser("clean", help="remove the seeded databases")
    progress = commands.add_parser(
        "progress",
        help="list the exercises that you have solved, and those that are open",
        description="List the exercises that you have solved, lesson by lesson, and those that are "
        "open. It is kept in your own folder for data, on this machine.",
    )
    progress.add_argument("--forget", action="store_true", help="forget all of it, and start over")
    _add_reset(
        commands.add_parser(
            "reset",
            help="restore a lesson's notebook, and keep yours aside",
            description="Restore a lesson's notebook as the course delivers it, from git. Yours is "
            "kept in the folder `mine` beside it, where no earlier one is overwritten.",
            epilog="Exit status: 0, or 2 if it cannot be restored.",
        )
    )
    audit = commands.add_parser(
        "audit",
        help="put a cache through the pitfalls of the lessons",
        description="Put a cache through the pitfalls of the lessons, on a Redis of the audit's "
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
    load = commands.add_parser(
        "load",
        help="send load to an application on this machine, and say how fast it answers",
        description="Send GET requests over kept-alive connections to an application on this "
        "machine, each connection again once it has its answer, and print how many were answered "
        "and how fast. No other machine is sent anything.",
        epilog="With --hits, the URL is asked for once before, which is not counted. Then so many "
        f"of all requests are for it, and each of the others carries a query parameter of its own, "
        f"{VISIT}=NUMBER. That is a miss only if your cache's key holds the query string, or the "
        "function that you cache takes that parameter. Exit status: 0 if all were answered with a "
        "status below 400, else 1.",
    )
    load.add_argument("url", metavar="URL", help="such as http://127.0.0.1:5000/report/US")
    load.add_argument("--hits", type=float, metavar="RATIO", help="from 0 to 1, such as 0.8")
    load.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="how long to send (%(default)g)"
    )
    load.add_argument(
        "--connections", type=int, default=4, metavar="N", help="how many at once (%(default)s)"
    )
    _add_acl(
        commands.add_parser(
            "acl",
            help="print the line of an ACL file for the user of a QueryCache",
            description="Print the line of an ACL file that gives a user what a QueryCache needs, "
            "and nothing else. A password is never printed, but its SHA-256, if you give one.",
        )
    )
    _add_checklist(
        commands.add_parser(
            "checklist",
            help="look at a Redis and an application, and say what to mend",
            description="Look at a Redis that holds a cache, and at an application that uses it, "
            "and say what to mend, why and how. Redis is only read.",
            epilog="Exit status: 0 if nothing is to be mended, 1 if something is, 2 if it cannot "
            "be looked at. What the user may not ask is no fault: its line says so.",
        )
    )
    return parser


def _add_reset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lesson", metavar="LESSON", help="such as 05, or the path of a notebook")
    parser.add_argument(
        "--from",
        dest="fresh",
        metavar="FOLDER",
        help="a fresh download of the course, where there is no git",
    )


def _add_acl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--namespace", default="querycache", metavar="NS", help="of the cache")
    parser.add_argument(
        "--user", metavar="NAME", help="the user's name: the namespace's by default"
    )
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help="read a password from standard input, or ask for it: the line gets its SHA-256",
    )
    parser.add_argument(
        "--setuser",
        action="store_true",
        help="print the command ACL SETUSER in place of a line of an ACL file",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cluster", action="store_true", help="for the nodes of a Redis Cluster")
    kind.add_argument(
        "--sentinel",
        action="store_true",
        help="for the Sentinels, which have users of their own, in place of the servers with keys",
    )
    parser.add_argument(
        "--l1",
        action="store_true",
        help="for processes that keep entries by themselves as well (QUERY_CACHE_L1_ENTRIES)",
    )
    parser.add_argument(
        "--without-inspection",
        action="store_true",
        help="without SCAN and TYPE, which only `flask querycache stats` and `inspect` need",
    )
    parser.add_argument(
        "--before-7.2",
        dest="before_7_2",
        action="store_true",
        help="for a Redis before 7.2, which refuses a line with +client|setinfo",
    )


def _add_checklist(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="such as redis://localhost:6379/0; by default what REDIS_URL holds. A password may be "
        "in REDISCLI_AUTH, where no other user sees it",
    )
    parser.add_argument(
        "--app",
        metavar="MODULE:APP",
        help="a Flask application, or what makes one. It is imported to see its clients",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="CHECK",
        help="leave out the check whose line begins with this name; it can be given again",
    )
    parser.add_argument(
        "--keys",
        type=int,
        default=10_000,
        metavar="N",
        help="how many keys to look at (%(default)s); the size of a tenth of them is asked",
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the lines")


def _learn(wishes: argparse.Namespace) -> int:
    try:
        from labkit.lessons import progress
        from labkit.lessons.reset import reset
    except ModuleNotFoundError as error:
        raise MissingExtra(f"labkit {wishes.command}", error) from None

    if wishes.command == "reset":
        print(reset(wishes.lesson, wishes.fresh))
    elif wishes.forget:
        count = progress.forget()
        print(f"Forgotten: {count} solved exercises." if count else "Nothing to forget.")
    else:
        print(progress.table(progress.solved()))
    return 0


def _load(wishes: argparse.Namespace) -> int:
    try:
        import httptools  # noqa: F401  (the process that sends needs it)

        from labkit.measure import histogram
        from labkit.measure.load import ANEW, load, mixed, redirect_of, target_of
    except ModuleNotFoundError as error:
        raise MissingExtra("labkit load", error) from None

    if histogram.note():
        print(histogram.note())
    paths = []
    if wishes.hits is not None:
        path = target_of(wishes.url)[2]
        paths = mixed(path, f"{path}{'&' if '?' in path else '?'}{VISIT}={ANEW}", wishes.hits)
    if elsewhere := redirect_of(wishes.url):  # with hits, this makes the first of them one
        print(f"It redirects to {elsewhere}: that is what is measured, not what is there.")
    found = load(wishes.url, wishes.seconds, wishes.connections, paths=paths)
    print(found)
    if paths:
        print(f"{found.numbered:,} of them carried a {VISIT}= of their own")
    return 1 if found.failed or not found.requests else 0


def _audit(wishes: argparse.Namespace) -> int:
    try:
        from labkit.audit import command
    except ModuleNotFoundError as error:
        raise MissingExtra("labkit audit", error, "audit") from None

    return command.run(wishes.target, wishes.invalidate, wishes.json, wishes.junit)


def _operate(wishes: argparse.Namespace) -> int:
    try:
        from labkit.operate import command
    except ModuleNotFoundError as error:
        raise MissingExtra(f"labkit {wishes.command}", error) from None

    run = {"acl": command.run_acl, "checklist": command.run_checklist}
    return run[wishes.command](wishes)


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
