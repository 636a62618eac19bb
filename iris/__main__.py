"""The command line: `python -m iris`, or `iris`. Counterpart of Go's main.go, and takes its flags.

Exit codes: 0 after a graceful stop, 2 for anything the user can set right (one line says what), 1
for our bugs.
"""

import argparse
import contextlib
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iris import __version__
from iris.config import NETWORK_VERSION, Config, Limits
from iris.crypto.keys import generate_key, load_key, network_key
from iris.errors import ConfigError
from iris.node import Node
from iris.relay_protocol.schema import VERSION
from iris.runtime.compiling import build
from iris.runtime.interfaces import Interface, interfaces
from iris.runtime.system import raise_descriptor_limit, tune_gc

_log = logging.getLogger("iris")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOP_TIMEOUT = 4.5  # seconds that a graceful stop may take
STOP_LIMIT = 4.9  # seconds after which the process ends anyhow
_NETWORK_SIZE = 1_024  # bytes of its name, so that the datagrams that carry it stay below 1,500


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} -help tells more)\n")


class _Help(argparse.HelpFormatter):
    """Lists each flag once, as the original spells it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=110)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return " ".join(
            filter(
                None,
                (
                    action.option_strings[0],
                    action.metavar if isinstance(action.metavar, str) else None,
                ),
            )
        )


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"'{text}' is no port, want 1-65535")
    return int(text)


def _network(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} isn't text in this terminal's encoding"
        ) from None
    if size > _NETWORK_SIZE:
        raise argparse.ArgumentTypeError(
            f"a network's name has {_NETWORK_SIZE} bytes at most, not {size}"
        )
    return text


def _parser() -> _Parser:
    parser = _Parser(
        prog="iris",
        description="Node of the Iris decentralised messaging network: start one on each host.",
        formatter_class=_Help,
        allow_abbrev=False,
        add_help=False,
        usage="iris -net NAME [options]   or   iris -dev",
    )

    def flag(*names: str, **options: object) -> None:
        parser.add_argument(*(dash + name for name in names for dash in ("-", "--")), **options)  # type: ignore[arg-type]

    versions = f"network {NETWORK_VERSION}, relay {VERSION}, {build()}"
    flag("net", metavar="NAME", type=_network, help="name of the network to join or create")
    flag(
        "rsa",
        metavar="FILE",
        type=Path,
        help="the network's RSA private key (default: one that is made and kept for you)",
    )
    flag(
        "port",
        metavar="PORT",
        type=_port,
        default=Config().relay.port,
        help="where local applications attach (default: 55555)",
    )
    flag(
        "dev",
        action="store_true",
        help="developer mode: a random network and key, on loopback only",
    )
    flag(
        "iface",
        metavar="NAME|ADDRESS",
        action="append",
        default=[],
        help="join on this interface only; may be repeated (default: all)",
    )
    flag(
        "probe-public",
        action="store_true",
        help="look for other nodes in subnets with public addresses too",
    )
    flag("v", action="store_true", help="say more")
    flag("q", action="store_true", help="say only what is wrong")
    flag(
        "cpuprof",
        metavar="FILE",
        type=Path,
        help="write a CPU profile of all threads there (for pstats) when the node stops",
    )
    flag(
        "heapprof",
        metavar="FILE",
        type=Path,
        help="write a memory profile there (for tracemalloc) when the node stops",
    )
    flag(
        "version",
        action="version",
        version=f"iris {__version__} ({versions})",
        help="show the versions",
    )
    flag("help", "h", action="help", help="show this")
    return parser


def _membership(args: argparse.Namespace) -> tuple[str, RSAPrivateKey]:
    """The network's name and key. Raises: ConfigError."""
    if args.dev:
        if args.net is not None or args.rsa is not None:
            raise ConfigError(
                "-dev makes up a network and a key of its own; leave -net and -rsa away"
            )
        return f"dev-{secrets.token_hex(8)}", generate_key()
    if not args.net:
        raise ConfigError("no network named: give -net NAME, or -dev to try things out")
    if args.rsa is not None:
        return args.net, load_key(args.rsa)
    key, path, created = network_key(args.net)
    if created:
        _log.info("made a key for network '%s': %s", args.net, path)
        _log.info(
            "every host of the network needs this same file: copy it there, or name it with -rsa"
        )
    else:
        _log.info("key of network '%s': %s (the same on every host)", args.net, path)
    return args.net, key


