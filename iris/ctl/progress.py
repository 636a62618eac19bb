"""Shows progress on standard error while something long is under way, when that is a terminal.

Shell around `meter.py`.
"""

import shutil
import sys
import threading
import time
from types import TracebackType

from iris.ctl.meter import Meter

_PATIENCE = 1.0  # seconds before it shows: what is quicker needs none
_PERIOD = 0.2  # seconds
_CLEAR = "\r\x1b[K"


class Progress:
    """Counts what is done; for `with`. Owns the thread `ctl-progress`, if it is to be seen."""

    def __init__(self, total: int | None, unit: str = "", *, wanted: bool) -> None:
        """total when it is known; unit unless it's bytes.

        Wanted by the user, and not in the way of other output.
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
        if self._shown:  # what became of it stays to be seen
            self._show()
            print(file=sys.stderr)

    def add(self, count: int) -> None:
        """So much more is done."""
        with self._lock:
            self.done += count

    def say(self, text: str) -> None:
        """A line on standard error, in the place of the progress, which comes back below it."""
        with self._lock:
            print(f"{_CLEAR if self._shown else ''}irisctl: {text}", file=sys.stderr)

    def _run(self) -> None:
        if self._stop.wait(_PATIENCE):
            return
        while True:
            self._show()
            if self._stop.wait(_PERIOD):
                return

    def _show(self) -> None:
        with self._lock:
            self._shown = True
            line = self._meter.line(time.monotonic(), self.done, shutil.get_terminal_size().columns)
            print(f"{_CLEAR}{line}", end="", file=sys.stderr, flush=True)
