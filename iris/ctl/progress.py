"""Progress of long operations on standard error, when that is a terminal."""

import shutil
import sys
import threading
import time
from collections import deque

_SHOW_AFTER = 1.0  # seconds
_REFRESH_PERIOD = 0.2  # seconds
_CLEAR = "\r\x1b[K"
_WINDOW = 5.0  # seconds over which the speed is taken
_BAR = 20  # characters


class Meter:
    """The line of text: progress in bytes, or in messages when a unit is named. Core."""

    def __init__(self, total: int | None, unit: str = "", *, start: float) -> None:
        """Start at `start` seconds; `total` is None when unknown."""
        self._total, self._unit, self._start = total, unit, start
        self._samples = deque([(start, 0)])

    def line(self, now: float, done: int, width: int) -> str:
        """Make the line, shorter than `width` characters, with the speed of the last seconds."""
        self._samples.append((now, done))
        while len(self._samples) > 2 and self._samples[1][0] <= now - _WINDOW:
            self._samples.popleft()
        since, before = self._samples[0]
        speed = (done - before) / (now - since) if now > since else 0.0
        parts = [self._amount(done), f"{self._amount(speed)}/s", _duration(now - self._start)]
        if self._total:
            share = min(1.0, done / self._total)
            filled = int(share * _BAR)
            parts[0] += f" of {self._amount(self._total)}"
            parts.insert(0, f"{share:4.0%} [{'#' * filled}{'.' * (_BAR - filled)}]")
            if speed > 0 and done < self._total:
                parts.append(f"{_duration((self._total - done) / speed)} left")
        return "  ".join(parts)[: max(0, width - 1)]

    def _amount(self, value: float) -> str:
        return f"{value:,.0f} {self._unit}" if self._unit else amount(value)


def amount(size: float) -> str:
    """Format a number of bytes."""
    if size < 1_024:
        return f"{size:.0f} B"
    power = min(4, (int(size).bit_length() - 1) // 10)
    return f"{size / 1_024**power:.1f} {' KMGT'[power]}iB"


def _duration(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


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
        self._thread = None
        if wanted and sys.stderr.isatty():
            self._thread = threading.Thread(target=self._run, name="ctl-progress", daemon=True)

    def __enter__(self) -> "Progress":
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
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
        pause = _SHOW_AFTER
        while not self._stop.wait(pause):
            self._show()
            pause = _REFRESH_PERIOD

    def _show(self) -> None:
        with self._lock:
            self._shown = True
            line = self._meter.line(time.monotonic(), self.done, shutil.get_terminal_size().columns)
            print(f"{_CLEAR}{line}", end="", file=sys.stderr, flush=True)
