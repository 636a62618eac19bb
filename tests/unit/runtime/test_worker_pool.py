import threading

import pytest

from iris.runtime.worker_pool import WorkerPool


def test_as_many_jobs_run_and_wait_as_allowed() -> None:
    workers = WorkerPool("test", threads=2, waiting=1)
    release, started, done = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)
    names = []

    def job() -> None:
        names.append(threading.current_thread().name)
        started.release()
        assert release.wait(10)
        done.release()

    assert [workers.submit(job) for _ in range(4)] == [True, True, True, False]
    for _ in range(2):
        assert started.acquire(timeout=10)
    assert len(names) == 2
    release.set()
    for _ in range(3):
        assert done.acquire(timeout=10)
    assert {name.rpartition("-")[0] for name in names} == {"test"}


def test_a_thread_that_cannot_be_had_takes_nobodys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, done = WorkerPool("test", threads=1, waiting=0), threading.Event()

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert not workers.submit(done.set)
    assert workers.submit(done.set)
    assert done.wait(10)


def test_failing_job_doesnt_stop_the_next_one(caplog: pytest.LogCaptureFixture) -> None:
    workers = WorkerPool("test", threads=1, waiting=1)
    go, done = threading.Event(), threading.Event()

    def fail() -> None:
        assert go.wait(10)
        raise RuntimeError("our bug")

    assert workers.submit(fail)
    assert workers.submit(done.set)
    go.set()
    assert done.wait(10)
    assert "a job of test failed" in caplog.text
