"""Two ends of a tunnel with a relay between them that takes allowances at their word.

Everything comes, in order, whatever happens.
"""

import random
from collections import deque
from io import BytesIO

from hypothesis import given, settings
from hypothesis import strategies as st

from iris.client.flow import Flow, Outgoing
from iris.relay_protocol.schema import DEFAULT, Op

CHUNK = 64  # bytes


class Strict:
    """One direction through two nodes, which pass on a chunk only within what the receiver allows."""

    def __init__(self, window: int, buffer: int) -> None:
        self.source, self.target = Flow(0, CHUNK, buffer), Flow(0, CHUNK, buffer)
        self.source.allow(window)
        self.held: deque[tuple[int, bytes]] = deque()
        self.window, self.allowance = window, buffer

    def said(self, data: bytes) -> None:
        """Packets of either end."""
        stream = BytesIO(data)
        while stream.tell() < len(data):
            packet = DEFAULT.from_client.parse_stream(stream)
            if packet.op == Op.TUNNEL_ALLOW:
                self.allowance += packet.body.space
            else:
                self.held.append((packet.body.size, packet.body.chunk))
                assert sum(len(chunk) for _, chunk in self.held) <= self.window

    def pass_on(self) -> bool:
        """The next chunk, if it may go on."""
        if not self.held or len(self.held[0][1]) > self.allowance:
            return False
        size, chunk = self.held.popleft()
        self.allowance -= len(chunk)
        self.source.allow(len(chunk))
        self.target.take(size, chunk)
        self.said(self.target.settle())
        return True


@given(
    st.lists(st.tuples(st.integers(1, 1_000), st.booleans()), max_size=30),
    st.integers(CHUNK, 500),
    st.integers(1_000, 3_000),
    st.integers(),
)
@settings(deadline=None, max_examples=300)
def test_every_message_comes_but_those_given_up(
    plan: list[tuple[int, bool]], window: int, buffer: int, seed: int
) -> None:
    rng, way, got = random.Random(seed), Strict(window, buffer), []
    messages = [(rng.randbytes(size), give_up) for size, give_up in plan]
    want = []

    def receive() -> None:
        while way.target.ready:
            got.append(way.target.next())
            way.said(way.target.settle())

    for data, give_up in messages:
        outgoing, patience = Outgoing(data), rng.randrange(4)
        while not outgoing.whole:
            way.said(b"".join(way.source.cut(outgoing)))
            if outgoing.whole:
                break
            if give_up and patience == 0:
                break
            patience -= 1
            if rng.random() < 0.3:
                receive()
            if not way.pass_on():
                receive()
                assert way.pass_on(), "it is stuck"
        if outgoing.whole:
            want.append(data)
    while way.pass_on() or way.target.ready:
        receive()
    assert got == want
    assert not way.held
