"""A progress line of a transfer. Core: no clock, no terminal."""

from collections import deque

_WINDOW = 5.0  # seconds over which the speed is taken
_BAR = 20  # characters


class Meter:
    """Progress in bytes, or in messages when a unit is named."""

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
            parts = [
                f"{share:4.0%} [{'#' * filled}{'.' * (_BAR - filled)}]",
                f"{parts[0]} of {self._amount(self._total)}",
                *parts[1:],
            ]
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
