"""Small groups for key exchanges, which are quick. Counterpart of New in Go's crypto/cyclic."""

import gmpy2

from iris.crypto.cyclic import Entropy, Group

_ROUNDS = 64  # of the primality test
_SMALL_PRIMES = gmpy2.primorial(2000)


def draw(bits: int, entropy: Entropy) -> int:
    """Draw a number of at most that many bits."""
    return int.from_bytes(entropy((bits + 7) // 8)) & ((1 << bits) - 1)


def generate_group(bits: int, entropy: Entropy) -> Group:
    """Make a new group: a safe prime of exactly `bits` bits and a random generator of order q.

    Takes a fraction of a second for 512 bits, many minutes for 2,448.
    """
    assert bits >= 16  # so that its primes exceed those that candidates are divided by
    while True:
        order = 1 << (bits - 2) | draw(bits - 2, entropy) | 1
        modulus = 2 * order + 1
        if (
            gmpy2.gcd(order * modulus, _SMALL_PRIMES) == 1
            and gmpy2.is_prime(order, _ROUNDS)
            and gmpy2.is_prime(modulus, _ROUNDS)
        ):
            break
    while not 1 < (root := draw(bits, entropy)) < modulus - 1:
        pass
    return Group(modulus, root * root % modulus)  # a square has order q, unless it is 1
