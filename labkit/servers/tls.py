"""A Redis that speaks TLS, with a certificate of an authority that exists for it alone.

It takes a Redis program that is built with TLS, which the wheel's is not, and `openssl` to make the
certificate. (https://redis.io/docs/latest/operate/oss_and_stack/management/security/encryption/)
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from labkit.errors import LabError
from labkit.servers.cluster import PORT_ATTEMPTS
from labkit.servers.keeper import Keeper
from labkit.servers.redis import find_program, free_port, run_program

HOST = "127.0.0.1"
DAY = ["-days", "1"]
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
AUTHORITY = [
    "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
]  # fmt: skip
OF_THE_SERVER = f"subjectAltName=IP:{HOST}\nbasicConstraints=critical,CA:FALSE\n"
OF_THE_SERVER += "authorityKeyIdentifier=keyid\n"
OPENSSL_SECONDS = 20.0
# What a program says that is built without TLS, and one whose port somebody has.
NOT_BUILT_IN, TAKEN = ("TLS support", "Bad directive"), ("in use", "Failed listening")


@dataclass(frozen=True)
class TlsRedis:
    """A Redis that speaks TLS on a loopback port, and asks for a password.

    Attributes:
        port: where it listens.
        authority: the file with the certificate of who has signed its own, which is for 127.0.0.1.
    """

    port: int
    authority: Path
    _password: str = field(repr=False)

    def url(self, scheme: str = "rediss", host: str = HOST, authority: bool = True) -> str:
        """Return a URL that leads there, or one that is wrong in some way.

        Args:
            scheme: "rediss" for TLS, "redis" for none.
            host: another name for this machine.
            authority: whether it names the authority.
        """
        url = f"{scheme}://:{self._password}@{host}:{self.port}/0"
        return f"{url}?ssl_ca_certs={self.authority}" if authority and scheme == "rediss" else url


@contextmanager
def tls_redis() -> Iterator[TlsRedis | None]:
    """Give a Redis that speaks TLS, or None where there is none. It ends with the `with` block.

    Raises:
        LabError: the program here is built with TLS, and does not answer.
    """
    keeper = Keeper()
    try:
        yield _started(keeper)
    finally:
        keeper.close()


def _started(keeper: Keeper) -> TlsRedis | None:
    if shutil.which("openssl") is None or not _certify(keeper.directory):
        return None
    for kind in ("server", "wheel"):
        try:
            program = find_program(kind)
        except LabError:
            continue
        for attempt in range(PORT_ATTEMPTS):
            try:
                return _run(program, keeper.directory / f"{kind}-{attempt}", keeper)
            except LabError as error:
                if any(words in str(error) for words in NOT_BUILT_IN):
                    break
                if not any(words in str(error) for words in TAKEN):
                    raise  # else a certificate that is wrong would pass for a program without TLS
    return None


def _run(program: Path, directory: Path, keeper: Keeper) -> TlsRedis:
    made = TlsRedis(free_port(), keeper.directory / "ca.pem", secrets.token_urlsafe(24))
    settings = [f"bind {HOST}", "port 0", f"tls-port {made.port}", f"requirepass {made._password}"]
    for name, file in (("cert", "cert"), ("key", "key"), ("ca-cert", "ca")):
        settings.append(f'tls-{name}-file "{keeper.directory / file}.pem"')
    settings.append("tls-auth-clients no")
    run_program(program, directory, settings, made.url(), keeper)
    return made


def _certify(folder: Path) -> bool:
    """Make an authority and a certificate in a folder; return whether openssl could."""
    (folder / "extensions").write_text(OF_THE_SERVER)
    # Without the words of the system's configuration, which differ.
    (folder / "openssl.cnf").write_text("[req]\ndistinguished_name=name\n[name]\n")
    steps = [
        ["req", "-x509", *DAY, *NEW_KEY, "-config", "openssl.cnf", "-subj", "/CN=the lesson's",
         "-keyout", "ca.key", "-out", "ca.pem", *AUTHORITY, "-addext", "subjectKeyIdentifier=hash"],
        ["req", *NEW_KEY, "-config", "openssl.cnf", "-subj", f"/CN={HOST}",
         "-keyout", "key.pem", "-out", "request.pem"],
        ["x509", "-req", *DAY, "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
         "-CAcreateserial", "-extfile", "extensions", "-out", "cert.pem"],
    ]  # fmt: skip
    for step in steps:
        try:
            done = subprocess.run(
                ["openssl", *step], cwd=folder, capture_output=True, timeout=OPENSSL_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode:
            return False
    return True
