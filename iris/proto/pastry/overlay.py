"""The ring, as the rest of the node sees it: boot, send, leave.

Counterpart of Go's proto/pastry/overlay.go and of the threads of its maintenance.go and heart.go.
Shell: `Maintenance` decides which nodes are in the ring, `Router` where a message goes. Here are
the listeners, the discovery sources, and the thread `pastry-maintenance`, which alone touches the
core. A message is routed by the thread that brings it.

Lock order: the queue's lock and that of `Sessions` are leaves: nothing is called with one of them
held.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from iris.config import Config
from iris.errors import ConfigError, IrisError, LimitReached, LinkClosed, ProtocolError, StateError
from iris.metrics import Metrics
from iris.proto.bootstrap.base import Source
from iris.proto.pastry.actions import (
    Abort,
    Action,
    Cause,
    Close,
    Dial,
    Joined,
    PeerFound,
    PeerGone,
    RestartQuietTimer,
    Send,
    TableChanged,
    Wake,
)
from iris.proto.pastry.event_loop import Budget, EventLoop
from iris.proto.pastry.maintenance import Maintenance
from iris.proto.pastry.peer import Peer
from iris.proto.pastry.routing import Application, Router
from iris.proto.pastry.sessions import Connect, Sessions
from iris.proto.session.handshakes import SessionListener
from iris.proto.session.session import Session
from iris.proto.wire.message import Entropy, Message
from iris.proto.wire.node_id import NodeId, random_id
from iris.proto.wire.ring import Header
from iris.runtime.compiling import with_cause
from iris.runtime.interfaces import Interface
from iris.runtime.tcp import Address, format_address
from iris.runtime.timer import Timer, TimerEntry

_MAX_PACKETS = 1_024  # system packets of one peer that wait for the maintenance thread
_MAX_FOUND = 64  # nodes found by discovery that wait for it; datagrams may come from anywhere

_log = logging.getLogger(__name__)

# Listen on an interface, at any port. Raises: OSError.
Listen = Callable[[Interface, Callable[[Session], None]], SessionListener]
# Make a source for one interface, whose listener has this port. Raises: ConfigError, OSError.
OpenSearch = Callable[[Interface, NodeId, int], Source]


class Overlay:
    """One node of the ring.

    Owns its listeners, discovery sources, sessions, and the thread `pastry-maintenance`.
    """

    def __init__(
        self,
        interfaces: Sequence[Interface],
        app: Application,
        *,
        listen: Listen,
        connect: Connect,
        searches: Sequence[OpenSearch] = (),
        sources: Sequence[Source] = (),
        config: Config,
        timer: Timer,
        metrics: Metrics | None = None,
        entropy: Entropy = os.urandom,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Draw an id; nothing happens before `boot`.

        Args:
            listen, connect: make sessions.
            searches: make discovery sources, one each for every interface. An interface isn't used
                when one of them fails.
            sources: discovery sources of the whole node.
        """
        self.node_id = random_id(entropy)
        self._interfaces, self._app = interfaces, app
        self._listen, self._searches = listen, searches
        self._config, self._timer, self._clock = config, timer, clock
        self._metrics = metrics or Metrics()
        self._booted: float | None = clock()  # None: it is known how long it took to converge
        self._addresses: list[str] = []  # "ip:port" of every listener, from `boot` on
        self._core = Maintenance(self.node_id, self._addresses, config.pastry)
        self._router = Router(self._core, app, self._transmit)
        self._sessions = Sessions(
            self.node_id,
            self._addresses,
            connect,
            config=config,
            linked=self._core.links.__contains__,
            on_peer=lambda peer, dial: self._post(self._connected, peer, dial),
            on_failed=lambda dial: self._post(self._core.failed, dial),
            clock=clock,
        )
        self._listeners: list[SessionListener] = []
        self._sources = list(sources)
        # bounded by the number of sessions, dials and timers, or else by budgets
        self._loop = EventLoop("pastry-maintenance", self._notify_if_alone)
        self._found_budget = Budget(_MAX_FOUND)
        self._beat_budget = Budget(1)  # being late must not make the others look silent
        self._quiet_timer: TimerEntry | None = None
        self._leaving = self._closed = False
        self._leave_lock = threading.Lock()  # guards taking the step to `_leaving`
        self._alone = threading.Event()  # leaving, and every peer has closed its session
        self.converged = threading.Event()  # no change for the quiet time, or closed

    # What the rest of the node uses

    @property
    def addresses(self) -> list[str]:
        """Where this node listens: "ip:port" strings, from `boot` on."""
        return list(self._addresses)

    @property
    def joined(self) -> bool:
        """Whether this node is part of a ring of more than one."""
        return self._core.joined

    def peers(self) -> dict[NodeId, tuple[str, ...]]:
        """The nodes that this one needs for its routing, and where they listen."""
        active = self._core.table.active
        peers = list(self._core.links.values())
        return {peer.node_id: peer.addresses for peer in peers if peer.node_id in active}

    def send(self, dest: NodeId, message: Message) -> None:
        """Route a message from here. Runs to completion in this thread.

        What is for this node is delivered before it returns.
        """
        self._router.route(dest, message)

    def boot(self) -> None:
        """Listen, search, and join the nodes that are found; returns at once.

        Raises: ConfigError when no interface can be used.
        """
        trouble: Exception | None = None
        places = []
        for interface in self._interfaces:
            name = f"{interface.name} ({interface.address})"
            try:
                places.append(self._open(interface))
            except (OSError, ConfigError) as exc:
                trouble = exc
                _log.warning("can't use the interface %s: %s", name, exc)
        if not places:
            self._stop_listening()
            error = ConfigError(f"no interface can be used: {trouble or 'there is none'}")
            raise with_cause(error, trouble) from trouble
        self._addresses += sorted(format_address(listener.address) for listener in self._listeners)
        _log.info("listening for peers on %s", ", ".join(places))
        self._booted = self._clock()
        self._loop.start()
        self._post(lambda: [RestartQuietTimer(self._config.pastry.boot_quiet)])
        for listener in self._listeners:
            listener.start()
        for source in self._sources:
            source.start(self._found)
        self._timer.after(self._config.pastry.beat_period, self._beat)

    def _open(self, interface: Interface) -> str:
        """Listen and search on an interface. Returns: where, for the log."""
        listener = self._listen(interface, self._sessions.accept)
        sources: list[Source] = []
        try:
            for search in self._searches:
                sources.append(search(interface, self.node_id, listener.address[1]))
        except BaseException:
            for source in sources:
                source.close()
            listener.close()
            raise
        self._listeners.append(listener)
        self._sources += sources
        details = ", ".join(map(str, (format_address(listener.address), *sources)))
        return f"{interface.name} ({details})"

    def leave(self, timeout: float | None = None) -> None:
        """Say goodbye to all peers, and wait until they have closed their sessions. Idempotent.

        Waits for `timeout` seconds at most, `close_timeout` by default.
        """
        with self._leave_lock:
            if self._leaving or not self._loop.started:
                return
            self._leaving = True
        self._sessions.stop()
        self._stop_listening()
        self._post(self._core.leave)
        self._alone.wait(self._config.pastry.close_timeout if timeout is None else timeout)

    def _notify_if_alone(self) -> None:
        if self._leaving and not self._core.links:
            self._alone.set()

    def close(self, timeout: float | None = None) -> None:
        """Leave, if that wasn't done, and end everything, in `timeout` seconds or what is usual.

        Idempotent; not from own threads.
        """
        usual = self._config.pastry.close_timeout  # once for leaving, twice for closing
        share = usual if timeout is None else min(usual, timeout / 3)
        self.leave(share)
        self._closed = True
        self._loop.stop()
        self._sessions.close_all(share)
        self.converged.set()  # to end every wait for it

    def _stop_listening(self) -> None:
        """Close the sources and the listeners."""
        for listener in self._listeners:
            listener.close()
        for source in self._sources:
            try:
                source.close()
            except IrisError as exc:  # the others are closed all the same
                _log.warning("can't close the %s: %s", source, exc)

    # What comes from elsewhere, on any thread

    def _found(self, address: Address, node_id: NodeId | None = None) -> None:
        """Take what a discovery source found; when it is too much, it will be found again."""
        self._post_within(self._found_budget, self._core.found, address, node_id)

    def _receiver(self, peer: Peer) -> Callable[[Message], None]:
        """Make what takes a peer's messages: the hot path. A ProtocolError ends their link."""
        node, route, budget = peer.node_id, self._router.receive, Budget(_MAX_PACKETS)

        def receive(message: Message) -> None:
            header = message.meta
            if not isinstance(header, Header):
                raise ProtocolError("message of an unknown layer")
            peer.alive = True
            if header.op:
                if not self._post_within(budget, self._packet, peer, header):
                    raise ProtocolError("more system packets than this node can handle")
            else:
                route(header, message, node)

        return receive

    def _ended(self, peer: Peer, error: Exception | None) -> None:
        """Handle the end of a session; on its reading thread."""
        if error is None:
            self._post(self._core.ended, peer, "")
            self._sessions.close(peer.session)  # the other link may still bring something
            return
        handle = self._core.reject if isinstance(error, ProtocolError) else self._core.ended
        self._post(handle, peer, str(error) or type(error).__name__)
        self._sessions.abort(peer.session)

    def _transmit(self, peer: Peer, message: Message) -> bool:
        try:
            peer.session.send(message)
        except LinkClosed:
            return False  # its end is on its way to the core
        except LimitReached:
            self._metrics.unsent.inc()
        return True

    def _beat(self) -> None:
        if not self._closed:
            self._post_within(self._beat_budget, self._core.tick)
            self._timer.after(self._config.pastry.beat_period, self._beat)

    def _post(self, event: Callable[..., list[Action]], *args: object) -> None:
        """Have the maintenance thread handle an event."""
        self._loop.post(lambda: self._handle(event(*args)))

    def _post_within(
        self, budget: Budget, event: Callable[..., list[Action]], *args: object
    ) -> bool:
        """Have it handle an event, unless too many wait already: False."""
        return self._loop.post_within(budget, lambda: self._handle(event(*args)))

    # The maintenance thread

    def _packet(self, peer: Peer, header: Header) -> list[Action]:
        try:
            return self._core.packet(peer, header)
        except ProtocolError as exc:
            _log.warning("dropping node %010x at %s: %s", peer.node_id, peer.remote, exc)
            return self._core.reject(peer, str(exc))

    def _connected(self, peer: Peer, dial: Dial | None) -> list[Action]:
        """Start a session before the core knows it, so that nothing it brings is ahead of it."""
        try:
            peer.session.start(self._receiver(peer), partial(self._ended, peer))
        except (StateError, RuntimeError) as exc:  # aborted meanwhile, or no thread is left
            _log.warning("can't start the session with node %010x: %s", peer.node_id, exc)
            self._sessions.abort(peer.session)
            return self._core.failed(dial) if dial is not None else []
        return self._core.connected(peer, dial)

    def _handle(self, actions: list[Action]) -> None:
        for action in actions:
            try:
                self._do(action)
            except Exception:  # our bug, or that of the layer above
                _log.exception("%s failed", type(action).__name__)

    def _do(self, action: Action) -> None:
        if isinstance(action, Send):
            self._transmit(action.peer, Message(action.header))
        elif isinstance(action, Dial):
            self._sessions.dial(action)
        elif isinstance(action, Close):
            self._sessions.close(action.peer.session, action.delay)
        elif isinstance(action, Abort):
            self._sessions.abort(action.peer.session)
        elif isinstance(action, PeerFound):
            self._metrics.peers.inc()
            _log.info("connected to node %010x at %s", action.peer.node_id, action.peer.remote)
        elif isinstance(action, PeerGone):
            self._peer_gone(action)
        elif isinstance(action, TableChanged):
            self.converged.clear()
            self._app.table_changed()
        elif isinstance(action, Joined):
            _log.debug("node %010x has joined the network", self.node_id)
        elif isinstance(action, Wake):
            self._timer.after(action.seconds, lambda: self._post(self._core.wake))
        elif isinstance(action, RestartQuietTimer):
            if self._quiet_timer is not None:
                self._timer.cancel(self._quiet_timer)
            converge = partial(self._loop.post, self._converge)
            self._quiet_timer = self._timer.after(action.seconds, converge)

    def _peer_gone(self, action: PeerGone) -> None:
        peer, cause = action.peer, action.cause
        name, where = f"node {peer.node_id:010x}", peer.remote
        self._metrics.peers.inc(-1)
        self._metrics.peers_lost[cause.value].inc()
        if cause is Cause.UNUSED or self._leaving:
            _log.debug("disconnected from %s at %s: %s", name, where, action.details or cause.value)
        elif cause is Cause.LEFT:
            _log.info("%s at %s has left", name, where)
        else:
            _log.warning("lost %s at %s: %s", name, where, action.details or cause.value)
            self._sessions.unreachable.admit(peer.node_id)  # trying to reach it again is no news
        if cause is not Cause.UNUSED:
            self._app.peer_lost(peer.node_id)

    def _converge(self) -> None:
        """Log how long the first time took, and let discovery save effort."""
        self.converged.set()
        if self._booted is not None:
            peers = len(self._core.table.active)
            found = f"{peers} peer{'s' * (peers != 1)}" if peers else "no other node found so far"
            _log.info("converged after %.1f s: %s", self._clock() - self._booted, found)
            self._booted = None
        for source in self._sources:
            source.slow()
