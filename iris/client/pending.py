"""What waits for the reply to a request, with threads: a future, and what a thread alone needs.

See `protocol.Pending`.

A `concurrent.futures.Future` spends most of its time on a condition that hardly any future of
`submit` ever needs.
"""

import threading
from concurrent.futures import Future
from concurrent.futures._base import FINISHED, RUNNING
from typing import Any, Final

# a leaf: whether a reply is completed before or after it has got a condition
_deciding: Final = threading.RLock()


class _Condition:
    """Makes a reply's condition when somebody is about to wait with it, and what goes with it."""

    def __get__(self, reply: "Reply", owner: type) -> threading.Condition:
        with _deciding:
            fields = vars(reply)
            fields.setdefault("_waiters", [])
            fields.setdefault("_done_callbacks", [])
            # found before this from now on
            made: threading.Condition = fields.setdefault("_condition", threading.Condition())
        return made


class Reply(Future[bytes]):
    """A future that is under way, and can't be cancelled.

    It has a condition from when it is waited for; until then, all is quicker.

    Everything that `concurrent.futures` does with futures works with it:
    tests/unit/client/test_pending.py.
    """

    _state, _result, _exception = RUNNING, None, None
    _condition: Any = _Condition()
    _done_callbacks: Any = ()

    def __init__(self) -> None:
        pass  # all that Future's would set is above, or not there yet

    def done(self) -> bool:
        """Whether it has come, one way or the other."""
        return self._state == FINISHED

    def result(self, timeout: float | None = None) -> bytes:
        """The reply. Raises: what `Connection.request` would.

        TimeoutError when it hasn't come within `timeout` seconds.
        """
        if self._state == FINISHED and self._exception is None:
            reply: bytes = self._result  # type: ignore[assignment]
            return reply
        return super().result(timeout)

    def add_done_callback(self, fn: Any) -> None:
        """Have a function called with this future when it is done, or now when it is already."""
        with _deciding:
            fields = self.__dict__
            if "_condition" not in fields and "_state" not in fields:
                if "_done_callbacks" in fields:
                    fields["_done_callbacks"].append(fn)
                else:
                    fields["_done_callbacks"] = [fn]
                return
        super().add_done_callback(fn)

    def set_result(self, result: bytes) -> None:
        """There it is."""
        with _deciding:
            fields = self.__dict__
            alone = "_condition" not in fields and "_state" not in fields
            if alone:
                fields["_result"] = result
                fields["_state"] = FINISHED
        if not alone:
            super().set_result(result)
        elif self._done_callbacks:
            self._invoke_callbacks()  # type: ignore[attr-defined]


class Answer:
    """What one thread waits for; a lock is all that it takes."""

    __slots__ = ("_bell", "_error", "_over", "_result")

    def __init__(self) -> None:
        self._bell = threading.Lock()
        self._bell.acquire()
        self._over = False
        self._result = b""
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Whether it has come, one way or the other."""
        return self._over

    def set_result(self, result: bytes) -> None:
        """There it is."""
        self._result = result
        self._over = True
        self._bell.release()

    def set_exception(self, exception: BaseException) -> None:
        """There it isn't."""
        self._error = exception
        self._over = True
        self._bell.release()

    def wait(self, timeout: float) -> bool:
        """Wait until it is done, once; False when it isn't within `timeout` seconds.

        -1 is for ever.
        """
        return self._bell.acquire(timeout=timeout)

    def result(self) -> bytes:
        """What has come. Raises: what came instead."""
        error, self._error = self._error, None  # which would keep itself alive by its traceback
        if error is not None:
            raise error
        return self._result
