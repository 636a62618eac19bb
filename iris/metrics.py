"""What a node counts: every metric declared once, with all values that its labels can have.

No counterpart in Go. `node.py` makes one `Metrics` and hands it to every layer, which increments
what is its own. Sample names are those of OpenMetrics; times are in seconds, sizes in bytes.

Increments take no lock: one runs no call between reading and writing its value, so the interpreter
doesn't switch threads in the middle of it. Core.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate, product
from typing import Any, Final, Generic, Protocol, TypeVar

__all__ = ["Counter", "Family", "Gauge", "Histogram", "Metrics", "Sample"]

Sample = tuple[str, dict[str, str], float]  # name with its suffix, labels, value

LINK_KINDS: Final[tuple[str, ...]] = ("control", "data", "session", "tunnel")
# seconds; of any length, for mypyc mistakes a fixed tuple of floats for one that isn't set
_HANDSHAKE_BOUNDS: Final[tuple[float, ...]] = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, count: int = 1) -> None:
        """Add `count`, which is negative only for a gauge."""
        self.value += count

    def samples(self, name: str, labels: dict[str, str]) -> Iterator[Sample]:
        """Yield what an exporter shows."""
        yield name, labels, self.value


class Counter(Gauge):
    """A number that only grows."""

    __slots__ = ()

    def samples(self, name: str, labels: dict[str, str]) -> Iterator[Sample]:
        """Yield what an exporter shows."""
        yield f"{name}_total", labels, self.value


class Histogram:
    """How many observations were at most as large as each of some bounds."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)  # per bucket, not cumulative; the last is unbounded
        self.sum = 0.0

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self._counts)

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def samples(self, name: str, labels: dict[str, str]) -> Iterator[Sample]:
        """Yield what an exporter shows."""
        bounds = [*map(str, self._bounds), "+Inf"]
        cumulative = list(accumulate(self._counts))
        for bound, count in zip(bounds, cumulative, strict=True):
            yield f"{name}_bucket", {**labels, "le": bound}, count
        yield f"{name}_count", labels, cumulative[-1]
        yield f"{name}_sum", labels, self.sum


class _Sampled(Protocol):
    def samples(self, name: str, labels: dict[str, str]) -> Iterator[Sample]: ...


Metric = TypeVar("Metric", bound=_Sampled)


class Family(Generic[Metric]):
    """One metric for each combination of label values: `family["reply", "timeout"].inc()`."""

    def __init__(
        self, name: str, text: str, labels: dict[str, tuple[str, ...]], members: list[Metric]
    ) -> None:
        """Take one metric per combination of label values, in `itertools.product`'s order."""
        self.name, self.text, self._labels = name, text, tuple(labels)
        self._members: dict[tuple[str, ...], Metric] = dict(
            zip(product(*labels.values()), members, strict=True)
        )

    def __getitem__(self, values: str | tuple[str, ...]) -> Metric:
        """Return the metric of these label values. Raises: KeyError for one not declared."""
        return self._members[(values,) if isinstance(values, str) else values]

    def samples(self) -> Iterator[Sample]:
        """Yield what an exporter shows."""
        for values, member in self._members.items():
            yield from member.samples(self.name, dict(zip(self._labels, values, strict=True)))


