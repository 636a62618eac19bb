"""Messages between nodes: metadata of every layer, and a payload under a key that is sent along.

Counterpart of Go's proto/proto.go. A payload is encrypted when a classic link first sends it and
decrypted when it is first read here, so what stays on this node is never encrypted, and what is
forwarded is neither decrypted nor encrypted again.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from iris.errors import ProtocolError

KEY_SIZE: Final = 16  # bytes
IV_SIZE: Final = 16
_GCM_COUNTER: Final = b"\x00\x00\x00\x02"
_NONCE_SIZE: Final = IV_SIZE - len(_GCM_COUNTER)
_DRAW_SIZE: Final = KEY_SIZE + _NONCE_SIZE  # bytes
_MESSAGES_PER_KEY: Final = 128
_key_pool: Final[list[bytes]] = []
_GCM_LIMIT: Final = 131_072  # bytes; beyond it, the tag costs more than the set-up

Entropy = Callable[[int], bytes]
Sealed = tuple[bytes, bytes, bytes]  # data, key, iv

# by key: setting up a cipher costs twice as much as using it
_cipher: Final = lru_cache(maxsize=_MESSAGES_PER_KEY)(AESGCM)


def _crypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt, which is the same in AES-CTR.

    With an iv that ends in 0, 0, 0, 2 it is what AES-GCM does to its text, and the library's GCM is
    set up three times as fast. Source: NIST SP 800-38D, 7.1: the text is encrypted in counter mode
    from inc32(J0) on.
    """
    if len(data) <= _GCM_LIMIT and iv.endswith(_GCM_COUNTER):
        return _cipher(key).encrypt(iv[:_NONCE_SIZE], data, None)[: len(data)]
    return Cipher(AES(key), CTR(iv)).encryptor().update(data)


def _draw() -> bytes:
    """Draw a key and a nonce; the system is asked for those of many messages at once.

    Unlike Go's, these share the key, with a nonce each: of 128 nonces of 96 random bits, two are
    the same with a probability of 2**-83. Key and iv are sent in the header, which each link
    encrypts, so a node that forwards one message can't read another one off the wire.
    """
    while True:
        try:
            return _key_pool.pop()  # atomic
        except IndexError:
            block = os.urandom(KEY_SIZE + _NONCE_SIZE * _MESSAGES_PER_KEY)
            _key_pool.extend(
                [
                    block[:KEY_SIZE] + block[at : at + _NONCE_SIZE]
                    for at in range(KEY_SIZE, len(block), _NONCE_SIZE)
                ]
            )


class Payload:
    """Bytes in plain, encrypted under a key, or both; shared between messages."""

    __slots__ = ("_plain", "_sealed")

    def __init__(self, plain: bytes | None, sealed: Sealed | None) -> None:
        self._plain, self._sealed = plain, sealed

    @classmethod
    def of(cls, plain: bytes) -> "Payload":
        """Make a payload of plain bytes."""
        return cls(plain, None)

    @classmethod
    def sealed(cls, data: bytes, key: bytes, iv: bytes) -> "Payload":
        """Make a payload of received bytes.

        Raises: ProtocolError unless key and iv have 16 bytes each.
        """
        if len(key) != KEY_SIZE or len(iv) != IV_SIZE:
            raise ProtocolError(f"payload with a key of {len(key)} and an iv of {len(iv)} bytes")
        return cls(None, (data, key, iv))

    def __len__(self) -> int:
        if self._plain is not None:
            return len(self._plain)
        assert self._sealed is not None
        return len(self._sealed[0])

    def open(self) -> bytes:
        """Return the plain bytes."""
        if self._plain is None:
            assert self._sealed is not None
            data, key, iv = self._sealed
            self._plain = _crypt(key, iv, data)
        return self._plain

    def seal(self, entropy: Entropy | None = None) -> Sealed:
        """Return the encrypted bytes, and the key and iv that were drawn for them.

        Of several threads that seal it at once, each gets what belongs together.
        """
        if self._sealed is None:
            assert self._plain is not None
            drawn = _draw() if entropy is None else entropy(_DRAW_SIZE)
            key, iv = drawn[:KEY_SIZE], drawn[KEY_SIZE:] + _GCM_COUNTER
            self._sealed = sealed = (_crypt(key, iv, self._plain) if self._plain else b"", key, iv)
            return sealed
        return self._sealed


class Message:
    """A layer's metadata, and a payload; None for a packet between nodes themselves."""

    __slots__ = ("meta", "payload")

    def __init__(self, meta: object, payload: Payload | None = None) -> None:
        self.meta, self.payload = meta, payload

    def data(self) -> bytes:
        """Return the plain payload; empty without one."""
        return self.payload.open() if self.payload is not None else b""
