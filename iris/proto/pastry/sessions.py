"""Sessions of a node with its peers, from the dial to the close.

Counterpart of Go's proto/pastry/handshake.go, but for the duplicate filter. Shell: both sides of a
new session introduce themselves here. Dials run on at most `Limits.peer_handshakes` threads
`pastry-dial-…`; accepted sessions introduce themselves on the thread that the listener brings them
on. A graceful close waits for the other side, on a thread `pastry-close-…` of its own: there is one
per session at most.

Lock order: none is taken with this one held; nothing is called back or waited for with it.
"""

import logging
import threading
import time
from collections.abc import Callable

from iris.config import Config
from iris.errors import IrisError, LinkClosed, ProtocolError
from iris.proto.addresses import MAX_ADDRESSES, parse_address
from iris.proto.pastry.actions import Dial
from iris.proto.pastry.peer import Peer
from iris.proto.session.session import Session
from iris.proto.wire.message import Message
from iris.proto.wire.node_id import NodeId, valid_id
from iris.proto.wire.ring import InitPacket
from iris.runtime.deadline import time_left
from iris.runtime.rate_limited_log import RateLimitedLogger
from iris.runtime.tcp import Address, format_address
from iris.runtime.thread_cache import ThreadCache
from iris.runtime.worker_pool import WorkerPool

_MAX_DIALS = 65_536  # that wait; the core asks for far fewer

_log = logging.getLogger(__name__)

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
        self._closing: set[Session] = set()  # those that a thread is closing, or about to
        self._closed = threading.Condition(self._lock)  # one of them is closed
        self._dials = WorkerPool(
            self._dial,
            threads=config.limits.peer_handshakes,
            limit=_MAX_DIALS,
            name=f"pastry-dial-{node_id:010x}",
        )
        self._closers = ThreadCache("pastry")

    # Dialling and accepting

    def dial(self, dial: Dial) -> None:
        """Connect to a node, as soon as it's its turn. The core bounds the queue."""
        if not self._stop.is_set() and not self._dials.submit(dial):
            self._on_failed(dial)

    def _dial(self, dial: Dial) -> None:
        peer = None
        try:
            if dial.node_id is None or not self._linked(dial.node_id):
                peer = self._dial_one(dial)
        except Exception:  # our bug; the core must know all the same
            _log.exception("dialling %s failed", dial)
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
        addresses = tuple(text for text in init.addrs[:MAX_ADDRESSES] if parse_address(text))
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
        try:
            self._closers.run(f"pastry-close-{session.remote}", lambda: self._close(session, delay))
        except RuntimeError as exc:  # the system has no thread left
            _log.warning("no thread to close the session with %s: %s", session.remote, exc)
            self.abort(session)
            self._forget(session)

    def _close(self, session: Session, delay: float) -> None:
        self._stop.wait(delay)
        try:
            session.close()
        finally:
            self._forget(session)

    def _forget(self, session: Session) -> None:
        with self._closed:
            self._sessions.discard(session)
            self._closing.discard(session)
            self._closed.notify_all()

    def stop(self) -> None:
        """Dial and accept no more, and abort sessions that aren't identified. Idempotent."""
        with self._lock:
            self._stop.set()
            unidentified = list(self._unidentified)
        self._dials.close()
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
        with self._closed:
            self._closed.wait_for(lambda: not self._closing, timeout)
            sessions = list(self._sessions)
        for session in sessions:
            self.abort(session)
        deadline = time.monotonic() + timeout
        with self._closed:
            self._closed.wait_for(lambda: not self._closing, timeout)
        # a dial may be in the middle of a handshake: it ends by itself, and aborts its session
        self._dials.join(time_left(deadline))
        self._closers.close(time_left(deadline))
