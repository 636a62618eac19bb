"""Encode and judge the datagrams of the subnet search.

Counterpart of the message handling of Go's proto/bootstrap/bootstrap.go. Core. Any host can send
datagrams, so those that aren't meant for this network are recognised as cheaply as possible.
"""

from iris.config import NETWORK_VERSION
from iris.errors import ProtocolError
from iris.gobber import Datagrams
from iris.proto.wire.bootstrap import Message

MAX_SIZE = 1_500  # bytes; Go takes no more either

_VERSION = NETWORK_VERSION.encode()
_IDS, _PORTS = 1 << 40, 1 << 16


class Greeting:
    """The two datagrams that a node sends, and the judgement of those that it gets."""

    def __init__(self, network: str, node_id: int, overlay_port: int) -> None:
        """Introduce the node with this id, whose peer listener is on TCP port `overlay_port`."""
        self._codec = Datagrams(Message)
        self._magic, self._node_id = network.encode(), node_id
        self.request, self.response = (
            self._codec.encode(
                Message(NETWORK_VERSION, self._magic, node_id, overlay_port, request)
            )
            for request in (True, False)
        )

    def read(self, data: bytes) -> Message | None:
        """Decode a datagram; None when it isn't from another node of this network."""
        if len(data) > MAX_SIZE or self._magic not in data or _VERSION not in data:
            return None  # most foreign datagrams end here, undecoded
        try:
            message = self._codec.decode(data)
        except ProtocolError:
            return None
        if message.version != NETWORK_VERSION or message.magic != self._magic:
            return None
        node = message.node_id
        if node is None or node == self._node_id or not 0 <= node < _IDS:
            return None
        return message if 0 < message.overlay < _PORTS else None
