"""A recorded session between two Go nodes, replayed in the place of each with its exponent.

Both ends ran in one process and shared the numbering of gob types; one test does the same, and
every byte must be the recorded one. In the others, what we send has other type numbers, and is
compared after decoding.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from iris.config import Limits
from iris.crypto.sts import Exchange
from iris.gobber import Decoder, Encoder
from iris.gobber.definitions import Numbering, WireType
from iris.gobber.types import BIG_INT, GobType
from iris.proto.link.classic import Bounds, ClassicCodec, PacketSplitter, derive_links
from iris.proto.link.header_templates import HeaderEncoder
from iris.proto.session.classic import (
    authenticate_client,
    authenticate_server,
    link_client,
    link_server,
    open_stream,
)
from iris.proto.wire.clusters import AuthPacket, DataHeader
from iris.proto.wire.clusters import Header as IrisHeader
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.ring import Header as PastryHeader
from iris.proto.wire.ring import InitPacket, State
from iris.proto.wire.session import (
    AuthChallenge,
    AuthRequest,
    AuthResponse,
    InitRequest,
    LinkRequest,
)
from iris.proto.wire.trees import Header as ScribeHeader
from iris.proto.wire.trees import Report
from tests.support.sockets import tcp_pair
from tests.support.suites import link_factory

RECORD = json.loads((Path(__file__).parent / "session.json").read_text())
KEY = cast(RSAPrivateKey, load_pem_private_key(RECORD["rsa_private_key_pem"].encode(), None))
LINKS = link_factory(limits=replace(Limits(), unauthenticated_size=1 << 20), clock=lambda: 0.0)
BOUNDS = Bounds(header=1 << 20, payload=1 << 20)
SEND = {"client": "client->server", "server": "server->client"}
OTHER = {"client": "server", "server": "client"}


def handshake(conn: str, sender: str) -> list[bytes]:
    return [
        bytes.fromhex(step["bytes"])
        for step in RECORD["handshake"]
        if step["conn"] == conn and step["dir"] == SEND[sender]
    ]


def exponent(side: str) -> int:
    return int(RECORD[f"{side}_exponent"], 16)


def decode(data: bytes, *kinds: type) -> Iterator[Any]:
    """Values from the beginning of a stream, then what is left."""
    decoder = Decoder(max_size=1 << 20)
    decoder.feed(data)
    for kind in kinds:
        yield decoder.next(kind)
    yield decoder.take_rest()


def secret() -> bytes:
    exchange = Exchange(KEY, exponent=exponent("client"))
    exchange.initiate()
    challenge, _ = decode(handshake("ctrl", "server")[0], AuthChallenge)
    exchange.verify(challenge.exp, challenge.token)
    return exchange.secret()


def codecs(side: str) -> dict[str, ClassicCodec]:
    links = derive_links(secret(), server=side == "server")
    return {
        conn: ClassicCodec(keys, LINKS.limits)
        for conn, keys in zip(("ctrl", "data"), links, strict=True)
    }


def meta(fields: dict[str, Any] | None) -> Any:
    """A recorded Meta, as we hold it."""
    if fields is None:
        return None

    def big(name: str) -> int | None:
        return int(fields[name]) if name in fields else None

    match fields["type"]:
        case "session.linkRequest":
            return LinkRequest(int(fields["id"]))
        case "pastry.initPacket":
            return InitPacket(big("id"), fields["addrs"])
        case "pastry.header":
            state = State(**fields["state"]) if "state" in fields else None
            return PastryHeader(meta(fields.get("meta")), fields["op"], big("dest"), state)
        case "scribe.header":
            report = None
            if "report" in fields:
                report = Report(
                    [int(top) for top in fields["report"]["tops"]], fields["report"]["caps"]
                )
            return ScribeHeader(
                meta(fields.get("meta")),
                fields["op"],
                big("sender"),
                big("topic"),
                big("prev"),
                report,
            )
        case "iris.header":
            attributes = {
                name.removesuffix("_ns"): value for name, value in fields.items() if name != "type"
            }
            if "tun_key" in attributes:
                attributes["tun_key"] = bytes.fromhex(attributes["tun_key"])
            return IrisHeader(**attributes)
        case "iris.authPacket":
            return AuthPacket(fields["id"])
        case "iris.dataHeader":
            return DataHeader(fields["size_or_cont"])
    raise AssertionError(fields["type"])


def recorded_id() -> int:
    request, _ = decode(handshake("data", "client")[0], InitRequest)
    assert isinstance(request.link.id, int)
    return request.link.id


def received(data: bytes, codec: ClassicCodec) -> list[Any]:
    codec.feed(data)
    return [message.meta for message in iter(codec.open, None)]


def test_client_sends_what_the_recorded_client_sent() -> None:
    (ours, theirs), (ours_data, theirs_data) = tcp_pair(), tcp_pair()
    with ours, theirs, ours_data, theirs_data:
        theirs.sendall(b"".join(handshake("ctrl", "server")))
        theirs_data.sendall(b"".join(handshake("data", "server")))
        stream = open_stream(ours, 5.0, LINKS)
        agreed = authenticate_client(stream, Exchange(KEY, exponent=exponent("client")))
        session = link_client(stream, agreed, lambda: ours_data, LINKS)
        assert agreed == secret()
        sent = theirs.recv(65_536)
        request, response = handshake("ctrl", "client")
        assert sent.startswith(request)
        assert list(decode(sent, InitRequest, AuthResponse)) == list(
            decode(request + response, InitRequest, AuthResponse)
        )
        sent = theirs_data.recv(65_536)
        request, _ = handshake("data", "client")
        assert sent.startswith(request)
        assert received(sent.removeprefix(request), codecs("server")["data"]) == [
            LinkRequest(recorded_id())
        ]
        check_messages(
            {"ctrl": (session.control, theirs), "data": (session.data, theirs_data)}, "server"
        )


def test_server_sends_what_the_recorded_server_sent() -> None:
    (ours, theirs), (ours_data, theirs_data) = tcp_pair(), tcp_pair()
    with ours, theirs, ours_data, theirs_data:
        theirs.sendall(b"".join(handshake("ctrl", "client")))
        theirs_data.sendall(b"".join(handshake("data", "client")))
        stream, data_stream = open_stream(ours, 5.0, LINKS), open_stream(ours_data, 5.0, LINKS)
        request = stream.recv(InitRequest)
        assert request.auth is not None
        agreed = authenticate_server(
            stream, request.auth, Exchange(KEY, exponent=exponent("server"))
        )
        assert data_stream.recv(InitRequest) == InitRequest(link=LinkRequest(recorded_id()))
        session = link_server(stream, agreed, recorded_id(), lambda: data_stream, LINKS)
        assert agreed == secret()
        challenge, link_packet = decode(theirs.recv(65_536), AuthChallenge)
        assert challenge == next(decode(handshake("ctrl", "server")[0], AuthChallenge))
        client = codecs("client")
        assert received(link_packet, client["ctrl"]) == [LinkRequest(recorded_id())]
        assert received(theirs_data.recv(65_536), client["data"]) == [LinkRequest(recorded_id())]
        check_messages(
            {"ctrl": (session.control, theirs), "data": (session.data, theirs_data)}, "client"
        )


def check_messages(links: dict[str, Any], sender: str) -> None:
    """What the other side sent over the session is read as it was recorded."""
    count = 0
    for record in RECORD["messages"]:
        if record["dir"] == SEND[sender]:
            link, theirs = links[record["conn"]]
            theirs.sendall(bytes.fromhex(record["bytes"]))
            message = link.recv_direct(5.0)
            check_message(message, record)
            count += 1
    assert count == 11


def check_message(message: Message, record: dict[str, Any]) -> None:
    assert message.meta == meta(record["meta"]), record["what"]
    assert message.data() == bytes.fromhex(record["payload"])
    if "key" in record:
        assert message.payload is not None
        assert [part.hex() for part in message.payload.seal()[1:]] == [record["key"], record["iv"]]
    else:
        assert message.payload is None


@pytest.mark.parametrize("sender", ["client", "server"])
@pytest.mark.parametrize("conn", ["ctrl", "data"])
def test_recorded_headers_are_sealed_to_the_recorded_bytes(conn: str, sender: str) -> None:
    """Given the same gob, every packet is the same: key stream, running MAC and framing."""
    keys = dict(
        zip(("ctrl", "data"), derive_links(secret(), server=sender == "server"), strict=True)
    )[conn].outgoing
    decrypt = Cipher(AES(keys.key), CTR(keys.iv)).decryptor().update
    splitter, codec = PacketSplitter(BOUNDS), codecs(sender)[conn]
    # the client's control link begins with a message
    steps = handshake(conn, sender)[-1:] if (conn, sender) != ("ctrl", "client") else []
    packets = steps + [
        bytes.fromhex(r["bytes"])
        for r in RECORD["messages"]
        if (r["conn"], r["dir"]) == (conn, SEND[sender])
    ]
    keyed = [{}] * len(steps) + [
        r for r in RECORD["messages"] if (r["conn"], r["dir"]) == (conn, SEND[sender])
    ]
    assert len(packets) > 4
    for packet, record in zip(packets, keyed, strict=True):
        splitter.feed(packet)
        split = splitter.next()
        assert split is not None
        plain = decrypt(split[0])
        codec._encode = lambda meta, key, iv, plain=plain: plain  # type: ignore[misc]
        assert b"".join(codec.seal(Message(None, sent_payload(record)))) == packet


def sent_payload(record: dict[str, Any]) -> Payload | None:
    if "key" not in record:
        return None
    sealed, key, iv = (bytes.fromhex(record[name]) for name in ("sent_payload", "key", "iv"))
    return Payload.sealed(sealed, key, iv)


class SharedNumbering(Numbering):
    """Types are numbered in the order in which any stream of the process met them, as in the
    recording.
    """

    def __init__(self, process: "SharedNumbering | None" = None) -> None:
        super().__init__()
        self.process = process or self
        # the definition of *big.Int, which takes a number when it is first made
        self.pointer: WireType | None = None
        if process is not None:
            self._ids = process.known()

    def known(self) -> dict[object, tuple[int, str]]:
        return self._ids

    def next_number(self) -> int:
        self._last += 1
        return self._last

    def copy(self) -> "SharedNumbering":
        return self  # nothing fails here

    def _next(self) -> int:
        return self.process.next_number()

    def _define(self, type_: GobType) -> WireType:
        if type_ != BIG_INT:
            return super()._define(type_)
        self.process.pointer = self.process.pointer or super()._define(type_)
        return self.process.pointer


def test_with_the_numbers_of_the_recording_every_byte_of_the_session_is_the_same() -> None:
    process = SharedNumbering()

    def encoder() -> Encoder:
        encoder = Encoder()
        encoder._types = SharedNumbering(process)
        return encoder

    client, server = codecs("client"), codecs("server")
    for codec in (*client.values(), *server.values()):
        codec._encode = HeaderEncoder(encoder()).encode

    initiator, acceptor = (Exchange(KEY, exponent=exponent(side)) for side in ("client", "server"))
    control, back = encoder(), encoder()
    exp = initiator.initiate()
    request = control.encode(InitRequest(auth=AuthRequest(exp)))
    challenge = AuthChallenge(*acceptor.accept(exp))
    assert challenge.exp is not None
    challenged = back.encode(challenge)
    response = control.encode(AuthResponse(initiator.verify(challenge.exp, challenge.token)))
    request_id = LinkRequest(recorded_id())
    link_request = Message(request_id)
    announced = b"".join(server["ctrl"].seal(link_request))
    assert handshake("ctrl", "client") == [request, response]
    assert handshake("ctrl", "server") == [challenged, announced]
    attached = encoder().encode(InitRequest(link=request_id))
    assert handshake("data", "server") == [b"".join(server["data"].seal(link_request))]
    assert handshake("data", "client") == [attached, b"".join(client["data"].seal(link_request))]
    for record in RECORD["messages"]:
        payload = sent_payload(record)
        codec = (client if record["dir"] == SEND["client"] else server)[record["conn"]]
        assert (
            b"".join(codec.seal(Message(meta(record["meta"]), payload))).hex() == record["bytes"]
        ), record["what"]
