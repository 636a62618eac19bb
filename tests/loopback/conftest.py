"""The node that programs attach to here.

One of ours on loopback, or whatever takes applications at port IRIS_NODE_PORT.
"""

import os
from collections.abc import Iterator

import pytest

from tests.support.node import running_node


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where the node takes applications."""
    if given := os.environ.get("IRIS_NODE_PORT"):
        yield int(given)
        return
    with running_node(tmp_path_factory.mktemp("node") / "node.log") as port:
        yield port
