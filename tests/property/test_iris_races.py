"""Threads that hammer one connection.

Every request ends exactly once, nothing is left behind, membership and scribe agree.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from iris.proto.iris.memberships import Memberships
from iris.proto.iris.requests import Call, Outcome
from iris.runtime.timer import Timer
from iris.runtime.worker_pool import WorkerPool
from tests.support.applications import Application
from tests.support.fake_scribe import FakeNetwork
from tests.support.waiting import wait_for

REQUESTS = 2_000


def together(*jobs: Callable[[], None]) -> None:
    """Run them at the same time, and pass on what goes wrong."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        try:
            start.wait()
            job()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def settle(timer: Timer) -> None:
    """Wait until the timer has run what was due."""
    reached = threading.Event()
    timer.after(0.05, reached.set)
    assert reached.wait(10)


@pytest.mark.parametrize("seed", range(3))
def test_request_ends_once_whatever_comes_first(seed: int) -> None:
    timer = Timer()
    timer.start()
    network = FakeNetwork([1, 2], real_timer=timer)
    workers = WorkerPool[Callable[[], None]](
        lambda answer: answer(), threads=4, limit=1 << 20, name="answers"
    )
    rng = random.Random(seed)

    # in two threads that race with each other, and with the deadline
    def answer(call: Call) -> None:
        workers.submit(lambda: call.reply(b"a"))
        workers.submit(lambda: call.fail("b"))

    network[2].connect("workers", Application(answer))
    caller = network[1].connect("", Application())
    ended: Counter[int] = Counter()
    lock = threading.Lock()

    def request(number: int) -> None:
        def done(outcome: Outcome) -> None:
            with lock:
                ended[number] += 1

        caller.request("workers", b"", rng.choice([0.0, 0.0001, 0.001, 5.0]), done)

    def ask(numbers: range) -> Callable[[], None]:
        def run() -> None:
            for number in numbers:
                request(number)

        return run

    together(ask(range(0, REQUESTS, 2)), ask(range(1, REQUESTS, 2)))
    wait_for(lambda: len(ended) == REQUESTS and not caller.asking)
    settle(timer)
    assert set(ended.values()) == {1}
    assert len(ended) == REQUESTS
    assert not caller.asking
    timer.close()


@pytest.mark.parametrize("seed", range(3))
def test_closing_in_the_middle_leaves_nothing(seed: int) -> None:
    timer = Timer()
    timer.start()
    network = FakeNetwork([1, 2], real_timer=timer)
    rng = random.Random(seed)
    service = Application()
    member = network[2].connect("workers", service)
    caller = network[1].connect("others", Application())
    outcomes: list[object] = []
    closed_at = rng.randrange(200, 400)

    def ask() -> None:
        for number in range(600):
            caller.request("workers", b"", 60.0, outcomes.append)
            caller.tunnels.request("workers", 60.0, outcomes.append)
            caller.subscribe(f"{number}")

    def close() -> None:
        wait_for(lambda: len(service.calls) >= closed_at, pause=0.0)
        caller.close()
        member.close()

    together(ask, close)
    assert not caller.asking
    assert not any(caller.tunnels.key(number) for number in range(600))
    assert timer.pending == 0
    assert all(node.subscribed == set() for node in network.nodes.values())
    assert len(outcomes) == 0
    timer.close()


def test_service_that_closes_answers_every_call_it_took() -> None:
    timer = Timer()
    timer.start()
    network = FakeNetwork([1, 2], real_timer=timer)
    services = [Application() for _ in range(2)]
    first, second = (network[2].connect("workers", service) for service in services)
    caller = network[1].connect("", Application())
    ended: list[Outcome] = []

    def ask() -> None:
        for _ in range(REQUESTS):
            caller.request("workers", b"", 60.0, ended.append)

    def close() -> None:
        wait_for(lambda: len(services[0].calls) >= 200, pause=0.0)
        first.close()

    together(ask, close)
    assert len(ended) + len(services[1].calls) == REQUESTS  # none is left to its timeout
    second.close()
    assert len(ended) == REQUESTS
    timer.close()


@pytest.mark.parametrize("seed", range(5))
def test_scribe_and_the_table_agree_in_the_end(seed: int) -> None:
    subscribed: set[str] = set()

    def subscribe(topic: str) -> None:
        assert topic not in subscribed, "called twice in a row"
        subscribed.add(topic)

    def unsubscribe(topic: str) -> None:
        assert topic in subscribed, "called twice in a row"
        subscribed.remove(topic)

    table: Memberships[int] = Memberships(subscribe, unsubscribe)

    def come_and_go(member: int) -> Callable[[], None]:
        rng = random.Random(seed * 100 + member)

        def run() -> None:
            for _ in range(300):
                topic = f"{rng.randrange(3)}"
                table.join(topic, member)
                assert topic in subscribed  # effective on return
                table.leave(topic, member)

        return run

    together(*map(come_and_go, range(4)))
    assert table.members == {}
    assert subscribed == set()
