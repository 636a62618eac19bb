"""The flow of messages through one end of a tunnel: cutting, reassembly and credit. Core.

No socket, thread or clock. Counterpart of the computing half of iris-go's tunnel.go. Not
thread-safe: the frontend has a lock. Sizes in bytes.
"""

from collections import deque

from iris.client.errors import Closed
from iris.errors import MessageTooBig, ProtocolError
from iris.relay_protocol import client_packets as codec
from iris.relay_protocol.schema import MESSAGE_SIZE
from iris.runtime.credit_window import CreditWindow


class Outgoing:
    """A message that is being sent through a tunnel.

    One that is abandoned halfway is discarded by the other end when the next one begins.
    """

    def __init__(self, data: codec.Buffer) -> None:
        """Wrap a message.

        Raises:
            TypeError: it isn't bytes-like.
            ValueError: it is too long, or empty, which the protocol cannot express.
        """
        self.data = memoryview(codec.payload(data))
        self.sent = 0
        if not self.data:
            raise ValueError("a tunnel cannot carry an empty message")

    @property
    def complete(self) -> bool:
        """Whether all of it was sent."""
        return self.sent == len(self.data)

    @property
    def progress(self) -> str:
        """How much of it was sent, as text."""
        return f"sent {self.sent} of {len(self.data)} bytes"


class Flow:
    """One end of a tunnel: `cut` and `grant` for sending, `feed` and `receive` for receiving."""

    def __init__(self, number: int, chunk_limit: int, buffer: int) -> None:
        """Start without credit for sending.

        Args:
            chunk_limit: bytes of the largest chunk that may be sent.
            buffer: bytes of the credit that the other end was granted.
        """
        self._number, self._chunk_limit = number, chunk_limit
        self._outgoing, self._incoming = CreditWindow(), CreditWindow(buffer)
        self._parts: list[bytes] = []  # of the message that is being received
        self._missing = self._arrived = 0  # bytes of it
        self._messages: deque[bytes] = deque()
        self._closing = False
        self.error: Closed | None = None  # why it has ended

    # Sending

    def grant(self, space: int) -> None:
        """Add credit for sending."""
        self._outgoing.grant(space)

    def cut(self, message: Outgoing) -> list[codec.ImmutableBytes]:
        """Cut off what may be sent now.

        Returns: packets in pieces, none while the next chunk lacks credit.
        Raises: Closed.
        """
        if self.error is not None:
            raise self.error.copy()
        packets: list[codec.ImmutableBytes] = []
        data, size, credit = message.data, len(message.data), self._outgoing
        while message.sent < size:
            chunk = data[message.sent : message.sent + self._chunk_limit]
            length = len(chunk)
            if length > credit.available:
                break
            packets += (
                codec.tunnel_transfer(self._number, 0 if message.sent else size, length),
                chunk,
            )
            credit.consume(length)
            message.sent += length
        return packets

    # Receiving

    def feed(self, size: int, chunk: bytes) -> bool:
        """Add a received chunk.

        Args:
            size: bytes of the whole message in its first chunk, 0 in the others.
        Returns: whether this completes a message.
        Raises: ProtocolError.
        """
        length = len(chunk)
        if size:
            if size > MESSAGE_SIZE:
                raise MessageTooBig(size, MESSAGE_SIZE)
            self._incoming.release(self._arrived)  # of a message that was abandoned halfway
            self._parts, self._missing, self._arrived = [], size, 0
        if length > self._missing:
            raise ProtocolError("tunnel chunk exceeds its message")
        if not length:
            return False
        self._incoming.consume(length)
        self._missing -= length
        self._arrived += length
        self._parts.append(chunk)
        if self._missing:
            return False
        self._messages.append(chunk if length == self._arrived else b"".join(self._parts))
        self._parts, self._arrived = [], 0
        return True

    def receive(self) -> bytes | None:
        """Take the oldest complete message.

        Returns: the message, or None while there is none.
        Raises: Closed when no more will come.
        """
        if not self._messages:
            if self.error is not None:
                raise self.error.copy()
            return None
        message = self._messages.popleft()
        self._incoming.release(len(message))
        return message

    def window_update(self) -> bytes:
        """Encode the credit that is due to the other end, after `feed` and `receive`.

        Returns: a packet, or nothing while it isn't worth one, or in vain.
        """
        space = self._incoming.take_grant(max(self._missing, self._chunk_limit))
        if not space or self.error is not None:
            return b""
        return codec.tunnel_allow(self._number, space)

    # Closing

    def begin_close(self) -> bool:
        """Start to close. Returns: whether a close packet has to be sent."""
        first = not self._closing and self.error is None
        self._closing = True
        return first
