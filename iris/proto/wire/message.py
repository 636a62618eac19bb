"""Messages between nodes: metadata for every layer, and a payload under a key that is sent along.

Counterpart of Go's proto/proto.go. A payload is encrypted the first time a link takes it and decrypted
the first time somebody here reads it, so what stays on this node is never encrypted, and what
passes through is neither decrypted nor encrypted again.
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
_DRAW: Final = KEY_SIZE + _NONCE_SIZE  # bytes
_DRAWS: Final = 128  # messages that one key serves
_drawn: Final[list[bytes]] = []
_ONE_SHOT: Final = 131_072  # bytes; beyond it, what is saved is less than what the tag costs

Entropy = Callable[[int], bytes]
Sealed = tuple[bytes, bytes, bytes]  # data, key, iv

# by key, since setting one up costs twice what using it does
_cipher: Final = lru_cache(maxsize=_DRAWS)(AESGCM)


def _crypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt: AES-CTR does the same for both.

    With the iv's last four bytes 0, 0, 0, 2, it does what AES-GCM does to its text, and the
    library's GCM is set up three times as fast.
    Source: NIST SP 800-38D, 7.1: the text is encrypted in counter mode from inc32(J0) on.
    """
    if len(data) <= _ONE_SHOT and iv.endswith(_GCM_COUNTER):
        return _cipher(key).encrypt(iv[:_NONCE_SIZE], data, None)[: len(data)]
    return Cipher(AES(key), CTR(iv)).encryptor().update(data)


def _draw() -> bytes:
    """Random bytes for a key and an iv, which nobody else gets, drawn from the system for many
    messages at once.

    These share the key, unlike Go's, and each has an iv of its own: of 96 random bits each, two of
    128 are the same with a probability of 2**-83. Key and iv travel in the head, which each link
    encrypts, so whoever carries one message can't read another one off the wire.
    """
    while True:
        try:
            return _drawn.pop()  # atomic
        except IndexError:
            block = os.urandom(KEY_SIZE + _NONCE_SIZE * _DRAWS)
            _drawn.extend(
                [
                    block[:KEY_SIZE] + block[at : at + _NONCE_SIZE]
                    for at in range(KEY_SIZE, len(block), _NONCE_SIZE)
                ]
            )


class Payload:
    """Bytes that are here in plain, sealed under a key, or both; made by `of` or `sealed`.

    Shared between messages.
    """

    __slots__ = ("_plain", "_sealed")

    def __init__(self, plain: bytes | None, sealed: Sealed | None) -> None:
        self._plain, self._sealed = plain, sealed

    @classmethod
    def of(cls, plain: bytes) -> "Payload":
        """Take a payload that was born here."""
        return cls(plain, None)

    @classmethod
    def sealed(cls, data: bytes, key: bytes, iv: bytes) -> "Payload":
        """Take a payload from a link. Raises: ProtocolError unless key and iv are 16 bytes each."""
        if len(key) != KEY_SIZE or len(iv) != IV_SIZE:
            raise ProtocolError(f"payload with a key of {len(key)} and an iv of {len(iv)} bytes")
        return cls(None, (data, key, iv))

    def __len__(self) -> int:
        if self._plain is not None:
            return len(self._plain)
        assert self._sealed is not None
        return len(self._sealed[0])

    def open(self) -> bytes:
        """The plain bytes."""
        if self._plain is None:
            assert self._sealed is not None
            data, key, iv = self._sealed
            self._plain = _crypt(key, iv, data)
        return self._plain

    def seal(self, entropy: Entropy | None = None) -> Sealed:
        """The encrypted bytes, with the key and iv that were drawn for them.

        For `_crypt`, the iv ends in a constant.

        Of several threads that seal it at once, each gets what fits together.
        """
        if self._sealed is None:
            assert self._plain is not None
            drawn = _draw() if entropy is None else entropy(_DRAW)
            key, iv = drawn[:KEY_SIZE], drawn[KEY_SIZE:] + _GCM_COUNTER
            self._sealed = sealed = (_crypt(key, iv, self._plain) if self._plain else b"", key, iv)
            return sealed
        return self._sealed


class Message:
    """What layers hand to each other: the current layer's metadata, and a payload (None.

    A packet of the node's own).
    """

    __slots__ = ("meta", "payload")

    def __init__(self, meta: object, payload: Payload | None = None) -> None:
        self.meta, self.payload = meta, payload

    def data(self) -> bytes:
        """The plain payload; empty without one."""
        return self.payload.open() if self.payload is not None else b""
