"""Two ends of a tunnel, and between them a relay that enforces the credit granted.

Every message arrives in order, but for those that were abandoned halfway.
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
    """One direction through two nodes, which forward a chunk only within the receiver's credit."""

    def __init__(self, window: int, buffer: int) -> None:
        self.source, self.target = Flow(0, CHUNK, buffer), Flow(0, CHUNK, buffer)
        self.source.grant(window)
        self.held: deque[tuple[int, bytes]] = deque()
        self.window, self.credit = window, buffer

    def written(self, data: bytes) -> None:
        """Take packets of either end."""
        stream = BytesIO(data)
        while stream.tell() < len(data):
            packet = DEFAULT.from_client.parse_stream(stream)
            if packet.op == Op.TUNNEL_ALLOW:
                self.credit += packet.body.space
            else:
                self.held.append((packet.body.size, packet.body.chunk))
                assert sum(len(chunk) for _, chunk in self.held) <= self.window

    def pass_on(self) -> bool:
        """Forward the next chunk, if credit covers it."""
        if not self.held or len(self.held[0][1]) > self.credit:
            return False
        size, chunk = self.held.popleft()
        self.credit -= len(chunk)
        self.source.grant(len(chunk))
        self.target.feed(size, chunk)
        self.written(self.target.window_update())
        return True


@given(
    st.lists(st.tuples(st.integers(1, 1_000), st.booleans()), max_size=30),
    st.integers(CHUNK, 500),
    st.integers(1_000, 3_000),
    st.integers(),
)
@settings(max_examples=300)
def test_every_message_comes_but_those_abandoned(
    plan: list[tuple[int, bool]], window: int, buffer: int, seed: int
) -> None:
    rng, way, got = random.Random(seed), Strict(window, buffer), []
    messages = [(rng.randbytes(size), abandon) for size, abandon in plan]
    want = []

    def receive() -> None:
        while (message := way.target.receive()) is not None:
            got.append(message)
            way.written(way.target.window_update())

    for data, abandon in messages:
        outgoing, retries = Outgoing(data), rng.randrange(4)
        while not outgoing.complete:
            way.written(b"".join(way.source.cut(outgoing)))
            if outgoing.complete:
                break
            if abandon and retries == 0:
                break
            retries -= 1
            if rng.random() < 0.3:
                receive()
            if not way.pass_on():
                receive()
                assert way.pass_on(), "deadlock"
        if outgoing.complete:
            want.append(data)
    receive()
    while way.pass_on():
        receive()
    assert got == want
    assert not way.held
