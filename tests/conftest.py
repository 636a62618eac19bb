"""Fixtures for all: hosts, where there can be any, and a log that no test leaves changed."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.lab import Lab, unavailable


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count tests with other hosts or other programs as slow."""
    for item in items:
        if any(item.iter_markers("netns")) or any(item.iter_markers("interop")):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A bridge to plug hosts in; what their programs say is kept in the test's directory."""
    reason = unavailable()
    if reason is not None:
        pytest.skip(reason)
    with Lab(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network's key, in the form that a Go node takes as well."""
    path = tmp_path_factory.mktemp("key") / "network.pem"
    key = rsa.generate_private_key(65537, 2048)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def unchanged_logging() -> Iterator[None]:
    """Undo what command lines do to the root logger when they run in the tests' own process."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
