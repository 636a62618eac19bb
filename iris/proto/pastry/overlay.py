"""The ring, as the rest of the node sees it: boot, send, leave.

Shell; answers to Go's proto/pastry/overlay.go and to the threads of its maintenance.go and
heart.go. What it does is decided by `Maintenance` (who is in the ring) and `Router` (where a
message goes); here are the listeners, the bootstrappers, and the thread `pastry-maintenance`, which
alone touches the core. A message is routed by the thread that brings it.

Lock order: the queue's lock and that of `Sessions` are leaves: nothing is called with one of them
held.
"""

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iris.config import Config
from iris.errors import ConfigError, IrisError, LimitReached, LinkClosed, ProtocolError, StateError
from iris.proto.bootstrap.subnet import Bootstrapper
from iris.proto.pastry.actions import (
    Abort,
    Action,
    Close,
    Converged,
    Dial,
    Joined,
    PeerFound,
    PeerGone,
    Send,
    Settle,
    TableChanged,
    Wake,
)
from iris.proto.pastry.maintenance import Maintenance
from iris.proto.pastry.peer import Peer
from iris.proto.pastry.routing import Application, Router
from iris.proto.pastry.sessions import Session, Sessions
from iris.proto.session.session import KeyMismatchReporter, Listener, dial
from iris.proto.wire.message import Entropy, Message
from iris.proto.wire.node_id import NodeId, random_id
from iris.proto.wire.ring import Header
from iris.runtime.batch import Batch
from iris.runtime.compiling import with_cause
from iris.runtime.interfaces import Interface
from iris.runtime.tcp import format_address
from iris.runtime.timer import Timer, TimerEntry

__all__ = ["Application", "Overlay"]

_PACKETS = 1_024  # system packets of one peer that wait for the maintenance thread
_FOUND = 64  # nodes found by bootstrap that wait for it; anybody can send a datagram

_log = logging.getLogger(__name__)

Event = Callable[[], list[Action]]


class _Door(Protocol):
    """Where others come in."""

    def start(self) -> None: ...
    def close(self) -> None: ...


