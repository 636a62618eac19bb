"""CPU load of this machine, the limit of open sockets, and garbage collection.

Counterpart of Go's system/system.go and cpu_*.go, by psutil. Without a thread: the load is measured
once per beat.
"""

import contextlib
import gc
import resource
import sys
from collections.abc import Callable
from typing import Any

import psutil

MIN_USAGE = 0.01  # the load of an idle machine, so that its capacity stays finite


class CpuMeter:
    """Measures the load from one call to the next. Not thread-safe."""

    def __init__(self, cpu_times: Callable[[], Any] = psutil.cpu_times) -> None:
        """Args: cpu_times returns all CPUs' seconds since boot: user, system, idle, maybe nice."""
        self._cpu_times = cpu_times
        self._busy, self._idle = self._read()
        self._usage = 1.0  # unknown yet: promise little capacity

    def __call__(self) -> float:
        """Return the busy share of CPU time since the last call, MIN_USAGE to 1.

        When no time has passed, that is the last result.
        """
        busy, idle = self._read()
        # some platforms' counters decrease a little
        work, wait = max(0.0, busy - self._busy), max(0.0, idle - self._idle)
        if work + wait > 0:
            self._busy, self._idle = busy, idle
            self._usage = max(MIN_USAGE, work / (work + wait))
        return self._usage

    def _read(self) -> tuple[float, float]:
        times = self._cpu_times()
        return times.user + times.system + getattr(times, "nice", 0.0), times.idle


def raise_descriptor_limit() -> int:
    """Raise the limit of open files and sockets as far as permitted. Returns: the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # "unlimited" may be more than there can be
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed


def tune_gc() -> None:
    """Collect cyclic garbage less often, and only among new objects.

    Messages leave none, and collecting took a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
