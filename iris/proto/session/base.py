"""The seam between a node and how its links are authenticated: a suite.

`node.py` chooses one and hands it down; nothing else in here, the ring or the clusters names one.
To add a suite: a codec beside `iris/proto/link/classic.py`, a handshake beside `classic.py`, and a
line in `node.py`. No counterpart in Go, which has one suite.
"""

import dataclasses
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from iris.config import Limits, SessionConfig
from iris.errors import LinkClosed
from iris.metrics import Metrics
from iris.proto.link.base import LinkCodec
from iris.proto.link.link import Link
from iris.proto.session.session import Session
from iris.runtime.tcp import Address

FindKey = Callable[[int, int], bytes | None]  # by the ids of a connection and its tunnel


@dataclass(frozen=True, kw_only=True)
class LinkFactory:
    """Make links and sessions with a node's settings, from what a suite's handshake agreed on."""

    config: SessionConfig
    limits: Limits
    metrics: Metrics
    clock: Callable[[], float] = time.monotonic

    def link(self, sock: socket.socket, codec: LinkCodec, kind: str, leftover: bytes = b"") -> Link:
        """Make a link of a socket without a timeout: see `Link`.

        Args:
            kind: control, data, session (a session's only one) or tunnel.
            leftover: what was received beyond the handshake.
        """
        config = self.config
        if kind == "tunnel":  # an application that reads slowly isn't a peer that vanished
            config = dataclasses.replace(config, send_timeout=None)
        return Link(
            sock,
            codec,
            kind=kind,
            config=config,
            limits=self.limits,
            metrics=self.metrics,
            leftover=leftover,
            clock=self.clock,
        )

    def session(self, control: Link, data: Link) -> Session:
        """Make a session of its links, which are the same for a suite with one connection."""
        return Session(control, data, grace=self.config.grace_timeout, clock=self.clock)


class HandshakeRefused(LinkClosed):
    """The peer hung up on our proof: nearly always because it holds a different key."""


class Acceptor(Protocol):
    """Accept sessions on the connections of one listener. Thread-safe."""

    def accept(self, sock: socket.socket, authenticated: Callable[[], None]) -> Session | None:
        """Carry a new connection through its handshake, within `SessionConfig.auth_timeout`.

        The caller keeps no time: the suite sets the socket's timeouts.

        Args:
            authenticated: to be called once, when the peer has proven that it is a member.

        Returns: a session that isn't started, or None when another connection's session has taken
            this one over.
        Raises: AuthenticationError, HandshakeRefused, HandshakeTimeout, LinkClosed, ProtocolError;
            the caller closes the socket then. It may shut it down at any time.
        """

    def close(self) -> None:
        """Give up all that waits for another connection. Never waits."""


class Suite(Protocol):
    """One way to authenticate peers and to encode what links carry. Thread-safe."""

    def dial(self, address: Address) -> Session:
        """Set up a session with the node that listens at `address`.

        Connects within `SessionConfig.dial_timeout`, authenticates within `auth_timeout`. Closes
        what it opened when it fails.

        Raises: AuthenticationError when it isn't a member of this network; HandshakeTimeout;
            LinkClosed when it can't be reached or hangs up; ProtocolError.
        """

    def acceptor(self) -> Acceptor:
        """Make the accepting side of one listener."""

    def dial_tunnel(
        self, sock: socket.socket, conn_id: int, tun_id: int, key: bytes, deadline: float
    ) -> Link:
        """Make the link of a tunnel that the node at the other end offered, by its ids and key.

        Raises: as `accept_tunnel`; the caller closes the socket then.
        """

    def accept_tunnel(
        self, sock: socket.socket, find_key: FindKey, deadline: float
    ) -> tuple[int, int, Link]:
        """Make the link of a tunnel that was asked for here.

        Returns: the ids of its connection and of the tunnel, and its link, which isn't started.
        Raises: AuthenticationError, HandshakeTimeout, LinkClosed, ProtocolError; the caller closes
            the socket then.
        """
