"""The rules that are judged on every connection, each with its id. Core.

docs/relay-protocol.md lists the same.
"""

from dataclasses import dataclass
from enum import Enum


class Side(Enum):
    """Who says something, or breaks a rule."""

    CLIENT = "client"
    NODE = "node"

    @property
    def other(self) -> "Side":
        """The one at the other end."""
        return Side.NODE if self is Side.CLIENT else Side.CLIENT


@dataclass(frozen=True)
class Violation:
    """A broken rule, and where.

    `offset` counts bytes of what that side said, `data` is the packet's beginning.
    """

    connection: int
    side: Side
    offset: int
    rule: str
    text: str
    data: bytes

    def __str__(self) -> str:
        where = f"connection {self.connection}, {self.side.value}, offset {self.offset}"
        return f"{where}: {self.rule}: {self.text}" + (
            f" [{self.data.hex(' ')}]" if self.data else ""
        )


RULES = {
    # values, both sides
    "value.opcode": "the first byte of a packet is an opcode that this side may send",
    "value.bool": "a bool is a byte 0 or 1",
    "value.varint": "a varint has at most ten bytes and 64 bits",
    "value.length": "a length is one that the other side may be expected to take",
    "value.utf8": "a string is UTF-8",
    "value.whole": "a stream doesn't end in the middle of a packet",
    # connections
    "open.first": "a client's first packet is an init, a node's first is an init or a deny, after the client's",
    "open.magic": "an init or deny carries the magic of its side",
    "open.once": "there is one init each way",
    "open.version": "both sides say v1.0-draft2",
    "open.answer": "a node answers an init by an init or a deny",
    "open.deny": "another version is answered by a deny with the text that names both versions",
    "open.denied": "nothing follows a deny",
    "close.once": "a client says close once",
    "close.answer": 'a client\'s close is answered by a close with the reason ""',
    "close.last": "nothing follows a node's close",
    "close.word": "a node doesn't end an attached client's connection without a close packet",
    # requests
    "request.number": "a node's request has an id that no unanswered one has",
    "request.reply": "a client replies to requests that it got",
    "request.twice": "a client replies to a request once",
    "request.answer": "a node answers what was asked, and each request once",
    "request.owed": "a node answers each request by its deadline",
    # broadcasts and topics
    "service.only": "broadcasts, requests and tunnel offers go to clients that registered a cluster",
    "topic.twice": "a client subscribes to a topic once",
    "topic.unknown": "a client unsubscribes from what it has subscribed to",
    "topic.event": "a node sends events of topics that were subscribed to",
    # building tunnels
    "tunnel.id": "a client chooses an id that none of its tunnels has",
    "tunnel.answer": "a node confirms a tunnel that was asked for, once",
    "tunnel.owed": "a node confirms each tunnel, or says that it timed out, by its deadline",
    "tunnel.limit": "a node announces a chunk limit of 65536",
    "offer.number": "an offer has a build id that no other open one has",
    "offer.known": "a client confirms a tunnel that was offered, once",
    "offer.owed": "a client confirms an offer within 3 s",
    # live tunnels
    "tunnel.unknown": "a tunnel's packets name one that was built",
    "tunnel.closed": "no data follows a side's close of a tunnel, and nothing at all follows the node's",
    "tunnel.close": "a client's tunnel close is answered by a close",
    "allow.first": "the first allowance that a node grants is 4 MiB",
    "allow.excess": "a node gives back no more than what it got",
    "chunk.limit": "a chunk isn't longer than the chunk limit",
    "chunk.allowance": "a chunk is sent within the allowance; a node may finish the message that it has begun",
    "chunk.begin": "a continuation belongs to a message that was begun",
    "chunk.size": "the chunks of a message aren't more than its size",
    "chunk.empty": "a node delivers no empty chunk",
}
