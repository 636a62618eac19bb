import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from iris.errors import ProtocolError
from iris.proto.wire.message import IV_SIZE, KEY_SIZE, Message, Payload, Sealed

PATIENCE = 20.0  # seconds until a test that hangs fails


def decrypt(data: bytes, key: bytes, iv: bytes) -> bytes:
    return Cipher(AES(key), CTR(iv)).decryptor().update(data)


def never(_: int) -> bytes:
    raise AssertionError("nothing may be drawn")


@pytest.mark.parametrize("size", [1, 15, 16, 17, 16_383, 16_384, 16_385, 100_000])
def test_payload_that_was_sealed_here_opens_there(size: int) -> None:
    plain = random.Random(size).randbytes(size)
    ours = Payload.of(plain)
    data, key, iv = ours.seal()
    theirs = Payload.sealed(data, key, iv)
    assert data != plain
    assert len(ours) == len(theirs) == len(data) == size
    assert theirs.open() == plain
    assert decrypt(data, key, iv) == plain


@pytest.mark.parametrize("size", [1, 16, 17, 16_384, 16_385])
@pytest.mark.parametrize(
    "iv",
    [
        b"i" * 16,
        b"i" * 12 + b"\0\0\0\2",
        b"i" * 12 + b"\0\0\0\1",
        bytes(16),
        b"\xff" * 16,
        bytes(15) + b"\2",
    ],
)
def test_payload_of_any_iv_opens(size: int, iv: bytes) -> None:
    payload = Payload.sealed(random.Random(size).randbytes(size), b"k" * KEY_SIZE, iv)
    assert payload.open() == decrypt(*payload.seal(never))


def test_payload_that_stays_here_is_never_encrypted() -> None:
    payload = Payload.of(b"abc")
    assert payload.open() == b"abc"
    assert payload._sealed is None


def test_a_forwarded_payload_is_neither_decrypted_nor_encrypted_again() -> None:
    sealed = b"\x00" * 5, b"k" * KEY_SIZE, b"i" * IV_SIZE
    payload = Payload.sealed(*sealed)
    assert payload.seal(never) == sealed
    assert payload._plain is None


def test_seal_draws_key_and_iv_once() -> None:
    draws: list[int] = []

    def entropy(size: int) -> bytes:
        draws.append(size)
        return bytes(range(size))

    payload = Payload.of(b"abc")
    assert payload.seal(entropy) == payload.seal(entropy)
    assert draws == [KEY_SIZE + IV_SIZE - 4]
    assert payload.seal()[1:] == (bytes(range(16)), bytes(range(16, 28)) + b"\0\0\0\2")


def test_no_iv_occurs_twice_and_a_key_serves_a_few() -> None:
    payloads = [Payload.of(b"abc") for _ in range(1_000)]
    texts, keys, ivs = zip(*[payload.seal() for payload in payloads], strict=True)
    assert len(set(texts)) > 990  # of 3 bytes each
    assert len(set(ivs)) == 1_000
    assert max(Counter(keys).values()) <= 128


def test_an_opened_payload_is_forwarded_as_received() -> None:
    origin = Payload.of(b"abc")
    payload = Payload.sealed(*origin.seal())
    assert payload.open() == b"abc"
    assert payload.seal(never) == origin.seal()


def test_empty_payload_has_a_key_too() -> None:
    """Go nodes turn down an upper layer's message without one."""
    payload = Payload.of(b"")
    data, key, iv = payload.seal()
    assert (data, len(key), len(iv)) == (b"", KEY_SIZE, IV_SIZE)
    assert Payload.sealed(data, key, iv).open() == b""


@pytest.mark.parametrize(("key", "iv"), [(0, 16), (16, 0), (0, 0), (15, 16), (16, 17), (32, 16)])
def test_key_or_iv_of_another_size_is_a_protocol_violation(key: int, iv: int) -> None:
    with pytest.raises(ProtocolError, match=f"{key} and an iv of {iv}"):
        Payload.sealed(b"abc", bytes(key), bytes(iv))


def test_payload_that_two_links_seal_at_once_is_right_on_both() -> None:
    """The other one is faster, while the slower one draws."""
    payload = Payload.of(b"abc" * 100)
    drawing, go = threading.Event(), threading.Event()
    sealed: list[Sealed] = []

    def slowly(size: int) -> bytes:
        drawing.set()
        go.wait(PATIENCE)
        return b"s" * size

    slower = threading.Thread(target=lambda: sealed.append(payload.seal(slowly)))
    slower.start()
    assert drawing.wait(PATIENCE)
    sealed.append(payload.seal(lambda size: b"q" * size))
    go.set()
    slower.join(PATIENCE)
    assert [key for _, key, _ in sealed] == [b"q" * KEY_SIZE, b"s" * KEY_SIZE]
    assert [decrypt(*one) for one in sealed] == [b"abc" * 100] * 2


@pytest.mark.parametrize(
    ("make", "data"),
    [(lambda: None, b""), (lambda: Payload.of(b""), b""), (lambda: Payload.of(b"abc"), b"abc")],
)
def test_message_gives_its_plain_data(make: Callable[[], Payload | None], data: bytes) -> None:
    assert Message("meta", make()).data() == data
