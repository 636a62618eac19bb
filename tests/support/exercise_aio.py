"""All that the Python binding can do with asyncio: a program for `relaycheck binding`.

Exits with 0 if all of it works.

python tests/support/exercise_aio.py PORT
"""

import asyncio
import contextlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import iris
import iris.aio

PATIENCE = 2.0  # seconds
BIG = bytes(range(256)) * (5 << 12)  # 5 MiB


class Mirror(iris.aio.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.told = asyncio.Event()

    async def handle_broadcast(self, message: bytes) -> None:
        if message == b"to all":
            self.told.set()

    async def handle_request(self, request: bytes) -> bytes:
        if request == b"fail":
            raise iris.Fault("no")
        return request[::-1]

    async def handle_tunnel(self, tunnel: iris.aio.Tunnel) -> None:
        async for message in tunnel:
            await tunnel.send(message[::-1], PATIENCE)


async def main(port: int) -> None:
    mirror = Mirror()
    async with (
        iris.aio.register("mirror", mirror, port=port, timeout=PATIENCE),
        iris.aio.connect(port, timeout=PATIENCE) as connection,
    ):
        await connection.broadcast("mirror", b"to all")
        await asyncio.wait_for(mirror.told.wait(), PATIENCE)
        assert await connection.request("mirror", b"abc", PATIENCE) == b"cba"
        with contextlib.suppress(iris.Fault):
            await connection.request("mirror", b"fail", PATIENCE)
            raise AssertionError("it doesn't fail")
        answers = await asyncio.gather(
            *(connection.request("nobody's", b"%d" % i, PATIENCE) for i in range(5))
        )
        assert answers == [b"%d" % i for i in range(5)]
        events: asyncio.Queue[bytes] = asyncio.Queue()
        async with await connection.subscribe("news", events.put_nowait):
            await connection.publish("news", b"event")
            assert await asyncio.wait_for(events.get(), PATIENCE) == b"event"
        for cluster in ("mirror", "nobody's"):
            async with await connection.tunnel(cluster, PATIENCE) as tunnel:
                for message in (b"hello", BIG):
                    await tunnel.send(message, PATIENCE)
                    assert await tunnel.recv(PATIENCE) == (
                        message[::-1] if cluster == "mirror" else message
                    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
