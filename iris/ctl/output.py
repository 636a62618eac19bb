"""Messages on standard output: raw, text, hex, or lines of JSON; from any thread."""

import base64
import json
import os
import threading
from typing import Any

from iris.ctl.outcome import UsageError

FORMATS = ("raw", "text", "hex", "json")

_KEPT = "\n\t"  # of the control characters; others could manipulate a terminal
_writing = threading.Lock()  # one message at a time


def default_format(*, terminal: bool, several: bool) -> str:
    """Choose the format: raw for one message into a pipe or file, else text."""
    return "text" if terminal or several else "raw"


def render(name: str, message: bytes, **facts: Any) -> bytes:
    """Format a message; `facts` are further fields in JSON."""
    if name == "raw":
        return message
    if name == "text":
        text = plain(message.decode(errors="backslashreplace"))
        return (text if text.endswith("\n") else text + "\n").encode()
    if name == "hex":
        return message.hex().encode() + b"\n"
    try:
        return json_line(**facts, text=message.decode())
    except UnicodeDecodeError:
        return json_line(**facts, base64=base64.b64encode(message).decode())


def json_line(**facts: Any) -> bytes:
    """Make a line of JSON."""
    return json.dumps(facts).encode() + b"\n"


def plain(text: str) -> str:
    """Escape characters that control terminals, such as \\x1b."""
    return "".join(
        c if c in _KEPT or c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def print_message(name: str, message: bytes, **facts: Any) -> None:
    """Print a message as `render` formats it. Raises: BrokenPipeError, UsageError."""
    write_all(render(name, message, **facts))


def write_all(data: bytes) -> None:
    """Write all of it, whole and unbuffered. Raises: BrokenPipeError, UsageError."""
    rest = memoryview(data)
    with _writing:
        while rest:
            try:
                rest = rest[os.write(1, rest) :]
            except BrokenPipeError:
                raise
            except OSError as exc:  # a full disk, mostly
                raise UsageError(f"can't write standard output: {exc.strerror}") from exc
