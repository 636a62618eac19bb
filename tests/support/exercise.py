"""All that the Python binding can do, in a second or two: a program for `relaycheck binding`.

Exits with 0 if all of it works.

python tests/support/exercise.py PORT
"""

import contextlib
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import iris

PATIENCE = 2.0  # seconds
BIG = bytes(range(256)) * (5 << 12)  # 5 MiB


class Mirror(iris.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()

    def handle_broadcast(self, message: bytes) -> None:
        if message == b"to all":
            self.told.set()

    def handle_request(self, request: bytes) -> bytes:
        if request == b"fail":
            raise iris.Fault("no")
        return request[::-1]

    def handle_tunnel(self, tunnel: iris.Tunnel) -> None:
        for message in tunnel:
            tunnel.send(message[::-1], PATIENCE)


def main(port: int) -> None:
    mirror = Mirror()
    with (
        iris.register("mirror", mirror, port=port, timeout=PATIENCE),
        iris.connect(port, timeout=PATIENCE) as connection,
    ):
        connection.broadcast("mirror", b"to all")
        assert mirror.told.wait(PATIENCE)
        assert connection.request("mirror", b"abc", PATIENCE) == b"cba"
        with contextlib.suppress(iris.Fault):
            connection.request("mirror", b"fail", PATIENCE)
            raise AssertionError("it doesn't fail")
        with connection.batch():
            futures = [connection.submit("nobody's", b"%d" % i, PATIENCE) for i in range(5)]
        assert [future.result(PATIENCE) for future in futures] == [b"%d" % i for i in range(5)]
        events: list[bytes] = []
        came = threading.Event()

        def take(event: bytes) -> None:
            events.append(event)
            came.set()

        with connection.subscribe("news", take):
            connection.publish("news", b"event")
            assert came.wait(PATIENCE)
        with connection.subscribe("news", lambda event: None):
            assert events == [b"event"]
        for cluster in ("mirror", "nobody's"):
            with connection.tunnel(cluster, PATIENCE) as tunnel:
                for message in (b"hello", BIG):
                    tunnel.send(message, PATIENCE)
                    assert tunnel.recv(PATIENCE) == (
                        message[::-1] if cluster == "mirror" else message
                    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
