"""The pending reply to a request, with threads: as a future, or for one thread that waits.

A `concurrent.futures.Future` spends most of its time on a condition that hardly any future of
`submit` ever needs.
"""

import threading
from concurrent.futures import Future
from concurrent.futures._base import FINISHED, RUNNING
from typing import Any, Final

# a leaf; decides whether a reply is completed before or after its condition is made
_materializing: Final = threading.RLock()


class _LazyCondition:
    """Makes the condition of a future, with what belongs to it, when a thread first needs it."""

    def __get__(self, reply: "ReplyFuture", owner: type) -> threading.Condition:
        with _materializing:
            fields = vars(reply)
            fields.setdefault("_waiters", [])
            fields.setdefault("_done_callbacks", [])
            # hides this descriptor from now on
            made: threading.Condition = fields.setdefault("_condition", threading.Condition())
        return made


class ReplyFuture(Future[bytes]):
    """A running future that cannot be cancelled, and has a condition only if it is waited for.

    All of `concurrent.futures` works with it: tests/unit/client/test_pending.py.
    """

    _state, _result, _exception = RUNNING, None, None
    _condition: Any = _LazyCondition()
    _done_callbacks: Any = ()

    def __init__(self) -> None:
        pass  # what Future's would set are the class attributes above

    def done(self) -> bool:
        """Whether it is completed."""
        return self._state == FINISHED

    def result(self, timeout: float | None = None) -> bytes:
        """Wait up to `timeout` seconds for the reply.

        Raises: TimeoutError when it hasn't arrived by then; what `Connection.request` raises.
        """
        if self._state == FINISHED and self._exception is None:
            reply: bytes = self._result  # type: ignore[assignment]
            return reply
        return super().result(timeout)

    def add_done_callback(self, fn: Any) -> None:
        """Call a function with this future once it is completed, maybe now."""
        with _materializing:
            fields = self.__dict__
            if "_condition" not in fields and "_state" not in fields:
                if "_done_callbacks" in fields:
                    fields["_done_callbacks"].append(fn)
                else:
                    fields["_done_callbacks"] = [fn]
                return
        super().add_done_callback(fn)

    def set_result(self, result: bytes) -> None:
        """Complete with a reply."""
        with _materializing:
            fields = self.__dict__
            alone = "_condition" not in fields and "_state" not in fields
            if alone:
                fields["_result"] = result
                fields["_state"] = FINISHED
        if not alone:
            super().set_result(result)
        elif self._done_callbacks:
            self._invoke_callbacks()  # type: ignore[attr-defined]


class BlockingReply:
    """A reply that exactly one thread waits for, with a lock."""

    __slots__ = ("_completed", "_done", "_error", "_result")

    def __init__(self) -> None:
        self._completed = threading.Lock()
        self._completed.acquire()
        self._done = False
        self._result = b""
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Whether it is completed."""
        return self._done

    def set_result(self, result: bytes) -> None:
        """Complete with a reply."""
        self._result = result
        self._done = True
        self._completed.release()

    def set_exception(self, exception: BaseException) -> None:
        """Complete with an error."""
        self._error = exception
        self._done = True
        self._completed.release()

    def wait(self, timeout: float) -> bool:
        """Wait for completion, once; -1 for any time. Returns: False after `timeout` seconds."""
        return self._completed.acquire(timeout=timeout)

    def result(self) -> bytes:
        """Return the reply, or raise the error that came instead."""
        error, self._error = self._error, None  # which would keep itself alive by its traceback
        if error is not None:
            raise error
        return self._result
