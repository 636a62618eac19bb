"""Sessions of a node with its peers, from the dial to the close.

Counterpart of Go's proto/pastry/handshake.go, but for the duplicate filter. Shell: both sides of a
new session introduce themselves here. Dials run on at most `Limits.peer_handshakes` threads
`pastry-dial-…`, each of which lives as long as there is something to dial; accepted sessions
introduce themselves on the thread that the listener brings them on. A graceful close waits for the
other side, on a thread `pastry-close-…` of its own: there is one per session at most.

Lock order: none is taken with this one held; nothing is called back or waited for with it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from iris.config import Config
from iris.errors import IrisError, LinkClosed, ProtocolError
from iris.proto.addresses import MAX_ADDRESSES, parse_address
from iris.proto.pastry.actions import Dial
from iris.proto.pastry.peer import Peer
from iris.proto.wire.message import Message
from iris.proto.wire.node_id import NodeId, valid_id
from iris.proto.wire.ring import InitPacket
from iris.runtime.deadline import time_left
from iris.runtime.rate_limited_log import RateLimitedLogger
from iris.runtime.tcp import Address, format_address

_log = logging.getLogger(__name__)


class Session(Protocol):
    """What is needed of `iris.proto.session.session.Session`."""

    local: str
    remote: str

    def exchange(self, message: Message, deadline: float) -> Message:
        """Send a message and wait for the peer's, before `start`."""

    def start(
        self, on_message: Callable[[Message], None], on_end: Callable[[Exception | None], None]
    ) -> None:
        """Receive from now on."""

    def send(self, message: Message) -> None:
        """Queue a message."""

    def close(self, grace: float | None = None) -> None:
        """Close gracefully."""

    def abort(self) -> None:
        """End now."""


Connect = Callable[[Address], Session]


