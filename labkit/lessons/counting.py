"""A client that notes what it sends, and whose scripts see the clock of a check, not the server's.

No check can stop a server's clock, or set it back. So a script that asks for TIME is told what
Python's clock says, which `in_a_worker` has replaced.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import redis
from redis.exceptions import NoScriptError

CLOCK = """
local redis = (function(real, seconds, micros)
    local function asked(run)
        return function(name, ...)
            if tostring(name):upper() == 'TIME' then return {seconds, micros} end
            return run(name, ...)
        end
    end
    local replaced = {call = asked(real.call), pcall = asked(real.pcall)}
    return setmetatable(replaced, {__index = real})
end)(redis, '%d', '%d')
local server = redis
"""


class Counting(redis.Redis):
    """A client that notes its commands, and of a pipeline that there was one.

    A script that the server does not have yet is loaded in between. That happens once in a server's
    life, and is not counted.

    Attributes:
        sent: the names of its commands; whoever counts makes it anew.
    """

    sent: list[str]
    _unknown = False  # whether the server has just said that it does not have a script

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._loaded: dict[str, str] = {}  # scripts, by their digests

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command."""
        if self._unknown and args[0] == "SCRIPT LOAD":
            self._unknown = False
        else:
            self.sent.append(str(args[0]))
        try:
            return super().execute_command(*self._on_our_clock(*args), **options)  # type: ignore[no-untyped-call]
        except NoScriptError:
            self.sent.pop()
            self._unknown = True
            raise

    def _on_our_clock(self, command: str, *rest: Any) -> tuple[Any, ...]:
        """Return a command as it is, or a script's with our clock in it."""
        if command == "SCRIPT LOAD":
            self._loaded[hashlib.sha1(_text(rest[0]).encode()).hexdigest()] = _text(rest[0])
        script = rest[0] if command == "EVAL" else None
        if command == "EVALSHA":
            script = self._loaded.get(_text(rest[0]))
        if script is None or "TIME" not in _text(script).upper():
            return command, *rest
        return "EVAL", _with_our_clock(_text(script)), *rest[1:]

    def pipeline(self, *args: Any, **options: Any) -> Any:
        """Note that several commands are to be sent."""
        self.sent.append("a pipeline")
        return super().pipeline(*args, **options)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _with_our_clock(script: str) -> str:
    shebang, line, rest = script.partition("\n") if script.startswith("#!") else ("", "", script)
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    clock = CLOCK % (seconds, nanoseconds // 1000)
    one_line = clock.replace("\n", " ")  # so that an error in the script still names its line
    return f"{shebang}{line}{one_line}{rest}"
