"""The command line. Loads nothing of the binding, so that help and mistakes are quick."""

import argparse
import math
import re
from typing import Any, NoReturn, TypeAlias

from iris import __version__
from iris.ctl.formats import FORMATS

_PORT = 55_555
_NAME_SIZE = 4_096  # bytes of a cluster's or topic's name, which the node takes

_EPILOG = """exit codes: 0 done, 1 a fault from the other side, 2 usage, 3 timeout, 4 no node there.
Start a node with 'iris -net NAME', or with 'iris -dev' to try things out."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and takes flags and other arguments in any order."""

    _within = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See ArgumentParser, of which an argument that may be missing must follow the one before
        it at once.
        """
        if self._within or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False

    def error(self, message: str) -> NoReturn:
        """End with it."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} -h tells more)\n")


def port(text: str) -> int:
    """A TCP port."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"'{text}' is no port, want 1-65535")
    return int(text)


def positive(text: str) -> float:
    """A number over 0, for seconds and rates."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.001 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' isn't a number from 0.001 to 1000000")
    return value


def patience(text: str) -> float:
    """The same, or 0."""
    return 0.0 if text == "0" else positive(text)


def count(text: str) -> int:
    """A whole number, over 0."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) <= 10**12:
        raise argparse.ArgumentTypeError(f"'{text}' isn't a whole number from 1 to 10^12")
    return int(text)


def duration(text: str) -> float:
    """Seconds of a load."""
    if (value := positive(text)) > 60:
        raise argparse.ArgumentTypeError(f"'{text}' is over 60")
    return value


def jobs(text: str) -> int:
    """How many at a time, in a load."""
    if (value := count(text)) > 1_024:
        raise argparse.ArgumentTypeError(f"'{text}' is over 1024")
    return value


def size(text: str) -> int:
    """Bytes of a load's message."""
    if not text.isascii() or not text.isdecimal() or int(text) > 1 << 20:
        raise argparse.ArgumentTypeError(f"'{text}' isn't a number of bytes up to {1 << 20}")
    return int(text)


def topic(text: str) -> str:
    """A topic's name."""
    return _name("topic", text)


def cluster(text: str) -> str:
    """A cluster's name."""
    return _name("cluster", text)


def _name(kind: str, text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError(f"a {kind} has a name")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} isn't text in this terminal's encoding"
        ) from None
    if length > _NAME_SIZE:
        raise argparse.ArgumentTypeError(f"a name has {_NAME_SIZE} bytes at most, not {length}")
    return text


