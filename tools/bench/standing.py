"""What a node costs that does nothing. Shell."""

import time

import psutil

from tests.support.lab import Process
from tools.bench.raw_connection import cpu_times

_SETTLE = 1.0  # seconds after which a change is over


def idle(node: Process, seconds: float) -> dict[str, float]:
    """CPU time of a node without clients, in percent of a core."""
    time.sleep(_SETTLE)
    before, began = cpu_times({"node": node.pid}), time.monotonic()
    time.sleep(max(seconds, 1.0))  # nodes do something every second
    used = cpu_times({"node": node.pid})["node"] - before["node"]
    return {"idle_cpu": used / 1e7 / (time.monotonic() - began)}


def size(node: Process) -> dict[str, float]:
    """Resident memory in MiB, and threads."""
    time.sleep(_SETTLE)
    process = psutil.Process(node.pid)
    return {"memory": process.memory_info().rss / (1 << 20), "threads": process.num_threads()}
