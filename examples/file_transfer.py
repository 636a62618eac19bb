"""Give files of a directory to whoever asks for them, on any host of the network, and get them.

Through tunnels, so of any size.

python examples/file_transfer.py PORT serve DIRECTORY  # until Ctrl-C python
examples/file_transfer.py PORT get NAME FILE
"""

import hashlib
import shutil
import signal
import sys
from pathlib import Path

import iris

CLUSTER = "files"
PATIENCE = 10.0  # seconds


class Files(iris.Handler):
    """A tunnel's first message is a name.

    The answer begins with a message of "yes" and the checksum, or "no".
    """

    def __init__(self, directory: Path) -> None:
        self.files = {path.name: path for path in directory.iterdir() if path.is_file()}

    def handle_tunnel(self, tunnel: iris.Tunnel) -> None:
        """Give a file away."""
        path = self.files.get(tunnel.recv(PATIENCE).decode())
        if path is None:
            tunnel.send(b"no")
            return
        with path.open("rb") as file:
            tunnel.send(b"yes " + hashlib.file_digest(file, "sha256").hexdigest().encode())
            file.seek(0)
            with tunnel.makefile("wb", timeout=PATIENCE) as sink:
                shutil.copyfileobj(file, sink)
        print(f"gave {path.name} away", flush=True)


def serve(port: int, directory: Path) -> None:
    """Serve."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with iris.register(CLUSTER, Files(directory), port=port) as service:
        print(f"giving {directory} away", flush=True)
        try:
            service.wait()
        except KeyboardInterrupt:
            print("no more")


def get(port: int, name: str, target: Path) -> None:
    """Get a file. One that doesn't come whole isn't kept."""
    with iris.connect(port) as connection, connection.tunnel(CLUSTER, PATIENCE) as tunnel:
        tunnel.send(name.encode())
        answer, *checksum = tunnel.recv(PATIENCE).decode().split()
        if answer != "yes":
            sys.exit(f"nobody has a file {name}")
        with target.open("w+b") as file, tunnel.makefile("rb", timeout=PATIENCE) as source:
            shutil.copyfileobj(source, file)
            file.seek(0)
            whole = [hashlib.file_digest(file, "sha256").hexdigest()] == checksum
    if not whole:
        target.unlink()
        sys.exit("it came damaged")
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [port, "serve", directory]:
            serve(int(port), Path(directory))
        case [port, "get", name, target]:
            get(int(port), name, Path(target))
        case _:
            sys.exit(__doc__)
