"""Frozen settings, a dataclass per layer, with units; defaults are network version v0.3's.

Counterpart of Go's config/config.go. Nothing here is mutable or global: layers get their part as an
argument, tests make their own with `dataclasses.replace`. `Limits` bounds what Go doesn't.
"""

from dataclasses import dataclass, field

NETWORK_VERSION = "v0.3"  # Go config.ProtocolVersion

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on what one participant may cost the others.

    What exceeds one is rejected with a reason, and counted; nothing else suffers.
    """

    message_size: int = 64 * MIB  # bytes of one request, reply, broadcast, event or tunnel message
    clients: int = 16_384  # attached applications
    client_handshakes: int = 1_024  # applications that haven't sent their init packet
    client_send_buffer: int = 192 * MIB  # bytes waiting for one client; 2/3 for droppable messages
    client_tunnels: int = 1_024  # tunnels of one client, live or being built
    tunnels: int = 16_384  # tunnels of all clients to other nodes; each has a socket
    client_requests: int = 65_536  # in-flight requests of one client, each way
    client_subscriptions: int = 8_192  # topics of one client; each is five trees to maintain
    name_size: int = 4 * KIB  # bytes of a cluster's or topic's name
    peer_handshakes: int = 8  # sessions being authenticated, each way; Go config.PastryAuthThreads
    peer_send_buffer: int = 192 * MIB  # bytes waiting for one peer link
    peer_high_water: int = 4 * MIB  # bytes waiting for one peer that pause clients sending to it
    unauthenticated_size: int = 16 * KIB  # bytes of a message before the peer is authenticated
    gob_types: int = 128  # type definitions that one gob stream may send
    deferred_messages: int = 4_096  # waiting for a tree to form, and as many for a parent
    deferred_bytes: int = 16 * MIB  # the same, in bytes of payload


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Session set-up between two nodes, in seconds."""

    dial_timeout: float = 1.0  # Go config.SessionDialTimeout
    auth_timeout: float = 3.0  # whole authentication; Go config.SessionShakeTimeout
    link_timeout: float = 1.0  # until the data link has arrived; Go config.SessionLinkTimeout
    grace_timeout: float = 3.0  # close packet to close packet; Go config.SessionGraceTimeout
    # a peer that reads nothing for so long is dropped, unless None; Go config.PastrySendTimeout
    send_timeout: float | None = 3.0


@dataclass(frozen=True, kw_only=True)
class BootstrapConfig:
    """The search for nodes in a subnet: UDP ports, and periods in seconds."""

    ports: tuple[int, ...] = (14142, 27182, 31415, 45654, 22222, 33333)
    fast_probe: float = 0.25
    slow_probe: float = 1.0
    scan: float = 0.1  # between two hosts, after the burst
    burst_hosts: int = 254  # nearest ones probed in the burst, a /24; more would fill ARP tables
    burst_rate: float = 1_000.0  # hosts per second in the burst
    probe_public: bool = False  # probe public subnets too; they are listened on in any case


@dataclass(frozen=True, kw_only=True)
class PastryConfig:
    """The ring: sizes, and periods in seconds."""

    leaf_set: int = 8
    boot_quiet: float = 10.0  # a lone node counts as converged after so long without a change
    converged_quiet: float = 3.0  # a joined one after so long
    beat_period: float = 3.0
    max_missed: int = 3  # silent beats before a peer is reported dead
    init_timeout: float = 5.0  # until the peer's init packet has arrived
    close_timeout: float = 1.0  # until the peer has closed the session after our leave


@dataclass(frozen=True, kw_only=True)
class ScribeConfig:
    """Topic trees: periods in seconds."""

    beat_period: float = 1.0
    max_missed: int = 3  # silent beats before a tree neighbour is reported gone
    defer_retry: float = 0.1  # between two attempts to send a deferred message
    defer_time: float = 3.0  # at most, before a deferred message is dropped


@dataclass(frozen=True, kw_only=True)
class IrisConfig:
    """Clusters and tunnels: counts, and periods in seconds."""

    topic_splits: int = 5
    tunnel_accept_timeout: float = 1.0
    tunnel_init_timeout: float = 1.0  # the listening side's handshake
    tunnel_handshakes: int = 64  # tunnels being dialled or accepted at a time
    tunnel_window: int = 1 * MIB  # payload bytes of a tunnel that wait in the node, each way
    tunnel_keepalive: float = 3.0  # of silence, before a keepalive probe to the other host
    tunnel_linger: float = 60.0  # for a closed tunnel's last bytes to be taken


@dataclass(frozen=True, kw_only=True)
class RelayConfig:
    """Attached applications: sizes in bytes, periods in seconds."""

    port: int = 55555
    chunk_limit: int = 65_536
    tunnel_buffer: int = 4 * MIB  # initial allowance of a tunnel's client
    tunnel_confirm_timeout: float = 3.0
    init_timeout: float = 3.0  # until a client's init packet has arrived
    stall_timeout: float = 10.0  # a service whose send buffer is full for so long is closed
    drain_timeout: float = 3.0  # for a closing client's in-flight requests and last bytes


@dataclass(frozen=True, kw_only=True)
class Config:
    """All of a node's settings."""

    limits: Limits = field(default_factory=Limits)
    session: SessionConfig = field(default_factory=SessionConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    pastry: PastryConfig = field(default_factory=PastryConfig)
    scribe: ScribeConfig = field(default_factory=ScribeConfig)
    iris: IrisConfig = field(default_factory=IrisConfig)
    relay: RelayConfig = field(default_factory=RelayConfig)
