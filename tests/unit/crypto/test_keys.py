import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from iris.crypto import keys
from iris.crypto.keys import file_name, load_key, network_key
from iris.errors import ConfigError

PKCS1, PKCS8, OPENSSH = PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8, PrivateFormat.OpenSSH
PLAIN, LOCKED = NoEncryption(), BestAvailableEncryption(b"a passphrase")


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return keys.generate_key()


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "key"
        path.touch(mode=0o600)
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("form", [PKCS1, PKCS8])
def test_pkcs1_and_pkcs8_load_from_pem_and_der(
    key: RSAPrivateKey, keep: Callable[[bytes], Path], encoding: Encoding, form: PrivateFormat
) -> None:
    loaded = load_key(keep(key.private_bytes(encoding, form, PLAIN)))
    assert loaded.private_numbers() == key.private_numbers()


def test_text_around_a_pem_key_is_skipped(
    key: RSAPrivateKey, keep: Callable[[bytes], Path]
) -> None:
    pem = key.private_bytes(Encoding.PEM, PKCS1, PLAIN)
    assert (
        load_key(keep(b"our network\n" + pem.replace(b"\n", b"\r\n"))).private_numbers()
        == key.private_numbers()
    )


@pytest.mark.parametrize(
    ("encoding", "form", "encryption", "says"),
    [
        (Encoding.PEM, PKCS1, LOCKED, "is encrypted"),
        (Encoding.PEM, PKCS8, LOCKED, "is encrypted"),
        (Encoding.DER, PKCS8, LOCKED, "is encrypted"),
        (Encoding.PEM, OPENSSH, PLAIN, "OpenSSH's own format"),
    ],
)
def test_key_in_another_wrapping_is_refused_with_the_way_out(
    key: RSAPrivateKey,
    keep: Callable[[bytes], Path],
    encoding: Encoding,
    form: PrivateFormat,
    encryption: KeySerializationEncryption,
    says: str,
) -> None:
    refuse(keep(key.private_bytes(encoding, form, encryption)), says)


@pytest.mark.parametrize(
    ("encoding", "form"),
    [
        (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        (Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        (Encoding.PEM, PublicFormat.PKCS1),
        (Encoding.OpenSSH, PublicFormat.OpenSSH),
    ],
)
def test_public_key_is_refused_as_one(
    key: RSAPrivateKey, keep: Callable[[bytes], Path], encoding: Encoding, form: PublicFormat
) -> None:
    refuse(keep(key.public_key().public_bytes(encoding, form)), "only a public key")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x30\x82",
        b"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n",
        b"-----BEGIN RSA PRIVATE KEY-----\n",
        b"x" * 100_000,
    ],
)
def test_a_file_without_a_key_is_refused(keep: Callable[[bytes], Path], data: bytes) -> None:
    refuse(keep(data), "holds no private key")


def test_truncated_key_is_refused_as_damaged(
    key: RSAPrivateKey, keep: Callable[[bytes], Path]
) -> None:
    refuse(keep(key.private_bytes(Encoding.DER, PKCS1, PLAIN)[:-1]), "a damaged one")


def test_key_that_is_not_rsa_is_refused(keep: Callable[[bytes], Path]) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    refuse(keep(curve.private_bytes(Encoding.PEM, PKCS8, PLAIN)), "not an RSA key")


def test_short_key_is_refused(keep: Callable[[bytes], Path]) -> None:
    short = rsa.generate_private_key(65537, 1024)
    refuse(keep(short.private_bytes(Encoding.PEM, PKCS1, PLAIN)), "has 1024 bits")


