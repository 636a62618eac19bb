"""How busy this machine was lately, how many sockets it lets us have, and how often Python looks
for garbage.

Counterpart of Go's system/system.go and cpu_*.go: the counting is psutil's. No thread of its own:
whoever beats asks once a beat.
"""

import contextlib
import gc
import resource
import sys
from collections.abc import Callable
from typing import Any

import psutil

MIN_USAGE = 0.01  # an idle machine is taken for this busy, so that what it can take stays finite


class CpuMeter:
    """Measures from one call to the next. Not thread-safe."""

    def __init__(self, cpu_times: Callable[[], Any] = psutil.cpu_times) -> None:
        """Arguments: cpu_times tells the seconds since the start, of all CPUs together.

        User, system, idle, and on Unix nice ones.
        """
        self._cpu_times = cpu_times
        self._busy, self._idle = self._read()
        self._usage = 1.0  # nothing is known yet: promise little

    def __call__(self) -> float:
        """The busy share of CPU time since the last call, MIN_USAGE .. 1.

        The last one again when no time has passed.
        """
        busy, idle = self._read()
        # counters of some platforms step back a little
        work, wait = max(0.0, busy - self._busy), max(0.0, idle - self._idle)
        if work + wait > 0:
            self._busy, self._idle = busy, idle
            self._usage = max(MIN_USAGE, work / (work + wait))
        return self._usage

    def _read(self) -> tuple[float, float]:
        times = self._cpu_times()
        return times.user + times.system + getattr(times, "nice", 0.0), times.idle


def raise_descriptor_limit() -> int:
    """Let this process have as many files and sockets open as the system permits. Returns.

    How many that is.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # "unlimited" may be more than there can be
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed


def tune_gc() -> None:
    """Look for cyclic garbage less often, and only in what is new.

    Messages leave none behind, and looking took a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
