"""The node's clusters and topics: its connections, and what scribe delivers to them.

Counterpart of Go's proto/iris/overlay.go and the network's side of events.go. Messages run to
completion in the thread that delivers them and read only tables that are replaced as a whole, so
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
from iris.metrics import Metrics
from iris.proto.iris.base import Delivery, Handler, Scribe
from iris.proto.iris.connection import Connection
from iris.proto.iris.connection_tunnels import ConnectionTunnels, Shared
from iris.proto.iris.memberships import Memberships
from iris.proto.iris.requests import to_seconds
from iris.proto.iris.tunnel_manager import TunnelManager
from iris.proto.link.link import Link
from iris.proto.session.base import Suite
from iris.proto.wire.clusters import Header, Op
from iris.proto.wire.message import Entropy, Message
from iris.proto.wire.node_id import NodeId
from iris.runtime.interfaces import Interface
from iris.runtime.timer import Timer

# Plain ints: comparing with an enum's member costs more than the whole dispatch
_BROADCAST: Final = int(Op.BROADCAST)
_REQUEST: Final = int(Op.REQUEST)
_REPLY: Final = int(Op.REPLY)
_PUBLISH: Final = int(Op.PUBLISH)
_TUNNEL: Final = int(Op.TUNNEL)

_log = logging.getLogger(__name__)


class Overlay:
    """Scribe's application. Owns the connections and, through the tunnel manager, the tunnels.

    Its maker closes it, before scribe.
    """

    def __init__(
        self,
        *,
        config: Config,
        timer: Timer,
        suite: Suite,
        rng: random.Random,
        entropy: Entropy = os.urandom,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        """Args: suite makes tunnels' links; rng picks among local members; entropy makes keys."""
        self._config, self._timer, self._entropy, self._clock = config, timer, entropy, clock
        self.metrics = metrics or Metrics()
        self._random = rng.random
        self._tunnel_manager = TunnelManager(
            config, timer, suite, self._tunnel_key, self._handle_link, clock, self.metrics
        )
        self._connections: dict[int, Connection] = {}
        self._tunnels: dict[int, ConnectionTunnels] = {}  # by connection id
        self._members: dict[str, tuple[Connection, ...]] = {}
        self._ids = itertools.count(1)  # WIRE: 0 is no connection's
        self._memberships: Memberships[Connection] | None = None
        self._shared: Shared | None = None
        self._closed = False

    def attach(self, scribe: Scribe) -> None:
        """Set the layer below: once, before anything else."""
        self._memberships = Memberships(scribe.subscribe, scribe.unsubscribe)
        self._members = self._memberships.members
        splits = range(self._config.iris.topic_splits)
        self._shared = Shared(
            scribe=scribe,
            tunnels=self._tunnels,
            tunnel_manager=self._tunnel_manager,
            config=self._config,
            timer=self._timer,
            entropy=self._entropy,
            clock=self._clock,
            metrics=self.metrics,
            clusters=tuple(f"c#{split}-" for split in splits),  # WIRE: Go's prefixes
            topics=tuple(f"t#{split}-" for split in splits),
        )

    def connect(self, cluster: str, handler: Handler) -> Connection:
        """Attach an application: as a member of `cluster`, or with "" as a plain client.

        The membership is effective on return. The caller closes the connection.

        Raises: StateError before `attach` and after `close`.
        """
        if self._shared is None or self._memberships is None or self._closed:
            raise StateError("the overlay isn't attached, or closed")
        connection = Connection(
            self._shared,
            self._memberships,
            self._connections,
            next(self._ids),
            cluster,
            handler,
        )
        connection.join()
        return connection

    def start_tunnels(self, interfaces: Iterable[Interface]) -> None:
        """Listen for tunnels on these interfaces; without any, tunnels stay on this node."""
        self._tunnel_manager.listen(interfaces)

    @property
    def tunnel_addresses(self) -> list[str]:
        """Where it listens for tunnels, as "ip:port"."""
        return self._tunnel_manager.addresses

    def close(self, grace: float | None = None) -> None:
        """Close all connections and tunnels. Idempotent.

        Tunnels get `grace` seconds, or the session's, to send what is queued.
        """
        self._closed = True
        for connection in list(self._connections.values()):
            connection.close()
        self._tunnel_manager.close(grace)

    # Scribe's application

    def handle_publish(self, sender: NodeId, topic: str, message: Message) -> None:
        """Deliver a broadcast or an event to all members here."""
        operation = _header(message).op
        members = self._members.get(topic, ())  # none when the last one left a moment ago
        delivery = Delivery(message.data())
        if operation == _BROADCAST:
            for member in members:
                try:
                    member.handler.handle_broadcast(delivery)
                except Exception:
                    # our bug; the other members still get it
                    _log.exception("connection %d failed to take a broadcast", member.id)
        elif operation == _PUBLISH:
            name = topic[topic.index("-") + 1 :]
            for member in members:
                try:
                    member.handler.handle_event(name, delivery)
                except Exception:
                    _log.exception("connection %d failed to take an event", member.id)
        else:
            raise ProtocolError(f"operation {operation} was published")

    def handle_balance(self, sender: NodeId, topic: str, message: Message) -> bool:
        """Deliver a request, or offer a tunnel, to one of the members here, at random.

        False when there is none any more.
        """
        header = _header(message)
        if header.op != _REQUEST and header.op != _TUNNEL:
            raise ProtocolError(f"operation {header.op} was balanced")
        members = self._members.get(topic, ())
        if not members:
            return False
        member = members[int(self._random() * len(members))]
        if _deliver(member, sender, header, message):
            return True
        # that one is just leaving
        return any(_deliver(member, sender, header, message) for member in members)

    def handle_direct(self, sender: NodeId, message: Message) -> None:
        """Deliver a reply to the connection that its request came from, if it is still there."""
        header = _header(message)
        if header.op != _REPLY:
            raise ProtocolError(f"operation {header.op} was sent directly")
        connection = self._connections.get(header.dest)
        if connection is not None:
            connection.handle_reply(header, message)
        else:
            self.metrics.replies_late.inc()

    def anycast_timeout(self, meta: object) -> float:
        """Return the seconds for which a balanced message's caller waits for a reply."""
        return to_seconds(max(meta.req_time, meta.tun_time)) if isinstance(meta, Header) else 0.0

    # The tunnel manager's callbacks

    def _tunnel_key(self, connection_id: int, tunnel_id: int) -> bytes | None:
        tunnels = self._tunnels.get(connection_id)
        return None if tunnels is None else tunnels.key(tunnel_id)

    def _handle_link(self, connection_id: int, tunnel_id: int, link: Link) -> None:
        tunnels = self._tunnels.get(connection_id)
        if tunnels is None:
            link.abort()  # closed meanwhile
        else:
            tunnels.handle_link(tunnel_id, link)


def _deliver(member: Connection, sender: NodeId, header: Header, message: Message) -> bool:
    if header.op == _REQUEST:
        return member.handle_request(sender, header, message)
    return member.handle_offer(header)


def _header(message: Message) -> Header:
    header = message.meta
    if not isinstance(header, Header):
        raise ProtocolError("a message without a header of the Iris layer")
    return header
