"""The harness of a case: fake clients of the checked node, and their common exchanges. Shell."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from iris.relay_protocol.schema import Op
from iris.relaycheck.fake_client import CLIENT_CREDIT, PROBE, RESPONSE_TIMEOUT, Failure, FakeClient
from iris.relaycheck.rules import Violation
from iris.relaycheck.tunnel import NODE_WINDOW

_numbers = itertools.count(1)


class Harness:
    """The fake clients of one case, with a cluster name of its own."""

    def __init__(
        self, port: int, host: str = "127.0.0.1", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.port, self.host, self.clock = port, host, clock
        self.name = f"relaycheck-{time.time_ns():x}-{next(_numbers)}"
        self.violations: list[Violation] = []
        self._clients: list[FakeClient] = []

    def connect(self, host: str | None = None) -> FakeClient:
        """Open a connection, and send nothing."""
        address = (host or self.host, self.port)
        client = FakeClient(len(self._clients) + 1, address, self.violations.append, self.clock)
        self._clients.append(client)
        return client

    def plain(self) -> FakeClient:
        """Attach a plain client."""
        return self.connect().init()

    def service(self, name: str = "") -> FakeClient:
        """Attach a member of the case's cluster, or of another one."""
        return self.connect().init(name or self.name)

    def pair(self) -> tuple[FakeClient, FakeClient]:
        """Attach a service, and a client."""
        return self.service(), self.plain()

    def request(
        self, client: FakeClient, number: int = 0, data: bytes = b"?", timeout: int = 5_000
    ) -> None:
        """Send a request to the case's cluster; timeout in ms."""
        client.send(Op.REQUEST, id=number, cluster=self.name, request=data, timeout=timeout)

    def in_flight(self, service: FakeClient, client: FakeClient, timeout: int = 5_000) -> int:
        """Send a request of id 0, which the service gets. Returns: its id there."""
        self.request(client, timeout=timeout)
        return int(service.expect(Op.REQUEST).id)

    def subscribed(self, client: FakeClient, topic: str) -> None:
        """Subscribe, and wait until probes arrive."""
        client.send(Op.SUBSCRIBE, topic=topic)
        deadline = self.clock() + RESPONSE_TIMEOUT
        while self.clock() < deadline:
            client.send(Op.PUBLISH, topic=topic, event=PROBE)
            if client.receive_packet(0.05) is not None:
                return
        raise Failure("no event arrives")

    def request_tunnel(self, client: FakeClient, number: int = 0, timeout: int = 5_000) -> None:
        """Request a tunnel to the case's cluster; timeout in ms."""
        client.send(Op.TUNNEL_INIT, id=number, cluster=self.name, timeout=timeout)

    def offer(
        self, service: FakeClient, client: FakeClient, number: int = 0, timeout: int = 5_000
    ) -> int:
        """Request a tunnel, which is offered to the service. Returns: the build id."""
        self.request_tunnel(client, number, timeout)
        return int(service.expect(Op.TUNNEL_INIT).build_id)

    def handshake(self, service: FakeClient, client: FakeClient, number: int = 0) -> None:
        """Build a tunnel, which has the same id at both ends, without any credit."""
        build_id = self.offer(service, client, number)
        service.send(Op.TUNNEL_CONFIRM, build_id=build_id, id=number)
        client.expect(Op.TUNNEL_CONFIRM, id=number, timed_out=False)

    def build(
        self,
        service: FakeClient,
        client: FakeClient,
        number: int = 0,
        *,
        grant: int = CLIENT_CREDIT,  # bytes, by the service
    ) -> None:
        """Build a tunnel; both ends get and grant credit."""
        ends = (service, grant), (client, CLIENT_CREDIT)
        wanted = [end.granted[number] + NODE_WINDOW for end, _ in ends]
        self.handshake(service, client, number)
        for end, space in ends:
            if space:
                end.send(Op.TUNNEL_ALLOW, id=number, space=space)
        for (end, _), total in zip(ends, wanted, strict=True):
            end.await_grant(number, total)

    def tunnel(self, *, grant: int = CLIENT_CREDIT) -> tuple[FakeClient, FakeClient]:
        """Attach a service and a client, and build a tunnel with the id 0 at both."""
        service, client = self.pair()
        self.build(service, client, grant=grant)
        return service, client

    @contextmanager
    def within(self, least: float, most: float) -> Iterator[None]:
        """Measure the block, which must take from `least` to `most` seconds."""
        begin = self.clock()
        yield
        took = self.clock() - begin
        if not least - 0.01 <= took <= most:
            raise Failure(f"it takes {took:.2f} s, not {least} to {most}")

    def close(self) -> None:
        """Check what has arrived, and disconnect all clients."""
        for client in self._clients:
            client.drain()
        for client in self._clients:
            client.disconnect()
