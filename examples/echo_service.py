"""Serve the cluster "echo": reply to each request with its own payload, until Ctrl-C.

python examples/echo_service.py PORT
"""

import signal
import sys

import iris


class Echo(iris.Handler):
    """Logs each request."""

    def handle_request(self, request: bytes) -> bytes:
        """Reply with the payload."""
        print(f"request: {request.decode(errors='replace')}", flush=True)
        return request

    def handle_disconnect(self, reason: iris.Closed) -> None:
        """Log the reason."""
        print(f"disconnected: {reason}", file=sys.stderr)


def main(port: int) -> None:
    """Serve until a signal."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with iris.register("echo", Echo(), port=port) as service:
            print(f"serving 'echo' at port {port}; Ctrl-C to stop", flush=True)
            service.wait()
    except KeyboardInterrupt:
        print("stopped")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(int(sys.argv[1]))
