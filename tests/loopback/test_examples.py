"""The example programs, run as anybody would."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import program, running_node, stop, wait_for_line


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a node on loopback."""
    with running_node(tmp_path_factory.mktemp("node") / "node.log") as port:
        yield port


def test_the_echo_service_answers_who_asks(port: int, tmp_path: Path) -> None:
    log = tmp_path / "echo.log"
    service = program("examples/echo_service.py", str(port), log=log)
    wait_for_line(service, log, "serving 'echo'")
    asker = program("examples/ask.py", str(port), "echo", "hello there", log=tmp_path / "ask.log")
    assert asker.wait(20.0) == 0
    assert (tmp_path / "ask.log").read_text() == "hello there\n"
    assert stop(service) == 0
    assert log.read_text().splitlines()[1:] == ["asked: hello there", "left the cluster"]


def test_asking_a_cluster_that_nobody_is_in_fails_in_words(port: int, tmp_path: Path) -> None:
    asker = program("examples/ask.py", str(port), "nobody", "hello", log=tmp_path / "ask.log")
    assert asker.wait(20.0) == 1
    assert (tmp_path / "ask.log").read_text() == "nobody in 'nobody' answered\n"
