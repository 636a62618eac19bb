"""The rules that are checked on every connection; docs/relay-protocol.md lists them. Core."""

from dataclasses import dataclass

from iris.relay_protocol.schema import Side


@dataclass(frozen=True)
class Violation:
    """A violated rule; `offset` counts bytes of that side's stream, `data` begins the packet."""

    connection: int
    side: Side
    offset: int
    rule: str
    text: str
    data: bytes

    def __str__(self) -> str:
        where = f"connection {self.connection}, {self.side.value}, offset {self.offset}"
        data = f" [{self.data.hex(' ')}]" if self.data else ""
        return f"{where}: {self.rule}: {self.text}{data}"


RULES = {
    # values, both sides
    "value.opcode": "the first byte of a packet is an opcode that this side may send",
    "value.bool": "a bool is a byte 0 or 1",
    "value.varint": "a varint has at most ten bytes and 64 bits",
    "value.length": "a length is one that the other side can be expected to accept",
    "value.utf8": "a string is UTF-8",
    "value.whole": "a stream doesn't end in the middle of a packet",
    # connections
    "open.first": "a client's first packet is an init; a node's is an init or a deny, after it",
    "open.magic": "an init or deny carries the magic of its side",
    "open.once": "there is one init each way",
    "open.version": "both sides announce v1.0-draft2",
    "open.answer": "a node answers an init by an init or a deny",
    "open.deny": "another version is answered by a deny with the text that names both versions",
    "open.denied": "nothing follows a deny",
    "close.once": "a client sends one close",
    "close.answer": 'a client\'s close is answered by a close with the reason ""',
    "close.last": "nothing follows a node's close",
    "close.word": "a node doesn't disconnect an attached client without a close packet",
    # requests
    "request.number": "a node's request has an id that no unanswered one has",
    "request.reply": "a client replies to requests that it received",
    "request.twice": "a client replies to a request once",
    "request.answer": "a node answers requests of the client's, and each once",
    "request.owed": "a node answers each request by its deadline",
    # broadcasts and topics
    "service.only": "broadcasts, requests and tunnel offers go to members of a cluster",
    "topic.twice": "a client subscribes to a topic once",
    "topic.unknown": "a client unsubscribes from topics that it has subscribed to",
    "topic.event": "a node sends events of topics that the client has subscribed to",
    # building tunnels
    "tunnel.id": "a client chooses an id that none of its tunnels has",
    "tunnel.answer": "a node confirms a requested tunnel, once",
    "tunnel.owed": "a node confirms each tunnel, or reports that it timed out, by its deadline",
    "tunnel.limit": "a node announces a chunk limit of 65536",
    "offer.number": "an offer has a build id that no other open one has",
    "offer.known": "a client confirms an offered tunnel, once",
    "offer.owed": "a client confirms an offer within 3 s",
    # live tunnels
    "tunnel.unknown": "a tunnel's packets name a tunnel that was built",
    "tunnel.closed": "no data follows the client's close of a tunnel, and no packet the node's",
    "tunnel.close": "a client's tunnel close is answered by a close",
    "allow.first": "the first credit that a node grants is 4 MiB",
    "allow.excess": "a node gives back no more credit than was used",
    "chunk.limit": "a chunk isn't longer than the chunk limit",
    "chunk.allowance": "a chunk is sent within the credit; a node may finish a begun message",
    "chunk.begin": "a continuation belongs to a message that was begun",
    "chunk.size": "the chunks of a message don't exceed its size",
    "chunk.empty": "a node sends no empty chunk",
}
