import random
import threading
from collections.abc import Callable, Iterator

import pytest

from iris.runtime.send_buffer import SendBuffer
from iris.runtime.timer import Timer, TimerEntry, TimerQueue

PATIENCE = 20.0  # seconds until a test that hangs fails


def test_what_is_due_comes_out_earliest_first() -> None:
    deadlines, fired = TimerQueue(), list[int]()
    for at in (3, 1, 2):
        deadlines.add(at, lambda at=at: fired.append(at))  # type: ignore[misc]
    assert deadlines.next() == 1
    assert run(deadlines, 0.9) == 0
    assert run(deadlines, 2) == 2
    assert fired == [1, 2]
    assert run(deadlines, 9) == 1
    assert fired == [1, 2, 3]
    assert deadlines.next() == float("inf")


def run(deadlines: TimerQueue, now: float) -> int:
    actions = deadlines.due(now)
    for action in actions:
        action()
    return len(actions)


def test_cancelled_one_never_comes_out() -> None:
    deadlines = TimerQueue()
    first, second = deadlines.add(1, nothing), deadlines.add(2, nothing)
    assert deadlines.cancel(first)
    assert not deadlines.cancel(first)
    assert deadlines.next() == 2
    assert len(deadlines) == 1
    assert len(deadlines.due(5)) == 1
    assert not deadlines.cancel(second)  # it has fired
    assert len(deadlines) == 0


def nothing() -> None: ...


def test_cancelling_lets_go_of_the_action() -> None:
    deadlines = TimerQueue()
    deadline = deadlines.add(1, nothing)
    deadlines.cancel(deadline)
    assert deadline.action is None


def test_cancelled_ones_are_swept_out_before_they_are_the_majority() -> None:
    deadlines = TimerQueue()
    kept = [deadlines.add(at, nothing) for at in range(0, 3_000, 3)]
    for at in range(30_000):
        assert deadlines.cancel(deadlines.add(at, nothing))
        assert len(deadlines._heap) <= 2 * len(kept) + 2
    assert len(deadlines) == len(kept)
    assert len(deadlines.due(1 << 60)) == len(kept)


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_calls_does_what_a_plain_list_does(seed: int) -> None:
    rng, deadlines, now, total = random.Random(seed), TimerQueue(), 0.0, 0
    oracle: dict[TimerEntry, float] = {}
    every: list[TimerEntry] = []
    fired: list[int] = []
    for step in range(20_000):
        choice = rng.random()
        if choice < 0.6:
            at = now + rng.random() * 100
            deadline = deadlines.add(at, lambda step=step: fired.append(step))  # type: ignore[misc]
            oracle[deadline] = at
            every.append(deadline)
        elif choice < 0.98 and every:
            deadline = rng.choice(every)
            assert deadlines.cancel(deadline) == (oracle.pop(deadline, None) is not None)
        else:
            now += rng.random() * 10
            due = [deadline for deadline, at in oracle.items() if at <= now]
            assert run(deadlines, now) == len(due)
            total += len(due)
            for deadline in due:
                del oracle[deadline]
        assert len(deadlines) == len(oracle)
    assert deadlines.next() == min(oracle.values(), default=float("inf"))
    assert len(set(fired)) == len(fired) == total


# The thread


@pytest.fixture
def timer() -> Iterator[Timer]:
    timer = Timer()
    timer.start()
    yield timer
    timer.close()


def test_action_runs_on_the_timers_thread(timer: Timer) -> None:
    names: list[str] = []
    wait_for(timer, 0.001, lambda: names.append(threading.current_thread().name))
    assert names == ["timer"]


def wait_for(timer: Timer, delay: float, action: Callable[[], object] = nothing) -> None:
    done = threading.Event()

    def act() -> None:
        action()
        done.set()

    timer.after(delay, act)
    assert done.wait(PATIENCE)


def test_earlier_one_wakes_a_thread_that_waits_for_a_later_one(timer: Timer) -> None:
    timer.after(3_600, nothing)
    wait_for(timer, 0.001)
    wait_for(timer, 0)


def test_action_may_add_and_cancel(timer: Timer) -> None:
    later = timer.after(3_600, nothing)
    again = threading.Event()
    cancelled: list[bool] = []

    def act() -> None:
        cancelled.append(timer.cancel(later))
        timer.after(0, again.set)

    timer.after(0, act)
    assert again.wait(PATIENCE)
    assert cancelled == [True]


