"""The registry of cases, to which the modules of `cases/` add theirs. Core."""

from collections.abc import Callable
from dataclasses import dataclass

from iris.relaycheck.harness import Harness

Run = Callable[[Harness], None]


@dataclass(frozen=True)
class Case:
    """A rule that is checked against a node; `run` raises Failure when the node violates it."""

    id: str
    description: str
    run: Run


CASES: dict[str, Case] = {}


def case(id: str, description: str) -> Callable[[Run], Run]:
    """Register a function as a case; its id begins with `node.`."""

    def register(run: Run) -> Run:
        add(id, description, run)
        return run

    return register


def add(id: str, description: str, run: Run) -> None:
    """Register a case that is made in a loop."""
    assert id not in CASES
    CASES[id] = Case(id, description, run)


def add_rejected(id: str, description: str, data: bytes) -> None:
    """Register a case of a client that violates the protocol and has to be disconnected."""

    def run(harness: Harness) -> None:
        client = harness.plain()
        client.send_bytes(data)
        client.expect_rejection()

    add(id, f"{description} ends the connection", run)
