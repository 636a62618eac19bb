"""The node's side of clusters and topics: its connections, and what scribe brings them.

Counterpart of Go's proto/iris/overlay.go and the network's side of events.go. Messages run to
completion in the thread that brings them and read only tables that are replaced as a whole, so
nothing here takes a lock for them.

Lock order: overlay -> nothing; no lock is held across a call.
"""

import itertools
import logging
import os
import random
import time
from collections.abc import Callable, Iterable
from typing import Final

from iris.config import Config
from iris.errors import ProtocolError, StateError
from iris.proto.iris.connection import (
    Connection,
    Delivery,
    Handler,
    Scribe,
    Shared,
    TunnelOffer,
)
from iris.proto.iris.memberships import Memberships
from iris.proto.iris.requests import TIMED_OUT, Call, Fault, Outcome, Reply, TimedOut, to_seconds
from iris.proto.iris.tunnel import Tunnel, TunnelConsumer
from iris.proto.iris.tunnel_manager import TunnelManager
from iris.proto.link.link import Link
from iris.proto.wire.clusters import Header, Op
from iris.proto.wire.message import Entropy, Message
from iris.proto.wire.node_id import NodeId
from iris.runtime.interfaces import Interface
from iris.runtime.timer import Timer

__all__ = [
    "TIMED_OUT",
    "Call",
    "Connection",
    "Delivery",
    "Fault",
    "Handler",
    "Outcome",
    "Overlay",
    "Reply",
    "TimedOut",
    "Tunnel",
    "TunnelConsumer",
    "TunnelOffer",
]

# Plain ints: comparing with an enum's member costs more than the whole dispatch
_BROADCAST: Final = int(Op.BROADCAST)
_REQUEST: Final = int(Op.REQUEST)
_REPLY: Final = int(Op.REPLY)
_PUBLISH: Final = int(Op.PUBLISH)
_TUNNEL: Final = int(Op.TUNNEL)

_log = logging.getLogger(__name__)


class Overlay:
    """Scribe's application. Owns the connections and, through the tunneler, the tunnels.

    Its maker closes it, before scribe.
    """

    def __init__(
        self,
        *,
        config: Config,
        timer: Timer,
        rng: random.Random,
        entropy: Entropy = os.urandom,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Arguments: rng picks among a cluster's local members; entropy makes tunnel keys."""
        self._config, self._timer, self._entropy, self._clock = config, timer, entropy, clock
        self._random = rng.random
        self._tunneler = TunnelManager(config, timer, self._tunnel_key, self._handle_link, clock)
        self._connections: dict[int, Connection] = {}
        self._members: dict[str, tuple[Connection, ...]] = {}
        self._ids = itertools.count(1)  # WIRE: 0 names nobody
        self._shared: Shared | None = None
        self._closed = False

    def attach(self, scribe: Scribe) -> None:
        """Say what carries the messages: once, before anything else."""
        memberships: Memberships[Connection] = Memberships(scribe.subscribe, scribe.unsubscribe)
        self._members = memberships.members
        splits = range(self._config.iris.topic_splits)
        self._shared = Shared(
            scribe=scribe,
            memberships=memberships,
            connections=self._connections,
            tunneler=self._tunneler,
            config=self._config,
            timer=self._timer,
            entropy=self._entropy,
            clock=self._clock,
            clusters=tuple(f"c#{split}-" for split in splits),  # WIRE: Go's prefixes
            topics=tuple(f"t#{split}-" for split in splits),
        )

    def connect(self, cluster: str, handler: Handler) -> Connection:
        """Attach an application.

        As a member of `cluster`, effective on return, or with "" as a plain client. Close what you
        get.
        """
        if self._shared is None or self._closed:
            raise StateError("the overlay isn't attached, or closed")
        connection = Connection(self._shared, next(self._ids), cluster, handler)
        self._connections[connection.id] = connection
        connection.join()
        return connection

    def start_tunnels(self, interfaces: Iterable[Interface]) -> None:
        """Listen for tunnels on these; without, tunnels stay on this node."""
        self._tunneler.listen(interfaces)

    @property
    def tunnel_addresses(self) -> list[str]:
        """Where it listens for tunnels, as "ip:port"."""
        return self._tunneler.addresses

    def close(self, grace: float | None = None) -> None:
        """Close all connections and tunnels.

        The latter get `grace` seconds, or the session's, to send what they hold. Idempotent.
        """
        self._closed = True
        for connection in list(self._connections.values()):
            connection.close()
        self._tunneler.close(grace)

    # Scribe's application

    def handle_publish(self, sender: NodeId, topic: str, message: Message) -> None:
        """Deliver a broadcast or an event to all members here."""
        operation = _header(message).op
        members = self._members.get(topic, ())  # none, when the last one left a moment ago
        delivery = Delivery(message.data())
        if operation == _BROADCAST:
            for member in members:
                try:
                    member.handler.handle_broadcast(delivery)
                except Exception:
                    # our bug; the others still count
                    _log.exception("connection %d couldn't take a broadcast", member.id)
        elif operation == _PUBLISH:
            name = topic[topic.index("-") + 1 :]
            for member in members:
                try:
                    member.handler.handle_event(name, delivery)
                except Exception:
                    _log.exception("connection %d couldn't take an event", member.id)
        else:
            raise ProtocolError(f"operation {operation} was published")

    def handle_balance(self, sender: NodeId, topic: str, message: Message) -> bool:
        """Give a request or tunnel to one of the members here, at random.

        False when there is none any more.
        """
        header = _header(message)
        if header.op == _REQUEST:
            take = Connection.handle_request
        elif header.op == _TUNNEL:
            take = Connection.handle_offer
        else:
            raise ProtocolError(f"operation {header.op} was balanced")
        members = self._members.get(topic, ())
        if not members:
            return False
        if take(members[int(self._random() * len(members))], sender, header, message):
            return True
        # that one leaves right now
        return any(take(member, sender, header, message) for member in members)

    def handle_direct(self, sender: NodeId, message: Message) -> None:
        """Give a reply to the connection that waits for it, if it still does."""
        header = _header(message)
        if header.op != _REPLY:
            raise ProtocolError(f"operation {header.op} was sent directly")
        connection = self._connections.get(header.dest)
        if connection is not None:
            connection.handle_reply(header, message)

    def patience(self, meta: object) -> float:
        """Seconds for which somebody waits for what comes of a balanced message."""
        return to_seconds(max(meta.req_time, meta.tun_time)) if isinstance(meta, Header) else 0.0

    # The tunneler's side

    def _tunnel_key(self, connection_id: int, tunnel_id: int) -> bytes | None:
        connection = self._connections.get(connection_id)
        return None if connection is None else connection.tunnel_key(tunnel_id)

    def _handle_link(self, connection_id: int, tunnel_id: int, link: Link) -> None:
        connection = self._connections.get(connection_id)
        if connection is None:
            link.abort()  # closed meanwhile
        else:
            connection.handle_link(tunnel_id, link)


def _header(message: Message) -> Header:
    header = message.meta
    if not isinstance(header, Header):
        raise ProtocolError("a message that is none of ours")
    return header
