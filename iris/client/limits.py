"""Defaults, and what received messages may cost a program: threads, and memory while they wait.

Sizes in bytes, times in seconds. Counterpart of iris-go's limits.go, whose limits these are.
"""

import os
from dataclasses import dataclass

PORT = 55_555  # of the local node
TUNNEL_BUFFER = 64 << 20  # credit of one tunnel: messages that arrived and weren't received yet
CONNECT_TIMEOUT = 5.0
RESPONSE_GRACE = 5.0  # that the node may take to report a timeout, beyond the timeout itself
CLOSE_GRACE = 5.0  # that the node may take to confirm the close of a tunnel

_THREADS = 4 * (os.cpu_count() or 1)
_MEMORY = 64 << 20


class _Limits:
    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"{name} is negative: {value}")


@dataclass(frozen=True, kw_only=True)
class ServiceLimits(_Limits):
    """Bound a service's concurrent handlers, and the bytes of the messages queued for them.

    Messages beyond that are dropped, and logged.

    With 0 threads, handlers run in the thread that reads from the node. That is the fastest way,
    but nothing else is read meanwhile, so a handler must be quick and cannot wait for anything of
    its own connection. In `iris.aio` a thread is a task, and 0 counts as 1.
    """

    broadcast_threads: int = _THREADS
    broadcast_memory: int = _MEMORY
    request_threads: int = _THREADS
    request_memory: int = _MEMORY
    tunnel_threads: int = 256  # concurrent inbound tunnels; further ones aren't accepted


@dataclass(frozen=True, kw_only=True)
class TopicLimits(_Limits):
    """Bound the same for the events of one subscription.

    With 1 thread (or 0), events are handled in the order of their arrival.
    """

    event_threads: int = _THREADS
    event_memory: int = _MEMORY
