"""Requests: the outcome that a caller gets, and the call that a service answers.

Core; counterpart of the request half of Go's proto/iris/connection.go and events.go. The caller's
side keeps a table entry and a deadline (`connection.py`), the service's a `Call`; neither holds a
thread.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from iris.proto.wire.clusters import Header, Op
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId

# seconds; as nanoseconds it just fits an int64, and threads can wait that long
MAX_TIMEOUT: Final = 9e9

_NANO: Final = 1_000_000_000


class Reply:
    """The service replied."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __eq__(self, other: object) -> bool:
        return other.data == self.data if isinstance(other, Reply) else NotImplemented

    def __repr__(self) -> str:
        return f"Reply({self.data!r})"


class Fault(NamedTuple):
    """The service failed, or its node rejected the request; the text says why."""

    text: str


class TimedOut(NamedTuple):
    """No reply came in time."""


Outcome = Reply | Fault | TimedOut

TIMED_OUT: Final = TimedOut()


def to_nanoseconds(timeout: float) -> int:
    """Convert seconds to the wire's nanoseconds, cut to MAX_TIMEOUT."""
    return int(min(timeout, MAX_TIMEOUT) * _NANO)


def to_seconds(nanoseconds: int) -> float:
    """Convert the wire's nanoseconds to seconds, cut to 0..MAX_TIMEOUT."""
    return min(max(nanoseconds / _NANO, 0.0), MAX_TIMEOUT)


class Call:
    """A request that a service has in flight: reply, fail, or drop it once it has timed out.

    The caller's node watches the deadline by itself.

    Attributes: data: the request; timeout: seconds that the caller granted, counted from now; id:
    unique on its connection.
    """

    __slots__ = ("_dest", "_direct", "_open", "_req_id", "_sender", "data", "id", "timeout")

    def __init__(
        self,
        open_calls: "OpenCalls",
        call_id: int,
        direct: Callable[[NodeId, Message], None],
        sender: NodeId,
        header: Header,
        data: bytes,
    ) -> None:
        self.id, self._open, self._direct = call_id, open_calls, direct
        self._sender, self._dest, self._req_id = sender, header.src, header.req_id
        self.data, self.timeout = data, to_seconds(header.req_time)
        open_calls[call_id] = self

    def reply(self, data: bytes) -> None:
        """Complete with a reply; ignored when the call is complete already."""
        self._complete(data, failed=False)

    def fail(self, text: str) -> None:
        """Complete with a fault; ignored when the call is complete already."""
        self._complete(text.encode(errors="replace"), failed=True)

    def drop(self) -> None:
        """Complete without any answer: its caller has timed out."""
        self._open.pop(self.id, None)

    def _complete(self, data: bytes, *, failed: bool) -> None:
        if self._open.pop(self.id, None) is not None:  # atomic: the first one counts
            self._direct(
                self._sender,
                Message(Header(Op.REPLY, 0, self._dest, self._req_id, failed), Payload.of(data)),
            )


OpenCalls = dict[int, Call]  # a connection's incomplete calls, by id
