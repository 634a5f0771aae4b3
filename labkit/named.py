"""Finding what a text such as `package.module:name` names, as commands take it."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from labkit.errors import LabError


def named(text: str) -> Any:
    """Import what a text `package.module:name` names. The name may have dots as well.

    Raises:
        LabError: there is no such module, it cannot be imported, or it has no such name.
    """
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise LabError(f"{text!r} names nothing: write PACKAGE.MODULE:NAME.")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the folder that the command is started in, as `python -m` has it
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise LabError(f"there is no module {error.name} here: {text}.") from None
        raise LabError(f"{module_name} cannot be imported: {error}.") from None
    except (Exception, SystemExit) as error:
        raised = f"{type(error).__name__}: {error}".removesuffix(".")
        raise LabError(f"{module_name} cannot be imported: {raised}.") from None
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise LabError(f"{module_name} has no {part}: {text}.") from None
    return value
