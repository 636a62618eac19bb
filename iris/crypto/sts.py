"""Station-to-station key exchange (Diffie, van Oorschot, Wiener 1992): a shared secret, and proof
that both sides hold the same RSA key.

Core; counterpart of Go's crypto/sts, with the parameters of network version v0.3. A side's proof is
its token: its signature of both exponentials, encrypted under the secret.
"""

import contextlib
import enum
import os
from collections.abc import Iterator

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import MD5
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from iris.crypto.cyclic import Entropy, Group, exponential, random_exponent, shared_secret, to_bytes
from iris.errors import AuthenticationError, StateError

# WIRE: 2,448 bits; Go config.StsGroup and StsGenerator, tests/golden/sts.json
STS_GROUP = Group(
    modulus=int(
        "edebe633b28ea8b06957a169d69a5e0980d49178fedf9c5ec6fa7dd937c326e9e2e0e55011e423a95e334d432d4f0810b4c6c5"
        "5942b326726ee8accefbdccd795f75a11438256a70f986f6799f60c7eec25615d0f29518dbf19056dc9679b1d6421ecbe18459"
        "57bbf3975f64bf7f27c8e18cfa581907282b2ab00332ac2613cdf14729ab9a0856617ebe2a799a220e03f1381d9e0ec335e13c"
        "39ebfd4d234a9fa3c0ed66abfd6b4e0f4d6af45866dae820a495a1b2c18cfa499cb8ed212d887b520aacbdf6f40b76870bcba5"
        "0fa0d00fc1167c86383c167d40f44aa09c232b6a14e1ff42df423f58c8a6c8ec03dfabd605748163039e6ab82978a7e48c78b7"
        "426be89969416cce503105cac1e47724d58de8d36bd2fdd5d9a21ddaf1c7112ce6c99f1d7d62946243869b7c2e778381b7eb33",
        16,
    ),
    generator=int(
        "9be13f9cb03a3418501ddfe2df254b136a1a0ef9bd2b1a0654d32d8641b766ca8c764365fef8c1b2ce5a44fd9918825a357ea8"
        "e0adaa287e192d02869fcf6ec58462603b6ae35774cf6e5a89d6c13803665abb5211d4e93d7383b317d30f2e8b16e1d991972f"
        "f8532a6af583e31b39693ee66801e984df768e96f111194503182d6829c5cc0b202c1faf5197d32cdbc9fd984d95b8135fe451"
        "831f150cd984425730c6460f3f1944d877f1542236a74f325fe2e5f8d35584855a9f151614167a89189e20345550af2121ffa6"
        "de0dc8ad72b7566aae6cff7910f347d7eeaf4f823b2293d852ba379ef36a7da267619ab8ccd5f623eb088712f388aa38afcc03"
        "f2e5f85c52c40849d2cf7558e3f400998975871a9f7b609e39b489f5df3949a8f341958e67197834509d1e52d5316a3df0aaa0",
        16,
    ),
)

_KEY_SIZE = _IV_SIZE = 16  # bytes


class State(enum.Enum):
    """Of an exchange."""

    CREATED = "created"
    INITIATED = "initiated"
    ACCEPTED = "accepted"
    VERIFIED = "verified"
    FINALIZED = "finalized"
    FAILED = "failed"


STEPS = {
    (State.CREATED, "initiate"): State.INITIATED,
    (State.INITIATED, "verify"): State.VERIFIED,
    (State.VERIFIED, "secret"): State.VERIFIED,
    (State.CREATED, "accept"): State.ACCEPTED,
    (State.ACCEPTED, "finalize"): State.FINALIZED,
    (State.FINALIZED, "secret"): State.FINALIZED,
}


class Exchange:
    """One side of one exchange.

    The initiator calls initiate, verify, secret; the acceptor accept, finalize, secret. A call out
    of that order raises StateError and changes nothing. Invalid numbers or tokens of the peer raise
    ProtocolError (AuthenticationError when it doesn't hold the key), and the exchange has failed
    for good.
    """

    def __init__(
        self,
        key: RSAPrivateKey,
        group: Group = STS_GROUP,
        *,
        exponent: int | None = None,
        entropy: Entropy = os.urandom,
    ) -> None:
        """Prepare an exchange; the exponent is drawn from `entropy` unless it is a recorded one."""
        self.state = State.CREATED
        self._key, self._group = key, group
        self._exponent = random_exponent(group, entropy) if exponent is None else exponent
        self._own = self._peer = 0  # exponentials
        self._secret = b""

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        after = STEPS.get((self.state, name))
        if after is None:
            raise StateError(f"key exchange: no {name} once {self.state.value}")
        self.state = State.FAILED
        yield
        self.state = after

    def initiate(self) -> int:
        """Start as the initiator. Returns: the exponential to send."""
        with self._step("initiate"):
            self._own = exponential(self._group, self._exponent)
            return self._own

    def accept(self, peer_exponential: int) -> tuple[int, bytes]:
        """Handle the initiator's exponential. Returns: the own one and the token to send."""
        with self._step("accept"):
            self._agree(peer_exponential)
            self._own = exponential(self._group, self._exponent)
            return self._own, self._token()

    def verify(self, peer_exponential: int, token: bytes) -> bytes:
        """Handle the acceptor's exponential and token. Returns: the own token to send."""
        with self._step("verify"):
            self._agree(peer_exponential)
            self._check(token)
            return self._token()

    def finalize(self, token: bytes) -> None:
        """Handle the initiator's token."""
        with self._step("finalize"):
            self._check(token)

    def secret(self) -> bytes:
        """Return the shared secret, once the peer has proven its key; see `to_bytes`."""
        with self._step("secret"):
            return self._secret

    def _agree(self, peer_exponential: int) -> None:
        self._peer = peer_exponential
        self._secret = shared_secret(self._group, self._exponent, peer_exponential)

    def _token(self) -> bytes:
        signature = self._key.sign(to_bytes(self._own) + to_bytes(self._peer), PKCS1v15(), MD5())
        return self._crypt(signature)

    def _check(self, token: bytes) -> None:
        size = (self._key.key_size + 7) // 8  # bytes of any signature with this key
        if len(token) != size:
            raise AuthenticationError(f"token of {len(token)} bytes, not {size}: different key")
        try:
            signed = to_bytes(self._peer) + to_bytes(self._own)
            self._key.public_key().verify(self._crypt(token), signed, PKCS1v15(), MD5())
        except InvalidSignature as exc:
            raise AuthenticationError("token doesn't verify: different key") from exc

    def _crypt(self, data: bytes) -> bytes:
        # WIRE: both tokens of an exchange are encrypted with the same key stream; Go crypto/sts,
        # tests/golden/sts.json
        kdf = HKDF(MD5(), _KEY_SIZE + _IV_SIZE, b"crypto.sts.hkdf.salt", b"crypto.sts.hkdf.info")
        derived = kdf.derive(self._secret)
        return Cipher(AES(derived[:_KEY_SIZE]), CTR(derived[_KEY_SIZE:])).encryptor().update(data)
