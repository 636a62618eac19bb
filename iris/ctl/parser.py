"""The command line. Doesn't import the binding, so that help and usage errors are quick."""

import argparse
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from iris import __version__
from iris.ctl.output import FORMATS

_PORT = 55_555
_NAME_SIZE = 4_096  # bytes of a cluster's or topic's name; the node's limit

_EPILOG = """exit codes: 0 success, 1 fault from the peer, 2 usage error, 3 timeout, 4 no node.
Start a node with 'iris -net NAME', or with 'iris -dev' for a trial."""


class Parser(argparse.ArgumentParser):
    """Reports errors in one line, and takes options and arguments in any order."""

    _within = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; a plain ArgumentParser wants an optional argument right behind the one before."""
        if self._within or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False

    def error(self, message: str) -> NoReturn:
        """Exit with the message."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} -h for help)\n")


def _whole(low: int, high: int, what: str = "a whole number") -> Callable[[str], int]:
    """Make the type of an integer from `low` to `high`."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"'{text}' isn't {what} from {low} to {high}")
        return int(text)

    return parse


def _positive(high: float) -> Callable[[str], float]:
    """Make the type of a number over 0, for seconds and rates."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0.001 <= value <= high:
            raise argparse.ArgumentTypeError(f"'{text}' isn't a number from 0.001 to {high:.0f}")
        return value

    return parse


port, count, jobs = _whole(1, 65_535, "a port"), _whole(1, 10**12), _whole(1, 1_024)
size = _whole(0, 1 << 20, "a number of bytes")
positive, duration = _positive(1e6), _positive(60)


def timeout(text: str) -> float:
    """Seconds, or 0."""
    return 0.0 if text == "0" else positive(text)


def name(text: str) -> str:
    """A cluster's or topic's name."""
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        fault = f"{text!r} isn't text in this terminal's encoding"
        raise argparse.ArgumentTypeError(fault) from None
    if not 0 < length <= _NAME_SIZE:
        raise argparse.ArgumentTypeError(f"a name of {length} bytes; 1 to {_NAME_SIZE} are allowed")
    return text


