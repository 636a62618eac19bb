"""`irisctl subscribe`: print events as they come."""

from argparse import Namespace

from iris.client import TopicLimits
from iris.ctl.node import attach
from iris.ctl.outcome import Exit, UsageError
from iris.ctl.output import print_message
from iris.ctl.signals import until_signal, wait_for_end


def run(args: Namespace) -> Exit:
    """Print until enough events, the timeout, or a signal."""
    seen = 0
    with until_signal() as ends:

        def show(event: bytes) -> None:
            nonlocal seen
            if seen == args.count:
                return
            try:
                print_message(args.format, event, number=seen + 1, topic=args.topic)
            except (OSError, UsageError) as exc:
                ends.put(exc)
            seen += 1
            if seen == args.count:
                ends.put(Exit.OK)

        with (
            attach(args, on_disconnect=ends.put) as connection,
            connection.subscribe(args.topic, show, TopicLimits(event_threads=1)),
        ):
            end = wait_for_end(ends, args.timeout)
    if end is Exit.TIMEOUT and seen >= (args.count or 1):
        return Exit.OK
    return end
