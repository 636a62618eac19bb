"""The pool of tasks that runs handlers."""

import asyncio

from iris.aio.pool import Pool
from tests.support.fake_node import PATIENCE
from tests.support.loop import in_loop
from tests.support.waiting import loop_until


@in_loop
async def test_a_pool_bounds_its_tasks_and_keeps_the_order() -> None:
    running, most, done = 0, 0, []

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)
        if item == 5:
            raise KeyError

    pool = Pool(work, tasks=3, memory=100, name="test")
    for item in range(20):
        assert pool.submit(item, 1)
    assert not pool.submit(99, 81)
    pool.start()
    await loop_until(lambda: len(done) == 20)
    assert (done, most) == (list(range(20)), 3)
    assert pool.close() == []
    assert not pool.submit(1, 1)
    assert await pool.join(PATIENCE)


@in_loop
async def test_an_item_submitted_as_a_task_ends_gets_another_one() -> None:
    done: list[int] = []
    pool: Pool[int] = Pool(done.append, tasks=1, memory=100, name="test")
    pool.start()
    pool.submit(1, 1)
    await asyncio.sleep(0)
    assert done == [1]
    pool.submit(2, 1)
    await asyncio.sleep(0)
    assert done == [1, 2]
    pool.close()
    assert await pool.join(PATIENCE)


@in_loop
async def test_plain_handlers_run_inline_and_need_no_queue() -> None:
    done: list[int] = []
    pool: Pool[int] = Pool(done.append, tasks=1, memory=10, name="test")
    pool.start()
    for item in range(20):
        assert pool.submit(item, 10)
    assert done == list(range(20))
    assert not pool.submit(99, 11)
    pool.close()
    assert await pool.join(PATIENCE)


@in_loop
async def test_handlers_that_never_block_share_a_task_and_others_have_one_each() -> None:
    go_on, tasks, waits = asyncio.Event(), set[object](), False

    async def work(item: int) -> None:
        tasks.add(asyncio.current_task())
        if waits:
            await go_on.wait()

    pool = Pool(work, tasks=5, memory=100, name="test")
    pool.start()
    for item in range(20):
        assert pool.submit(item, 1)
    await asyncio.sleep(0)
    assert (len(tasks), pool._queue.used) == (1, 0)
    waits = True
    tasks.clear()
    for item in range(20):
        assert pool.submit(item, 1)
    for _ in range(2):  # the first one, and when it is seen to wait the others
        await asyncio.sleep(0)
    assert (len(tasks), pool._queue.used) == (5, 15)
    go_on.set()
    for _ in range(2):
        await asyncio.sleep(0)
    assert pool._queue.used == 0
    pool.close()
    assert await pool.join(PATIENCE)


@in_loop
async def test_a_cancelled_task_leaves_the_queue_to_another_one() -> None:
    done: list[int] = []

    async def work(item: int) -> None:
        if item == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await asyncio.sleep(0)
        done.append(item)

    pool = Pool(work, tasks=1, memory=100, name="test")
    pool.start()
    for item in range(4):
        assert pool.submit(item, 1)
    await loop_until(lambda: len(done) == 3)
    assert done == [1, 2, 3]
    pool.submit(4, 1)
    for task in pool._tasks:
        task.cancel()  # before it begins
    pool.submit(5, 1)
    await loop_until(lambda: len(done) == 4)
    assert done == [1, 2, 3, 5]
    pool.close()
    assert await pool.join(PATIENCE)
