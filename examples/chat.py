"""Chat in a room with its members on any host of the network.

Each line of the standard input is published, until Ctrl-D.

python examples/chat.py PORT ROOM NAME
"""

import sys

import iris


def main(port: int, room: str, name: str) -> None:
    """Publish lines, and print those of others."""
    topic = f"chat-{room}"
    in_order = iris.TopicLimits(event_threads=1)

    def show(event: bytes) -> None:
        print(event.decode(errors="replace"), flush=True)

    def disconnected(reason: iris.Closed) -> None:
        print(f"disconnected ({reason}); Ctrl-D to exit", file=sys.stderr)

    with (
        iris.connect(port, on_disconnect=disconnected) as connection,
        connection.subscribe(topic, show, in_order),
    ):
        connection.publish(topic, f"* {name} joined".encode())
        for line in sys.stdin:
            connection.publish(topic, f"{name}: {line.rstrip()}".encode())
        connection.publish(topic, f"* {name} left".encode())


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    except (KeyboardInterrupt, iris.Closed):
        sys.exit(1)
