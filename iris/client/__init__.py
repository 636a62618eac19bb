"""The Python binding: what a program uses to talk to others through the Iris node on its host.

See docs/python.md.

Needs the standard library and construct alone. `protocol.py`, `flow.py` and `backlog.py` are the
core, which `iris.aio` shares; here is the face for programs with threads. All that programs use is
at hand as `iris.…` too.
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
