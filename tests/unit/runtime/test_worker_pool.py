import re
import threading
from collections.abc import Callable
from queue import SimpleQueue

import pytest

from iris.runtime.bounded_queue import BoundedQueue
from iris.runtime.worker_pool import WorkerPool

PATIENCE = 10.0  # seconds for what must come


def pool_of(
    work: Callable[[int], None],
    threads: int = 2,
    limit: int = 100,
    linger: float = PATIENCE,
    running: bool = False,
) -> WorkerPool[int]:
    return WorkerPool(
        work, threads=threads, limit=limit, name="test", running=running, linger=linger
    )


def threads() -> list[str]:
    """The names of the pool's threads."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if re.fullmatch(r"test-\d+", name)]


def test_a_queue_keeps_order_and_counts_what_waits() -> None:
    queue: BoundedQueue[str] = BoundedQueue(10)
    assert queue.offer("a", 4)
    assert queue.offer("b", 6)
    assert not queue.offer("c", 1)
    assert queue.offer("empty", 0)
    assert (len(queue), queue.used) == (3, 10)
    assert queue.take() == "a"
    assert queue.offer("d", 4)
    assert [queue.take() for _ in range(2)] == ["b", "empty"]
    assert queue.offer("e", 5)
    queue.withdraw()
    assert (len(queue), queue.used) == (1, 4)
    assert queue.clear() == ["d"]
    assert (len(queue), queue.used) == (0, 0)
    with pytest.raises(IndexError):
        queue.take()


def test_a_queue_without_room_takes_what_is_empty() -> None:
    queue: BoundedQueue[str] = BoundedQueue(0)
    assert queue.offer("a", 0)
    assert not queue.offer("b", 1)


def test_nothing_is_done_before_the_start() -> None:
    done: SimpleQueue[int] = SimpleQueue()
    pool = pool_of(done.put)
    assert pool.submit(1, 60)
    assert not pool.submit(2, 60)
    assert done.empty()
    pool.start()
    assert done.get(timeout=PATIENCE) == 1
    pool.close()
    assert pool.join(PATIENCE)


def test_slow_work_gets_all_threads_and_no_more() -> None:
    begun: SimpleQueue[int] = SimpleQueue()
    go_on = threading.Semaphore(0)

    def work(item: int) -> None:
        begun.put(item)
        assert go_on.acquire(timeout=PATIENCE)

    pool = pool_of(work, threads=3)
    pool.start()
    for item in range(5):
        assert pool.submit(item, 1)
    assert sorted(begun.get(timeout=PATIENCE) for _ in range(3)) == [0, 1, 2]
    assert begun.empty()
    assert len(threads()) == 3
    go_on.release(2)
    assert sorted(begun.get(timeout=PATIENCE) for _ in range(2)) == [3, 4]
    go_on.release(3)
    pool.close()
    assert pool.join(PATIENCE)
    assert threads() == []


def test_one_thread_keeps_the_order() -> None:
    done: SimpleQueue[int] = SimpleQueue()
    pool = pool_of(done.put, threads=1)
    pool.start()
    for item in range(100):
        assert pool.submit(item, 0)
    assert [done.get(timeout=PATIENCE) for _ in range(100)] == list(range(100))
    pool.close()


def test_without_threads_the_work_is_done_by_who_submits() -> None:
    done: list[tuple[int, threading.Thread]] = []
    pool = pool_of(lambda item: done.append((item, threading.current_thread())), threads=0)
    pool.submit(1, 1)
    assert not done
    pool.start()
    pool.submit(2, 1)
    assert done == [(1, threading.current_thread()), (2, threading.current_thread())]
    assert not pool.owns(threading.current_thread())


def test_a_handler_that_fails_costs_nothing_but_its_item(caplog: pytest.LogCaptureFixture) -> None:
    done: SimpleQueue[int] = SimpleQueue()

    def work(item: int) -> None:
        if item == 1:
            raise KeyError("broken")
        done.put(item)

    pool = pool_of(work, threads=1)
    pool.start()
    for item in (1, 2):
        pool.submit(item, 1)
    assert done.get(timeout=PATIENCE) == 2
    assert "test: a job failed" in caplog.text
    assert "KeyError: 'broken'" in caplog.text
    pool.close()


def test_a_closed_pool_drops_what_waits_and_finishes_what_runs() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work(item: int) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        done.append(item)

    pool = pool_of(work, threads=1)
    pool.start()
    for item in range(3):
        pool.submit(item, 1)
    assert begun.wait(PATIENCE)
    assert pool.close() == [1, 2]
    assert pool.close() == []
    assert not pool.submit(9, 1)
    assert not pool.join(0.0)
    go_on.set()
    assert pool.join(PATIENCE)
    assert done == [0]
    pool.start()
    assert not pool.submit(9, 1)


def test_a_thread_of_the_pool_may_close_it() -> None:
    joined: SimpleQueue[bool] = SimpleQueue()

    def work(_: int) -> None:
        assert pool.owns(threading.current_thread())
        pool.close()
        joined.put(pool.join(PATIENCE))

    pool = pool_of(work)
    pool.start()
    pool.submit(1, 1)
    assert joined.get(timeout=PATIENCE)
    assert pool.join(PATIENCE)


def test_threads_without_work_end_and_come_back() -> None:
    done: SimpleQueue[int] = SimpleQueue()
    pool = pool_of(done.put, threads=2, linger=0.0)
    pool.start()
    for item in range(200):
        pool.submit(item, 1)
        assert done.get(timeout=PATIENCE) == item
    pool.close()
    assert pool.join(PATIENCE)
    assert threads() == []


def test_work_that_wants_to_exit_takes_no_thread_along(caplog: pytest.LogCaptureFixture) -> None:
    done: SimpleQueue[int] = SimpleQueue()

    def work(item: int) -> None:
        if item:
            raise SystemExit
        done.put(item)

    pool = pool_of(work, threads=1)
    pool.start()
    for item in (1, 1, 0):
        pool.submit(item, 1)
    assert done.get(timeout=PATIENCE) == 0
    assert caplog.text.count("test: a job failed") == 2
    pool.close()
    assert pool.join(PATIENCE)


def test_many_threads_may_submit() -> None:
    done: SimpleQueue[int] = SimpleQueue()
    pool = pool_of(done.put, threads=4, limit=1 << 30, linger=0.001)
    pool.start()
    threads = [
        threading.Thread(target=lambda: [pool.submit(1, 1) for _ in range(2_000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done.get(timeout=PATIENCE) for _ in range(8_000)) == 8_000
    pool.close()
    assert pool.join(PATIENCE)


def test_without_a_thread_to_be_had_an_item_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done: SimpleQueue[int] = SimpleQueue()
    pool = pool_of(done.put)
    assert pool.submit(1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool.start()
        assert not pool.submit(2, 1)
    assert "no thread for test-1: can't start new thread" in caplog.text
    assert done.empty()
    assert pool.submit(3, 1)  # the next occasion, for what waited before as well
    assert [done.get(timeout=PATIENCE) for _ in range(2)] == [1, 3]
    pool.close()


def test_a_lack_of_threads_is_none_where_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: SimpleQueue[int] = SimpleQueue()

    def work(item: int) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        done.put(item)

    pool = pool_of(work, running=True)
    assert pool.submit(1)
    assert begun.wait(PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError()))
        assert pool.submit(2)
    go_on.set()
    assert [done.get(timeout=PATIENCE) for _ in range(2)] == [1, 2]
    pool.close()


def test_a_full_queue_refuses() -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def work(item: int) -> None:
        begun.release()
        assert go_on.wait(PATIENCE)

    pool = pool_of(work, threads=2, limit=1, running=True)
    for item in range(2):
        assert pool.submit(item)
        assert begun.acquire(timeout=PATIENCE)
    assert [pool.submit(item) for item in (2, 3)] == [True, False]
    go_on.set()
    pool.close()
    assert pool.join(PATIENCE)
