"""Packets of links: the header of each, and the close packet.

Counterpart of Go's proto/proto.go and proto/link/link.go.
"""

from dataclasses import dataclass

from iris.gobber.types import BYTES, INTERFACE, gob, struct


@struct("Header")
@dataclass(slots=True)
class Header:
    """A link packet's header: key and iv are the payload's, empty without one."""

    meta: object = gob("Meta", INTERFACE)
    key: bytes = gob("Key", BYTES)
    iv: bytes = gob("Iv", BYTES)


@struct("closePacket", registered="*link.closePacket")
@dataclass(slots=True)
class ClosePacket:
    """The last packet of a direction, after a graceful close."""
