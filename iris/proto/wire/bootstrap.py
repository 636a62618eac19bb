"""The bootstrap datagram. Counterpart of the message of Go's proto/bootstrap/bootstrap.go."""

from dataclasses import dataclass

from iris.gobber.types import BIG_INT, BOOL, BYTES, INT, STRING, gob, struct


@struct("Message")
@dataclass(slots=True)
class Message:
    """A node's announcement; magic is the network's name, overlay its peer listener's TCP port."""

    version: str = gob("Version", STRING)
    magic: bytes = gob("Magic", BYTES)
    node_id: int | None = gob("NodeId", BIG_INT)
    overlay: int = gob("Overlay", INT)
    request: bool = gob("Request", BOOL)
