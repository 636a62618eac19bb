"""Answer every request to the cluster "echo" with what was asked, until Ctrl-C.

python examples/echo_service.py PORT
"""

import signal
import sys

import iris


class Echo(iris.Handler):
    """Says what it does."""

    def handle_request(self, request: bytes) -> bytes:
        """Give it back."""
        print(f"asked: {request.decode(errors='replace')}", flush=True)
        return request

    def handle_disconnect(self, reason: iris.Closed) -> None:
        """Say why it is over."""
        print(f"the node is gone: {reason}", file=sys.stderr)


def main(port: int) -> None:
    """Serve."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with iris.register("echo", Echo(), port=port) as service:
            print(f"serving 'echo' at port {port}; Ctrl-C ends it", flush=True)
            service.wait()
    except KeyboardInterrupt:
        print("left the cluster")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(int(sys.argv[1]))
