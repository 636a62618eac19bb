"""Standard output: messages in the chosen format, whole, by any thread."""

import os
import sys
import threading
from typing import Any

from iris.ctl.formats import json_line, render


class Printer:
    """Writes each message at once, for those who read it through a pipe."""

    def __init__(self, name: str) -> None:
        self.format = name
        self._lock = threading.Lock()  # one message at a time

    def message(self, message: bytes, **facts: Any) -> None:
        """Print one; facts are for JSON. Raises: BrokenPipeError when nobody reads."""
        self._write(render(self.format, message, **facts))

    def failure(self, text: str, **facts: Any) -> None:
        """Say what became of one that failed: on standard error, or in its line of JSON."""
        if self.format == "json":
            self._write(json_line(**facts))
        else:
            print(f"irisctl: {text}", file=sys.stderr)

    def _write(self, data: bytes) -> None:
        write_all(1, data, self._lock)


def write_all(descriptor: int, data: bytes | memoryview, lock: threading.Lock) -> None:
    """Write all of it, past any buffer."""
    rest = memoryview(data)
    with lock:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