def address(text: str) -> tuple[str, int]:
    """[HOST:]PORT; a host's IPv6 address stands in brackets."""
    found = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[^:\[\]]+):)?([0-9]+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' isn't [HOST:]PORT")
    return (found[1] or "127.0.0.1").strip("[]"), port(found[2])


def build() -> Parser:
    """Make the parser; `module` in what it returns names the subcommand's module."""
    parser = Parser(
        prog="irisctl",
        description="Use an Iris network from a terminal or a script, through this host's node.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"irisctl {__version__}", help="show the version"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_messages(commands)
    _add_tunnel(commands)
    _add_bench(commands)
    # for the list; it has a command line of its own, see __main__.py
    commands.add_parser("check", help="check a node or a binding: relaycheck", add_help=False)
    return parser


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
Container: TypeAlias = "argparse._ActionsContainer"


def _command(commands: Commands, title: str, text: str, module: str = "") -> Parser:
    """Add a subcommand; its module is called like it by default."""
    description = f"{text[0].upper()}{text[1:]}."
    parser = commands.add_parser(title, help=text, description=description, allow_abbrev=False)
    parser.set_defaults(module=module or title)
    text = f"port of the node on this host (default: {_PORT})"
    _value(parser, "--port", "PORT", port, text, _PORT)
    _switch(parser, "--verbose", "log what happens on standard error")
    return parser


def _value(
    parser: Container,
    flag: str,
    metavar: str,
    kind: Callable[[str], Any],
    text: str,
    default: Any = None,
) -> None:
    """Add an option with a value, or an argument."""
    parser.add_argument(flag, metavar=metavar, type=kind, help=text, default=default)


def _switch(parser: Container, flag: str, text: str) -> None:
    parser.add_argument(flag, action="store_true", help=text)


def _payload(parser: Parser) -> None:
    text = "the message (default: all of standard input)"
    parser.add_argument("data", metavar="DATA", nargs="?", help=text)
    _value(parser, "--file", "FILE", str, "read it from FILE; '-' is standard input")
    _switch(parser, "--lines", "send each line of the input as a message")
    _value(parser, "--count", "N", count, "send it N times; with --lines at most N lines")
    _value(parser, "--rate", "R", positive, "send at most R messages per second")
    _switch(parser, "--quiet", "show no progress")


def _format(parser: Parser, text: str, default: str | None) -> None:
    text = f"output format of messages (default: {text})"
    parser.add_argument("--format", choices=FORMATS, help=text, default=default)


def _add_messages(commands: Commands) -> None:
    """Add the commands for single messages."""
    text = "send a request to one member of a cluster, and print the reply"
    request = _command(commands, "request", text)
    _value(request, "cluster", "CLUSTER", name, "the cluster to send to")
    _payload(request)
    text = "seconds to wait for each reply (default: 5)"
    _value(request, "--timeout", "S", positive, text, 5.0)
    _format(request, "text on a terminal or for several, else raw", None)

    text = "serve requests as a member of a cluster until SIGINT or SIGTERM; print its broadcasts"
    serve = _command(commands, "serve", text)
    _value(serve, "cluster", "CLUSTER", name, "the cluster to join")
    how = serve.add_mutually_exclusive_group(required=True)
    text = "run CMD in a shell for each request: standard input to standard output"
    _value(how, "--exec", "CMD", str, text)
    _switch(how, "--echo", "echo requests and tunnel messages")
    _value(serve, "--timeout", "S", positive, "time limit of CMD in seconds (default: 60)", 60.0)
    _value(serve, "--jobs", "N", count, "requests handled at a time (default: 8)", 8)
    _value(serve, "--count", "N", count, "exit after N requests")
    _format(serve, "text", "text")

    broadcast = _command(commands, "broadcast", "send to all members of a cluster", "send")
    _value(broadcast, "cluster", "CLUSTER", name, "the cluster to send to")
    _payload(broadcast)

    publish = _command(commands, "publish", "send to all subscribers of a topic", "send")
    _value(publish, "topic", "TOPIC", name, "the topic to publish to")
    _payload(publish)

    text = "print the events of a topic until SIGINT or SIGTERM"
    subscribe = _command(commands, "subscribe", text)
    _value(subscribe, "topic", "TOPIC", name, "the topic to subscribe to")
    _value(subscribe, "--count", "N", count, "exit after N events")
    text = "exit after S seconds; with code 3 before N events, or before the first"
    _value(subscribe, "--timeout", "S", positive, text)
    _format(subscribe, "text", "text")


def _add_tunnel(commands: Commands) -> None:
    text = "carry standard input and output, or TCP connections, through a tunnel"
    tunnel = _command(commands, "tunnel", text)
    _value(tunnel, "cluster", "CLUSTER", name, "the cluster to build a tunnel to, or to join")
    mode = tunnel.add_mutually_exclusive_group()
    _switch(mode, "--accept", "join the cluster, and accept the first tunnel")
    text = "listen there, and build a tunnel for each TCP connection"
    _value(mode, "--listen", "[HOST:]PORT", address, text)
    text = "join the cluster, and connect there for each tunnel"
    _value(mode, "--connect", "[HOST:]PORT", address, text)
    way = tunnel.add_mutually_exclusive_group()
    _switch(way, "--send", "only send, and close at the end of standard input")
    _switch(way, "--receive", "only receive; don't read standard input")
    text = (
        "at the end of input, close after S seconds without a message"
        " (default: 1; with --accept, the other end closes)"
    )
    _value(tunnel, "--linger", "S", timeout, text)
    text = "seconds to wait for the tunnel (default: 5; with --accept, no limit)"
    _value(tunnel, "--timeout", "S", positive, text)
    _switch(tunnel, "--quiet", "show no progress")


def _add_bench(commands: Commands) -> None:
    text = "measure requests to a cluster and events of a topic, with a small load"
    bench = _command(commands, "bench", text)
    text = "the cluster to send to (default: an echo service of its own)"
    bench.add_argument("cluster", metavar="CLUSTER", type=name, nargs="?", help=text)
    text = "seconds for requests, and for events, 60 at most (default: 3)"
    _value(bench, "--duration", "S", duration, text, 3.0)
    text = "at most N requests and N events (default: 100000)"
    _value(bench, "--count", "N", count, text, 100_000)
    _value(bench, "--jobs", "N", jobs, "keep N in flight, 1024 at most (default: 16)", 16)
    _value(bench, "--size", "B", size, "bytes of each message, 1 MiB at most (default: 64)", 64)
    _switch(bench, "--json", "print JSON")
