"""The settings for a JupyterHub that INSTRUCTOR.md names are ones that Jupyter knows.

Jupyter takes no notice of a setting that it does not know. A hub itself is not started here.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import uuid
from typing import Any

import pytest
import zmq
from jupyter_client.manager import KernelManager
from jupyter_core.paths import jupyter_runtime_dir
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager
from traitlets.config import Config

from scripts.timetable import INSTRUCTOR

TEXT = INSTRUCTOR.read_text(encoding="utf-8")
[SECTION] = re.findall(r"^## Thirty on one JupyterHub$(.*?)^## ", TEXT, re.MULTILINE | re.DOTALL)
OF_A_SERVER: dict[str, Any] = {
    "KernelManager": KernelManager,
    "MappingKernelManager": MappingKernelManager,
}
OF_THE_HUB = {"Spawner"}  # which is not installed here


@pytest.fixture
def settings(monkeypatch, tmp_path) -> Config:
    """What the section's blocks set, run as Jupyter runs such a file."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "as it was")
    config = Config()
    for block in re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL):
        exec(compile(block, INSTRUCTOR.name, "exec"), {"c": config})
    return config


def test_each_setting_is_one_that_jupyter_knows(settings):
    assert settings.keys() == OF_A_SERVER.keys() | OF_THE_HUB
    for name, its_class in OF_A_SERVER.items():
        assert settings[name].keys() <= its_class.class_traits(config=True).keys()


def test_kernels_are_spoken_to_by_files(settings):
    assert KernelManager(config=settings).transport == "ipc"


def test_kernels_files_go_where_the_two_lines_more_say(settings, tmp_path):
    assert jupyter_runtime_dir() == os.environ["JUPYTER_RUNTIME_DIR"]
    assert jupyter_runtime_dir().startswith(f"{tmp_path}{os.sep}jupyter-")


@pytest.mark.skipif(sys.platform != "linux", reason="the section is for a hub on Linux")
def test_the_longest_home_is_the_one_that_is_stated(monkeypatch):
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/h")
    connection = f"{jupyter_runtime_dir()}/kernel-{uuid.uuid4()}.json"
    last_socket = f"{KernelManager(transport='ipc', connection_file=connection).ip}-5"
    longest = zmq.IPC_PATH_MAX_LEN - len(last_socket.removeprefix("/h"))

    assert f"more than {longest} characters" in SECTION
