"""Pending replies: futures like any other, for all of `concurrent.futures` and asyncio."""

import asyncio
import threading
from concurrent import futures
from concurrent.futures import Future

import pytest

import iris
from iris.client.pending import BlockingReply, ReplyFuture

SOON = 0.05  # seconds


def later(act: object, *args: object) -> threading.Timer:
    timer = threading.Timer(SOON, act, args)  # type: ignore[arg-type]
    timer.start()
    return timer


@pytest.mark.parametrize("waited_for", [False, True])
def test_a_reply_is_a_future(waited_for: bool) -> None:
    reply, heard = ReplyFuture(), list[object]()
    assert isinstance(reply, Future)
    assert (reply.done(), reply.cancelled(), reply.running() if waited_for else True) == (
        False,
        False,
        True,
    )
    if waited_for:
        with pytest.raises(TimeoutError):
            reply.result(0)
    reply.add_done_callback(lambda future: heard.append((1, future.result())))
    reply.add_done_callback(lambda _: 1 / 0)  # is logged
    reply.add_done_callback(lambda future: heard.append((2, future.done())))
    assert not reply.cancel()
    reply.set_result(b"x")
    reply.add_done_callback(lambda future: heard.append(3))
    assert heard == [(1, b"x"), (2, True), 3]
    assert (reply.done(), reply.running(), reply.result(), reply.exception()) == (
        True,
        False,
        b"x",
        None,
    )
    with pytest.raises(futures.InvalidStateError):
        reply.set_result(b"y")
    assert reply.result() == b"x"
    assert "finished" in repr(reply)


def test_a_failed_reply_raises_for_all() -> None:
    reply, heard = ReplyFuture(), list[object]()
    reply.add_done_callback(lambda future: heard.append(future.exception()))
    error = iris.Fault("no")
    reply.set_exception(error)
    reply.add_done_callback(lambda future: heard.append(future.exception()))
    assert heard == [error, error]
    assert reply.done()
    with pytest.raises(iris.Fault, match="no"):
        reply.result(0)


@pytest.mark.parametrize("fails", [False, True])
def test_a_thread_can_wait_for_a_reply(fails: bool) -> None:
    reply = ReplyFuture()
    later(*(reply.set_exception, iris.Fault("no")) if fails else (reply.set_result, b"x"))
    if fails:
        assert isinstance(reply.exception(10), iris.Fault)
    else:
        assert reply.result(10) == b"x"


def test_replies_can_be_waited_for_together() -> None:
    replies = [ReplyFuture() for _ in range(4)]
    replies[0].set_result(b"0")
    later(replies[1].set_result, b"1")
    done, left = futures.wait(replies[:2], 10)
    assert (done, left) == (set(replies[:2]), set())
    later(replies[2].set_exception, iris.TimedOut())
    done, left = futures.wait(replies[2:], 10, futures.FIRST_COMPLETED)
    assert (done, left) == ({replies[2]}, {replies[3]})
    later(replies[3].set_result, b"3")
    assert set(futures.as_completed(replies, 10)) == set(replies)


def test_a_reply_can_be_awaited() -> None:
    async def wait() -> bytes:
        reply = ReplyFuture()
        later(reply.set_result, b"x")
        return await asyncio.wait_for(asyncio.wrap_future(reply), 10)

    assert asyncio.run(wait()) == b"x"


def test_each_callback_and_waiter_of_a_race_is_notified_once() -> None:
    for _ in range(300):
        reply, go, heard = ReplyFuture(), threading.Barrier(3), list[bytes]()

        def add(
            reply: ReplyFuture = reply, go: threading.Barrier = go, heard: list[bytes] = heard
        ) -> None:
            go.wait()
            reply.add_done_callback(lambda future: heard.append(future.result()))

        def wait(
            reply: ReplyFuture = reply, go: threading.Barrier = go, heard: list[bytes] = heard
        ) -> None:
            go.wait()
            heard.extend(future.result() for future in futures.wait([reply], 10).done)

        threads = [threading.Thread(target=target) for target in (add, wait)]
        for thread in threads:
            thread.start()
        go.wait()
        reply.set_result(b"x")
        for thread in threads:
            thread.join(10)
        assert heard == [b"x", b"x"]


def test_a_blocking_reply_is_waited_for_by_one_thread() -> None:
    answer = BlockingReply()
    assert not answer.wait(0)
    assert not answer.done()
    later(answer.set_result, b"x")
    assert answer.wait(10)
    assert (answer.done(), answer.result()) == (True, b"x")
    answer = BlockingReply()
    answer.set_exception(iris.Fault("no"))
    assert answer.wait(0)
    with pytest.raises(iris.Fault, match="no"):
        answer.result()
