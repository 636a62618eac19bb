"""One thread that handles events in the order in which other threads post them. Shell."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from iris.runtime.batch import Batch

_log = logging.getLogger(__name__)

Event = Callable[[], None]


@dataclass(slots=True)
class Budget:
    """How many events of one kind or peer may wait. The loop counts."""

    limit: int
    waiting: int = 0


class EventLoop:
    """Owns a thread and its queue. Lock order: the lock here is a leaf."""

    def __init__(self, name: str, after_each: Callable[[], None]) -> None:
        """Call `after_each` after some events, when the packets that they sent are on their way."""
        self._after_each = after_each
        self._changed = threading.Condition(threading.Lock())
        self._events: deque[tuple[Event, Budget | None]] = deque()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def started(self) -> bool:
        """Whether it was started, and maybe stopped since."""
        return self._thread.ident is not None

    def start(self) -> None:
        """Handle events from now on, also those that were posted before."""
        self._thread.start()

    def post(self, event: Event) -> None:
        """Queue an event."""
        with self._changed:
            self._events.append((event, None))
            self._changed.notify()

    def post_within(self, budget: Budget, event: Event) -> bool:
        """Queue an event, unless its budget is used up: False."""
        with self._changed:
            if budget.waiting >= budget.limit:
                return False
            budget.waiting += 1
            self._events.append((event, budget))
            self._changed.notify()
        return True

    def stop(self) -> None:
        """Stop and join the thread; drop what waits. Idempotent, from any other thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self.started:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._events and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                events, self._events = self._events, deque()
            with Batch():
                for event, budget in events:
                    if budget is not None:
                        with self._changed:
                            budget.waiting -= 1
                    try:
                        event()
                    except Exception:
                        _log.exception("handling an event of the ring failed")  # our bug; go on
            self._after_each()