class Sessions:
    """Owns every session, dialled or accepted, from its first moment to its last."""

    def __init__(
        self,
        node_id: NodeId,
        addresses: list[str],
        connect: Connect,
        *,
        config: Config,
        linked: Callable[[NodeId], bool],
        on_peer: Callable[[Peer, Dial | None], None],
        on_failed: Callable[[Dial], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Introduce this node by its id and addresses; the list may be filled later.

        Args:
            linked: whether there is a session with a node, which makes a dial pointless.
            on_peer: takes a peer that has introduced itself, and the dial that led to it, if any;
                its session isn't started yet. From any thread, like on_failed.
            on_failed: takes a dial that no node has answered.
        """
        self._node_id, self._addresses, self._connect = node_id, addresses, connect
        self._config, self._clock = config, clock
        self._linked, self._on_peer, self._on_failed = linked, on_peer, on_failed
        self.unreachable = RateLimitedLogger(_log, clock=clock)  # by id, or address without an id
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._sessions: set[Session] = set()
        self._unidentified: set[Session] = set()  # those whose peer hasn't introduced itself
        self._closing: set[Session] = set()  # those that a thread is closing
        self._dials: deque[Dial] = deque()
        self._threads: set[threading.Thread] = set()
        self._dialling = 0  # threads of those that dial

    # Dialling and accepting

    def dial(self, dial: Dial) -> None:
        """Connect to a node, as soon as it's its turn. The core bounds the queue."""
        with self._lock:
            if self._stop.is_set():
                return
            self._dials.append(dial)
            if self._dialling >= self._config.limits.peer_handshakes:
                return
            self._dialling += 1
        if not self._spawn(self._dial_all, f"pastry-dial-{self._node_id:010x}"):
            with self._lock:
                self._dialling -= 1
                waiting = []
                if not self._dialling:  # no thread is left that would get to them
                    waiting = list(self._dials)
                    self._dials.clear()
            for unserved in waiting:
                self._on_failed(unserved)

    def _dial_all(self) -> None:
        while True:
            with self._lock:
                if not self._dials or self._stop.is_set():
                    self._dialling -= 1
                    return
                dial = self._dials.popleft()
            peer = None
            try:
                if dial.node_id is None or not self._linked(dial.node_id):
                    peer = self._dial_one(dial)
            except Exception:
                _log.exception(
                    "dialling %s failed", dial
                )  # our bug; the core must know all the same
            if peer is not None:
                self._on_peer(peer, dial)
            else:
                self._on_failed(dial)

    def _dial_one(self, dial: Dial) -> Peer | None:
        """Try the addresses of a dial one after the other."""
        name = "a node" if dial.node_id is None else f"node {dial.node_id:010x}"
        for address in dial.addresses:
            try:
                return self._introduce(self._connect(address), dialled=True)
            except (IrisError, OSError) as exc:
                text = "can't reach %s at %s: %s"
                where = format_address(address)
                self.unreachable.log(logging.INFO, dial.key, text, name, where, exc)
            if self._stop.is_set():
                break
        return None

    def accept(self, session: Session) -> None:
        """Take a session from a listener; wait until its peer has introduced itself, or drop it."""
        try:
            peer = self._introduce(session, dialled=False)
        except IrisError as exc:
            _log.info("dropping the session with %s: %s", session.remote, exc)
        else:
            self._on_peer(peer, None)

    def _introduce(self, session: Session, *, dialled: bool) -> Peer:
        """Exchange init packets. Raises: IrisError, with the session aborted."""
        with self._lock:
            self._sessions.add(session)
            self._unidentified.add(session)
            stopped = self._stop.is_set()
        try:
            if stopped:
                raise LinkClosed("this node is shutting down")
            deadline = self._clock() + self._config.pastry.init_timeout
            ours = Message(InitPacket(self._node_id, self._addresses))
            init = session.exchange(ours, deadline).meta
            if not isinstance(init, InitPacket) or not valid_id(init.id):
                raise ProtocolError("no valid init packet")
        except BaseException:
            self.abort(session)
            raise
        finally:
            with self._lock:
                self._unidentified.discard(session)
        addresses = tuple(
            text for text in init.addrs[:MAX_ADDRESSES] if parse_address(text) is not None
        )
        return Peer(init.id, addresses, session.local, session.remote, dialled, session)

    # The end

    def abort(self, session: Session) -> None:
        """Cut a session; never waits, from any thread."""
        with self._lock:
            self._sessions.discard(session)
        session.abort()

    def close(self, session: Session, delay: float = 0.0) -> None:
        """Close a session gracefully after `delay` seconds; never waits."""
        with self._lock:
            if session not in self._sessions or session in self._closing:
                return
            self._closing.add(session)
        if not self._spawn(lambda: self._close(session, delay), f"pastry-close-{session.remote}"):
            self.abort(session)

    def _close(self, session: Session, delay: float) -> None:
        self._stop.wait(delay)
        try:
            session.close()
        finally:
            with self._lock:
                self._sessions.discard(session)
                self._closing.discard(session)

    def _spawn(self, target: Callable[[], None], name: str) -> bool:
        """Run something on a thread of its own; False when the system has none left."""

        def run() -> None:
            try:
                target()
            finally:
                with self._lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, name=name, daemon=True)
        try:
            with self._lock:  # it can't be joined before its start, nor end before it's in the set
                thread.start()
                self._threads.add(thread)
        except RuntimeError as exc:
            _log.warning("no thread for %s: %s", name, exc)
            return False
        return True

    def stop(self) -> None:
        """Dial and accept no more, and abort sessions that aren't identified. Idempotent."""
        with self._lock:
            self._stop.set()
            self._dials.clear()
            unidentified = list(self._unidentified)
        for session in unidentified:
            session.abort()

    def close_all(self, timeout: float) -> None:
        """Close what is left gracefully within `timeout` seconds, then abort it.

        Not from own threads.
        """
        self.stop()
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            self.close(session)
        self._join(timeout)
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            self.abort(session)
        # a dial may be in the middle of a handshake: it ends by itself, and aborts its session
        self._join(timeout)

    def _join(self, timeout: float) -> None:
        deadline = self._clock() + timeout
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(time_left(deadline, self._clock))
