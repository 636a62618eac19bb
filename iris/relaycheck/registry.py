"""The registry of cases, to which the modules of `cases/` add theirs. Core."""

from collections.abc import Callable
from dataclasses import dataclass

from iris.relaycheck.fake_client import FakeClient
from iris.relaycheck.harness import Harness
from iris.relaycheck.runner import Checkable

Run = Callable[[Harness], None]


@dataclass(frozen=True)
class Case(Checkable):
    """A rule that is checked against a node; `run` raises Failure when the node violates it."""

    run: Run


CASES: dict[str, Case] = {}


def _registrar(
    attach: Callable[[Harness], tuple[FakeClient, ...]],
) -> Callable[[str, str], Callable[[Callable[..., None]], Callable[..., None]]]:
    """Make a decorator: the case gets the harness, and the clients that `attach` makes."""

    def case(id: str, description: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        def register(run: Callable[..., None]) -> Callable[..., None]:
            add(id, description, lambda harness: run(harness, *attach(harness)))
            return run

        return register

    return case


case = _registrar(lambda harness: ())
plain_case = _registrar(lambda harness: (harness.plain(),))
service_case = _registrar(lambda harness: (harness.service(),))
pair_case = _registrar(Harness.pair)  # a service and a client
tunnel_case = _registrar(Harness.tunnel)  # the same, with a tunnel
ungranted_case = _registrar(lambda harness: harness.tunnel(grant=0))  # without the service's credit


def add(id: str, description: str, run: Run) -> None:
    """Register a case; its full id begins with `node.`."""
    id = f"node.{id}"
    assert id not in CASES
    CASES[id] = Case(id, description, run)


def add_rejected(id: str, description: str, data: bytes) -> None:
    """Register a case of a client that violates the protocol and has to be disconnected."""

    def run(harness: Harness) -> None:
        client = harness.plain()
        client.send_bytes(data)
        client.expect_rejection()

    add(id, f"{description} ends the connection", run)
