"""Progress of long operations on standard error, when that is a terminal.

Shell around `meter.py`.
"""

import shutil
import sys
import threading
import time
from types import TracebackType

from iris.ctl.meter import Meter

_SHOW_AFTER = 1.0  # seconds
_REFRESH_PERIOD = 0.2  # seconds
_CLEAR = "\r\x1b[K"


class Progress:
    """Counts what is done; for `with`. Owns the thread `ctl-progress`, if it is shown."""

    def __init__(self, total: int | None, unit: str = "", *, wanted: bool) -> None:
        """Prepare; `total` is None when unknown, `unit` is "" for bytes.

        It is shown only when `wanted`: not switched off, nor mixed with other output.
        """
        self._lock = threading.Lock()  # guards done, and what is shown
        self.done = 0
        self._meter = Meter(total, unit, start=time.monotonic())
        self._stop = threading.Event()
        self._shown = False
        self._thread = (
            threading.Thread(target=self._run, name="ctl-progress", daemon=True)
            if wanted and sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> "Progress":
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join()
        if self._shown:  # the last state stays visible
            self._show()
            print(file=sys.stderr)

    def add(self, count: int) -> None:
        """Count what was done."""
        with self._lock:
            self.done += count

    def say(self, text: str) -> None:
        """Print a line on standard error, above the progress."""
        with self._lock:
            print(f"{_CLEAR if self._shown else ''}irisctl: {text}", file=sys.stderr)

    def _run(self) -> None:
        if self._stop.wait(_SHOW_AFTER):
            return
        while True:
            self._show()
            if self._stop.wait(_REFRESH_PERIOD):
                return

    def _show(self) -> None:
        with self._lock:
            self._shown = True
            line = self._meter.line(time.monotonic(), self.done, shutil.get_terminal_size().columns)
            print(f"{_CLEAR}{line}", end="", file=sys.stderr, flush=True)
