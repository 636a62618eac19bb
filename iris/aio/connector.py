"""Objects that take a moment to open: to be awaited, or used in an `async with`."""

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from iris.client.closing import AsyncClosing

T = TypeVar("T", bound=AsyncClosing)


class AsyncConnector(Generic[T], Awaitable[T], AbstractAsyncContextManager[T]):
    """Opens an object when it is awaited or entered; leaving the block closes it."""

    def __init__(self, opener: Callable[[], Awaitable[T]]) -> None:
        self._opener = opener
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._opener().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._opener()
        return self._opened

    async def __aexit__(self, *_: object) -> None:
        assert self._opened is not None
        await self._opened.close()