def test_missing_file_is_refused_as_missing(tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere" / "key", "no key file")


def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    refuse(tmp_path, "Is a directory")
    refuse(Path("a\0b"), "null byte")


def refuse(path: Path, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refusal:
        load_key(path)
    assert "\n" not in str(refusal.value)


def test_odd_path_stays_on_one_line(tmp_path: Path) -> None:
    refuse(tmp_path / "a\nb", "no key file")


def test_key_that_others_may_read_loads_with_a_warning(
    key: RSAPrivateKey, keep: Callable[[bytes], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = keep(key.private_bytes(Encoding.PEM, PKCS1, PLAIN))
    load_key(path)
    assert not caplog.records
    path.chmod(0o640)
    load_key(path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_first_use_makes_a_private_pkcs1_key_that_later_uses_share(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    first, path, made = network_key("demo", directory)
    again = network_key("demo", directory)
    assert made
    assert again[1:] == (path, False)
    assert again[0].private_numbers() == first.private_numbers()
    # all that a Go node reads
    assert path.read_text().startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [entry.name for entry in directory.iterdir()] == ["demo.pem"]


def test_networks_have_keys_of_their_own(tmp_path: Path) -> None:
    assert (
        network_key("one", tmp_path)[0].private_numbers()
        != network_key("two", tmp_path)[0].private_numbers()
    )


def test_keys_are_kept_among_the_users_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert (
        network_key("demo")[1] == platformdirs.user_data_path("iris", appauthor=False) / "demo.pem"
    )


def test_directory_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"can't keep a key in .*-rsa"):
        network_key("demo", tmp_path / "file" / "keys")


def test_damaged_kept_key_is_reported_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "demo.pem").write_text("oops")
    with pytest.raises(ConfigError, match=r"demo\.pem' holds no private key"):
        network_key("demo", tmp_path)
    assert (tmp_path / "demo.pem").read_text() == "oops"


def test_threads_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: network_key("demo", tmp_path), range(8)))
    assert len({result[0].private_numbers().d for result in results}) == 1
    assert [result[2] for result in results].count(True) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    """All wait for the same pipe to close, so they begin at the same moment."""
    script = (
        "import sys; sys.stdin.read(); "
        "from pathlib import Path; from iris.crypto.keys import network_key as n\n"
        "key, path, made = n('demo', Path(sys.argv[1])); print(key.private_numbers().d, made)"
    )
    gate_read, gate_write = os.pipe()
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=gate_read,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    os.close(gate_read)
    os.close(gate_write)
    said = [node.communicate(timeout=60)[0].split() for node in nodes]
    assert len({d for d, _ in said}) == 1
    assert sorted(made for _, made in said) == ["False", "False", "True"]


def test_key_made_by_another_first_is_the_one_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other node's file appears while we make ours."""
    other, path, _ = network_key("demo", tmp_path / "theirs")

    def overtaken() -> RSAPrivateKey:
        (tmp_path / "ours").mkdir(exist_ok=True)
        os.link(path, tmp_path / "ours" / "demo.pem")
        return rsa.generate_private_key(65537, 2048)

    monkeypatch.setattr(keys, "generate_key", overtaken)
    key, _, made = network_key("demo", tmp_path / "ours")
    assert not made
    assert key.private_numbers() == other.private_numbers()


ODD = [
    "",
    ".",
    "..",
    "../../x",
    "a/b",
    "a-b",
    "a\\b",
    "a\0b",
    "a\nb",
    " a",
    "a ",
    "-a",
    ".a",
    "a.",
    "Demo",
    "DEMO",
    "~",
    "x" * 5000,
]
ODD += [
    "x" * 5001,
    "x" * 65,
    "größe",
    "große",
    "grosse",
    "网络",
    "\U0001f600",
    "\udcff",
    "e\u0301",
    "\u00e9",
    "a~b",
    "CON",
]


def test_ordinary_names_stay_readable() -> None:
    assert file_name("demo") == "demo.pem"
    assert file_name("shop-2.eu_west") == "shop-2.eu_west.pem"
    assert file_name("My Shop/EU").startswith("my-shop-eu~")


def test_odd_names_are_safe_and_distinct_whatever_the_case() -> None:
    names = [file_name(network) for network in [*ODD, "demo", "a", "b", "x"]]
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert len(name) <= 128
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-~")
        assert name[0] not in ".-"


def test_file_name_of_one_network_is_not_another_networks_name() -> None:
    assert file_name(file_name("Demo").removesuffix(".pem")) != file_name("Demo")


def test_key_is_kept_for_a_network_named_to_climb_out(tmp_path: Path) -> None:
    _, path, _ = network_key("../../x", tmp_path)
    assert path.parent == tmp_path
    assert path.exists()
