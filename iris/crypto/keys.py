"""The RSA key of a network: loaded from a file, or kept for the user, one per network.

Counterpart of the key handling of Go's main.go. Members of a network are the hosts that hold its
key, so each needs the same file. Go nodes read unencrypted PKCS#1 only, so that is what is written;
PKCS#8 is read too. A network's key can't be changed: with another key it is another network.
"""

import contextlib
import hashlib
import logging
import os
import re
import tempfile
from pathlib import Path

import platformdirs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iris.errors import ConfigError

KEY_BITS = 2048  # of new keys, as Go's; shorter ones can be factored, or soon will be

_FILE_LIMIT = 65_536  # bytes; a key of 16,384 bits takes 13,000
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

_log = logging.getLogger(__name__)


def generate_key() -> RSAPrivateKey:
    """Generate a key."""
    return rsa.generate_private_key(65537, KEY_BITS)


def load_key(path: Path) -> RSAPrivateKey:
    """Read an RSA private key: PKCS#1 or PKCS#8, PEM or DER, not encrypted.

    Warns when other users may read the file.

    Raises: ConfigError, whose text says what to do about the cause.
    """
    where = repr(str(path))
    try:
        with path.open("rb") as file:
            exposed = os.fstat(file.fileno()).st_mode & 0o077
            data = file.read(_FILE_LIMIT + 1)
    except FileNotFoundError as exc:
        hint = "name an existing one, or omit -rsa to use the network's own"
        raise ConfigError(f"no key file {where}: {hint}") from exc
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        hint = "make it readable or name another"
        raise ConfigError(f"can't read key file {where} ({reason}): {hint}") from exc
    key = _parse(data, where)
    if (bits := key.key_size) < KEY_BITS:
        raise ConfigError(f"the key in {where} has {bits} bits, too few to be safe: use {KEY_BITS}")
    if exposed:
        _log.warning("other users may have access to the key file %s: run chmod 600 on it", where)
    return key


def _parse(data: bytes, where: str) -> RSAPrivateKey:
    if b"-----BEGIN OPENSSH PRIVATE KEY-----" in data:
        hint = "convert it with ssh-keygen -p -m PEM -N '' -f FILE"
        raise ConfigError(f"the key in {where} is in OpenSSH's own format: {hint}")
    pem = b"-----BEGIN " in data
    load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
    hint = "make one with openssl genrsa -traditional"
    not_rsa = ConfigError(f"the key in {where} is not an RSA key: {hint}")
    try:
        key = load(data[:_FILE_LIMIT], None)
    except TypeError as exc:
        hint = "decrypt it with openssl rsa -traditional -in FILE -out NEW"
        raise ConfigError(f"the key in {where} is encrypted: {hint}") from exc
    except UnsupportedAlgorithm as exc:
        raise not_rsa from exc
    except ValueError as exc:
        reason = "no private key, or a damaged one: use PKCS#1 or PKCS#8"
        if _is_public(data):
            reason = "only a public key: the network's private key is needed"
        raise ConfigError(f"{where} holds {reason}") from exc
    if not isinstance(key, RSAPrivateKey):
        raise not_rsa
    return key


def _is_public(data: bytes) -> bool:
    for load in (
        serialization.load_pem_public_key,
        serialization.load_der_public_key,
        serialization.load_ssh_public_key,
    ):
        with contextlib.suppress(ValueError, UnsupportedAlgorithm):  # try the next
            load(data)
            return True
    return False


def network_key(network: str, directory: Path | None = None) -> tuple[RSAPrivateKey, Path, bool]:
    """Load the key kept for this user and network, or make it; concurrent calls get the same one.

    Returns: the key, its file, and whether it was made just now. Raises: ConfigError.
    """
    if directory is None:
        directory = platformdirs.user_data_path("iris", appauthor=False)
    path = directory / file_name(network)
    try:
        made = not path.exists() and _make(path)
    except OSError as exc:
        where = repr(str(directory))
        hint = "make it writable or use -rsa"
        raise ConfigError(f"can't keep a key in {where} ({exc.strerror}): {hint}") from exc
    return load_key(path), path, made


def file_name(network: str) -> str:
    """Name a network's key file: safe and unique, even where case isn't distinguished."""
    if _PLAIN_NAME.fullmatch(network):
        return f"{network}.pem"
    readable = re.sub(r"[^a-z0-9_-]+", "-", network.lower())[:32].strip("-")
    digest = hashlib.sha256(network.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{readable}~{digest[:32]}.pem"  # a plain name has no tilde


def _make(path: Path) -> bool:
    """Write a new key to `path`, atomically. Returns: False when there was one meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = generate_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-") as file:  # its mode is 0600
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            return False
    return True
