"""A bounded number of tasks that carry out what waits for them. Shell around `iris/client/backlog.py`."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from iris.client.backlog import Backlog

T = TypeVar("T")
_log = logging.getLogger(__name__)


async def call(function: Callable[..., Any], *args: object) -> Any:
    """Call what may be a coroutine function or a plain one."""
    result = function(*args)
    return await result if inspect.isawaitable(result) else result


def cancelled() -> bool:
    """Whether the calling task is to end; a CancelledError may come as well from something else that was cancelled, and waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Pool(Generic[T]):
    """Runs `work`, plain or a coroutine function, for each item, in at most `tasks` tasks. Its maker closes it."""

    def __init__(self, work: Callable[[T], Any], *, tasks: int, memory: int, name: str) -> None:
        """Take items, but do nothing before `start`. memory in bytes of waiting items."""
        self._work, self._limit, self._name = work, max(1, tasks), name
        self._backlog: Backlog[T] = Backlog(memory)
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = self._closed = False

    def start(self) -> None:
        """Begin with what waits."""
        self._running = not self._closed
        while self._running and len(self._tasks) < min(self._limit, len(self._backlog)):
            self._spawn()

    def submit(self, item: T, size: int) -> bool:
        """Have an item worked on; False when there is no memory for it, or the pool is closed."""
        if self._closed or not self._backlog.offer(item, size):
            return False
        if self._running and len(self._tasks) < self._limit:
            self._spawn()
        return True

    def owns(self, task: "asyncio.Task[Any] | None") -> bool:
        """Whether that is a task of this pool."""
        return task in self._tasks

    def close(self) -> int:
        """Begin with nothing more; what is being worked on goes on. Idempotent. Returns: how many items were dropped."""
        self._closed, self._running = True, False
        return self._backlog.clear()

    async def join(self, timeout: float) -> bool:
        """Wait until all tasks have ended; those that haven't after `timeout` seconds are cancelled, and it is False. After `close`."""
        if not self._tasks:
            return True
        _, late = await asyncio.wait(self._tasks, timeout=max(0.0, timeout))
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        return not late

    def _spawn(self) -> None:
        task = asyncio.get_running_loop().create_task(self._run(), name=self._name)
        self._tasks.add(task)  # the loop itself would forget it
        task.add_done_callback(self._tasks.discard)  # should it be cancelled before it runs

    async def _run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while self._running and self._backlog:
                try:
                    await call(self._work, self._backlog.take())
                except Exception:
                    _log.exception("%s: a handler failed", self._name)
                except asyncio.CancelledError:
                    if cancelled():
                        raise
                    _log.exception("%s: a handler failed", self._name)
        finally:
            self._tasks.discard(task)  # at once: what is submitted from now on needs another one
