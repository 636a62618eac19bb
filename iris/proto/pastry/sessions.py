"""Sessions of a node with its peers, from the dial to the hang-up.

Who is at the other end is told and asked here.

Shell; answers to Go's proto/pastry/handshake.go, but for the duplicate filter. Dials run on at most
`Limits.peer_handshakes` threads `pastry-dial`, each of which lives as long as there is something to
dial; accepted sessions introduce themselves on the thread that the listener brings them on. A
graceful close waits for the other side, on a thread `pastry-close` of its own: there is one per
session at most.

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
from iris.proto.link.link import Link
from iris.proto.pastry.actions import Dial
from iris.proto.pastry.peer import Peer
from iris.proto.wire.message import Message
from iris.proto.wire.node_id import NodeId, valid_id
from iris.proto.wire.ring import InitPacket
from iris.runtime.deadline import time_left
from iris.runtime.tcp import Address, format_address

_SAY_AGAIN = 60.0  # seconds between two lines about the same absent node

_log = logging.getLogger(__name__)


class Session(Protocol):
    """What is needed of `iris.proto.session.session.Session`."""

    control: Link
    local: str
    remote: str

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
        connect: Connect,
        *,
        config: Config,
        linked: Callable[[NodeId], bool],
        on_peer: Callable[[Peer, NodeId | None], None],
        on_failed: Callable[[NodeId], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`connect` dials.

        `linked` tells whether there is a session already, which makes a dial that waited for its
        turn pointless.

        A peer that has introduced itself is reported with on_peer(peer, whom we dialled or None),
        its session not started yet; a dial that came to nothing with on_failed; both from any
        thread.
        """
        self._node_id, self._connect, self._config, self._clock = node_id, connect, config, clock
        self._linked, self._on_peer, self._on_failed = linked, on_peer, on_failed
        self.addresses: list[str] = []  # this node's own listeners
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._sessions: set[Session] = set()
        self._strangers: set[Session] = set()  # those of them that haven't introduced themselves
        self._closing: set[Session] = set()  # those of them that a thread is closing
        self._dials: deque[Dial] = deque()
        self._threads: set[threading.Thread] = set()
        self._said: dict[NodeId, float] = {}  # who is known to be absent, and since when
        self._dialling = 0  # threads of those that dial

    # Dialling and accepting

    def dial(self, dial: Dial) -> None:
        """Connect to a node, as soon as it's its turn.

        The queue is as long as the core lets it become.
        """
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
                if not self._dialling:  # nobody is left who would get to them
                    waiting = list(self._dials)
                    self._dials.clear()
            for unserved in waiting:
                self._on_failed(unserved.node_id)

    def _dial_all(self) -> None:
        while True:
            with self._lock:
                if not self._dials or self._stop.is_set():
                    self._dialling -= 1
                    return
                dial = self._dials.popleft()
            peer = None
            try:
                if not self._linked(dial.node_id):
                    peer = self._dial_one(dial)
            except Exception:
                # our bug; the core must hear of it all the same
                _log.exception("dialling %010x failed", dial.node_id)
            if peer is not None:
                self._on_peer(peer, dial.node_id)
            else:
                self._on_failed(dial.node_id)

    def _dial_one(self, dial: Dial) -> Peer | None:
        """Try its addresses one after the other."""
        for address in dial.addresses:
            try:
                return self._introduce(self._connect(address), dialled=True)
            except (IrisError, OSError) as exc:
                level = logging.INFO if self.said(dial.node_id) else logging.DEBUG
                where = format_address(address)
                _log.log(level, "node %010x can't be reached at %s: %s", dial.node_id, where, exc)
            if self._stop.is_set():
                break
        return None

    def said(self, node: NodeId) -> bool:
        """Note that something is said about its absence. Returns.

        Whether that is news, as nothing was for a while.
        """
        now = self._clock()
        with self._lock:
            self._said = {other: at for other, at in self._said.items() if now - at < _SAY_AGAIN}
            news = node not in self._said
            self._said.setdefault(node, now)
        return news

    def accept(self, session: Session) -> None:
        """Take a session that a listener brings.

        Returns when the peer has introduced itself, or was dropped.
        """
        try:
            peer = self._introduce(session, dialled=False)
        except IrisError as exc:
            _log.info("%s is dropped: %s", session.remote, exc)
        else:
            self._on_peer(peer, None)

    def _introduce(self, session: Session, *, dialled: bool) -> Peer:
        """Tell the other side who we are, and learn who it is. Raises.

        IrisError, and the session is gone.
        """
        with self._lock:
            self._sessions.add(session)
            self._strangers.add(session)
            stopped = self._stop.is_set()
        try:
            if stopped:
                raise LinkClosed("this node is shutting down")
            deadline = self._clock() + self._config.pastry.init_timeout
            session.control.send_direct(
                Message(InitPacket(self._node_id, self.addresses)), deadline
            )
            init = session.control.recv_direct(deadline).meta
            if not isinstance(init, InitPacket) or not valid_id(init.id):
                raise ProtocolError("it didn't introduce itself")
        except BaseException:
            self.abort(session)
            raise
        finally:
            with self._lock:
                self._strangers.discard(session)
        assert init.id is not None
        addresses = tuple(
            text for text in init.addrs[:MAX_ADDRESSES] if parse_address(text) is not None
        )
        return Peer(NodeId(init.id), addresses, session.local, session.remote, dialled, session)

    # The end

    def abort(self, session: Session) -> None:
        """Cut a session. Never waits; from any thread."""
        with self._lock:
            self._sessions.discard(session)
        session.abort()

    def close(self, session: Session, lull: float = 0.0) -> None:
        """Close a session gracefully after `lull` seconds. Never waits."""
        with self._lock:
            if session not in self._sessions or session in self._closing:
                return
            self._closing.add(session)
        if not self._spawn(lambda: self._close(session, lull), f"pastry-close-{session.remote}"):
            self.abort(session)

    def _close(self, session: Session, lull: float) -> None:
        self._stop.wait(lull)
        try:
            session.close()
        finally:
            with self._lock:
                self._sessions.discard(session)
                self._closing.discard(session)

    def _spawn(self, target: Callable[[], None], name: str) -> bool:
        """Run something on a thread of its own; False when there is none to be had."""

        def run() -> None:
            try:
                target()
            finally:
                with self._lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, name=name, daemon=True)
        try:
            # so that nobody joins it before it has started, and it doesn't end before it's in the
            # set
            with self._lock:
                thread.start()
                self._threads.add(thread)
        except RuntimeError as exc:
            _log.warning("no thread for %s: %s", name, exc)
            return False
        return True

    def stop(self) -> None:
        """Dial and accept no more, and cut what hasn't introduced itself. Idempotent."""
        with self._lock:
            self._stop.set()
            self._dials.clear()
            strangers = list(self._strangers)
        for session in strangers:
            session.abort()

    def close_all(self, timeout: float) -> None:
        """Close what is left gracefully, as far as it takes less than `timeout` seconds, and cut
        the rest. Not from own threads.
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
        # a dial may be in the middle of a handshake: it ends by itself, and drops what it got
        self._join(timeout)

    def _join(self, timeout: float) -> None:
        deadline = self._clock() + timeout
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(time_left(deadline, self._clock))
