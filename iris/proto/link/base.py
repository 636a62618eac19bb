"""The seam between a link and what its bytes mean: a codec, of which each suite has one.

Core. `Link` owns the socket and runs any codec; how a suite's links come to be is declared in
`iris.proto.session.base`. No counterpart in Go, which has one kind of link.
"""

from abc import ABC, abstractmethod

from iris.proto.wire.message import Message, Payload
from iris.runtime.compiling import mypyc_attr
from iris.runtime.send_buffer import Buffer


@mypyc_attr(allow_interpreted_subclasses=True)
class LinkCodec(ABC):
    """Turn messages into bytes and back, for one link. One thread per direction at a time."""

    @abstractmethod
    def seal(self, message: Message) -> tuple[Buffer, ...]:
        """Encode a message. What is returned must be sent, in the order of the calls.

        Its metadata is a declared gob struct of any layer, which goes into a
        `iris.proto.wire.link.Header`. An empty payload and None are different messages.
        """

    def prepare(self, payload: Payload) -> None:  # noqa: B027 (most codecs need nothing)
        """Do the work on a payload that needs no order, before `seal`; on any thread."""

    @abstractmethod
    def feed(self, data: bytes) -> None:
        """Append received bytes."""

    @abstractmethod
    def open(self) -> Message | None:
        """Decode the next message of what was fed; None until it is complete.

        Raises: ProtocolError, as soon as it shows, for anything malformed or beyond the bounds:
            `Limits.unauthenticated_size` until `raise_bounds`. Nothing may be opened after that.
            Any other exception counts as a bug of this node.
        """

    @abstractmethod
    def raise_bounds(self) -> None:
        """Accept messages of full size from now on: the peer has proven what it is."""
