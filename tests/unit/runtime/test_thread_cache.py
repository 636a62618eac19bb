import threading
import weakref
from collections.abc import Iterator

import pytest

from iris.runtime import thread_cache as module
from iris.runtime.thread_cache import ThreadCache
from tests.support.waiting import PATIENCE, wait_for


@pytest.fixture
def cache() -> Iterator[ThreadCache]:
    cache = ThreadCache("test")
    yield cache
    assert cache.close(PATIENCE)


class Job:
    """Work that is over when the test says so."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None
        self.name = ""

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.name = self.thread.name
        self.began.set()
        assert self.go.wait(PATIENCE)

    def run(self, cache: ThreadCache, name: str) -> "Job":
        cache.run(name, self)
        assert self.began.wait(PATIENCE)
        return self


def settle(cache: ThreadCache, waiting: int) -> None:
    """Wait until so many threads have nothing to do."""
    wait_for(lambda: len(cache._idle) == waiting)


def test_work_at_the_same_time_has_threads_of_its_own(cache: ThreadCache) -> None:
    jobs = [Job().run(cache, f"job-{i}") for i in range(3)]
    assert len({job.thread for job in jobs}) == 3
    assert [job.name for job in jobs] == ["job-0", "job-1", "job-2"]
    for job in jobs:
        job.go.set()


def test_a_thread_goes_on_to_the_next_work(cache: ThreadCache) -> None:
    first = Job().run(cache, "first")
    first.go.set()
    settle(cache, 1)
    second = Job().run(cache, "second")
    assert second.thread is first.thread
    assert (first.name, second.name) == ("first", "second")
    second.go.set()


def test_work_that_fails_is_logged_and_costs_no_thread(
    cache: ThreadCache, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    cache.run("failing", fail)
    settle(cache, 1)
    assert "failing failed" in caplog.text
    job = Job().run(cache, "next")
    job.go.set()


def test_only_so_many_wait_and_not_for_ever(
    cache: ThreadCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_IDLE", 2)
    monkeypatch.setattr(module, "_LINGER", 0.2)
    jobs = [Job().run(cache, f"job-{i}") for i in range(4)]
    for job in jobs:
        job.go.set()
    for job in jobs:
        assert job.thread is not None
        job.thread.join(PATIENCE)
        assert not job.thread.is_alive()
    Job().run(cache, "after all").go.set()  # it isn't handed to one that has ended


def test_a_close_ends_those_that_wait_at_once_and_the_others_when_they_are_done() -> None:
    cache = ThreadCache("test")
    idle, busy = Job().run(cache, "idle"), Job().run(cache, "busy")
    idle.go.set()
    settle(cache, 1)
    assert not cache.close(0.05)
    assert idle.thread is not None
    assert not idle.thread.is_alive()
    busy.go.set()
    assert cache.close(PATIENCE)
    assert busy.thread is not None
    assert not busy.thread.is_alive()


def test_a_thread_keeps_nothing_of_what_it_has_done(cache: ThreadCache) -> None:
    for name in ("first", "second"):
        job = Job().run(cache, name)
        reference = weakref.ref(job)
        job.go.set()
        del job
        settle(cache, 1)
        assert reference() is None


def test_many_short_works_from_many_threads_are_all_done(cache: ThreadCache) -> None:
    done = threading.Semaphore(0)

    def start() -> None:
        for i in range(200):
            cache.run(f"short-{i}", done.release)

    starters = [threading.Thread(target=start) for _ in range(4)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(PATIENCE)
    for _ in range(800):
        assert done.acquire(timeout=PATIENCE)


def test_without_a_thread_it_says_so(cache: ThreadCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        cache.run("job", lambda: None)


def test_a_close_while_a_thread_starts_joins_none_that_hasnt_started(
    cache: ThreadCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, closed = threading.Thread.start, list[bool]()

    def close_first(thread: threading.Thread) -> None:
        closed.append(cache.close(0.0))
        start(thread)

    done = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", close_first)
        cache.run("job", done.set)
    assert closed == [True]
    assert done.wait(PATIENCE)