def address(text: str) -> tuple[str, int]:
    """[HOST:]PORT; a host's IPv6 address stands in brackets."""
    found = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[^:\[\]]+):)?([0-9]+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' isn't [HOST:]PORT")
    return (found[1] or "127.0.0.1").strip("[]"), port(found[2])


def build() -> Parser:
    """The parser; what it returns has `module`, which carries the subcommand out."""
    parser = Parser(
        prog="irisctl",
        description="Use an Iris network from a terminal or a script, through the node on this host.",
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
    text = "relaycheck: say whether a node or a binding speaks the relay protocol correctly"
    # for the list; it has a command line of its own, see __main__.py
    commands.add_parser("check", help=text, add_help=False)
    return parser


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def _command(commands: Commands, name: str, module: str, text: str) -> Parser:
    parser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
    )
    parser.set_defaults(module=module)
    parser.add_argument(
        "--port",
        metavar="PORT",
        type=port,
        default=_PORT,
        help=f"the node's, on this host (default: {_PORT})",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="say what happens, on standard error"
    )
    return parser


def _payload(parser: Parser) -> None:
    parser.add_argument(
        "data", metavar="DATA", nargs="?", help="the message (default: all of standard input)"
    )
    parser.add_argument("--file", metavar="FILE", help="read it from there; '-' is standard input")
    parser.add_argument("--lines", action="store_true", help="each line that is read is a message")
    parser.add_argument(
        "--count", metavar="N", type=count, help="send it N times; with --lines at most N"
    )
    parser.add_argument(
        "--rate", metavar="R", type=positive, help="send R messages per second at most"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _format(parser: Parser, default: str) -> None:
    parser.add_argument(
        "--format", choices=FORMATS, help=f"how messages are printed (default: {default})"
    )


def _add_messages(commands: Commands) -> None:
    """What deals with single messages."""
    request = _command(
        commands, "request", "request", "ask one member of a cluster, and print its reply"
    )
    request.add_argument("cluster", metavar="CLUSTER", type=cluster, help="who is asked")
    _payload(request)
    request.add_argument(
        "--timeout",
        metavar="S",
        type=positive,
        default=5.0,
        help="seconds to wait for each reply (default: 5)",
    )
    _format(request, "text on a terminal or for several, else raw")

    serve = _command(
        commands,
        "serve",
        "serve",
        "be a member of a cluster until SIGINT or SIGTERM, and print its broadcasts",
    )
    serve.add_argument("cluster", metavar="CLUSTER", type=cluster, help="whose member to be")
    how = serve.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--exec",
        metavar="CMD",
        help="run this in a shell for each request: standard input to standard output",
    )
    how.add_argument(
        "--echo", action="store_true", help="give back each request, and what comes through tunnels"
    )
    serve.add_argument(
        "--timeout",
        metavar="S",
        type=positive,
        default=60.0,
        help="seconds that CMD may take (default: 60)",
    )
    serve.add_argument(
        "--jobs",
        metavar="N",
        type=count,
        default=8,
        help="how many requests to handle at a time (default: 8)",
    )
    serve.add_argument("--count", metavar="N", type=count, help="end after N requests")
    _format(serve, "text")

    broadcast = _command(commands, "broadcast", "send", "send to all members of a cluster")
    broadcast.add_argument("cluster", metavar="CLUSTER", type=cluster, help="who gets it")
    _payload(broadcast)

    publish = _command(commands, "publish", "send", "send to all subscribers of a topic")
    publish.add_argument("topic", metavar="TOPIC", type=topic, help="whose subscribers get it")
    _payload(publish)

    subscribe = _command(
        commands, "subscribe", "subscribe", "print the events of a topic until SIGINT or SIGTERM"
    )
    subscribe.add_argument("topic", metavar="TOPIC", type=topic, help="what to subscribe to")
    subscribe.add_argument("--count", metavar="N", type=count, help="end after N events")
    subscribe.add_argument(
        "--timeout",
        metavar="S",
        type=positive,
        help="end after S seconds; code 3 if there weren't N events, or any",
    )
    _format(subscribe, "text")


def _add_tunnel(commands: Commands) -> None:
    tunnel = _command(
        commands,
        "tunnel",
        "tunnel",
        "carry standard input and output, or TCP connections, through a tunnel",
    )
    tunnel.add_argument(
        "cluster",
        metavar="CLUSTER",
        type=cluster,
        help="to one of whose members; or whose member to be",
    )
    mode = tunnel.add_mutually_exclusive_group()
    mode.add_argument(
        "--accept", action="store_true", help="be a member, and take the first tunnel that comes"
    )
    mode.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        type=address,
        help="listen there, and build a tunnel for each TCP connection",
    )
    mode.add_argument(
        "--connect",
        metavar="[HOST:]PORT",
        type=address,
        help="be a member, and connect there for each tunnel",
    )
    way = tunnel.add_mutually_exclusive_group()
    way.add_argument(
        "--send", action="store_true", help="only send, and close at the end of standard input"
    )
    way.add_argument(
        "--receive", action="store_true", help="only receive, and don't read standard input"
    )
    text = "at the end of input, close when nothing came for S seconds (default: 1; with --accept, leave that to the other end)"
    tunnel.add_argument("--linger", metavar="S", type=patience, help=text)
    text = "seconds to wait for the tunnel (default: 5; with --accept, for ever)"
    tunnel.add_argument("--timeout", metavar="S", type=positive, help=text)
    tunnel.add_argument("--quiet", action="store_true", help="show no progress")


def _add_bench(commands: Commands) -> None:
    bench = _command(
        commands,
        "bench",
        "bench",
        "measure requests to a cluster and events of a topic, with a small load",
    )
    bench.add_argument(
        "cluster",
        metavar="CLUSTER",
        type=cluster,
        nargs="?",
        help="who is asked (default: an echo service of our own)",
    )
    bench.add_argument(
        "--duration",
        metavar="S",
        type=duration,
        default=3.0,
        help="seconds for each of both, 60 at most (default: 3)",
    )
    bench.add_argument(
        "--count",
        metavar="N",
        type=count,
        default=100_000,
        help="at most N requests and N events (default: 100000)",
    )
    bench.add_argument(
        "--jobs",
        metavar="N",
        type=jobs,
        default=16,
        help="keep N under way, 1024 at most (default: 16)",
    )
    bench.add_argument(
        "--size",
        metavar="B",
        type=size,
        default=64,
        help="bytes of each message, 1 MiB at most (default: 64)",
    )
    bench.add_argument("--json", action="store_true", help="print JSON")
