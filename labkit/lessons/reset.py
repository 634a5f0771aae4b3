"""Restore a lesson's notebook, and keep the learner's aside: `labkit reset`.

A notebook on its own does not say what it was before it was edited. What it was is in the course's
git history: that of the notebook's own checkout, or else that of the checkout which labkit runs
from (on a JupyterHub, the one that is installed for all). Any other repository, such as a learner's
own with their answers committed, is not the course, and is not asked. Where there is no history, as
in a downloaded archive, a fresh download is the one honest source: `--from` names it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from labkit.errors import LabError
from labkit.lessons.progress import numbers

WISH = re.compile(r"(\d{1,2})(_[a-z_]+)?")  # 5, 05 or 05_races
NOTEBOOK = re.compile(r"(\d\d)_[a-z_]+\.ipynb")  # no learner's copy, and none of JupyterLab's
FOLDER = "notebooks"  # in the course
ASIDE = "mine"  # beside the notebook, where neither tests nor scripts look
COMMITTED = (
    "If your answers are in it, you have committed them: `--from FOLDER` takes a fresh download."
)
OPEN_IN_JUPYTERLAB = (
    "Is it open in JupyterLab? File > Reload Notebook from Disk shows it; if asked, say Revert.\n"
    "Then restart its kernel: what your cells have defined is still there."
)
LABKITS = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Source:
    """Where notebooks are as they were delivered.

    Attributes:
        words: what to call it.
        home: the folder that a notebook belongs to if it is missing, or None.
        names: the file names of its notebooks.
        read: returns a notebook's content, by its name.
    """

    words: str
    home: Path | None
    names: list[str]
    read: Callable[[str], bytes]


def reset(wish: str, fresh: str | None = None) -> str:
    """Restore a lesson's notebook; keep what it was aside, if it was anything else.

    Args:
        wish: a lesson, such as "05", "5" or "05_races", or the path of its notebook.
        fresh: a new download of the course, or a notebook in it; by default git is asked.

    Returns:
        What was done, in lines to print.

    Raises:
        LabError: there is no such lesson, or no source of its notebook, or nothing can be written.
            The notebook is then as it was.
    """
    place, stem = _understood(wish)
    source = _download(fresh) if fresh else _history(place or Path.cwd(), stem[:2])
    name = _name_in(source, stem)
    notebook = _notebook(name, place, source)
    delivered = source.read(name)
    try:
        before = notebook.read_bytes() if notebook.exists() else None
        if before is not None and _is_same(before, delivered):
            same = f"{notebook.name} is the same in {source.words}: nothing was changed."
            return same if fresh else f"{same}\n{COMMITTED}"
        kept = _replace(notebook, before, delivered)
    except OSError as error:
        raise LabError(f"{_shown(notebook)} cannot be restored: {error.strerror}.") from None
    restored = f"{_shown(notebook)} is restored from {source.words}."
    if kept is None:
        return restored
    return f"{restored}\nYours is kept: {_shown(kept)}\n{OPEN_IN_JUPYTERLAB}"


def _understood(wish: str) -> tuple[Path | None, str]:
    """Return the folder that a wish names, if any, and a lesson's number or whole name."""
    path = Path(wish)
    if match := WISH.fullmatch(wish.removesuffix(".ipynb")):
        place, stem = None, f"{int(match[1]):02}{match[2] or ''}"
    elif NOTEBOOK.fullmatch(path.name):
        place, stem = path.parent, path.stem
    else:
        raise LabError(f"{wish!r} is no lesson. {_lessons_are()}")
    if stem[:2] not in numbers():
        raise LabError(f"there is no lesson {stem}. {_lessons_are()}")
    if place is not None and not path.is_file():
        raise LabError(f"there is no notebook {wish}: say `labkit reset {stem[:2]}`.")
    return place, stem


def _lessons_are() -> str:
    every = numbers()
    return f"Say its number, {every[0]} to {every[-1]}, or the path of its notebook."


def _name_in(source: Source, stem: str) -> str:
    names = [name for name in source.names if name.startswith(stem[:2])]
    if len(names) != 1:
        raise LabError(f"in {source.words} there is no notebook of lesson {stem[:2]}.")
    if stem not in (stem[:2], Path(names[0]).stem):
        raise LabError(f"there is no lesson {stem}: lesson {stem[:2]} is {Path(names[0]).stem}.")
    return names[0]


def _notebook(name: str, place: Path | None, source: Source) -> Path:
    """Return the notebook that is meant, the nearest; or the path of one that is missing."""
    here = Path.cwd()
    nearest = [place] if place else [here, here / FOLDER]
    # A checkout that this user may not write to is for all: a learner's notebooks are elsewhere.
    if not place and source.home and os.access(source.home, os.W_OK):
        nearest.append(source.home)
    for folder in nearest:
        if (folder / name).is_file():
            return (folder / name).resolve()
    for folder in reversed(nearest):  # it is missing among the others
        if any((folder / other).is_file() for other in source.names) or folder == source.home:
            return folder / name
    raise LabError(f"there is no {name} here: go to the folder of your notebooks, or say its path.")


