import random

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from iris.crypto.cyclic import Group
from iris.crypto.sts import STS_GROUP, Exchange, State
from iris.errors import AuthenticationError, ProtocolError, StateError
from tests.support.groups import generate_group

GROUP = generate_group(512, random.Random(7).randbytes)  # a small one is quick


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def other_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@pytest.mark.parametrize("group", [GROUP, STS_GROUP])
def test_both_sides_agree_on_one_fresh_secret(key: RSAPrivateKey, group: Group) -> None:
    secrets = []
    for _ in range(2):
        initiator, acceptor = Exchange(key, group), Exchange(key, group)
        exponential, token = acceptor.accept(initiator.initiate())
        acceptor.finalize(initiator.verify(exponential, token))
        assert initiator.secret() == acceptor.secret()
        secrets.append(initiator.secret())
    assert secrets[0] != secrets[1]


def test_group_is_the_right_size_and_its_generator_has_order_q() -> None:
    assert STS_GROUP.modulus.bit_length() == 2448
    assert pow(STS_GROUP.generator, STS_GROUP.order, STS_GROUP.modulus) == 1


def test_exponent_comes_from_the_given_entropy(key: RSAPrivateKey) -> None:
    exchanges = [Exchange(key, GROUP, entropy=random.Random(5).randbytes) for _ in range(2)]
    assert exchanges[0].initiate() == exchanges[1].initiate()


def test_initiator_rejects_an_acceptor_with_another_key(
    key: RSAPrivateKey, other_key: RSAPrivateKey
) -> None:
    initiator, acceptor = Exchange(key, GROUP), Exchange(other_key, GROUP)
    exponential, token = acceptor.accept(initiator.initiate())
    with pytest.raises(AuthenticationError):
        initiator.verify(exponential, token)
    with pytest.raises(StateError):
        initiator.secret()


def test_acceptor_rejects_an_initiator_with_another_key(
    key: RSAPrivateKey, other_key: RSAPrivateKey
) -> None:
    initiator, acceptor = Exchange(key, GROUP, exponent=12345), Exchange(key, GROUP)
    stranger = Exchange(other_key, GROUP, exponent=12345)
    exponential, token = acceptor.accept(initiator.initiate())
    initiator.verify(exponential, token)
    _, forged = stranger.accept(exponential)  # of the same secret
    with pytest.raises(AuthenticationError):
        acceptor.finalize(forged)
    with pytest.raises(StateError):
        acceptor.secret()


def test_own_token_sent_back_does_not_verify(key: RSAPrivateKey) -> None:
    acceptor = Exchange(key, GROUP)
    _, token = acceptor.accept(Exchange(key, GROUP).initiate())
    with pytest.raises(AuthenticationError):
        acceptor.finalize(token)


def test_exponential_changed_on_the_way_does_not_verify(key: RSAPrivateKey) -> None:
    """A man in the middle replaces both, and has no key to sign with."""
    initiator, acceptor, middle = Exchange(key, GROUP), Exchange(key, GROUP), Exchange(key, GROUP)
    initiator.initiate()
    own = middle.initiate()
    _, token = acceptor.accept(own)
    with pytest.raises(AuthenticationError):
        initiator.verify(own, token)


@pytest.mark.parametrize("size", [0, 1, 255, 257, 100_000])
def test_token_of_another_size_is_rejected_unread(key: RSAPrivateKey, size: int) -> None:
    initiator = Exchange(key, GROUP)
    exponential, _ = Exchange(key, GROUP).accept(initiator.initiate())
    with pytest.raises(AuthenticationError, match=f"{size} bytes"):
        initiator.verify(exponential, bytes(size))
    assert initiator.state is State.FAILED


def test_any_single_bit_of_the_token_counts(key: RSAPrivateKey) -> None:
    for place in (0, 7, 1024, 2047):
        initiator, acceptor = Exchange(key, GROUP), Exchange(key, GROUP)
        exponential, token = acceptor.accept(initiator.initiate())
        spoilt = bytearray(initiator.verify(exponential, token))
        spoilt[place // 8] ^= 1 << place % 8
        with pytest.raises(AuthenticationError):
            acceptor.finalize(bytes(spoilt))


@pytest.mark.parametrize(
    "exponential", [-2, 0, 1, GROUP.modulus - 1, GROUP.modulus, GROUP.modulus + 2, 1 << 5000]
)
def test_exponential_out_of_range_ends_the_exchange(key: RSAPrivateKey, exponential: int) -> None:
    acceptor, initiator = Exchange(key, GROUP), Exchange(key, GROUP)
    with pytest.raises(ProtocolError):
        acceptor.accept(exponential)
    assert acceptor.state is State.FAILED
    initiator.initiate()
    with pytest.raises(ProtocolError):
        initiator.verify(exponential, bytes(256))
    assert initiator.state is State.FAILED


def test_no_error_text_holds_a_secret(key: RSAPrivateKey) -> None:
    initiator = Exchange(key, GROUP)
    exponential, token = Exchange(key, GROUP).accept(initiator.initiate())
    with pytest.raises(AuthenticationError) as refusal:
        initiator.verify(exponential, token[::-1])
    assert str(refusal.value) == "token doesn't verify: different key"
