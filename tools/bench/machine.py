"""What the machine itself can do at the moment, so that figures of different days can be compared.

Shell.

The processes are bound to CPUs: where the scheduler puts them makes a round trip take 5 µs or 50,
and it chooses another way under load.
"""

import os
import socket
import time
from collections.abc import Callable

from tools.bench.stats import percentile

SIZE = 64  # bytes of a message
_CHUNK = 65_536
_CPUS = os.sched_getaffinity(0)  # that we may use


def measure(part: float) -> dict[str, object]:
    """Bare loopback between two processes of blocking sockets.

    Cipher and MAC per message, on running ones. part: seconds for each.
    """
    return {
        "ping_pong_us": _ping_pong(part, apart=True),
        "ping_pong_one_cpu_us": _ping_pong(part, apart=False),
        "stream_mb_per_second": _stream(part),
        "aes_ctr_us": _each(_cipher(), part),
        "hmac_md5_us": _each(_mac(), part),
    }


def _pair(serve: Callable[[socket.socket], None], *, apart: bool) -> tuple[socket.socket, int]:
    """A connection over loopback to a process that runs `serve` at its other end, on another CPU
    (if there is one) or on the same.
    """
    cpus = sorted(_CPUS)
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pid = os.fork()
    if pid == 0:
        try:
            sock.close()
            os.sched_setaffinity(0, {cpus[-1] if apart else cpus[0]})
            serve(other)
        finally:
            os._exit(0)
    other.close()
    os.sched_setaffinity(0, {cpus[0]})
    return sock, pid


def _pong(sock: socket.socket) -> None:
    while data := sock.recv(SIZE):
        sock.sendall(data)


def _sink(sock: socket.socket) -> None:
    room = bytearray(4 * _CHUNK)
    while sock.recv_into(room):
        pass


def _ping_pong(part: float, *, apart: bool) -> float:
    """The middle round trip, in µs."""
    sock, pid = _pair(_pong, apart=apart)
    message, times, clock = bytes(SIZE), list[int](), time.perf_counter_ns
    end = clock() + int(part * 1e9)
    while (began := clock()) < end:
        sock.sendall(message)
        sock.recv(SIZE)
        times.append(clock() - began)
    sock.close()
    os.waitpid(pid, 0)
    return percentile(sorted(times), 0.5) / 1_000


def _stream(part: float) -> float:
    """MB/s one way."""
    sock, pid = _pair(_sink, apart=True)
    message, count, clock = bytes(_CHUNK), 0, time.perf_counter
    began = clock()
    while clock() - began < part:
        sock.sendall(message)
        count += _CHUNK
    sock.close()
    os.waitpid(pid, 0)  # until it has read everything
    return count / (clock() - began) / 1e6


def _cipher() -> Callable[[], object]:
    # other roles do without
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    update, message = (
        Cipher(algorithms.AES(bytes(16)), modes.CTR(bytes(16))).encryptor().update,
        bytes(SIZE),
    )
    return lambda: update(message)


def _mac() -> Callable[[], object]:
    import hmac

    running, message = hmac.new(bytes(16), digestmod="md5"), bytes(SIZE)

    def one() -> bytes:
        running.update(message)
        return running.digest()

    return one


def _each(act: Callable[[], object], part: float) -> float:
    """What one takes, in µs."""
    count, clock = 0, time.perf_counter
    began = clock()
    while clock() - began < part:
        for _ in range(100):
            act()
        count += 100
    return (clock() - began) / count * 1e6