def _download(fresh: str) -> Source:
    path = Path(fresh)
    if path.is_dir():
        folder = path / FOLDER if (path / FOLDER).is_dir() else path
        found = {each.name: each for each in folder.glob("*.ipynb")}
    else:
        found = {path.name: path}
    found = {name: each for name, each in found.items() if NOTEBOOK.fullmatch(name)}

    def read(name: str) -> bytes:
        try:
            content = found[name].read_bytes()
            json.loads(content)["cells"]
        except (OSError, ValueError, KeyError, TypeError):
            raise LabError(f"{found[name]} is no notebook that can be read.") from None
        return content

    return Source(fresh, None, sorted(found), read)


def _history(place: Path, number: str) -> Source:
    """Return the git history that has the course, of the notebooks' checkout or of labkit's.

    Raises:
        LabError: there is none, with what to do.
    """
    if shutil.which("git") is None:
        reason = "git, which knows it, is not on PATH: install it"
    else:
        for folder in (place.resolve(), LABKITS):
            if source := _checkout(folder, number):
                return source
        reason = "no git history of the course is here"
    raise LabError(
        f"what the notebook of lesson {number} was is not known: {reason}. Or download the course "
        f"anew, unpack it elsewhere, and say `labkit reset {number} --from FOLDER`."
    )


def _checkout(folder: Path, number: str) -> Source | None:
    """Return the history of the checkout that a folder is in, if it is one of the course.

    The course may be a folder of a larger repository.
    """
    for root in (folder, *folder.parents):
        try:
            listed = _git(root, "ls-tree", "-r", "--name-only", "HEAD", FOLDER, "labkit/lessons")
            commit = _git(root, "rev-parse", "--short", "HEAD").decode().strip()
        except (subprocess.CalledProcessError, OSError):  # or git cannot be executed
            return None  # we are out of it, if we were in one
        paths = listed.decode().splitlines()
        if f"labkit/lessons/lesson_{number}.py" in paths:
            names = [each.removeprefix(f"{FOLDER}/") for each in paths]
            names = [each for each in names if NOTEBOOK.fullmatch(each)]
            return Source(f"git {commit}", root / FOLDER, names, partial(_committed, root))
    return None


def _committed(root: Path, name: str) -> bytes:
    try:
        return _git(root, "cat-file", "blob", f"HEAD:./{FOLDER}/{name}")
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().replace("\n", " ")
        raise LabError(f"git cannot read {name}: {said}") from None


def _git(folder: Path, *words: str) -> bytes:
    # Git refuses a repository of another user, as it could have this user run commands.
    trust = ["-c", f"safe.directory={root}"] if (root := _trusted_root(folder)) else []
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *trust, "-C", str(folder), *words]
    return subprocess.run(command, env=clean, capture_output=True, check=True).stdout


def _trusted_root(folder: Path) -> Path | None:
    """Return the checkout that a folder is in, if whoever owns labkit owns its history as well.

    That user's code is what runs here.
    """
    for root in (folder, *folder.parents):
        history = root / ".git"
        if history.exists():
            return root if history.stat().st_uid == LABKITS.stat().st_uid else None
    return None


def _is_same(one: bytes, other: bytes) -> bool:
    """Return whether two notebooks are the same, however their lines end and are indented."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return one == other


def _replace(notebook: Path, before: bytes | None, delivered: bytes) -> Path | None:
    """Put the delivered notebook in place, all of it or nothing; return the copy of the earlier."""
    if before is not None and not os.access(notebook, os.W_OK):
        raise PermissionError(errno.EACCES, "it is read-only")
    unfinished = notebook.with_name(f".{notebook.name}-{os.getpid()}")
    try:
        unfinished.write_bytes(delivered)
        kept = None
        if before is not None:
            shutil.copymode(notebook, unfinished)
            kept = _keep(notebook, before)
        unfinished.replace(notebook)
    finally:
        unfinished.unlink(missing_ok=True)
    return kept


def _keep(notebook: Path, content: bytes) -> Path:
    """Write a learner's notebook beside, under a name that no earlier one has."""
    (notebook.parent / ASIDE).mkdir(exist_ok=True)
    copy, file = _new_file(notebook)
    try:
        with file:
            file.write(content)
        shutil.copymode(notebook, copy)
    except OSError:
        copy.unlink()  # half a copy is none
        raise
    return copy


def _new_file(notebook: Path) -> tuple[Path, BinaryIO]:
    number = 1
    while True:
        ending = f"-{number}" if number > 1 else ""
        path = notebook.parent / ASIDE / f"{notebook.stem}.mine{ending}.ipynb"
        try:
            return path, open(path, "xb")  # which never opens a file that is there
        except FileExistsError:
            number += 1


def _shown(path: Path) -> str:
    """Return a path as seen from here, where it is here or below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
