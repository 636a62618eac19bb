"""The shell: whole nodes in this process, on loopback, with real sessions and real bootstrap."""

import logging
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from sortedcontainers import SortedList

from iris.config import BootstrapConfig, Config, PastryConfig
from iris.crypto.keys import generate_key
from iris.errors import ConfigError, LinkClosed, ProtocolError
from iris.metrics import Metrics
from iris.proto.bootstrap.base import OnFound, Source
from iris.proto.bootstrap.subnet import SubnetSearch
from iris.proto.pastry.actions import Dial
from iris.proto.pastry.overlay import Overlay
from iris.proto.session.classic import ClassicSuite
from iris.proto.session.handshakes import HandshakeReporter, SessionListener, dial
from iris.proto.session.session import Session
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId
from iris.proto.wire.ring import Header, InitPacket, Op
from iris.proto.wire.trees import Header as Meta
from iris.runtime.interfaces import Interface
from iris.runtime.tcp import Address
from iris.runtime.timer import Timer
from tests.support.suites import link_factory
from tests.support.virtual_ring import closest
from tests.support.waiting import PATIENCE, wait_for

LOOPBACK = Interface("lo", IPv4Address("127.0.0.1"), IPv4Network("127.0.0.0/8"))


class App:
    """Takes notes."""

    def __init__(self) -> None:
        self.delivered: list[tuple[NodeId, bytes]] = []
        self.lost: list[NodeId] = []
        self.refuses = False

    def deliver(self, message: Message, key: NodeId) -> None:
        if self.refuses:
            raise ProtocolError("unwanted")
        self.delivered.append((key, message.data()))

    def forward(self, message: Message, key: NodeId, hop: NodeId) -> bool:
        return True

    def peer_lost(self, peer: NodeId) -> None:
        self.lost.append(peer)

    def table_changed(self) -> None:
        pass


class Lab:
    """Makes nodes that find each other, and closes them."""

    def __init__(self, count: int, timer: Timer, key: RSAPrivateKey) -> None:
        self.timer, self.key = timer, key
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        ports = tuple(sock.getsockname()[1] for sock in sockets)
        for sock in sockets:
            sock.close()
        self.config = Config(bootstrap=BootstrapConfig(ports=ports))
        self.nodes: list[tuple[Overlay, App]] = []
        self.closers: dict[Overlay, list[Callable[[], None]]] = {}  # of nodes not cut off
        self.metrics = Metrics()  # of all nodes

    def suite(self, key: RSAPrivateKey | None = None) -> ClassicSuite:
        return ClassicSuite(key or self.key, link_factory(self.config.session, self.config.limits))

    def node(
        self,
        *,
        key: RSAPrivateKey | None = None,
        config: Config | None = None,
        sources: Sequence[Source] = (),
        interface: Interface = LOOPBACK,
    ) -> tuple[Overlay, App]:
        """Make a node that finds others through `sources`, or by default by the subnet search."""
        app, rng = App(), random.Random(len(self.nodes))
        suite, handshakes = self.suite(key), HandshakeReporter("lab", self.metrics)

        closers: list[Callable[[], None]] = []  # of all that is open, the newest last

        def listen(interface: Interface, on_session: Callable[[Session], None]) -> SessionListener:
            def accept(session: Session) -> None:
                closers.append(session.abort)
                on_session(session)

            address, limit = (str(interface.address), 0), self.config.limits.peer_handshakes
            made = SessionListener(address, suite, accept, handshakes, max_handshakes=limit)
            closers.append(made.close)
            return made

        def connect(address: Address) -> Session:
            if overlay not in self.closers:
                raise LinkClosed("cut off")
            session = dial(address, suite, handshakes)
            closers.append(session.abort)
            return session

        def search(interface: Interface, node_id: NodeId, port: int) -> SubnetSearch:
            made = SubnetSearch(
                interface, "lab", node_id, port, config=self.config.bootstrap, rng=rng
            )
            closers.append(made.close)
            return made

        overlay = Overlay(
            [interface],
            app,
            listen=listen,
            connect=connect,
            searches=[] if sources else [search],
            sources=sources,
            config=config or self.config,
            timer=self.timer,
            metrics=self.metrics,
        )
        self.nodes.append((overlay, app))
        self.closers[overlay] = closers
        return overlay, app

    def cut_off(self, overlay: Overlay) -> None:
        """Cut a node off without a word, as when its process is killed."""
        for close in self.closers.pop(overlay):
            close()

    def ring(self, count: int) -> list[tuple[Overlay, App]]:
        made = [self.node() for _ in range(count)]
        for overlay, _ in made:
            overlay.boot()
        self.wait_meshed(made)
        return made

    @staticmethod
    def wait_meshed(nodes: list[tuple[Overlay, App]]) -> None:
        """In a ring so small everybody is everybody's leaf."""
        everybody = {overlay.node_id for overlay, _ in nodes}
        wait_for(
            lambda: all(
                overlay.peers().keys() == everybody - {overlay.node_id} for overlay, _ in nodes
            )
        )


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_key()


