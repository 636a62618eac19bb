"""Sessions over the loopback interface: dialled, accepted, refused."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import Empty, Queue
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iris.config import Limits, SessionConfig
from iris.crypto.sts import Exchange
from iris.errors import AuthenticationError, HandshakeTimeout, LinkClosed, ProtocolError
from iris.metrics import Metrics
from iris.proto.link.classic import derive_links
from iris.proto.link.link import Link
from iris.proto.session.base import Suite
from iris.proto.session.classic import (
    ClassicSuite,
    authenticate_client,
    continue_as_link,
    open_stream,
)
from iris.proto.session.gob_stream import GobStream
from iris.proto.session.handshakes import HandshakeReporter, SessionListener, dial
from iris.proto.session.session import Session
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.ring import Header
from iris.proto.wire.session import (
    AuthChallenge,
    AuthRequest,
    AuthResponse,
    InitRequest,
    LinkRequest,
)
from iris.runtime.tcp import Address
from tests.support.suites import NullSuite, link_factory
from tests.support.waiting import wait_for

KEY, OTHER_KEY = (
    rsa.generate_private_key(public_exponent=65_537, key_size=2_048) for _ in range(2)
)
PATIENCE = 10.0  # seconds after which a test gives up
CONFIG = replace(
    SessionConfig(),
    dial_timeout=PATIENCE,
    auth_timeout=PATIENCE,
    link_timeout=PATIENCE,
    grace_timeout=PATIENCE,
)
LIMITS = replace(Limits(), peer_handshakes=1)  # so 8 connections may be unauthenticated
LINKS = link_factory(CONFIG, LIMITS)


class Node:
    """A listener and the sessions it accepted."""

    def __init__(
        self,
        config: SessionConfig = CONFIG,
        on_session: Callable[[Session], None] | None = None,
        suite: Suite | None = None,
    ) -> None:
        self.sessions = Queue[Session]()
        self.metrics = Metrics()
        self.reporter = HandshakeReporter("demo", self.metrics)
        self.listener = SessionListener(
            ("127.0.0.1", 0),
            suite or ClassicSuite(KEY, link_factory(config, LIMITS)),
            on_session or self.sessions.put,
            self.reporter,
            max_handshakes=LIMITS.peer_handshakes,
        )
        self.listener.start()

    @property
    def address(self) -> Address:
        return self.listener.address

    def session(self) -> Session:
        return self.sessions.get(timeout=PATIENCE)

    def dial(self, key: RSAPrivateKey = KEY) -> Session:
        return dial(self.address, ClassicSuite(key, LINKS), self.reporter)

    def outcomes(self) -> dict[tuple[str, str], int]:
        """Handshakes counted, by side and outcome."""
        return {
            (labels["side"], labels["outcome"]): int(value)
            for _, labels, value in self.metrics.handshakes.samples()
            if value
        }

    def connect(self, host: str = "127.0.0.1") -> socket.socket:
        sock = socket.create_connection(self.address, source_address=(host, 0))
        sock.settimeout(PATIENCE)
        return sock

    def stream(self) -> GobStream:
        return open_stream(self.connect(), PATIENCE, LINKS)

    def control(self) -> tuple[Link, Iterator[Any], int]:
        """Go as far as the session's id: (control link, key schedule for the data link, id)."""
        stream = self.stream()
        schedule = derive_links(authenticate_client(stream, Exchange(KEY)), server=False)
        control = continue_as_link(stream, next(schedule), "control", LINKS)
        request = control.recv_direct(time.monotonic() + PATIENCE).meta
        assert isinstance(request, LinkRequest)
        return control, schedule, request.id


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.listener.close()


