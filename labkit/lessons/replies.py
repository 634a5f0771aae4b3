"""Bytes against text: Redis gives bytes, and b"x" == "x" is False without a word.

An answer that mixes them fails for a reason that its check cannot see. So a wrong answer is
examined once more, with replies that note what they are compared with. The verdict is not theirs.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import redis

PRINTED = re.compile(r"""\bb(['"]).*\1""")  # bytes as Python prints them, inside a text
_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


def notes() -> list[str]:
    """Return the list of what was noted, empty and of no use where nothing is to be noted."""
    noted = _notes.get()
    return [] if noted is None else noted


def bytes_against_text(examine: Callable[[Any], None], answer: Any) -> str:
    """Examine a wrong answer once more; return where it mixed bytes and text, or nothing."""
    noted: list[str] = []
    reset = _notes.set(noted)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            examine(answer)
    finally:
        _notes.reset(reset)
    return f" {noted[0]}" if noted else ""


def unlike(got: object, asked_for: object) -> str:
    """Return the words that end a message where bytes came instead of text, or text for bytes."""
    if isinstance(got, bytes) and isinstance(asked_for, str):
        return " These are bytes, and text is asked for: decode() makes it text."
    if isinstance(got, str) and isinstance(asked_for, bytes):
        return " This is text, and bytes are asked for: encode() makes it bytes."
    return ""


class Reply(bytes):
    """Bytes that note it when they are compared with a text."""

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        _note_comparison(self, other)
        return bytes.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        _note_comparison(self, other)
        return bytes.__ne__(self, other)

    def __getitem__(self, index: Any) -> Any:
        return as_reply(bytes.__getitem__(self, index))


def as_reply(value: Any) -> Any:
    """Return what an answer is given, with bytes that note, if something is to be noted now."""
    if _notes.get() is None:
        return value
    if isinstance(value, bytes):
        return Reply(value)
    if isinstance(value, list | tuple | set):
        return type(value)(map(as_reply, value))
    if isinstance(value, dict):
        return {as_reply(key): as_reply(each) for key, each in value.items()}
    return value


def _note_comparison(value: bytes, other: object) -> None:
    if isinstance(other, str):
        notes().append(
            f"Bytes were compared with text: {bytes(value)!r} == {other!r} is never true. "
            "Redis gives bytes. Decode the one, or encode the other."
        )


def _note_sent(command: tuple[Any, ...]) -> None:
    for each in command:
        if isinstance(each, str) and PRINTED.search(each):
            notes().append(
                f"Your code sent {each!r}: bytes that were made text by printing them. Redis gives "
                "bytes: send them as they are, or decode() them first."
            )


def note_all(client: redis.Redis) -> None:
    """Let a client note what it sends, and all that it gives, if something is to be noted now."""
    if _notes.get() is None:
        return
    pool = client.connection_pool
    kind: Any = pool.connection_class

    class Noting(kind):  # type: ignore[misc]
        def read_response(self, *args: Any, **options: Any) -> Any:
            return as_reply(super().read_response(*args, **options))

        def send_command(self, *command: Any, **options: Any) -> Any:
            _note_sent(command)
            return super().send_command(*command, **options)

        def pack_commands(self, commands: Any) -> Any:
            for command in (commands := list(commands)):
                _note_sent(tuple(command))
            return super().pack_commands(commands)

    pool.disconnect()
    pool.reset()
    pool.connection_class = Noting
