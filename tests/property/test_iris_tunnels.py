"""Whatever chunks go into a tunnel come out at the other end.

The same, in order, throttled, and before the close.
"""

import random
import threading

import pytest

from iris.proto.iris.tunnel import Tunnel, local_pair
from tests.support import tunnels
from tests.support.applications import TunnelEnd
from tests.support.tunnels import WINDOW


def chunks_of(rng: random.Random) -> list[tuple[int, bytes]]:
    """Some messages of any size, cut into chunks of any size."""
    chunks = []
    for _ in range(rng.randrange(1, 40)):
        size = rng.choice([1, 100, rng.randrange(1, 1 << 17)])
        message, start = rng.randbytes(size), 0
        while start < size:
            end = min(size, start + rng.randrange(1, 1 << 16))
            chunks.append((0 if start else size, message[start:end]))
            start = end
    return chunks


def exchange(rng: random.Random, first: Tunnel, second: Tunnel) -> None:
    """Send both ways at once, consume at a random pace, close from one end."""
    a, b = TunnelEnd(first, slow=True), TunnelEnd(second, slow=True)
    there, back = chunks_of(rng), chunks_of(rng)

    def send(end: TunnelEnd, chunks: list[tuple[int, bytes]]) -> None:
        for size, chunk in chunks:
            end.tunnel.send(size, chunk)

    senders = [threading.Thread(target=send, args=args) for args in ((a, there), (b, back))]
    for sender in senders:
        sender.start()
    while len(a.chunks) < len(back):
        a.wait(lambda end: end.unconsumed > 0 or len(end.chunks) == len(back))
        a.consume()
        if rng.random() < 0.5:
            b.consume()
    for sender in senders:
        sender.join(10)
    a.tunnel.close()
    while not b.closed:
        b.wait(lambda end: end.unconsumed > 0 or end.closed != [])
        b.consume()
    assert (a.chunks, b.chunks) == (back, there)
    assert (a.closed, b.closed) == ([], [""])
    for end in (a, b):
        assert end.most_unconsumed <= WINDOW + (1 << 16)


@pytest.mark.parametrize("seed", range(20))
def test_local_tunnel_is_a_faithful_pair(seed: int) -> None:
    gone: list[Tunnel] = []
    first, second = local_pair(WINDOW, 1 << 30, gone.append, gone.append)
    exchange(random.Random(seed), first, second)
    assert sorted(map(id, gone)) == sorted(map(id, (first, second)))


@pytest.mark.parametrize("seed", range(8))
def test_tunnel_between_nodes_is_a_faithful_pair(seed: int) -> None:
    with tunnels.site() as site:
        exchange(random.Random(seed), *site.tunnels())
