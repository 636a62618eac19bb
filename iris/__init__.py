"""Iris: decentralised messaging for backends.

The package is the node (`python -m iris`, see docs/architecture.md) and the Python binding (see
docs/python.md). What programs use of the binding is here, and is loaded when it is first asked for,
so that neither half costs the other anything. For asyncio: `iris.aio`.
"""

from typing import TYPE_CHECKING

__version__ = "0.4.0.dev0"

if TYPE_CHECKING:
    from iris.client import (
        Closed,
        Connection,
        Denied,
        Fault,
        Handler,
        IrisError,
        Service,
        ServiceLimits,
        StateError,
        Subscription,
        TimedOut,
        TopicLimits,
        Tunnel,
        connect,
        register,
    )

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


def __getattr__(name: str) -> object:
    if name in __all__:
        import iris.client

        return getattr(iris.client, name)
    raise AttributeError(f"module 'iris' has no attribute '{name}'")
