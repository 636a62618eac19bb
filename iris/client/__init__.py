"""The Python binding, for programs with threads: talk to others through the node on this host.

See docs/python.md. Needs the standard library and construct alone. `protocol.py`, `flow.py`,
`dispatcher.py` and `bounded_queue.py` are the sans-I/O core, which `iris.aio` shares. What programs
use is also available as `iris.…`.
"""

from iris.client.connection import Connection, Subscription, connect
from iris.client.errors import Closed, Denied, Fault, TimedOut
from iris.client.limits import ServiceLimits, TopicLimits
from iris.client.service import Handler, Service, register
from iris.client.tunnel import Tunnel
from iris.errors import IrisError, StateError

__all__ = [
    "Closed",
    "Connection",
    "Denied",
    "Fault",
    "Handler",
    "IrisError",
    "Service",
    "ServiceLimits",
    "StateError",
    "Subscription",
    "TimedOut",
    "TopicLimits",
    "Tunnel",
    "connect",
    "register",
]
