"""compose.yaml: what lesson 13 says of it holds; its Redis and its application run as they stand.

The whole of it runs where a Docker daemon answers.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import nbformat
import pytest
import redis
import yaml

from labkit.audit.site import steady_port
from labkit.operate import checklist
from labkit.servers import Keeper
from labkit.servers.failover import alone
from labkit.servers.redis import RedisServer, choose_redis
from tests.caches import PATIENT_APP
from tests.helpers import REPOSITORY, answers, wait_until

FILE = REPOSITORY / "compose.yaml"
PASSWORD = secrets.token_urlsafe(24)
MADE: dict[str, Any] = yaml.safe_load(FILE.read_text())
APP, REDIS = MADE["services"]["app"], MADE["services"]["redis"]


def test_the_address_names_the_service_and_the_port_in_its_container():
    url = urlsplit(APP["environment"]["REDIS_URL"])

    assert (url.scheme, url.hostname, url.port) == ("redis", "redis", 6379)
    assert url.hostname in MADE["services"]
    assert url.password is None


def test_nobody_outside_reaches_redis():
    assert "ports" not in REDIS
    assert "network_mode" not in REDIS
    assert APP["ports"] == ["127.0.0.1:8000:8000"]


def test_the_application_waits_until_redis_answers():
    assert APP["depends_on"]["redis"]["condition"] == "service_healthy"
    assert "redis-cli ping" in REDIS["healthcheck"]["test"][1]


def test_the_password_is_a_secret_of_the_environment_and_in_no_command_line():
    assert MADE["secrets"] == {"redis_password": {"environment": "REDIS_PASSWORD"}}
    assert APP["secrets"] == REDIS["secrets"] == ["redis_password"]
    assert APP["environment"]["REDIS_PASSWORD_FILE"] == "/run/secrets/redis_password"
    assert REDIS["command"][-1].startswith("exec redis-server - <<SETTINGS\n")


def test_what_the_lesson_shows_of_it_stands_in_it():
    [path] = (REPOSITORY / "notebooks").glob("13_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    [shown] = [cell.source for cell in cells if "```yaml" in cell.source]
    quoted = shown.partition("```yaml\n")[2].partition("\n```")[0]

    assert quoted.startswith("  redis:\n")
    assert f"\n{quoted}\n" in FILE.read_text()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "redis_password"
    file.touch(mode=0o600)
    file.write_text(PASSWORD)
    return file


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on PATH")
def test_its_redis_has_what_the_checklist_wants(secret: Path):
    """Its command runs here, on another port, as no container keeps it apart."""
    port, keeper = steady_port(), Keeper()
    command = REDIS["command"][-1].replace("$$", "$")
    command = command.replace("/run/secrets/redis_password", str(secret))
    command = command.replace("appendonly no\n", f"appendonly no\nport {port}\nbind 127.0.0.1\n")
    try:
        keeper.spawn(["sh", "-c", command], log=keeper.directory / "log")
        with closing(redis.Redis(port=port, password=PASSWORD)) as client:
            assert wait_until(lambda: answers(client), 20)
            assert client.config_get("maxmemory")["maxmemory"] == str(256 * 2**20)
        url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
        assert checklist(url, ignore=["failover"]).to_mend == []
        health = (
            REDIS["healthcheck"]["test"][1]
            .replace("$$", "$")
            .replace("/run/secrets/redis_password", str(secret))
        )
        asked = health.replace("redis-cli", f"redis-cli -p {port}")
        assert subprocess.run(["sh", "-c", asked], capture_output=True).returncode == 0
        secret.write_text("another")
        assert subprocess.run(["sh", "-c", asked], capture_output=True).returncode != 0
    finally:
        keeper.close()


def test_its_application_caches_in_the_redis_that_its_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kind, _ = choose_redis("auto")
    if kind not in ("server", "wheel"):
        pytest.skip("no Redis program here")
    with alone(RedisServer(kind, "", "")) as node:
        secret = tmp_path / "password"
        secret.write_text(f"{urlsplit(node.url).password}\n")
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{node.port}/0")
        monkeypatch.setenv("REDIS_PASSWORD_FILE", str(secret))
        for name, value in PATIENT_APP.items():
            monkeypatch.setenv(f"FLASK_{name}", str(value))
        place = importlib.util.spec_from_file_location(
            "composed", REPOSITORY / "data/compose/app.py"
        )
        assert place
        assert place.loader
        made = importlib.util.module_from_spec(place)
        place.loader.exec_module(made)
        with closing(made.cache):
            browser = made.create_app().test_client()
            told = [browser.get("/").json for _ in range(2)]
        assert told == [
            {"answer": 42, "hits": 0, "misses": 1},
            {"answer": 42, "hits": 1, "misses": 1},
        ]


def _docker() -> bool:
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


def test_it_runs_where_docker_does():
    if not _docker():
        pytest.skip("no Docker daemon answers")
    project = f"labkit-{secrets.token_hex(4)}"
    compose = ["docker", "compose", "--file", str(FILE), "--project-name", project]
    environment = {**os.environ, "REDIS_PASSWORD": PASSWORD}
    try:
        up = [*compose, "up", "--build", "--detach", "--wait"]
        subprocess.run(up, env=environment, check=True)
        deadline = time.monotonic() + 60
        while True:
            try:
                with urlopen("http://127.0.0.1:8000/", timeout=5) as answer:
                    assert json.load(answer)["answer"] == 42
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.5)
    finally:
        subprocess.run([*compose, "down", "--volumes", "--rmi", "local"], env=environment)
