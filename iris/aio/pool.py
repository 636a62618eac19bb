"""A bounded number of tasks that carry out what waits for them.

Shell around `iris/client/bounded_queue.py`.

What is plain is carried out at once, and needs no task. A task costs more than most handlers do: so
there is one at a time on its way, which does all that never has to wait; if it comes to wait,
others follow in the next round of the loop, for all that is left.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from iris.client.bounded_queue import BoundedQueue

T = TypeVar("T")
_log = logging.getLogger(__name__)


async def call(function: Callable[..., Any], *args: object) -> Any:
    """Call what may be a coroutine function or a plain one."""
    result = function(*args)
    return await result if inspect.isawaitable(result) else result


def cancelled() -> bool:
    """Whether the calling task is to end.

    A CancelledError may come as well from something else that was cancelled, and waited for.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Pool(Generic[T]):
    """Runs `work`, plain or a coroutine function, for each item, in at most `tasks` tasks.

    Its maker closes it.
    """

    def __init__(self, work: Callable[[T], Any], *, tasks: int, memory: int, name: str) -> None:
        """Take items, but do nothing before `start`. memory in bytes of waiting items."""
        self._work, self._limit, self._name = work, max(1, tasks), name
        self._backlog: BoundedQueue[T] = BoundedQueue(memory)
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = self._closed = False
        self._on_its_way = False  # a task that hasn't begun
        self._looking = False  # whether to start more, in the next round

    def start(self) -> None:
        """Begin with what waits."""
        self._running = not self._closed
        self._look()

    def submit(self, item: T, size: int) -> bool:
        """Have an item worked on; False when there is no memory for it, or the pool is closed."""
        backlog = self._backlog
        if (
            self._running
            and not self._on_its_way
            and not backlog
            and len(self._tasks) < self._limit
        ):
            if size > backlog.memory:
                return False
            self._begin(item)
            return True
        if self._closed or not backlog.offer(item, size):
            return False
        if self._on_its_way and not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)  # after that task's beginning
        return True

    def owns(self, task: "asyncio.Task[Any] | None") -> bool:
        """Whether that is a task of this pool."""
        return task in self._tasks

    def close(self) -> int:
        """Begin with nothing more; what is being worked on goes on. Idempotent. Returns.

        How many items were dropped.
        """
        self._closed, self._running = True, False
        return self._backlog.clear()

    async def join(self, timeout: float) -> bool:
        """Wait until all tasks have ended.

        Those that haven't after `timeout` seconds are cancelled, and it is False. After `close`.
        """
        if not self._tasks:
            return True
        _, late = await asyncio.wait(self._tasks, timeout=max(0.0, timeout))
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        return not late

    def _look(self) -> None:
        self._looking = False
        while self._running and self._backlog and len(self._tasks) < self._limit:
            self._begin(self._backlog.take())

    def _begin(self, item: T) -> None:
        rest = self._do(item)
        if rest is None:
            return
        self._on_its_way = True
        task = asyncio.get_running_loop().create_task(self._run(rest), name=self._name)
        self._tasks.add(task)  # the loop itself would forget it

        def ended(task: "asyncio.Task[None]") -> None:
            self._tasks.discard(task)
            if task.cancelled():
                self._on_its_way = False
                if inspect.iscoroutine(rest):
                    rest.close()  # if it never began
                self._look()

        task.add_done_callback(ended)

    def _do(self, item: T) -> Awaitable[Any] | None:
        """Carry out one. Returns: what is left of it, to be awaited in a task."""
        try:
            result = self._work(item)
        except (Exception, asyncio.CancelledError):
            _log.exception("%s: a handler failed", self._name)
            return None
        return result if result is not None and inspect.isawaitable(result) else None

    async def _run(self, rest: Awaitable[Any] | None) -> None:
        self._on_its_way = False
        task = asyncio.current_task()
        assert task is not None
        try:
            while True:
                try:
                    if rest is not None:
                        await rest
                except Exception:
                    _log.exception("%s: a handler failed", self._name)
                except asyncio.CancelledError:
                    if cancelled():
                        raise
                    _log.exception("%s: a handler failed", self._name)
                if not (self._running and self._backlog):
                    return
                rest = self._do(self._backlog.take())
        finally:
            self._tasks.discard(task)  # at once: what is submitted from now on needs another one
