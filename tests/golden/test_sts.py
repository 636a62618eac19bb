"""Recorded exchanges of the Go node, with their exponents: ours sends exactly the same."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from iris.crypto.sts import STS_GROUP, Exchange

VECTORS = json.loads((Path(__file__).parent / "sts.json").read_text())
CASES = [
    {name: int(value, 16) for name, value in case.items() if "token" not in name}
    for case in VECTORS["cases"]
]
TOKENS = [
    {name: bytes.fromhex(value) for name, value in case.items() if "token" in name}
    for case in VECTORS["cases"]
]


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    loaded = load_pem_private_key(VECTORS["rsa_private_key_pem"].encode(), None)
    assert isinstance(loaded, RSAPrivateKey)
    return loaded


def test_group_is_the_references() -> None:
    assert int(VECTORS["group"], 16) == STS_GROUP.modulus
    assert int(VECTORS["generator"], 16) == STS_GROUP.generator


@pytest.mark.parametrize(("case", "tokens"), list(zip(CASES, TOKENS, strict=True)))
def test_initiator_sends_what_was_recorded(
    key: RSAPrivateKey, case: dict[str, int], tokens: dict[str, bytes]
) -> None:
    initiator = Exchange(key, exponent=case["initiator_exponent"])
    assert initiator.initiate() == case["initiator_exponential"]
    assert (
        initiator.verify(case["acceptor_exponential"], tokens["acceptor_token"])
        == tokens["initiator_token"]
    )
    assert int.from_bytes(initiator.secret()) == case["secret"]


@pytest.mark.parametrize(("case", "tokens"), list(zip(CASES, TOKENS, strict=True)))
def test_acceptor_sends_what_was_recorded(
    key: RSAPrivateKey, case: dict[str, int], tokens: dict[str, bytes]
) -> None:
    acceptor = Exchange(key, exponent=case["acceptor_exponent"])
    assert acceptor.accept(case["initiator_exponential"]) == (
        case["acceptor_exponential"],
        tokens["acceptor_token"],
    )
    acceptor.finalize(tokens["initiator_token"])
    assert int.from_bytes(acceptor.secret()) == case["secret"]
    assert acceptor.secret()[0] != 0
