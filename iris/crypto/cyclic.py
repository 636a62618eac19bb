"""Arithmetic in cyclic groups modulo a safe prime: exponentials for key exchanges.

Counterpart of Go's crypto/cyclic. Exponents are secrets, so powers come from GMP's constant time
routine, through gmpy2: Python's own `pow` is neither constant time nor quick, and the
Diffie-Hellman of `cryptography` proves the group's primality, 1.6 s, whenever a peer's exponential
is loaded, and is deprecated.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import gmpy2

from iris.errors import ProtocolError

Entropy = Callable[[int], bytes]


@dataclass(frozen=True)
class Group:
    """The subgroup of order q of the integers modulo a safe prime p = 2q + 1."""

    modulus: int  # p
    generator: int  # of order q

    @property
    def order(self) -> int:
        """The number of elements: q, a prime."""
        return self.modulus >> 1


def _power(base: int, exponent: int, modulus: int) -> int:
    with gmpy2.context(allow_release_gil=True):  # 9 ms for 2,448 bits, without Python's lock
        return int(gmpy2.powmod_sec(base, exponent, modulus))


def _draw(bits: int, entropy: Entropy) -> int:
    return int.from_bytes(entropy((bits + 7) // 8)) & ((1 << bits) - 1)


def random_exponent(group: Group, entropy: Entropy = os.urandom) -> int:
    """Draw a uniformly random positive number of as many bits as the group's modulus."""
    while (exponent := _draw(group.modulus.bit_length(), entropy)) == 0:
        pass
    return exponent


def exponential(group: Group, exponent: int) -> int:
    """Raise the generator to the power of `exponent`, which must be positive."""
    return _power(group.generator, exponent, group.modulus)


def shared_secret(group: Group, exponent: int, peer_exponential: int) -> bytes:
    """Raise the peer's exponential to the power of our exponent: see `to_bytes`.

    Raises: ProtocolError for an exponential outside of 2..p-2, which would make the secret public.
    """
    if not 1 < peer_exponential < group.modulus - 1:
        raise ProtocolError("exponential outside of its group")
    return to_bytes(_power(peer_exponential, exponent, group.modulus))


def to_bytes(number: int) -> bytes:
    """Encode a number as it is hashed: big-endian without leading zeros."""
    return number.to_bytes((number.bit_length() + 7) // 8)
