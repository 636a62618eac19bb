"""A driver's connection to the node.

One blocking socket that never waits for room to send while something may come. Shell.
"""

import select
import socket
import struct
import time
from collections import deque
from types import TracebackType

from tools.bench.wire import CLOSE, CLOSED, WELCOME, Failure, init

STALL = 10.0  # seconds without a byte from the node, where one must come


class RawConnection:
    """Attached to the node on this host. What was received and isn't used yet is in `data`."""

    def __init__(
        self, port: int, cluster: str = "", *, room: int = 1 << 18, patient: bool = False
    ) -> None:
        """room: bytes that one batch may have; patient.

        For as long as it takes, as it becomes a service.
        """
        self.sock = socket.create_connection(("127.0.0.1", port), STALL)
        self.sock.setblocking(True)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not patient:
            # Python's own timeout would cost a poll() each time
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(STALL), 0))
        self._buffer = bytearray(room)
        self._view = memoryview(self._buffer)
        self._have = 0
        self._unsent: deque[memoryview] = deque()
        self._poll = select.poll()
        self._poll.register(self.sock, select.POLLIN | select.POLLOUT)
        self.push(init(cluster))
        while len(self.data) < len(WELCOME):
            self.pull()
        if self.data[: len(WELCOME)] != WELCOME:
            raise Failure(f"the node doesn't welcome us: {bytes(self.data[:200])!r}")
        self.drop(len(WELCOME))

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sock.close()

    @property
    def data(self) -> memoryview:
        """What has come and wasn't dropped."""
        return self._view[: self._have]

    @property
    def unsent(self) -> bool:
        """Whether the socket still has to take something."""
        return bool(self._unsent)

    def drop(self, count: int) -> None:
        """Forget the first bytes of `data`; views of it are worthless from now on."""
        rest = self._have - count
        if rest:
            self._buffer[:rest] = self._buffer[count : self._have]
        self._have = rest

    def push(self, data: bytes) -> None:
        """Send as much as goes without waiting; the rest goes while pull() waits."""
        if self._unsent:
            self._unsent.append(memoryview(data))
        elif (count := self._send(data)) < len(data):
            self._unsent.append(memoryview(data)[count:])

    def pull(self) -> None:
        """Wait until something has come. Raises: Failure when nothing does, or the node hung up."""
        while self._unsent:
            events = self._poll.poll(STALL * 1_000)
            if not events:
                raise Failure(f"the node took nothing for {STALL} s")
            if events[0][1] & select.POLLOUT:
                self.flush()
            if events[0][1] & ~select.POLLOUT:
                break
        try:
            count = self.sock.recv_into(self._view[self._have :])
        except BlockingIOError:
            raise Failure(f"nothing came for {STALL} s") from None
        if not count:
            raise Failure("the node hung up")
        self._have += count

    def flush(self) -> None:
        """Send of the rest what goes without waiting."""
        while self._unsent:
            first = self._unsent[0]
            count = self._send(first)
            if count < len(first):
                self._unsent[0] = first[count:]
                return
            self._unsent.popleft()

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def leave(self) -> None:
        """Close gracefully. Raises: Failure when the node answers with anything but its close."""
        self.push(CLOSE)
        while len(self.data) < len(CLOSED):
            self.pull()
        if self.data != CLOSED:
            raise Failure(f"not how a connection closes: {bytes(self.data[:16]).hex(' ')}")
        self.sock.close()


def cpu_times(pids: dict[str, int]) -> dict[str, int]:
    """CPU time that processes have used, all their threads together, in ns.

    Any process' clock can be read (clock_getcpuclockid(3)).
    """
    return {name: time.clock_gettime_ns((~pid << 3) | 2) for name, pid in pids.items()}


def idle(pids: dict[str, int], seconds: float) -> dict[str, float]:
    """CPU time that processes use while nothing is asked of them, in percent of a core."""
    before, began = cpu_times(pids), time.perf_counter_ns()
    time.sleep(seconds)
    after, took = cpu_times(pids), time.perf_counter_ns() - began
    return {name: 100 * (after[name] - before[name]) / took for name in pids}


class Window:
    """The time that counts: after the warm-up, `seconds` long."""

    def __init__(self, warm_up: float, seconds: float, pids: dict[str, int]) -> None:
        self._pids = pids
        now = time.perf_counter_ns()
        self.opens = now + int(warm_up * 1e9)
        self.closes = self.opens + int(seconds * 1e9)
        self._began, self._ended = 0, 0
        self._before: dict[str, int] = {}
        self._after: dict[str, int] = {}

    def begin(self) -> None:
        """From now on it counts."""
        self._before, self._began = self._times(), time.perf_counter_ns()

    def end(self) -> None:
        """No more."""
        self._ended, self._after = time.perf_counter_ns(), self._times()

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self._ended - self._began) / 1e9

    def cpu(self, messages: int) -> dict[str, float]:
        """CPU seconds per 1,000 messages, of each process."""
        return {
            name: (self._after[name] - self._before[name]) / 1e6 / max(messages, 1)
            for name in self._after
        }

    def _times(self) -> dict[str, int]:
        return {**cpu_times(self._pids), "caller": time.process_time_ns()}