class Overlay:
    """One node of the ring.

    Owns its listeners, bootstrappers, sessions, and the thread `pastry-maintenance`.
    """

    def __init__(
        self,
        network: str,
        key: RSAPrivateKey,
        interfaces: Sequence[Interface],
        app: Application,
        *,
        config: Config,
        timer: Timer,
        rng: random.Random,
        entropy: Entropy = os.urandom,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Draw an id; nothing happens before `boot`.

        What a user may want to read is logged, from INFO up.
        """
        self.node_id = random_id(entropy)
        self._network, self._key, self._interfaces = network, key, interfaces
        self._app, self._config, self._timer, self._rng, self._entropy = (
            app,
            config,
            timer,
            rng,
            entropy,
        )
        self._clock = clock
        self._booted: float | None = clock()  # None: it is known how long it took to converge
        self._strangers = KeyMismatchReporter(network)
        self._core = Maintenance(self.node_id, (), config.pastry)
        self._router = Router(self._core, app, self._transmit)
        self._sessions = Sessions(
            self.node_id,
            self._connect,
            config=config,
            linked=self._core.links.__contains__,
            on_peer=self._peer_arrived,
            on_failed=self._dial_failed,
            clock=clock,
        )
        self._listeners: list[Listener] = []
        self._bootstrappers: list[Bootstrapper] = []
        self._doors: list[_Door] = []  # both of these, in the order they were made
        self._wake = threading.Condition(threading.Lock())
        # as many as there are sessions, dials and deadlines; the others are counted
        self._events: deque[Event] = deque()
        self._found_pending = 0  # of them: nodes found by bootstrap
        self._stopping = self._leaving = False
        self._runner = threading.Thread(
            target=self._maintain, name="pastry-maintenance", daemon=True
        )
        # a beat is in the queue: being late must not make the others look silent
        self._ticking = False
        self._quiet: TimerEntry | None = None
        self._alone = threading.Event()  # leaving, and everybody has hung up
        # nothing has changed for the quiet time, or the node is closed
        self.converged = threading.Event()
        self.unsent = 0  # messages to peers that take nothing, dropped

    # What the rest of the node uses

    @property
    def addresses(self) -> list[str]:
        """Where this node listens: "ip:port" strings, from `boot` on."""
        return list(self._sessions.addresses)

    @property
    def joined(self) -> bool:
        """Whether this node is part of a ring of more than one."""
        return self._core.joined

    def peers(self) -> dict[NodeId, tuple[str, ...]]:
        """The nodes that this one needs for its routing, and where they listen."""
        active = self._core.table.active
        return {
            peer.node_id: peer.addresses
            for peer in list(self._core.links.values())
            if peer.node_id in active
        }

    def send(self, dest: NodeId, message: Message) -> None:
        """Route a message from here. Runs to completion in this thread.

        What is for this node is delivered before it returns.
        """
        self._router.route(dest, message)

    def boot(self) -> None:
        """Listen, search, and join whom we find; returns at once. Raises.

        ConfigError when no interface can be used.
        """
        trouble: Exception | None = None
        places = []
        for interface in self._interfaces:
            try:
                places.append(self._open(interface))
            except (OSError, ConfigError) as exc:
                trouble = exc
                _log.warning(
                    "the interface %s (%s) can't be used: %s",
                    interface.name,
                    interface.address,
                    exc,
                )
        if not self._bootstrappers:
            self._close_doors()
            raise with_cause(
                ConfigError(f"no interface can be used: {trouble or 'there is none'}"), trouble
            ) from trouble
        self._sessions.addresses = sorted(
            format_address(listener.address) for listener in self._listeners
        )
        self._core.addresses = self._sessions.addresses
        _log.info("meeting other nodes on %s", ", ".join(places))
        self._booted = self._clock()
        self._runner.start()
        self._post(self._core.start)
        for door in self._doors:
            door.start()
        self._timer.after(self._config.pastry.beat_period, self._beat)

    def _open(self, interface: Interface) -> str:
        """Make what listens there. Returns: where that is, readable."""
        listener = Listener(
            (str(interface.address), 0),
            self._key,
            self._sessions.accept,
            session=self._config.session,
            limits=self._config.limits,
            strangers=self._strangers,
            entropy=self._entropy,
        )
        try:
            bootstrapper = Bootstrapper(
                interface,
                self._network,
                self.node_id,
                listener.address[1],
                self._found,
                config=self._config.bootstrap,
                rng=self._rng,
            )
        except BaseException:
            listener.close()
            raise
        self._listeners.append(listener)
        self._bootstrappers.append(bootstrapper)
        self._doors += (listener, bootstrapper)
        return f"{interface.name} ({interface.address}, ports TCP {listener.address[1]} and UDP {bootstrapper.address[1]})"

    def leave(self, timeout: float | None = None) -> None:
        """Say goodbye to all peers, and wait until they have hung up, `timeout` or `close_timeout`
        seconds at most. Idempotent.
        """
        with self._wake:
            if self._leaving or self._runner.ident is None:
                return
            self._leaving = True
        self._sessions.stop()
        self._close_doors()
        self._post(self._leave)
        self._alone.wait(self._config.pastry.close_timeout if timeout is None else timeout)

    def _leave(self) -> list[Action]:
        actions = self._core.leave()
        if not self._core.links:
            self._alone.set()
        return actions

    def close(self, timeout: float | None = None) -> None:
        """Leave, if that wasn't done, and end everything, in `timeout` seconds or what is usual.

        Idempotent; not from own threads.
        """
        usual = self._config.pastry.close_timeout
        # one for leaving, two for closing
        share = usual if timeout is None else min(usual, timeout / 3)
        self.leave(share)
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._runner.ident is not None:
            self._runner.join()
        self._sessions.close_all(share)
        self.converged.set()  # nobody waits any longer

    def _close_doors(self) -> None:
        while self._doors:
            try:
                self._doors.pop().close()
            except IrisError:
                # and the others still have to
                _log.exception("a listener or bootstrapper didn't close")

    # What comes from elsewhere, on any thread

    def _connect(self, address: tuple[str, int]) -> Session:
        return dial(
            address,
            self._key,
            session=self._config.session,
            limits=self._config.limits,
            strangers=self._strangers,
        )

    def _found(self, node: int, address: tuple[str, int], is_response: bool) -> None:
        """Bootstrap has heard of a node. Only who answers is dialled.

        It will dial whom it has asked, if it wants to.
        """
        if not is_response:
            return
        with self._wake:
            if self._found_pending >= _FOUND:
                return  # it will be heard of again
            self._found_pending += 1
        self._post(partial(self._take_found, NodeId(node), format_address(address)))

    def _peer_arrived(self, peer: Peer, asked: NodeId | None) -> None:
        self._post(partial(self._connected, peer, asked))

    def _dial_failed(self, node: NodeId) -> None:
        self._post(partial(self._core.failed, node))

    def _receiver(self, peer: Peer) -> Callable[[Message], None]:
        """What takes a peer's messages: the hot path.

        A ProtocolError ends the link that brought the message.
        """
        node, route = peer.node_id, self._router.receive

        def receive(message: Message) -> None:
            header = message.meta
            if not isinstance(header, Header):
                raise ProtocolError("message of no known layer")
            peer.alive = True
            if header.op:
                self._post_packet(peer, header)
            else:
                route(header, message, node)

        return receive

    def _ended(self, peer: Peer, error: Exception | None) -> None:
        """A session is over; on its reading thread."""
        if error is None:
            self._post(partial(self._core.ended, peer, ""))
            self._sessions.close(peer.session)  # the other link may still bring something
            return
        why = str(error) or type(error).__name__
        self._post(
            partial(
                self._core.reject if isinstance(error, ProtocolError) else self._core.ended,
                peer,
                why,
            )
        )
        self._sessions.abort(peer.session)

    def _transmit(self, peer: Peer, message: Message) -> bool:
        try:
            peer.session.send(message)
        except LinkClosed:
            return False  # its end is on its way to the core
        except LimitReached:
            self.unsent += 1
        return True

    def _beat(self) -> None:
        with self._wake:
            if self._stopping:
                return
            late, self._ticking = self._ticking, True
        if not late:
            self._post(self._tick)
        self._timer.after(self._config.pastry.beat_period, self._beat)

    # The maintenance thread

    def _post(self, event: Event) -> None:
        with self._wake:
            self._events.append(event)
            self._wake.notify()

    def _post_packet(self, peer: Peer, header: Header) -> None:
        with self._wake:
            if peer.pending >= _PACKETS:
                raise ProtocolError("it sends system packets faster than they can be handled")
            peer.pending += 1
            self._events.append(partial(self._packet, peer, header))
            self._wake.notify()

    def _take_found(self, node: NodeId, address: str) -> list[Action]:
        with self._wake:
            self._found_pending -= 1
        return self._core.found(node, address)

    def _packet(self, peer: Peer, header: Header) -> list[Action]:
        with self._wake:
            peer.pending -= 1
        try:
            return self._core.packet(peer, header)
        except ProtocolError as exc:
            _log.warning("node %010x at %s is dropped: %s", peer.node_id, peer.remote, exc)
            return self._core.reject(peer, str(exc))

    def _tick(self) -> list[Action]:
        self._ticking = False
        return self._core.tick()

    def _connected(self, peer: Peer, asked: NodeId | None) -> list[Action]:
        """Start a session before the core sees it.

        Nothing that it brings can be ahead of it in the queue.
        """
        try:
            peer.session.start(self._receiver(peer), partial(self._ended, peer))
        # it was cut meanwhile, or there are no more threads to be had
        except (StateError, RuntimeError) as exc:
            _log.warning("the session with node %010x can't begin: %s", peer.node_id, exc)
            self._sessions.abort(peer.session)
            return self._core.failed(asked) if asked is not None else []
        return self._core.connected(peer, asked)

    def _maintain(self) -> None:
        while True:
            with self._wake:
                while not self._events and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    return
                events, self._events = self._events, deque()
            with Batch():
                for event in events:
                    self._handle(event)
            if self._leaving and not self._core.links:
                self._alone.set()

    def _handle(self, event: Event) -> None:
        try:
            actions = event()
        except Exception:
            _log.exception("an event of the ring couldn't be handled")  # our bug; the node goes on
            return
        for action in actions:
            try:
                self._do(action)
            except Exception:
                # our bug, or that of the layer above
                _log.exception("%s couldn't be done", type(action).__name__)

    def _do(self, action: Action) -> None:
        if isinstance(action, Send):
            self._transmit(action.peer, Message(action.header))
        elif isinstance(action, Dial):
            self._sessions.dial(action)
        elif isinstance(action, Close):
            self._sessions.close(action.peer.session, action.lull)
        elif isinstance(action, Abort):
            self._sessions.abort(action.peer.session)
        elif isinstance(action, PeerFound):
            _log.info("connected to node %010x at %s", action.peer.node_id, action.peer.remote)
        elif isinstance(action, PeerGone):
            self._peer_gone(action)
        elif isinstance(action, TableChanged):
            self.converged.clear()
            self._app.table_changed()
        elif isinstance(action, Joined):
            _log.debug("node %010x has joined the network", self.node_id)
        elif isinstance(action, Wake):
            self._timer.after(action.seconds, partial(self._post, self._core.wake))
        elif isinstance(action, Settle):
            if self._quiet is not None:
                self._timer.cancel(self._quiet)
            self._quiet = self._timer.after(action.seconds, partial(self._post, self._core.settled))
        elif isinstance(action, Converged):
            self._converge()

    def _peer_gone(self, action: PeerGone) -> None:
        peer, why = action.peer, action.why
        if not action.lost or self._leaving:
            _log.debug(
                "disconnected from node %010x at %s: %s",
                peer.node_id,
                peer.remote,
                why or "it closed the session",
            )
        elif why:
            _log.warning("lost node %010x at %s: %s", peer.node_id, peer.remote, why)
            self._sessions.said(peer.node_id)  # trying to reach it again is no news
        else:
            _log.info("node %010x at %s has left", peer.node_id, peer.remote)
        if action.lost:
            self._app.peer_lost(peer.node_id)

    def _converge(self) -> None:
        """Nothing happens any more: tell so, the first time, and search at leisure."""
        self.converged.set()
        peers = len(self._core.table.active)
        if self._booted is not None:
            found = f"{peers} peer{'s' * (peers != 1)}" if peers else "no other node found so far"
            _log.info("converged after %.1f s: %s", self._clock() - self._booted, found)
            self._booted = None
        for bootstrapper in self._bootstrappers:
            bootstrapper.slow()
