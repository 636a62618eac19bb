"""Talk with everybody in a room, on any host of the network.

What you type is said to all, until Ctrl-D.

python examples/chat.py PORT ROOM NAME
"""

import sys

import iris


def main(port: int, room: str, name: str) -> None:
    """Talk."""
    topic = f"chat-{room}"
    in_order = iris.TopicLimits(event_threads=1)

    def show(event: bytes) -> None:
        print(event.decode(errors="replace"), flush=True)

    def lost(reason: iris.Closed) -> None:
        print(f"the node is gone ({reason}); Ctrl-D ends this", file=sys.stderr)

    with (
        iris.connect(port, on_disconnect=lost) as connection,
        connection.subscribe(topic, show, in_order),
    ):
        connection.publish(topic, f"* {name} is here".encode())
        for line in sys.stdin:
            connection.publish(topic, f"{name}: {line.rstrip()}".encode())
        connection.publish(topic, f"* {name} leaves".encode())


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    except (KeyboardInterrupt, iris.Closed):
        sys.exit(1)
