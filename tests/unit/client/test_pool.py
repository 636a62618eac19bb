"""Handlers' pools: what waits, within which bounds, and for how many threads."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

import pytest

from iris.client.bounded_queue import BoundedQueue
from iris.client.pool import Pool

PATIENCE = 10.0  # seconds for what must come


def pool_of(
    work: Callable[[int], None], threads: int = 2, memory: int = 100, idle: float = PATIENCE
) -> "Pool[int]":
    return Pool(work, threads=threads, memory=memory, name="test", idle=idle)


def test_a_backlog_keeps_order_and_counts_bytes_that_wait() -> None:
    backlog: BoundedQueue[str] = BoundedQueue(10)
    assert backlog.offer("a", 4)
    assert backlog.offer("b", 6)
    assert not backlog.offer("c", 1)
    assert backlog.offer("empty", 0)
    assert (len(backlog), backlog.used) == (3, 10)
    assert backlog.take() == "a"
    assert backlog.offer("d", 4)
    assert [backlog.take() for _ in range(2)] == ["b", "empty"]
    assert backlog.clear() == 1
    assert (len(backlog), backlog.used) == (0, 0)
    with pytest.raises(IndexError):
        backlog.take()


def test_a_backlog_without_memory_takes_what_is_empty() -> None:
    backlog: BoundedQueue[str] = BoundedQueue(0)
    assert backlog.offer("a", 0)
    assert not backlog.offer("b", 1)


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
    assert len(pool._threads) == 3
    go_on.release(2)
    assert sorted(begun.get(timeout=PATIENCE) for _ in range(2)) == [3, 4]
    go_on.release(3)
    pool.close()
    assert pool.join(PATIENCE)
    assert not pool._threads


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
    assert "a handler failed" in caplog.text
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
    assert pool.close() == 2
    assert pool.close() == 0
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
    pool = pool_of(done.put, threads=2, idle=0.0)
    pool.start()
    for item in range(200):
        pool.submit(item, 1)
        assert done.get(timeout=PATIENCE) == item
    pool.close()
    assert pool.join(PATIENCE)
    assert not pool._threads


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
    assert caplog.text.count("a handler failed") == 2
    pool.close()
    assert pool.join(PATIENCE)


def test_many_threads_may_submit() -> None:
    done: SimpleQueue[int] = SimpleQueue()
    pool = pool_of(done.put, threads=4, memory=1 << 30, idle=0.001)
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


def test_without_a_thread_to_be_had_items_wait_for_the_next_occasion(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done: SimpleQueue[int] = SimpleQueue()
    pool = pool_of(done.put)
    pool.start()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert pool.submit(1, 1)
    assert "no thread for what waits" in caplog.text
    assert pool.submit(2, 1)
    assert sorted(done.get(timeout=PATIENCE) for _ in range(2)) == [1, 2]
    pool.close()
