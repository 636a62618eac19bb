"""Output formats of messages: raw, text, hex, or lines of JSON. Core: bytes in, bytes out."""

import base64
import json
from typing import Any

FORMATS = ("raw", "text", "hex", "json")

_KEPT = "\n\t"  # of the control characters; others could manipulate a terminal


def default_format(*, terminal: bool, several: bool) -> str:
    """Choose the format: raw for one message into a pipe or file, else text."""
    return "text" if terminal or several else "raw"


def render(name: str, message: bytes, **facts: Any) -> bytes:
    """Format a message; `facts` are further fields in JSON."""
    if name == "raw":
        return message
    if name == "text":
        return plain(message.decode(errors="backslashreplace")).encode() + (
            b"" if message.endswith(b"\n") else b"\n"
        )
    if name == "hex":
        return message.hex().encode() + b"\n"
    return json_line(**facts, **content(message))


def content(message: bytes) -> dict[str, str]:
    """Make a message's fields in JSON: `text`, or `base64` if it isn't UTF-8."""
    try:
        return {"text": message.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(message).decode()}


def json_line(**facts: Any) -> bytes:
    """Make a line of JSON."""
    return json.dumps(facts).encode() + b"\n"


def plain(text: str) -> str:
    """Escape characters that control terminals, such as \\x1b."""
    return "".join(
        c if c in _KEPT or c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )
