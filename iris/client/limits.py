"""What inbound messages may cost a program: threads, and bytes that wait for one. Sizes in bytes.

Counterpart of iris-go's limits.go, whose defaults these are.
"""

import os
from dataclasses import dataclass

PORT = 55_555  # of the local node, unless it was told otherwise
TUNNEL_BUFFER = 64 << 20  # of one tunnel's messages that came and weren't received yet
PATIENCE = 5.0  # seconds that a node may be late with what it owes us

_THREADS = 4 * (os.cpu_count() or 1)
_MEMORY = 64 << 20


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """How many handlers of a service run at a time, and how many bytes wait for them.

    What comes beyond that is dropped, and logged.

    With 0 threads, handlers run in the thread that reads from the node: that is the fastest, but
    while one runs nothing else is read, so it must be quick, and can't wait for anything of its own
    connection. In `iris.aio` a thread is a task, and 0 isn't possible.
    """

    broadcast_threads: int = _THREADS
    broadcast_memory: int = _MEMORY
    request_threads: int = _THREADS
    request_memory: int = _MEMORY
    # tunnels of others that are handled at a time; further ones aren't accepted
    tunnel_threads: int = 256

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class TopicLimits:
    """The same for the events of one subscription.

    With 1 thread (or 0) they are handled in the order in which they came.
    """

    event_threads: int = _THREADS
    event_memory: int = _MEMORY

    def __post_init__(self) -> None:
        _check(self)


def _check(limits: object) -> None:
    for name, value in vars(limits).items():
        if value < 0:
            raise ValueError(f"{name} is {value}")
