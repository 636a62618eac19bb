import random

import gmpy2
import pytest

from iris.crypto.cyclic import (
    Group,
    exponential,
    random_exponent,
    shared_secret,
    to_bytes,
)
from iris.errors import ProtocolError
from tests.support.groups import generate_group

SMALL = Group(modulus=23, generator=4)  # q = 11


@pytest.mark.parametrize("bits", [16, 17, 64, 129, 256, 512])
def test_group_is_a_safe_prime_of_the_size_with_a_generator_of_order_q(bits: int) -> None:
    group = generate_group(bits, random.Random(bits + 3).randbytes)
    assert group.modulus.bit_length() == bits
    assert group.modulus == 2 * group.order + 1
    assert gmpy2.is_strong_bpsw_prp(group.modulus)
    assert gmpy2.is_strong_bpsw_prp(group.order)
    assert 1 < group.generator < group.modulus - 1
    assert pow(group.generator, group.order, group.modulus) == 1


def test_powers_are_those_of_plain_arithmetic() -> None:
    rng = random.Random(1)
    group = generate_group(512, rng.randbytes)
    for _ in range(20):
        exponent, peer = rng.randrange(1, 1 << 512), rng.randrange(2, group.modulus - 1)
        assert exponential(group, exponent) == pow(group.generator, exponent, group.modulus)
        assert shared_secret(group, exponent, peer) == to_bytes(pow(peer, exponent, group.modulus))


def test_secret_has_no_leading_zeros() -> None:
    group = generate_group(17, random.Random(3).randbytes)  # 3 bytes, of which the first is 0 or 1
    secrets = [shared_secret(group, exponent, group.generator) for exponent in range(1, 100)]
    assert {len(secret) for secret in secrets} >= {2, 3}
    assert all(secret[0] for secret in secrets)


@pytest.mark.parametrize("exponential", [-1, 0, 1, 22, 23, 24, 1 << 3000])
def test_exponential_that_gives_the_secret_away_is_refused(exponential: int) -> None:
    with pytest.raises(ProtocolError):
        shared_secret(SMALL, 5, exponential)


def test_smallest_and_greatest_exponential_are_taken() -> None:
    assert shared_secret(SMALL, 3, 2) == bytes([8])
    assert shared_secret(SMALL, 3, 21) == bytes([23 - 8])


def test_exponent_has_the_bits_of_the_group_and_is_never_zero() -> None:
    # 23 has 5 bits; the upper 3 of a byte don't count
    draws = iter([b"\xe0", b"\xff", b"\x00", b"\x21"])
    exponents = [random_exponent(SMALL, lambda _: next(draws)) for _ in range(2)]
    assert exponents == [0x1F, 0x01]


def test_number_zero_is_no_bytes() -> None:
    assert [to_bytes(number) for number in (0, 1, 255, 256)] == [b"", b"\x01", b"\xff", b"\x01\x00"]
