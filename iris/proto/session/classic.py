"""How two nodes prove the network's key to each other and set up a session's two links.

Counterpart of Go's proto/session/handshake.go, without its sockets being made here: both sides get
theirs as arguments. The exchange itself is in `iris.crypto.sts`. Unlike there, a side whose
authentication fails gives up, and everything has a deadline.

    client                                    server
    control: InitRequest(auth)          ->
                                        <-    AuthChallenge
    AuthResponse                        ->
    from here on a link                 <-    LinkRequest(id)
    data:    InitRequest(link(id))      ->
    from here on a link: LinkRequest    <->   LinkRequest
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass

from iris.config import Limits, SessionConfig
from iris.crypto.sts import Exchange
from iris.errors import LinkClosed, ProtocolError
from iris.proto.link.classic import LinkKeys, derive_links
from iris.proto.link.gob_stream import GobStream
from iris.proto.link.link import Link
from iris.proto.wire.message import Message
from iris.proto.wire.session import (
    AuthChallenge,
    AuthRequest,
    AuthResponse,
    InitRequest,
    LinkRequest,
)

ID_BITS = 63  # of a link request; Go's int64, never negative


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What both sides of a handshake go by."""

    config: SessionConfig
    limits: Limits
    clock: Callable[[], float]

    def stream(self, sock: socket.socket, timeout: float) -> GobStream:
        """Begin a handshake on a new connection, which must be over in `timeout` seconds."""
        limits = self.limits
        deadline = self.clock() + timeout
        return GobStream(
            sock,
            deadline,
            max_size=limits.unproven_size,
            max_types=limits.gob_types,
            clock=self.clock,
        )

    def link(self, stream: GobStream, keys: LinkKeys, kind: str) -> Link:
        """Go on with a connection as a link; kind names it among a session's two."""
        sock, leftover = stream.detach()
        return Link(
            sock,
            keys,
            config=self.config,
            limits=self.limits,
            name=kind,
            leftover=leftover,
            clock=self.clock,
        )


class ChallengeRefused(LinkClosed):
    """The dialling side hung up on our challenge; nearly always, because it holds a different key."""


def authenticate_client(stream: GobStream, exchange: Exchange) -> bytes:
    """Prove the key as the side that dialled, and agree on a secret.

    Raises: AuthenticationError when the other side holds a different key; ProtocolError,
    HandshakeTimeout, LinkClosed.
    """
    stream.send(InitRequest(auth=AuthRequest(exchange.initiate())))
    challenge = stream.recv(AuthChallenge)
    if challenge.exp is None:
        raise ProtocolError("challenge without an exponential")
    stream.send(AuthResponse(exchange.verify(challenge.exp, challenge.token)))
    return exchange.secret()


def authenticate_server(stream: GobStream, request: AuthRequest, exchange: Exchange) -> bytes:
    """Prove the key as the side that was dialled, and agree on a secret.

    Raises: AuthenticationError when the other side holds a different key, ChallengeRefused when it
    says that we do; ProtocolError, HandshakeTimeout, LinkClosed.
    """
    if request.exp is None:
        raise ProtocolError("authentication without an exponential")
    exponential, token = exchange.accept(request.exp)
    stream.send(AuthChallenge(exponential, token))
    try:
        response = stream.recv(AuthResponse)
    except LinkClosed as exc:
        raise ChallengeRefused("it hung up on our challenge") from exc
    exchange.finalize(response.token)
    return exchange.secret()


def link_client(
    control_stream: GobStream,
    secret: bytes,
    connect: Callable[[], socket.socket],
    settings: Settings,
) -> tuple[Link, Link]:
    """Make the control link, dial the data connection and make its link. Raises.

    ProtocolError, HandshakeTimeout, LinkClosed.

    The control connection is the caller's to close; the data connection is closed here when
    anything fails.
    """
    config = settings.config
    control_keys, data_keys = derive_links(secret, server=False)
    control = settings.link(control_stream, control_keys, "control")
    session_id = _link_id(control.recv_direct(settings.clock() + config.auth_timeout))
    data_stream = settings.stream(connect(), config.auth_timeout)
    try:
        data_stream.send(InitRequest(link=LinkRequest(session_id)))
        data = settings.link(data_stream, data_keys, "data")
        _confirm(data, session_id, settings.clock() + config.auth_timeout)
    except BaseException:
        data_stream.close()
        raise
    return control, data


def link_server(
    control_stream: GobStream,
    secret: bytes,
    session_id: int,
    data_stream: Callable[[], GobStream],
    settings: Settings,
) -> tuple[Link, Link]:
    """Make the control link, and the data link from the connection that `data_stream` waits for,
    once it answers to `session_id`.

    Raises: ProtocolError, HandshakeTimeout, LinkClosed. Closes what `link_client` closes.
    """
    control_keys, data_keys = derive_links(secret, server=True)
    control = settings.link(control_stream, control_keys, "control")
    control.send_direct(
        Message(LinkRequest(session_id)), settings.clock() + settings.config.link_timeout
    )
    stream = data_stream()
    try:
        data = settings.link(stream, data_keys, "data")
        _confirm(data, session_id, settings.clock() + settings.config.link_timeout)
    except BaseException:
        stream.close()
        raise
    return control, data


def _confirm(data: Link, session_id: int, deadline: float) -> None:
    """Show each other the id on the data link: only who has the secret can."""
    data.send_direct(Message(LinkRequest(session_id)), deadline)
    if _link_id(data.recv_direct(deadline)) != session_id:
        raise ProtocolError("the data link is another session's")


def _link_id(message: Message) -> int:
    if not isinstance(message.meta, LinkRequest):
        raise ProtocolError("a link began without its request")
    return message.meta.id


def random_id(entropy: Callable[[int], bytes]) -> int:
    """Draw a session id: it is what admits a data connection, so nobody may guess it."""
    return int.from_bytes(entropy(8), "big") >> (64 - ID_BITS)
