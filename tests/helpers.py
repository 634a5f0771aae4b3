"""What several test files need: waiting with a deadline, looking at processes and notebooks."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil  # type: ignore[import-untyped]
import redis

from labkit.servers.processes import comes_true

REPOSITORY = Path(__file__).parents[1]
CLEAN_UP_SECONDS = 2.0  # what labkit promises after a SIGKILL
LONG = 60.0  # seconds: where nothing is promised, longer than any busy machine takes


def wait_until(condition: Callable[[], bool], seconds: float = CLEAN_UP_SECONDS) -> bool:
    """Poll until the condition holds; return whether it did before the deadline."""
    return comes_true(condition, seconds)


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_gone(pid: int, directory: Path | str) -> bool:
    """Whether neither a server nor its keeper's directory is left."""
    return not is_running(pid) and not Path(directory).exists()


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def environment(**variables: str | None) -> dict[str, str]:
    """Return this process's environment without LABKIT_*, with these variables (None: without)."""
    changed = {name: None for name in os.environ if name.startswith("LABKIT_")} | variables
    merged = {**os.environ, **changed}
    return {name: value for name, value in merged.items() if value is not None}


def start_python(code: str, **variables: str) -> subprocess.Popen[str]:
    """Run code in a Python of its own, in a process group of its own, with pipes to talk over."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(**variables),
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    """Kill what is left of a process that `start_python` started, its forked children too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def dies_with_its_kernel(code: str, word: str, **variables: str) -> bool:
    """Whether another process ends in time when the kernel that has started it is killed.

    Args:
        code: what the kernel runs. It prints a line of `word` and the other process's id, and goes
            on for longer than the test.
        word: what that line begins with.
        variables: of the kernel's environment.
    """
    kernel = start_python(code, **variables)
    try:
        assert kernel.stdout is not None
        other = next(int(line.split()[1]) for line in kernel.stdout if line.startswith(word))
        assert is_running(other)
        kernel.kill()
        return wait_until(lambda: not is_running(other))
    finally:
        end(kernel)


def defined_in_notebook(name: str) -> dict[str, ast.stmt]:
    """Return what a notebook defines at its top level, by name."""
    cells = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4).cells
    return defined("\n".join(cell.source for cell in cells if cell.cell_type == "code"))


def defined(code: str) -> dict[str, ast.stmt]:
    """Return what code defines at its top level, by name, without type hints and docstrings."""
    names: dict[str, ast.stmt] = {}
    for node in _Plain().visit(ast.parse(code)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = node
    return names


class _Plain(ast.NodeTransformer):
    """Takes away what a notebook does without: type hints and docstrings."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        for argument in (*node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg):
            if argument is not None:
                argument.annotation = None
        self.visit_ClassDef(node)
        return node

    def visit_ClassDef(self, node: Any) -> Any:
        if ast.get_docstring(node):
            del node.body[0]
        self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if node.value is None:  # of a named tuple
            return node
        return ast.Assign([node.target], node.value, lineno=node.lineno)
