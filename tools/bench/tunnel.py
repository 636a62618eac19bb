"""One end of a tunnel: what comes, and what may be sent. Core."""

from iris.relay_protocol.varint import varint
from tools.bench.wire import Buffer, Failure, binary

GRANT = 64 << 20  # bytes that an end grants at first, like the bindings
_GRANT_STEP = 1 << 20  # bytes received after which as much is granted again
_CHUNK_LIMIT = 65_536


class Tunnel:
    """One end. All messages have the same payload, and are one chunk when they're sent.

    What comes may be cut in any way.
    """

    def __init__(self, number: int, data: bytes) -> None:
        self._number, self._payload = varint(number), data
        self.packet = b"\x0c" + self._number + varint(len(data)) + binary(data)
        self._space = 0  # bytes that may be sent
        self._chunk = 0  # bytes that are missing of a chunk
        self._message = 0  # bytes that have come of a message
        self._granted = GRANT  # bytes that may come
        self.received = 0  # bytes
        self.messages = 0
        self.closed: str | None = None  # the reason

    def spend(self) -> bool:
        """Use the allowance for one message. Returns: False when it doesn't suffice."""
        if self._space < len(self._payload):
            return False
        self._space -= len(self._payload)
        return True

    def grant(self) -> bytes:
        """The packet that lets the other end go on, if it's time for one."""
        step = GRANT - self._granted
        if step < _GRANT_STEP:
            return b""
        self._granted = GRANT
        return b"\x0b" + self._number + varint(step)

    def take(self, data: Buffer) -> int:
        """Take in what came. Returns: how many bytes were used; the rest isn't whole. Raises.

        Failure.
        """
        at, end = 0, len(data)
        try:
            while at < end and self.closed is None:
                if self._chunk:
                    size = min(self._chunk, end - at)
                    self._add(data[at : at + size])
                    at += size
                    self._chunk -= size
                else:
                    at = self._packet(data, at)
        except IndexError:
            pass  # the packet isn't whole
        return at

    def _packet(self, data: Buffer, at: int) -> int:
        """Read a packet up to the payload. Raises: IndexError when it isn't whole."""
        op = data[at]
        stop = at + 1 + len(self._number)
        if op not in (0x0B, 0x0C, 0x0D):
            raise Failure(f"not a packet of a tunnel: {bytes(data[at : at + 16]).hex(' ')}")
        if data[at + 1 : stop] != self._number:
            if stop > len(data):
                raise IndexError
            raise Failure(f"a packet of another tunnel: {bytes(data[at : at + 16]).hex(' ')}")
        first, stop = _read(data, stop)
        if op == 0x0B:
            self._space += first
        elif op == 0x0D:
            if stop + first > len(data):
                raise IndexError
            self.closed, stop = (
                bytes(data[stop : stop + first]).decode(errors="replace"),
                stop + first,
            )
        else:
            size, stop = _read(data, stop)
            left = len(self._payload) - self._message
            if first != (0 if self._message else len(self._payload)) or not 0 < size <= min(
                left, _CHUNK_LIMIT
            ):
                raise Failure(
                    f"a chunk of {size} bytes of a message of {first}, where {left} are missing"
                )
            if size > self._granted:
                raise Failure("more came than was granted")
            self._granted -= size
            self._chunk = size
        return stop

    def _add(self, part: Buffer) -> None:
        if not self._payload.startswith(part, self._message):
            raise Failure("a message came with another payload")
        self.received += len(part)
        self._message += len(part)
        if self._message == len(self._payload):
            self._message = 0
            self.messages += 1


def _read(data: Buffer, at: int) -> tuple[int, int]:
    """Read a number. Returns: (value, offset behind it). Raises.

    IndexError when the data ends first; Failure.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Failure("a number of more than ten bytes")
