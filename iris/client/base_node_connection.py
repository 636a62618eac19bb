"""What the node connections of both APIs share: pools, the states from attaching to the end.

No socket, thread or task; the subclasses own those. Counterpart of the lower half of iris-go's
connection.go.
"""

import contextlib
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from iris.client.errors import Closed, TimedOut
from iris.client.protocol import ClientProtocol, Frontend, Packet, Pending, T
from iris.errors import LinkClosed, ProtocolError
from iris.runtime.compiling import mypyc_attr, with_cause
from iris.runtime.rate_limited_log import RateLimitedLogger


class Pool(Protocol):
    """Runs one handler for each item submitted, a bounded number of times concurrently."""

    def start(self) -> None:
        """Begin with what is queued."""

    def submit(self, item: Any, size: int) -> bool:
        """Queue an item of `size` bytes. Returns: False when it is dropped for lack of memory."""

    def close(self) -> list[Any]:
        """Start nothing more; running handlers go on. Returns: the items that were dropped."""


P = TypeVar("P", bound=Pool)
Work = Callable[[Any], Any]
OnDisconnect = Callable[[Closed], Any] | None

QUEUE_FULL = "queue limit of %d bytes reached"
_WARNING_PERIOD = 10.0  # seconds between two lines about the same drops

_log = logging.getLogger(__name__)
_numbers = itertools.count(1)


@mypyc_attr(allow_interpreted_subclasses=True)
class BaseNodeConnection(Generic[T, P]):
    """One program's connection to its node, a `protocol.Frontend`."""

    def __init__(
        self, prefix: str, cluster: str, attached: Pending, on_disconnect: OnDisconnect
    ) -> None:
        """Prepare to attach, as a member of a cluster when it is named.

        Args:
            prefix: of the connection's name in log lines.
            attached: completed once the node has accepted or rejected the program.
            on_disconnect: see `iris.connect`.
        """
        self.name = f"{prefix}-{next(_numbers)}"
        self._cluster, self._on_disconnect = cluster, on_disconnect
        self._lock = threading.Lock()  # guards the next two
        self._closing = False  # on our own behalf
        self._drops = RateLimitedLogger(_log, period=_WARNING_PERIOD)
        self._pools: list[P] = []
        frontend: Frontend[T] = self
        self.protocol = ClientProtocol(frontend, attached=attached, cluster=cluster)

    def make_pool(self, name: str, work: Work, workers: int, memory: int) -> P:
        """Make a pool of at most `workers` threads or tasks, whose queue takes `memory` bytes."""
        raise NotImplementedError

    def new_pool(self, kind: str, work: Work, workers: int, memory: int) -> P:
        """Make a pool that is closed with this connection, or by `drop_pool`."""
        pool = self.make_pool(f"{self.name}-{kind}", work, workers, memory)
        with self._lock:
            self._pools.append(pool)
        return pool

    def drop_pool(self, pool: P) -> None:
        """Close a pool that isn't needed any more; running handlers go on."""
        pool.close()
        with self._lock, contextlib.suppress(ValueError):  # twice is fine
            self._pools.remove(pool)

    def log_dropped(self, what: str, why: str, *args: object) -> None:
        """Log that something was dropped, and why, at most once per period for both."""
        text = f"%s: %s dropped: {why}"
        self._drops.log(logging.ERROR, (what, why), text, self.name, what, *args)

    def _log_attached(self) -> None:
        member = f" as a member of '{self._cluster}'" if self._cluster else ""
        _log.info("%s: attached%s", self.name, member)

    def _begin_close(self) -> None:
        """Send a close packet, the first time."""
        with self._lock:
            first, self._closing = not self._closing, True
        if first:
            with contextlib.suppress(Closed):  # the node closed first
                self.protocol.close()

    def _end(self, error: BaseException | None) -> None:
        """End the protocol, unless it has ended, because of what `error` says about the socket."""
        if isinstance(error, ProtocolError):
            _log.error("%s: protocol violation by the node: %s", self.name, error)
        elif error is not None and not isinstance(error, (OSError, LinkClosed)):
            _log.error("%s: failed to process a packet", self.name, exc_info=error)  # our bug
        lost = Closed("connection to the node lost")
        lost.__cause__ = error
        self.protocol.end(lost)

    def _disconnected(self) -> Closed | None:
        """Close the pools, and log the end.

        Returns: what to tell the application; None when it closed the connection itself.
        """
        with self._lock:
            pools, closing = list(self._pools), self._closing
        for pool in pools:
            if dropped := len(pool.close()):
                _log.warning("%s: %d queued messages dropped", self.name, dropped)
        reason = self.protocol.ended
        if closing or reason is None:
            _log.info("%s: closed", self.name)
            return None
        _log.warning("%s: disconnected: %s", self.name, reason)
        return reason.copy()

    def abort(self) -> None:
        """Disconnect without a close packet. Idempotent, never raises."""
        raise NotImplementedError

    # See `protocol.Frontend`

    def write_soon(self, packet: Packet) -> None:
        """Write one packet, without waiting. Raises: Closed."""
        raise NotImplementedError

    def new_tunnel(self, number: int, chunk_limit: int) -> T:
        """Make the local end of a tunnel."""
        raise NotImplementedError


def no_response(timeout: float) -> TimedOut:
    """Make the error for a node that doesn't complete the handshake within `timeout` seconds."""
    return with_cause(TimedOut(f"no init packet from the node within {timeout} s"), None)
