"""The command line: `python -m iris`, or `iris`. Counterpart of Go's main.go, with its flags.

Exit codes: 0 after a graceful shutdown, 2 for a usage error, reported in one line, 1 for a bug.
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
from typing import Any, NoReturn

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
STOP_TIMEOUT = 4.5  # seconds for a graceful shutdown
STOP_LIMIT = 4.9  # seconds after which the process exits regardless
_NETWORK_SIZE = 1_024  # bytes of its name, so that the datagrams that carry it stay below 1,500


class _Parser(argparse.ArgumentParser):
    """Reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} -help for help)\n")


class _Help(argparse.HelpFormatter):
    """Lists each flag once, as Go spells it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=110)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        metavar = f" {action.metavar}" if isinstance(action.metavar, str) else ""
        return f"{action.option_strings[0]}{metavar}"


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"'{text}' isn't a port, 1-65535")
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
            f"the network's name has {size} bytes, limit {_NETWORK_SIZE}"
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

    def flag(name: str, text: str, metavar: str | None = None, **options: Any) -> None:
        if metavar is None:
            options.setdefault("action", "store_true")
        else:
            options["metavar"] = metavar
        parser.add_argument(f"-{name}", f"--{name}", help=text, **options)

    versions = f"iris {__version__} (network {NETWORK_VERSION}, relay {VERSION}, {build()})"
    flag("net", "name of the network to join or create", "NAME", type=_network)
    text = "the network's RSA private key (default: generated and kept)"
    flag("rsa", text, "FILE", type=Path)
    port = Config().relay.port
    flag("port", f"port for local applications (default: {port})", "PORT", type=_port, default=port)
    flag("dev", "developer mode: a random network and key, on loopback only")
    text = "join on this interface only; may be repeated (default: all)"
    flag("iface", text, "NAME|ADDRESS", action="append", default=[])
    flag("probe-public", "search subnets with public addresses for nodes, too")
    flag("v", "debug logging")
    flag("q", "warnings and errors only")
    text = "at the end, write a CPU profile of all threads to FILE, for pstats"
    flag("cpuprof", text, "FILE", type=Path)
    text = "at the end, write a memory profile to FILE, for tracemalloc"
    flag("heapprof", text, "FILE", type=Path)
    flag("version", "show the versions", action="version", version=versions)
    parser.add_argument("-help", "--help", "-h", "--h", action="help", help="show this")
    return parser


def _membership(args: argparse.Namespace) -> tuple[str, RSAPrivateKey]:
    """Choose the network's name and key. Raises: ConfigError."""
    if args.dev:
        if args.net is not None or args.rsa is not None:
            raise ConfigError("-dev cannot be combined with -net or -rsa")
        return f"dev-{secrets.token_hex(8)}", generate_key()
    if not args.net:
        raise ConfigError("no network named: use -net NAME, or -dev for a trial")
    if args.rsa is not None:
        return args.net, load_key(args.rsa)
    key, path, created = network_key(args.net)
    if created:
        _log.info("generated a key for network '%s': %s", args.net, path)
        _log.info("every host of the network needs this key: copy the file, or pass it with -rsa")
    else:
        _log.info("key of network '%s': %s (the same on every host)", args.net, path)
    return args.net, key


def _where(args: argparse.Namespace) -> list[Interface]:
    """Choose the interfaces to join on. Raises: ConfigError."""
    if args.dev:
        if args.iface:
            raise ConfigError("-dev cannot be combined with -iface")
        return interfaces(["lo"])
    return interfaces(args.iface)


@contextlib.contextmanager
def _profiles(cpu: Path | None, heap: Path | None) -> Iterator[None]:
    """Profile the block, and write the results at its end.

    Raises: ConfigError before it starts, if they can't be written.
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
    """Keep SIGINT and SIGTERM for `_wait_for_signal`: block them here and in threads to come."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_for_signal() -> None:
    """Wait for SIGINT or SIGTERM; from then on another one kills the process."""
    signal.sigwait(_SIGNALS)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _abandon() -> None:
    _log.warning("shutdown timed out; exiting")
    os._exit(0)


def _stop(node: Node) -> None:
    """Stop gracefully; exit if that hangs."""
    backstop = threading.Timer(STOP_LIMIT, _abandon)
    backstop.daemon = True
    backstop.start()
    node.stop(STOP_TIMEOUT)
    backstop.cancel()


def _limits() -> Limits:
    """Adapt the default limits to the number of sockets that the system permits.

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
    """Run a node until a signal. Raises: ConfigError for a usage error."""
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
        _log.info("shutting down; Ctrl-C again to force")
        _stop(node)
        _log.info("stopped")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run a node. Returns: the exit code."""
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
