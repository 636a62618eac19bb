"""Serve the files of a directory to any host of the network, and download them.

They go through tunnels, so they may be of any size.

python examples/file_transfer.py PORT serve DIRECTORY  # until Ctrl-C
python examples/file_transfer.py PORT get NAME FILE
"""

import hashlib
import shutil
import signal
import sys
from pathlib import Path

import iris

CLUSTER = "files"
TIMEOUT = 10.0  # seconds


class Files(iris.Handler):
    """Serves one file per tunnel.

    The first message is the file's name. The reply is "no", or "yes" with the checksum and then the
    content.
    """

    def __init__(self, directory: Path) -> None:
        self.files = {path.name: path for path in directory.iterdir() if path.is_file()}

    def handle_tunnel(self, tunnel: iris.Tunnel) -> None:
        """Send a file."""
        path = self.files.get(tunnel.recv(TIMEOUT).decode())
        if path is None:
            tunnel.send(b"no")
            return
        with path.open("rb") as file:
            tunnel.send(b"yes " + hashlib.file_digest(file, "sha256").hexdigest().encode())
            file.seek(0)
            with tunnel.makefile("wb", timeout=TIMEOUT) as sink:
                shutil.copyfileobj(file, sink)
        print(f"sent {path.name}", flush=True)


def serve(port: int, directory: Path) -> None:
    """Serve until a signal."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with iris.register(CLUSTER, Files(directory), port=port) as service:
        print(f"serving {directory}", flush=True)
        try:
            service.wait()
        except KeyboardInterrupt:
            print("stopped")


def get(port: int, name: str, target: Path) -> None:
    """Download a file; delete it if its checksum is wrong."""
    with iris.connect(port) as connection, connection.tunnel(CLUSTER, TIMEOUT) as tunnel:
        tunnel.send(name.encode())
        answer, *checksum = tunnel.recv(TIMEOUT).decode().split()
        if answer != "yes":
            sys.exit(f"no such file: {name}")
        with target.open("w+b") as file, tunnel.makefile("rb", timeout=TIMEOUT) as source:
            shutil.copyfileobj(source, file)
            file.seek(0)
            intact = [hashlib.file_digest(file, "sha256").hexdigest()] == checksum
    if not intact:
        target.unlink()
        sys.exit("wrong checksum")
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [port, "serve", directory]:
            serve(int(port), Path(directory))
        case [port, "get", name, target]:
            get(int(port), name, Path(target))
        case _:
            sys.exit(__doc__)
