"""The node that programs attach to here: one of ours, or what listens at port IRIS_NODE_PORT."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import irisctl
from tests.support.irisctl import Ctl, Process, Start
from tests.support.node import running_node


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where the node takes applications."""
    if given := os.environ.get("IRIS_NODE_PORT"):
        yield int(given)
        return
    with running_node(tmp_path_factory.mktemp("node") / "node.log") as port:
        yield port


@pytest.fixture
def ctl(port: int) -> Ctl:
    """Run irisctl to its end."""
    return partial(irisctl.run, port=port)


@pytest.fixture
def start(port: int, tmp_path: Path) -> Iterator[Start]:
    """Start irisctl, attached when this returns; it doesn't outlive the test."""
    started: list[Process] = []

    def run(*args: str, **options: Any) -> Process:
        log = tmp_path / f"ctl-{len(started)}.log"
        started.append(irisctl.start(*args, port=port, log=log, **options))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
