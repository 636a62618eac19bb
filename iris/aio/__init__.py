"""The Python binding for programs with asyncio: the same as `iris`, to be awaited.

See docs/python.md.

    async with iris.aio.connect(55555) as connection:
        print(await connection.request("echo", b"hello", timeout=1.0))

A frontend of the core in `iris.client`; errors and limits are the same classes.
"""

from iris.aio.connection import Connection, Subscription, connect
from iris.aio.service import Handler, Service, register
from iris.aio.tunnel import Tunnel
from iris.client.errors import Closed, Denied, Fault, TimedOut
from iris.client.limits import ServiceLimits, TopicLimits
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