def test_action_that_fails_stops_neither_the_others_nor_the_thread(
    timer: Timer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    timer.after(0, fail)
    wait_for(timer, 0)
    wait_for(timer, 0)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("delay", [1e10, (1 << 63) / 1e9, 1e300, float("inf")])
def test_delay_beyond_what_a_thread_can_wait_is_harmless(timer: Timer, delay: float) -> None:
    """Peers and clients name their timeouts."""
    deadline = timer.after(delay, nothing)
    wait_for(timer, 0)
    assert timer.cancel(deadline)


def test_long_sleep_is_cut_into_pieces_and_fires_nothing_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fake condition takes the place of the waiting, a fake clock that of the time."""
    now, fired, waits = [0.0], list[float](), list[float]()
    asleep = threading.Event()

    class Condition(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None:  # of the thread's start
                return super().wait()
            waits.append(timeout)
            if fired:
                asleep.set()
                return super().wait(timeout)
            now[0] += timeout
            return False

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Condition", Condition)
        timer = Timer(clock=lambda: now[0])
    timer.after(9_000, lambda: fired.append(now[0]))
    timer.start()
    assert asleep.wait(PATIENCE)
    timer.close()
    assert waits == [3_600, 3_600, 1_800, 3_600]
    assert fired == [9_000]


def test_what_was_added_before_the_start_is_served() -> None:
    timer, done = Timer(), threading.Event()
    timer.after(0, done.set)
    timer.start()
    assert done.wait(PATIENCE)
    timer.close()


def test_what_actions_write_goes_out_together_at_the_end() -> None:
    sent: list[int] = []

    class Counting:
        def sendmsg(self, buffers: list[bytes], *_: object) -> int:
            sent.append(sum(map(len, buffers)))
            return sent[-1]

        setsockopt = shutdown = staticmethod(nothing)

    sock = Counting()
    buffer = SendBuffer(sock, name="test", limit=1)  # type: ignore[arg-type]
    timer, done = Timer(clock=lambda: 0.0), threading.Event()
    for _ in range(3):
        timer.after(0, lambda: buffer.write(b"abc"))

    def again() -> None:
        timer.after(0, done.set)  # runs in the next round, when the batch is over

    timer.after(0, again)
    timer.start()
    assert done.wait(PATIENCE)
    timer.close()
    assert sent == [9]


@pytest.mark.parametrize("started", [True, False])
def test_close_drops_what_is_pending_and_may_be_repeated(started: bool) -> None:
    before = threading.active_count()
    timer, fired = Timer(), list[int]()
    if started:
        timer.start()
        assert threading.active_count() > before
    timer.after(3_600, lambda: fired.append(1))
    timer.close()
    timer.close()
    timer.after(0, lambda: fired.append(2))
    assert threading.active_count() == before
    assert fired == []


def test_close_waits_for_the_action_that_runs(timer: Timer) -> None:
    entered, go, over = threading.Event(), threading.Event(), threading.Event()

    def act() -> None:
        entered.set()
        go.wait(PATIENCE)
        over.set()

    timer.after(0, act)
    assert entered.wait(PATIENCE)
    closer = threading.Thread(target=timer.close)
    closer.start()
    go.set()
    closer.join(PATIENCE)
    assert over.is_set()


def test_what_is_new_is_sorted_in_though_the_thread_sleeps(timer: Timer) -> None:
    first = timer.after(60, nothing)
    for _ in range(10_000):
        timer.cancel(timer.after(61, nothing))
        assert len(timer._new) <= 1_025
    assert timer.cancel(first)


def test_many_threads_add_and_cancel_at_once(timer: Timer) -> None:
    fired, lock = [0], threading.Lock()
    done = threading.Event()

    def count() -> None:
        with lock:
            fired[0] += 1

    def use(seed: int) -> None:
        rng = random.Random(seed)
        kept = 0
        for _ in range(2_000):
            deadline = timer.after(rng.random() / 100, count)
            if rng.random() < 0.8:
                kept += timer.cancel(deadline) is False
            else:
                kept += 1
        with lock:
            expected[0] += kept

    expected = [0]
    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    timer.after(0.02, done.set)  # after all others
    assert done.wait(PATIENCE)
    assert fired == expected