class Metrics:
    """Everything that one node counts, from its start."""

    def __init__(self) -> None:
        self.families: list[Family[Any]] = []
        self._declare_relay()
        self._declare_clusters()
        self._declare_trees()
        self._declare_ring()
        self._declare_sessions()
        self._declare_links()
        self._declare_discovery()

    def _declare_relay(self) -> None:  # service/relay
        self.clients = self._single(Gauge, "iris_clients", "Attached applications.")
        self.clients_attached = self._declare(
            Counter,
            "iris_clients_attached",
            "Connections of applications; one that failed sent no valid init packet in time.",
            outcome=("accepted", "denied", "failed"),
        )
        self.clients_closed = self._declare(
            Counter,
            "iris_clients_closed",
            "Attached applications whose connection ended, by cause.",
            cause=(
                "left",
                "disconnected",
                "denied",
                "protocol violation",
                "limit reached",
                "slow consumer",
                "internal error",
                "shutdown",
            ),
        )
        self.rejected = self._declare(
            Counter,
            "iris_rejected",
            "Messages refused because a limit was reached, by pattern.",
            pattern=("request", "reply", "tunnel"),
        )
        self.dropped = self._declare(
            Counter,
            "iris_dropped",
            "Messages that slow consumers missed, by pattern.",
            pattern=("broadcast", "event"),
        )

    def _declare_clusters(self) -> None:  # proto/iris
        self.requests_timed_out = self._single(
            Counter, "iris_requests_timed_out", "Requests of applications here without a reply."
        )
        self.replies_late = self._single(
            Counter, "iris_replies_late", "Replies dropped because their request was over."
        )
        self.tunnels = self._single(Gauge, "iris_tunnels", "Tunnels to other nodes.")
        self.tunnel_handshakes = self._declare(
            Counter,
            "iris_tunnel_handshakes",
            "Handshakes of tunnels to other nodes, by side and outcome.",
            side=("dialled", "accepted"),
            outcome=("established", "failed", "rejected"),
        )

    def _declare_trees(self) -> None:  # proto/scribe
        self.undeliverable = self._declare(
            Counter,
            "iris_undeliverable",
            "Messages of topic trees that were discarded, by cause.",
            cause=(
                "malformed",
                "no subscriber",
                "wrong node",
                "not a neighbour",
                "not deferred",
                "expired",
            ),
        )

    def _declare_ring(self) -> None:  # proto/pastry
        self.unsent = self._single(
            Counter, "iris_unsent", "Messages dropped because a peer's send buffer was full."
        )
        self.peers = self._single(Gauge, "iris_peers", "Nodes that this one has a session with.")
        self.peers_lost = self._declare(
            Counter,
            "iris_peers_lost",
            "Nodes that this one has no session with any more, by cause.",
            cause=("left", "connection lost", "silent", "protocol violation", "not needed"),
        )

    def _declare_sessions(self) -> None:  # proto/session
        self.handshakes = self._declare(
            Counter,
            "iris_handshakes",
            "Session handshakes, by side and outcome.",
            side=("dialled", "accepted"),
            outcome=("established", "wrong key", "timed out", "closed", "protocol violation"),
        )
        self.handshake_seconds = self._declare(
            partial(Histogram, _HANDSHAKE_BOUNDS),
            "iris_handshake_seconds",
            "Duration of handshakes that established a session.",
            side=("dialled", "accepted"),
        )

    def _declare_links(self) -> None:  # proto/link
        self.links_opened = self._declare(
            Counter,
            "iris_links_opened",
            "Links that began to receive, by what they carry.",
            kind=LINK_KINDS,
        )
        self.links_closed = self._declare(
            Counter,
            "iris_links_closed",
            "Links that ceased to receive, by what they carry and cause.",
            kind=LINK_KINDS,
            cause=("closed", "connection lost", "protocol violation", "internal error"),
        )

    def _declare_discovery(self) -> None:  # proto/bootstrap
        self.discovery_sent = self._declare(
            Counter,
            "iris_discovery_sent",
            "Datagrams of the subnet search, by kind and outcome.",
            kind=("request", "response"),
            outcome=("sent", "failed"),
        )
        self.discovery_received = self._declare(
            Counter,
            "iris_discovery_received",
            "Datagrams received by the subnet search, by kind.",
            kind=("request", "response", "ignored", "error"),
        )

    def _declare(
        self, make: Callable[[], Metric], name: str, text: str, **labels: tuple[str, ...]
    ) -> Family[Metric]:
        family = Family(name, text, labels, [make() for _ in product(*labels.values())])
        self.families.append(family)
        return family

    def _single(self, make: Callable[[], Metric], name: str, text: str) -> Metric:
        """Declare a metric without labels."""
        return self._declare(make, name, text)[()]

    def samples(self) -> Iterator[Sample]:
        """Yield every metric's name, labels and value, in the order of declaration."""
        for family in self.families:
            yield from family.samples()
