"""A bounded number of concurrent handlers, with asyncio.

Run plain handlers inline; start one task for the first coroutine, further tasks only once it
blocks: a task costs more than most handlers do.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from iris.runtime.bounded_queue import BoundedQueue

T = TypeVar("T")
_log = logging.getLogger(__name__)


async def call(function: Callable[..., Any], *args: object) -> Any:
    """Call a coroutine function or a plain one."""
    result = function(*args)
    return await result if inspect.isawaitable(result) else result


def cancelled() -> bool:
    """Whether the calling task itself was cancelled, and not only what it has awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Pool(Generic[T]):
    """Calls `work`, plain or a coroutine function, for each item, in at most `tasks` tasks.

    Its maker closes it.
    """

    def __init__(self, work: Callable[[T], Any], *, tasks: int, memory: int, name: str) -> None:
        """Queue up to `memory` bytes, but run nothing before `start`."""
        self._work, self._limit, self._name = work, max(1, tasks), name
        self._queue: BoundedQueue[T] = BoundedQueue(memory)
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = self._closed = False
        self._starting = False  # a task that hasn't run yet
        self._refill_scheduled = False

    def start(self) -> None:
        """Begin with what is queued."""
        self._running = not self._closed
        self._refill()

    def submit(self, item: T, size: int) -> bool:
        """Run or queue an item of `size` bytes.

        Returns: False when it is dropped for lack of memory, or because the pool is closed.
        """
        queue = self._queue
        idle = self._running and not self._starting and not queue
        if idle and len(self._tasks) < self._limit:
            if size > queue.limit:
                return False
            self._launch(item)
            return True
        if self._closed or not queue.offer(item, size):
            return False
        if self._starting and not self._refill_scheduled:
            self._refill_scheduled = True
            asyncio.get_running_loop().call_soon(self._refill)  # after that task's first step
        return True

    def owns(self, task: "asyncio.Task[Any] | None") -> bool:
        """Whether a task belongs to this pool."""
        return task in self._tasks

    def close(self) -> list[T]:
        """Start nothing more; running handlers go on. Idempotent.

        Returns: the queued items that were dropped.
        """
        self._closed, self._running = True, False
        return self._queue.clear()

    async def join(self, timeout: float) -> bool:
        """Wait for all tasks to end, after `close`.

        Returns: False when some didn't within `timeout` seconds, and were cancelled.
        """
        if not self._tasks:
            return True
        _, late = await asyncio.wait(self._tasks, timeout=max(0.0, timeout))
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        return not late

    def _refill(self) -> None:
        self._refill_scheduled = False
        while self._running and self._queue and len(self._tasks) < self._limit:
            self._launch(self._queue.take())

    def _launch(self, item: T) -> None:
        rest = self._call(item)
        if rest is None:
            return
        self._starting = True
        task = asyncio.get_running_loop().create_task(self._run(rest), name=self._name)
        self._tasks.add(task)  # the loop holds only a weak reference

        def ended(task: "asyncio.Task[None]") -> None:
            self._tasks.discard(task)
            if task.cancelled():
                self._starting = False
                if inspect.iscoroutine(rest):
                    rest.close()  # if it never ran
                self._refill()

        task.add_done_callback(ended)

    def _call(self, item: T) -> Awaitable[Any] | None:
        """Call the handler. Returns: what is left to be awaited, in a task."""
        try:
            result = self._work(item)
        except (Exception, asyncio.CancelledError):
            _log.exception("%s: handler failed", self._name)
            return None
        return result if result is not None and inspect.isawaitable(result) else None

    async def _run(self, rest: Awaitable[Any] | None) -> None:
        self._starting = False
        task = asyncio.current_task()
        assert task is not None
        try:
            while True:
                try:
                    if rest is not None:
                        await rest
                except (Exception, asyncio.CancelledError) as exc:
                    if isinstance(exc, asyncio.CancelledError) and cancelled():
                        raise
                    _log.exception("%s: handler failed", self._name)
                if not (self._running and self._queue):
                    return
                rest = self._call(self._queue.take())
        finally:
            self._tasks.discard(task)  # at once, as what is submitted from now on needs another one
