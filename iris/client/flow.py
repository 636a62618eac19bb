"""Which chunks of a tunnel's messages may be sent when, and what the chunks that come make up.

Core: no socket, thread or clock.

Answers to the computing half of iris-go's tunnel.go. Not thread-safe: the shell has a lock. Sizes
in bytes.
"""

from collections import deque

from iris.errors import ProtocolError
from iris.relay_protocol import client_codec as codec
from iris.relay_protocol.schema import MESSAGE_SIZE

_LOTS = 16  # space is given back in so many lots, not for every small message


class Outgoing:
    """A message on its way into a tunnel.

    Given up halfway, it is the other end that forgets it when the next one begins.
    """

    def __init__(self, data: codec.Buffer) -> None:
        """Raises: ValueError for one that is too long, or empty (the protocol can't say that).

        TypeError.
        """
        self.data = memoryview(codec.payload(data))
        self.sent = 0
        if not self.data:
            raise ValueError("an empty message can't be sent through a tunnel")

    @property
    def whole(self) -> bool:
        """Whether all of it was sent."""
        return self.sent == len(self.data)


class Flow:
    """One end of a tunnel.

    `cut` and `allow` are the way out, `take`, `next` and `settle` the way in.
    """

    def __init__(self, number: int, chunk_limit: int, buffer: int) -> None:
        """chunk_limit of what is sent; buffer is what we have granted the other end at first."""
        self._number, self._chunk_limit = number, chunk_limit
        self._allowance = 0  # that we may send
        self._lot, self._space = max(1, buffer // _LOTS), buffer  # that the other end may send
        self._owed = 0  # that it may send again, but doesn't know yet
        self._parts: list[bytes] = []  # of the message that is coming
        self._missing = 0
        self._arrived = 0
        self._messages: deque[bytes] = deque()

    # Out

    def allow(self, space: int) -> None:
        """So much more may be sent."""
        self._allowance += space

    def cut(self, message: Outgoing) -> list[codec.ImmutableBytes]:
        """The packets of it that may be sent now, none when the next chunk has to wait for an
        allowance.
        """
        packets: list[codec.ImmutableBytes] = []
        data, size = message.data, len(message.data)
        while message.sent < size:
            chunk = data[message.sent : message.sent + self._chunk_limit]
            length = len(chunk)
            if length > self._allowance:
                break
            packets += (
                codec.tunnel_transfer(self._number, 0 if message.sent else size, length),
                chunk,
            )
            self._allowance -= length
            message.sent += length
        return packets

    # In

    def take(self, size: int, chunk: bytes) -> bool:
        """Add a chunk; size is that of the whole message in its first one, else 0. Returns.

        Whether a message is whole now.

        Raises: ProtocolError when that can't be.
        """
        length = len(chunk)
        if size:
            if size > MESSAGE_SIZE:
                raise ProtocolError(f"a tunnel's message of {size} bytes, limit {MESSAGE_SIZE}")
            self._owed += self._arrived  # of one that was given up halfway
            self._parts, self._missing, self._arrived = [], size, 0
        if length > self._missing:
            raise ProtocolError("a tunnel's chunk goes beyond its message")
        if not length:
            return False
        self._space -= length
        self._missing -= length
        self._arrived += length
        self._parts.append(chunk)
        if self._missing:
            return False
        self._messages.append(chunk if length == self._arrived else b"".join(self._parts))
        self._parts, self._arrived = [], 0
        return True

    @property
    def ready(self) -> bool:
        """Whether there is a message for `next`."""
        return bool(self._messages)

    def next(self) -> bytes:
        """The oldest message that came. Raises: IndexError when there is none."""
        message = self._messages.popleft()
        self._owed += len(message)
        return message

    def settle(self) -> bytes:
        """A packet that gives back the space of what was taken out.

        Nothing while it isn't worth one. After `take` and `next`.
        """
        needed = max(self._missing, self._chunk_limit)
        if not self._owed or (self._owed < self._lot and needed <= self._space):
            return b""
        space, self._owed = self._owed, 0
        self._space += space
        return codec.tunnel_allow(self._number, space)
