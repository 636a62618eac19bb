"""What the parts of the relay have in common."""

from collections.abc import Callable
from dataclasses import dataclass

from iris.config import Config
from iris.errors import IrisError
from iris.metrics import Metrics
from iris.runtime.rate_limited_log import RateLimitedLogger
from iris.runtime.timer import Timer


class Denied(IrisError):
    """The application can't attach; the text goes to it in a deny packet."""


@dataclass(eq=False)  # without slots, or it wouldn't be compiled
class Shared:
    """What all clients of a relay share."""

    config: Config
    timer: Timer
    clock: Callable[[], float]
    metrics: Metrics
    warnings: RateLimitedLogger  # keyed by what is repeated: a text, and the client's number
