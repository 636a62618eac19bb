"""What happened at the relay so far, in numbers. Core."""

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Counted from the start of the relay; reading needs no lock."""

    attached: int = 0  # clients that were let in
    detached: int = 0  # of these, those that are gone
    refused: int = 0  # connections that were denied
    violations: int = 0  # clients closed because they broke the rules
    overflowed: int = 0  # clients closed because they took too little of what can't be dropped
    limited: int = 0  # requests, replies and tunnels refused because a limit was reached
    dropped: int = 0  # broadcasts and events that slow clients missed
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, name: str) -> None:
        """Count one more."""
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)
