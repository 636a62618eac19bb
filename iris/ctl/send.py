"""`irisctl broadcast` and `irisctl publish`: send to many, without an acknowledgement."""

from argparse import Namespace

from iris.ctl.node import attach
from iris.ctl.outcome import Exit
from iris.ctl.payload import messages, total
from iris.ctl.progress import Progress


def run(args: Namespace) -> Exit:
    """Send; the node has all messages when this returns."""
    unit = "broadcasts" if args.command == "broadcast" else "events"
    with attach(args) as connection, Progress(total(args), unit, wanted=not args.quiet) as progress:
        for message in messages(args):
            if args.command == "broadcast":
                connection.broadcast(args.cluster, message)
            else:
                connection.publish(args.topic, message)
            progress.add(1)
    return Exit.OK