def closed_by_the_other_side(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def receive(session: Session) -> tuple[Queue[Message], Queue[Exception | None]]:
    messages, ends = Queue[Message](), Queue[Exception | None]()
    session.start(messages.put, ends.put)
    return messages, ends


def close_both(one: Session, other: Session) -> None:
    closing = threading.Thread(target=one.close)
    closing.start()
    other.close()
    closing.join()


def test_both_sides_of_a_session_send_and_receive(node: Node) -> None:
    client = node.dial()
    server = node.session()
    at_client, client_end = receive(client)
    at_server, server_end = receive(server)
    for session, messages in ((client, at_server), (server, at_client)):
        session.send(Message(Header(dest=1), Payload.of(b"data")))
        message = messages.get(timeout=PATIENCE)
        assert (message.meta, message.data()) == (Header(dest=1), b"data")
    assert (client.local, client.remote) == (server.remote, server.local)
    # counted before on_session
    assert node.outcomes() == {("dialled", "established"): 1, ("accepted", "established"): 1}
    close_both(client, server)
    assert client_end.get(timeout=PATIENCE) is server_end.get(timeout=PATIENCE) is None
    assert client_end.empty()  # once per session, not per link
    assert server_end.empty()


def test_application_messages_take_the_data_link_in_order(node: Node) -> None:
    client = node.dial()
    server = node.session()
    control, data = Queue[Message](), Queue[Message]()
    server.control.start(control.put, lambda error: None)
    server.data.start(data.put, lambda error: None)
    client.send(Message(Header(dest=1)))
    client.send(Message(Header(dest=2), Payload.of(b"")))
    client.send(Message(Header(dest=3), Payload.of(b"x")))
    assert control.get(timeout=PATIENCE).meta == Header(dest=1)
    assert [data.get(timeout=PATIENCE).meta.dest for _ in range(2)] == [2, 3]  # type: ignore[attr-defined]
    client.abort()
    server.abort()


def test_a_close_reaches_the_peer_and_loses_nothing(node: Node) -> None:
    client = node.dial()
    server = node.session()
    receive(client)
    at_server, server_end = receive(server)
    for count in range(200):
        client.send(Message(Header(dest=count), Payload.of(bytes(10_000))))
    closing = threading.Thread(target=client.close)
    closing.start()
    assert server_end.get(timeout=PATIENCE) is None
    server.close()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert [at_server.get_nowait().meta for _ in range(200)] == [
        Header(dest=count) for count in range(200)
    ]


def test_a_session_ends_when_one_of_its_links_breaks(node: Node) -> None:
    client = node.dial()
    server = node.session()
    _, ends = receive(server)
    client.data.abort()
    assert isinstance(ends.get(timeout=PATIENCE), LinkClosed)
    client.abort()
    server.abort()


def test_both_sides_warn_once_of_a_different_key(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    dialling = HandshakeReporter("other", node.metrics)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(AuthenticationError):
                dial(node.address, ClassicSuite(OTHER_KEY, LINKS), dialling)
        both = {("dialled", "wrong key"): 2, ("accepted", "wrong key"): 2}
        wait_for(lambda: node.outcomes() == both)
        node.listener.close()
    assert sorted(caplog.messages) == [
        "127.0.0.1 holds a different key for network 'other'",
        "127.0.0.1 seems to hold a different key for network 'demo'",
    ]
    assert node.sessions.empty()


def test_an_acceptor_rejects_an_invalid_token(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    stream = node.stream()
    exchange = Exchange(KEY)
    stream.send(InitRequest(auth=AuthRequest(exchange.initiate())))
    stream.recv(AuthChallenge)
    stream.send(AuthResponse(bytes(256)))
    with pytest.raises(LinkClosed):
        stream.recv(AuthChallenge)
    node.listener.close()
    assert caplog.messages == ["127.0.0.1 holds a different key for network 'demo'"]


def test_a_dialler_dropped_by_the_listener_is_no_key_mismatch(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    stream = node.stream()
    stream.send(InitRequest(auth=AuthRequest(Exchange(KEY).initiate())))
    stream.recv(AuthChallenge)
    node.listener.close()
    assert caplog.messages == []
    assert node.outcomes() == {("accepted", "closed"): 1}


def test_a_listener_may_be_closed_while_a_session_is_being_handled() -> None:
    handled = threading.Event()

    def handle(session: Session) -> None:
        closing.listener.close()
        session.abort()
        handled.set()

    closing = Node(on_session=handle)
    closing.dial().abort()
    assert handled.wait(PATIENCE)


def test_an_unanswered_handshake_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(HandshakeTimeout):
        ClassicSuite(KEY, link_factory(replace(CONFIG, auth_timeout=0.05))).dial(
            silent.getsockname()
        )


def test_another_protocol_at_the_address_is_a_protocol_violation() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            sock, _ = server.accept()
            with sock:
                sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 100)
                sock.recv(65_536)

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(ProtocolError):
            ClassicSuite(KEY, LINKS).dial(server.getsockname())
        answering.join()


@pytest.mark.parametrize("exponential", [None, 0, 1], ids=str)
def test_worthless_exponentials_are_refused(node: Node, exponential: int | None) -> None:
    stream = node.stream()
    stream.send(InitRequest(auth=AuthRequest(exponential)))
    with pytest.raises(LinkClosed):
        stream.recv(AuthChallenge)


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n" * 20, b"\xfc\x7f\xff\xff\xff", b"\x00"],
    ids=["noise", "too big", "empty"],
)
def test_a_connection_with_a_protocol_violation_is_closed(node: Node, data: bytes) -> None:
    with node.connect() as sock:
        sock.sendall(data)
        assert closed_by_the_other_side(sock)


def test_an_init_request_without_auth_or_link_is_rejected(node: Node) -> None:
    stream = node.stream()
    stream.send(InitRequest())
    with pytest.raises(LinkClosed):
        stream.recv(AuthChallenge)


def test_silent_connections_do_not_keep_others_out(node: Node) -> None:
    silent = [node.connect() for _ in range(20)]
    node.dial().abort()
    node.session().abort()
    for sock in silent[:12]:  # no more than 8 were left waiting, the oldest went first
        assert closed_by_the_other_side(sock)
    for sock in silent:
        sock.close()


def test_a_host_with_many_silent_connections_evicts_its_own(node: Node) -> None:
    patient = node.connect("127.0.0.2")
    flood = [node.connect("127.0.0.3") for _ in range(20)]
    assert all(closed_by_the_other_side(sock) for sock in flood[:12])
    patient.setblocking(False)
    with pytest.raises(BlockingIOError):
        patient.recv(1)
    for sock in (patient, *flood):
        sock.close()


def test_a_silent_connection_is_dropped_after_the_authentication_time() -> None:
    node = Node(config=replace(CONFIG, auth_timeout=0.05))
    with node.connect() as sock:
        assert closed_by_the_other_side(sock)
    node.listener.close()


def test_a_data_connection_of_no_session_is_closed(node: Node) -> None:
    control, _, session_id = node.control()
    stream = node.stream()
    stream.send(InitRequest(link=LinkRequest(session_id ^ 1)))
    with pytest.raises(LinkClosed):
        stream.recv(InitRequest)
    control.abort()


def test_a_second_data_connection_is_closed_and_the_first_one_counts(node: Node) -> None:
    control, schedule, session_id = node.control()
    first, second = node.stream(), node.stream()
    deadline = time.monotonic() + PATIENCE
    first.send(InitRequest(link=LinkRequest(session_id)))
    data = continue_as_link(first, next(schedule), "data", LINKS)
    assert data.recv_direct(deadline).meta == LinkRequest(session_id)
    second.send(InitRequest(link=LinkRequest(session_id)))
    with pytest.raises(LinkClosed):
        second.recv(InitRequest)
    data.send_direct(Message(LinkRequest(session_id)), deadline)
    node.session().abort()
    control.abort()
    data.abort()


def test_a_data_link_with_another_id_is_no_session(node: Node) -> None:
    control, schedule, session_id = node.control()
    stream = node.stream()
    deadline = time.monotonic() + PATIENCE
    stream.send(InitRequest(link=LinkRequest(session_id)))
    data = continue_as_link(stream, next(schedule), "data", LINKS)
    data.send_direct(Message(LinkRequest(session_id ^ 1)), deadline)
    assert data.recv_direct(deadline).meta == LinkRequest(session_id)
    with pytest.raises(LinkClosed):
        data.recv_direct(deadline)
    with pytest.raises(LinkClosed):
        control.recv_direct(deadline)
    assert node.sessions.empty()


def test_a_session_without_its_data_connection_is_dropped() -> None:
    node = Node(config=replace(CONFIG, link_timeout=0.05))
    control, _, _ = node.control()
    with pytest.raises(LinkClosed):
        control.recv_direct(time.monotonic() + PATIENCE)
    node.listener.close()
    assert node.sessions.empty()


def test_a_session_whose_owner_fails_is_aborted(caplog: pytest.LogCaptureFixture) -> None:
    def fail(session: Session) -> None:
        raise ValueError("our bug")

    node = Node(on_session=fail)
    _, ends = receive(node.dial())
    assert isinstance(ends.get(timeout=PATIENCE), LinkClosed)
    node.listener.close()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_closing_a_listener_drops_what_is_no_session_yet(node: Node) -> None:
    client = node.dial()
    server = node.session()
    at_server, _ = receive(server)
    control, _, _ = node.control()  # proven, waits for its data connection
    silent = node.connect()
    node.listener.close()
    assert closed_by_the_other_side(silent)
    with pytest.raises(LinkClosed):
        control.recv_direct(time.monotonic() + PATIENCE)
    with pytest.raises(LinkClosed):
        node.dial()
    client.send(Message(Header(dest=5)))  # what is a session goes on
    assert at_server.get(timeout=PATIENCE).meta == Header(dest=5)
    with pytest.raises(Empty):
        node.sessions.get_nowait()
    client.abort()
    server.abort()


def test_a_session_may_have_one_link_for_both() -> None:
    node = Node(suite=NullSuite(LINKS))
    client, server = dial(node.address, NullSuite(LINKS), node.reporter), node.session()
    at_client, client_end = receive(client)
    at_server, server_end = receive(server)
    for session, messages in ((client, at_server), (server, at_client)):
        session.send(Message(Header(dest=1)))
        session.send(Message(Header(dest=2), Payload.of(b"data")))
        received = [messages.get(timeout=PATIENCE) for _ in range(2)]
        assert [message.meta for message in received] == [Header(dest=1), Header(dest=2)]
        assert [message.data() for message in received] == [b"", b"data"]
    close_both(client, server)
    assert client_end.get(timeout=PATIENCE) is server_end.get(timeout=PATIENCE) is None
    node.listener.close()