@pytest.fixture(scope="module")
def timer() -> Iterator[Timer]:
    timer = Timer()
    timer.start()
    yield timer
    timer.close()


@pytest.fixture
def lab(timer: Timer, key: RSAPrivateKey) -> Iterator[Lab]:
    lab = Lab(4, timer, key)
    yield lab
    for overlay, _ in lab.nodes:
        overlay.close()
    assert not [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith(("pastry-", "boot-", "handshake-"))
    ]


def route_many(nodes: list[tuple[Overlay, App]], count: int = 100) -> None:
    """Send from anywhere to anywhere, and wait until all has come where it should."""
    rng = random.Random(count)
    ordered = sorted(overlay.node_id for overlay, _ in nodes)
    expected: dict[NodeId, list[tuple[NodeId, bytes]]] = {node: [] for node in ordered}
    for _, app in nodes:
        app.delivered.clear()
    for number in range(count):
        dest = NodeId(rng.getrandbits(40))
        data = b"" if number % 3 == 0 else b"%d" % number
        expected[closest(SortedList(ordered), dest)].append((dest, data))
        rng.choice(nodes)[0].send(dest, Message(Meta(), Payload.of(data)))
    wait_for(
        lambda: all(
            sorted(app.delivered) == sorted(expected[overlay.node_id]) for overlay, app in nodes
        )
    )


def join_raw(lab: Lab, overlay: Overlay, node: NodeId) -> Session:
    """A session of a peer that the test plays."""
    host, _, port = overlay.addresses[0].partition(":")
    session = lab.suite().dial((host, int(port)))
    deadline = time.monotonic() + PATIENCE
    session.control.send_direct(Message(InitPacket(node, ["127.0.0.1:9"])), deadline)
    assert isinstance(session.control.recv_direct(deadline).meta, InitPacket)
    return session


def test_a_lone_node_delivers_its_messages_to_itself_at_once(lab: Lab) -> None:
    overlay, app = lab.node()
    overlay.send(NodeId(5), Message(None, Payload.of(b"before boot")))
    overlay.boot()
    overlay.send(NodeId(6), Message(None, Payload.of(b"after")))
    assert app.delivered == [(5, b"before boot"), (6, b"after")]
    assert not overlay.joined


def wait_linked(overlay: Overlay, *nodes: int) -> None:
    """Until there are sessions with them."""
    wait_for(lambda: overlay._core.links.keys() == set(nodes))


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a user reads at default verbosity."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]


def test_nodes_find_each_other_route_and_repair(lab: Lab) -> None:
    nodes = lab.ring(4)
    wait_for(lambda: all(overlay.joined for overlay, _ in nodes))
    route_many(nodes)
    (crashed, _), *left = nodes
    lab.cut_off(crashed)
    wait_for(lambda: all(app.lost == [crashed.node_id] for _, app in left))
    lab.wait_meshed(left)
    route_many(left)
    (leaver, _), *rest = left
    leaver.leave()
    wait_for(lambda: all(app.lost == [crashed.node_id, leaver.node_id] for _, app in rest))
    lab.wait_meshed(rest)
    route_many(rest)
    leaver.close()
    leaver.close()


