"""TCP connections through tunnels: what can go wrong before there is one.

The rest is in tests/loopback/test_ctl_tunnel.py.
"""

import errno
import queue
import socket
import threading
from functools import partial
from typing import Any

import pytest

from iris.client import TimedOut
from iris.ctl import forward
from tests.support.waiting import wait_for


class Scarce:
    """A listening socket of a system that has run out of descriptors for a moment, and is shut
    then.
    """

    def __init__(self, *results: Any) -> None:
        self._results = iter(results)

    def accept(self) -> tuple[socket.socket, Any]:
        result = next(self._results)
        if isinstance(result, OSError):
            raise result
        return result, None

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 1


class Nobody:
    """A connection through which nobody is reached."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[str] = queue.SimpleQueue()

    def tunnel(self, cluster: str, timeout: float) -> Any:
        self.asked.put(cluster)
        raise TimedOut


def test_a_moment_without_descriptors_doesnt_end_the_listening(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forward, "_RETRY_PAUSE", 0.0)
    monkeypatch.setattr(forward, "LIMIT", 2)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
    ):
        sock, _ = server.accept()
        lack = [OSError(errno.EMFILE, "Too many open files")] * 5
        listener, nobody = Scarce(*lack, sock, OSError(errno.EINVAL, "Invalid argument")), Nobody()
        build = partial(nobody.tunnel, "c", 1.0)
        before = threading.active_count()
        made = forward._Listener(listener, build, forward._Sockets(1.0))  # type: ignore[arg-type]
        made.start()
        assert nobody.asked.get(timeout=10.0) == "c"
        wait_for(lambda: threading.active_count() == before)
    assert caplog.text.count("can't accept a connection: [Errno 24]") == 5