def _where(args: argparse.Namespace) -> list[Interface]:
    """The interfaces to join on. Raises: ConfigError."""
    if args.dev:
        if args.iface:
            raise ConfigError("-dev stays on loopback; leave -iface away")
        return interfaces(["lo"])
    return interfaces(args.iface)


@contextlib.contextmanager
def _profiles(cpu: Path | None, heap: Path | None) -> Iterator[None]:
    """Profile what runs inside, and write the results at its end. Raises.

    ConfigError before it starts, if they can't be written.
    """
    for path in filter(None, (cpu, heap)):
        try:
            path.open("ab").close()
        except OSError as exc:
            raise ConfigError(f"can't write a profile to {path}: {exc.strerror}") from exc
    if cpu is not None:
        try:
            import yappi
        except ModuleNotFoundError:
            raise ConfigError("-cpuprof needs yappi: pip install yappi") from None
        yappi.set_clock_type("cpu")
        yappi.start()
    if heap is not None:
        import tracemalloc

        tracemalloc.start(16)
    yield
    if heap is not None:
        tracemalloc.take_snapshot().dump(str(heap))
    if cpu is not None:
        yappi.stop()
        yappi.get_func_stats().save(str(cpu), type="pstat")


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Keep SIGINT and SIGTERM for `_wait_for_signal`.

    Blocked in this thread, and in all that are started inside.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_for_signal() -> None:
    """Wait for SIGINT or SIGTERM; from then on another one ends the process at once."""
    signal.sigwait(_SIGNALS)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _abandon() -> None:
    _log.warning("stopping took too long; what is left is abandoned")
    os._exit(0)


def _stop(node: Node) -> None:
    """Stop gracefully, and if that hangs, end the process."""
    backstop = threading.Timer(STOP_LIMIT, _abandon)
    backstop.daemon = True
    backstop.start()
    node.stop(STOP_TIMEOUT)
    backstop.cancel()


def _limits() -> Limits:
    """The usual limits, as far as the system lets this process open as many sockets.

    Half of those are for applications.
    """
    sockets, usual = raise_descriptor_limit(), Limits()
    return replace(
        usual,
        clients=min(usual.clients, sockets // 2),
        client_handshakes=min(usual.client_handshakes, sockets // 8),
        tunnels=min(usual.tunnels, sockets // 4),
    )


def run(args: argparse.Namespace) -> None:
    """Run a node until a signal. Raises: ConfigError for what the user can set right."""
    with _signals_held(), _profiles(args.cpuprof, args.heapprof):
        defaults = Config()
        config = replace(
            defaults,
            limits=_limits(),
            relay=replace(defaults.relay, port=args.port),
            bootstrap=replace(defaults.bootstrap, probe_public=args.probe_public),
        )
        where = _where(args)
        network, key = _membership(args)
        node = Node(network, key, where, config=config)
        tune_gc()
        _log.info("iris %s, %s", __version__, build())
        node.start()
        _wait_for_signal()
        _log.info("stopping; again to stop at once")
        _stop(node)
        _log.info("stopped")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run a node; returns the exit code."""
    args = _parser().parse_args(argv)
    level = logging.WARNING if args.q else logging.DEBUG if args.v else logging.INFO
    logging.basicConfig(
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        level=level,
        stream=sys.stderr,
        force=True,
    )
    try:
        run(args)
    except ConfigError as exc:
        print(f"iris: {exc}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