class Static:
    """The least source: reports addresses once, without ids."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.on_found: OnFound | None = None
        self.slowed, self.closed = threading.Event(), threading.Event()

    def start(self, on_found: OnFound) -> None:
        self.on_found = on_found
        for text in self.addresses:
            host, _, port = text.partition(":")
            on_found((host, int(port)))

    def slow(self) -> None:
        self.slowed.set()

    def close(self) -> None:
        self.closed.set()


def test_nodes_meet_through_a_source_that_knows_addresses_alone(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    source, other_source = Static(), Static()
    lab.config = replace(lab.config, pastry=PastryConfig(converged_quiet=0.2))
    with caplog.at_level(logging.INFO):
        (seed, _), (joiner, _) = lab.node(sources=[other_source]), lab.node(sources=[source])
        seed.boot()
        source.addresses = ["127.0.0.1:1", *seed.addresses]
        joiner.boot()
        lab.wait_meshed(lab.nodes)
        assert source.slowed.wait(PATIENCE)
        # its own address leads to itself, once, and the seed's to nobody new
        assert source.on_found is not None
        dials: list[Dial] = []
        handled = threading.Event()
        joiner._sessions.dial = lambda dial: dials.append(dial)  # type: ignore[method-assign]
        for _ in range(3):
            for text in (*joiner.addresses, *seed.addresses):
                host, _, port = text.partition(":")
                source.on_found((host, int(port)))
        joiner._loop.post(handled.set)
        assert handled.wait(PATIENCE)
        assert dials == []
        assert joiner._core.links.keys() == {seed.node_id}
        joiner.close()
    assert source.closed.is_set()
    assert "can't reach a node at 127.0.0.1:1: " in caplog.text


def test_peers_are_counted(lab: Lab) -> None:
    overlay, app = lab.node()
    overlay.boot()
    session = join_raw(lab, overlay, NodeId(7))
    wait_linked(overlay, 7)
    assert lab.metrics.peers.value == 1
    session.abort()
    wait_for(lambda: app.lost == [7])
    assert lab.metrics.peers.value == 0
    assert lab.metrics.peers_lost["connection lost"].value == 1


def test_every_arrival_departure_and_loss_is_told_in_one_line(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        overlay, app = lab.node()
        overlay.boot()
        assert len(told(caplog)) == 1
        assert re.fullmatch(
            r"listening for peers on lo \(127\.0\.0\.1:\d+, subnet search on UDP port \d+\)",
            told(caplog)[0],
        )
        leaver, crasher = join_raw(lab, overlay, NodeId(7)), join_raw(lab, overlay, NodeId(8))
        for session in (leaver, crasher):
            session.start(lambda message: None, lambda error: None)
        wait_linked(overlay, 7, 8)
        leaver.send(Message(Header(op=Op.CLOSE, dest=overlay.node_id)))
        wait_for(lambda: app.lost == [7])
        crasher.abort()
        wait_for(lambda: app.lost == [7, 8])
        overlay.close()
        leaver.close()
    lines = sorted(
        line
        for line in told(caplog)
        if line.startswith(("node 0000000007", "connected to", "lost"))
    )
    assert re.fullmatch(
        r"connected to node 0000000007 at 127\.0\.0\.1:\d+\n"
        r"connected to node 0000000008 at 127\.0\.0\.1:\d+\n"
        r"lost node 0000000008 at 127\.0\.0\.1:\d+: .*\n"
        r"node 0000000007 at 127\.0\.0\.1:\d+ has left",
        "\n".join(lines),
    )
    # it is lost, which was said
    assert not [line for line in told(caplog) if "can't reach" in line]


def test_convergence_is_told_once(
    timer: Timer, key: RSAPrivateKey, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(1, timer, key)
    lab.config = replace(
        lab.config, pastry=PastryConfig(boot_quiet=0.3, converged_quiet=0.2, beat_period=0.1)
    )
    with caplog.at_level(logging.INFO):
        overlay, app = lab.node()
        overlay.boot()
        assert overlay.converged.wait(PATIENCE)
        session = join_raw(lab, overlay, NodeId(7))
        wait_for(lambda: app.lost == [7])
        wait_for(overlay.converged.is_set)
        overlay.close()
        session.abort()
    (line,) = (line for line in told(caplog) if line.startswith("converged"))
    assert re.fullmatch(r"converged after 0\.\d s: no other node found so far", line)


def test_nodes_converge_when_nothing_happens_any_more(timer: Timer, key: RSAPrivateKey) -> None:
    lab = Lab(2, timer, key)
    lab.config = replace(
        lab.config, pastry=PastryConfig(boot_quiet=0.3, converged_quiet=0.2, beat_period=0.1)
    )
    try:
        nodes = lab.ring(2)
        for overlay, _ in nodes:
            assert overlay.converged.wait(PATIENCE)
    finally:
        for overlay, _ in lab.nodes:
            overlay.close()


def test_a_peer_that_falls_silent_is_lost_after_three_beats(
    timer: Timer, key: RSAPrivateKey
) -> None:
    lab = Lab(1, timer, key)
    lab.config = replace(lab.config, pastry=PastryConfig(beat_period=0.1))
    overlay, app = lab.node()
    overlay.boot()
    session = join_raw(lab, overlay, NodeId(7))
    try:
        wait_for(lambda: app.lost == [7])
    finally:
        session.abort()
        overlay.close()


def test_one_who_leaves_gets_what_is_on_its_way_routed(lab: Lab) -> None:
    overlay, app = lab.node()
    overlay.boot()
    session = join_raw(lab, overlay, NodeId(7))
    ended = threading.Event()
    session.start(lambda message: None, lambda error: ended.set())
    session.send(Message(Header(op=Op.CLOSE, dest=overlay.node_id)))
    wait_for(lambda: app.lost == [7])
    # the other side has hung up by now, or is about to: the session closes from both ends without a
    # word lost
    assert ended.wait(PATIENCE)
    session.close()


@pytest.mark.parametrize(
    "packet",
    [
        Message(Header(op=9, dest=1)),
        Message(Header(op=Op.EXCHANGE, dest=1)),
        Message(Header(op=Op.NOP, dest=None)),
        Message(InitPacket(5, [])),
        Message(None),
    ],
    ids=["unknown op", "no state", "no destination", "second introduction", "nothing"],
)
def test_a_bad_packet_drops_the_peer_and_never_the_node(
    lab: Lab, packet: Message, caplog: pytest.LogCaptureFixture
) -> None:
    overlay, app = lab.node()
    overlay.boot()
    session = join_raw(lab, overlay, NodeId(7))
    ended = threading.Event()
    with caplog.at_level(logging.WARNING):
        session.start(lambda message: None, lambda error: ended.set())
        wait_linked(overlay, 7)
        session.send(packet)
        assert ended.wait(PATIENCE)
    wait_for(lambda: app.lost == [7])
    session.abort()
    overlay.send(NodeId(1), Message(None, Payload.of(b"alive")))
    assert app.delivered == [(1, b"alive")]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_message_that_the_layer_above_rejects_drops_the_peer(lab: Lab) -> None:
    overlay, app = lab.node()
    overlay.boot()
    app.refuses = True
    session = join_raw(lab, overlay, NodeId(7))
    session.start(lambda message: None, lambda error: None)
    session.send(Message(Header(meta=Meta(), dest=overlay.node_id), Payload.of(b"x")))
    wait_for(lambda: app.lost == [7])
    session.abort()


@pytest.mark.parametrize(
    "packet", [Message(Header()), Message(InitPacket(None, [])), Message(InitPacket(1 << 40, []))]
)
def test_who_does_not_introduce_himself_is_no_peer(lab: Lab, packet: Message) -> None:
    overlay, _ = lab.node()
    overlay.boot()
    host, _, port = overlay.addresses[0].partition(":")
    session = lab.suite().dial((host, int(port)))
    session.control.send_direct(packet, time.monotonic() + PATIENCE)
    ended = threading.Event()
    session.start(lambda message: None, lambda error: ended.set())
    assert ended.wait(PATIENCE)
    session.abort()
    assert not overlay._core.links


def test_one_who_never_introduces_himself_does_not_hold_up_the_end(lab: Lab) -> None:
    overlay, _ = lab.node()
    overlay.boot()
    host, _, port = overlay.addresses[0].partition(":")
    session = lab.suite().dial((host, int(port)))
    begun = time.monotonic()
    overlay.close()
    assert time.monotonic() - begun < lab.config.pastry.init_timeout
    session.abort()


def test_a_node_with_another_key_stays_outside(lab: Lab) -> None:
    (inside, _), (outside, _) = lab.node(), lab.node(key=generate_key())
    inside.boot()
    outside.boot()
    failed = threading.Event()
    logger = logging.getLogger("iris.proto.session.handshakes")
    handler = logging.Handler()
    handler.emit = lambda record: failed.set()  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        assert failed.wait(PATIENCE)
    finally:
        logger.removeHandler(handler)
    assert inside.peers() == outside.peers() == {}


def test_where_no_interface_can_be_used_boot_says_so(lab: Lab) -> None:
    overlay, _ = lab.node(interface=replace(LOOPBACK, address=IPv4Address("192.0.2.1")))
    with pytest.raises(ConfigError):
        overlay.boot()


def test_what_datagrams_bring_waits_in_a_bounded_queue(lab: Lab) -> None:
    overlay, _ = lab.node()
    # anybody can send so many; the thread that would take them hasn't come to it
    for number in range(1_000):
        overlay._found(("127.0.0.1", 9), NodeId(number))
    assert len(overlay._loop._events) < 100


def test_a_node_that_was_never_booted_leaves_no_thread_and_waits_for_nothing(lab: Lab) -> None:
    before = threading.active_count()
    overlay, _ = lab.node()
    overlay.leave()
    overlay.close()
    assert threading.active_count() == before
    assert overlay.converged.is_set()
