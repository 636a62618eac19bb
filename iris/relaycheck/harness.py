"""Where the cases of `relaycheck node` run: who they play, and what becomes of them. Shell."""

import itertools
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from construct import ConstructError

from iris.relay_protocol.schema import Op
from iris.relaycheck.peer import GRANT, PATIENCE, PROBE, WINDOW, Failure, Peer
from iris.relaycheck.report import Check, Report
from iris.relaycheck.rules import Violation

_AT_A_TIME = 6  # cases; most of their time is waiting

_numbers = itertools.count(1)


class Bench:
    """One case's peers; names are its own, so that cases don't meet."""

    def __init__(
        self, port: int, host: str = "127.0.0.1", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.port, self.host, self.clock = port, host, clock
        self.name = f"relaycheck-{time.time_ns():x}-{next(_numbers)}"
        self.violations: list[Violation] = []
        self._peers: list[Peer] = []

    def connect(self, host: str | None = None) -> Peer:
        """A connection that hasn't said anything."""
        peer = Peer(
            len(self._peers) + 1, (host or self.host, self.port), self.violations.append, self.clock
        )
        self._peers.append(peer)
        return peer

    def plain(self) -> Peer:
        """An attached client."""
        return self.connect().init()

    def service(self, name: str = "") -> Peer:
        """A member of the case's cluster, or of another one."""
        return self.connect().init(name or self.name)

    def pair(self) -> tuple[Peer, Peer]:
        """A service, and a client."""
        return self.service(), self.plain()

    def request(
        self, client: Peer, number: int = 0, data: bytes = b"?", timeout: int = 5_000
    ) -> None:
        """Ask the case's cluster."""
        client.say(Op.REQUEST, id=number, cluster=self.name, request=data, timeout=timeout)

    def subscribed(self, peer: Peer, topic: str) -> None:
        """Subscribe, and see that it has taken effect, with probes."""
        peer.say(Op.SUBSCRIBE, topic=topic)
        deadline = self.clock() + PATIENCE
        while self.clock() < deadline:
            peer.say(Op.PUBLISH, topic=topic, event=PROBE)
            if peer.listen(0.05) is not None:
                return
        raise Failure("no event comes")

    def tunnel(self, *, grant: int = GRANT, own: int = GRANT) -> tuple[Peer, Peer]:
        """A service and a client with a tunnel, which has the id 0 at both; they grant so much."""
        service, client = self.pair()
        self.build(service, client, grant=grant, own=own)
        return service, client

    def build(
        self, service: Peer, client: Peer, number: int = 0, *, grant: int = GRANT, own: int = GRANT
    ) -> None:
        """Build one more, between these."""
        before = client.granted[number], service.granted[number]
        client.say(Op.TUNNEL_INIT, id=number, cluster=self.name, timeout=5_000)
        build_id = service.expect(Op.TUNNEL_INIT).build_id
        service.say(Op.TUNNEL_CONFIRM, build_id=build_id, id=number)
        client.expect(Op.TUNNEL_CONFIRM, id=number, timed_out=False)
        if grant:
            service.say(Op.TUNNEL_ALLOW, id=number, space=grant)
        if own:
            client.say(Op.TUNNEL_ALLOW, id=number, space=own)
        client.await_grant(number, before[0] + WINDOW)
        service.await_grant(number, before[1] + WINDOW)

    @contextmanager
    def within(self, least: float, most: float) -> Any:
        """The block must take between so many seconds."""
        begin = self.clock()
        yield
        took = self.clock() - begin
        if not least - 0.01 <= took <= most:
            raise Failure(f"it takes {took:.2f} s, not {least} to {most}")

    def finish(self) -> None:
        """Hear what is there, and hang up on all."""
        for peer in self._peers:
            peer.drain()
        for peer in self._peers:
            peer.hang_up()


@dataclass(frozen=True)
class Case:
    """A rule as something to try."""

    id: str
    words: str
    run: Callable[[Bench], None]


CASES: dict[str, Case] = {}


def case(id: str, words: str) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Make a function a case; its id begins with `node.`."""

    def register(run: Callable[[Bench], None]) -> Callable[[Bench], None]:
        add(id, words, run)
        return run

    return register


def add(id: str, words: str, run: Callable[[Bench], None]) -> None:
    """The same, for cases that are made in a loop."""
    assert id not in CASES
    CASES[id] = Case(id, words, run)


def check_node(
    port: int,
    only: str = "",
    *,
    skip: str = "^$",
    host: str = "127.0.0.1",
    at_a_time: int = _AT_A_TIME,
) -> Report:
    """Run all cases whose ids match `only`, and not `skip`.

    Raises: OSError when there is no node, ValueError when there is no such case.
    """
    from iris.relaycheck import cases  # noqa: F401  # they need this module

    Bench(port, host).connect().hang_up()
    chosen = [
        each for each in CASES.values() if re.search(only, each.id) and not re.search(skip, each.id)
    ]
    if not chosen:
        raise ValueError(f"no case has an id like '{only}'")
    with ThreadPoolExecutor(at_a_time, "case") as pool:
        return Report("node", list(pool.map(lambda each: _try(each, port, host), chosen)))


def _try(case: Case, port: int, host: str) -> Check:
    threading.current_thread().name = case.id
    check, begin = Check(case.id, case.words), time.monotonic()
    bench = Bench(port, host)
    try:
        case.run(bench)
    except Failure as exc:
        check.problems.append(str(exc))
    except (OSError, ConstructError) as exc:
        check.problems.append(f"{type(exc).__name__}: {exc}")
    finally:
        bench.finish()
    check.violations += _unlike(bench.violations)
    check.seconds = time.monotonic() - begin
    return check


def _unlike(violations: Sequence[Violation]) -> list[Violation]:
    """The first of each rule."""
    return list({violation.rule: violation for violation in reversed(violations)}.values())[::-1]
