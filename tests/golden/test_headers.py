"""Headers of every kind by one Go encoder: read to the same values, written to the same bytes."""

import json
from pathlib import Path

import pytest

from iris.gobber import Decoder, Encoder
from iris.proto.wire.link import Header
from iris.proto.wire.session import AuthChallenge, AuthResponse, InitRequest, LinkRequest
from tests.support.headers import header

CASES = json.loads((Path(__file__).parent / "headers.json").read_text())["cases"]
SESSION = json.loads((Path(__file__).parent / "session.json").read_text())
STS = json.loads((Path(__file__).parent / "sts.json").read_text())


def test_headers_are_read_to_the_recorded_values() -> None:
    decoder = Decoder(max_size=16_384)
    assert [decoder.decode(bytes.fromhex(case["gob"]), Header) for case in CASES] == [
        header(case) for case in CASES
    ]


def test_headers_are_written_as_go_writes_them() -> None:
    encoder = Encoder()
    assert [encoder.encode(header(case)).hex() for case in CASES] == [case["gob"] for case in CASES]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_headers_may_arrive_in_pieces_of_any_size(size: int) -> None:
    stream = b"".join(bytes.fromhex(case["gob"]) for case in CASES)
    decoder, read = Decoder(max_size=16_384), []
    for start in range(0, len(stream), size):
        decoder.feed(stream[start : start + size])
        while (value := decoder.next(Header)) is not None:
            read.append(value)
    assert read == [header(case) for case in CASES]
    assert decoder.take_rest() == b""


def test_handshake_of_a_session_is_read_with_the_senders_numbers() -> None:
    to_server, to_client = Decoder(max_size=16_384), Decoder(max_size=16_384)
    first, second, third = (bytes.fromhex(packet["bytes"]) for packet in SESSION["handshake"][:3])
    request, challenge = (
        to_server.decode(first, InitRequest),
        to_client.decode(second, AuthChallenge),
    )
    response = to_server.decode(third, AuthResponse)
    assert request.link is None
    assert request.auth is not None
    group, generator = int(STS["group"], 16), int(STS["generator"], 16)
    assert request.auth.exp == pow(generator, int(SESSION["client_exponent"], 16), group)
    assert challenge.exp == pow(generator, int(SESSION["server_exponent"], 16), group)
    assert len(challenge.token) == len(response.token) == 256
    data = Decoder(max_size=16_384).decode(
        bytes.fromhex(SESSION["handshake"][4]["bytes"]), InitRequest
    )
    assert data == InitRequest(link=LinkRequest(0x4D65822107FCFD52))


def test_our_first_packet_of_a_session_is_the_recorded_one() -> None:
    # both ends ran in one process, which met this type first
    recorded = bytes.fromhex(SESSION["handshake"][0]["bytes"])
    assert Encoder().encode(Decoder(max_size=16_384).decode(recorded, InitRequest)) == recorded
