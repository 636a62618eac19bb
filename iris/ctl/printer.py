"""Messages on standard output, in the chosen format, from any thread."""

import os
import threading
from collections.abc import Callable
from typing import Any

from iris.ctl.formats import json_line, render
from iris.ctl.outcome import UsageError


class Printer:
    """Writes each message whole and unbuffered."""

    def __init__(self, name: str, say: Callable[[str], None] = print) -> None:
        """Print in the format `name`; `say` prints failures, outside of JSON."""
        self.format, self._say = name, say
        self._lock = threading.Lock()  # one message at a time

    def message(self, message: bytes, **facts: Any) -> None:
        """Print a message; `facts` are for JSON. Raises: BrokenPipeError, UsageError."""
        self._write(render(self.format, message, **facts))

    def failure(self, text: str, **facts: Any) -> None:
        """Report a failed message on standard error, or in its line of JSON."""
        if self.format == "json":
            self._write(json_line(**facts))
        else:
            self._say(text)

    def _write(self, data: bytes) -> None:
        write_all(data, self._lock)


def write_all(data: bytes | memoryview, lock: threading.Lock) -> None:
    """Write all of it, unbuffered. Raises: BrokenPipeError, UsageError."""
    rest = memoryview(data)
    with lock:
        while rest:
            try:
                rest = rest[os.write(1, rest) :]
            except BrokenPipeError:
                raise
            except OSError as exc:  # a full disk, mostly
                raise UsageError(f"can't write standard output: {exc.strerror}") from exc
