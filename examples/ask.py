"""Send a text to a cluster as a request, and print the reply.

python examples/ask.py PORT CLUSTER TEXT
"""

import sys

import iris


def main(port: int, cluster: str, text: str) -> None:
    """Send one request."""
    with iris.connect(port) as connection:
        try:
            print(connection.request(cluster, text.encode(), timeout=5.0).decode(errors="replace"))
        except iris.TimedOut:
            sys.exit(f"request to '{cluster}' timed out")
        except iris.Fault as exc:
            sys.exit(f"'{cluster}' failed the request: {exc}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
