"""Packaging entry point: setup.cfg declares everything but what is compiled, which is nothing unless IRIS_COMPILE=1 asks for it.

Compiled, the modules below are C extensions that mypyc makes of the same source. They do the same, in less time; docs/performance.md.
"""

import os

from setuptools import Extension, setup

HOT = [  # a message's whole way through the node, in its order
    "iris/service/relay/attachment.py",
    "iris/service/relay/codec.py",
    "iris/service/relay/client.py",
    "iris/proto/iris/connection.py",
    "iris/proto/iris/overlay.py",
    "iris/proto/scribe/overlay.py",
    "iris/proto/scribe/topic.py",
    "iris/balancer.py",
    "iris/proto/pastry/overlay.py",
    "iris/proto/pastry/routing.py",
    "iris/proto/pastry/table.py",
    "iris/proto/pastry/space.py",
    "iris/proto/session/session.py",
    "iris/proto/message.py",
    "iris/proto/heads.py",
    "iris/proto/packet.py",
    "iris/proto/link.py",
    "iris/outbox.py",
    "iris/timer.py",
    "iris/client/codec.py",  # and an application's end of it
    "iris/client/protocol.py",
    "iris/client/flow.py",
    "iris/client/backlog.py",
    "iris/client/intake.py",
    "iris/client/attachment.py",
    "iris/client/pool.py",
    "iris/client/serving.py",
]


def compiled() -> list[Extension]:
    """What mypyc makes of the hot modules; nothing while pip only asks what the build needs."""
    try:
        from mypyc.build import mypycify
    except ModuleNotFoundError:
        return []
    return mypycify(["--config-file=", "--ignore-missing-imports", "--follow-imports=silent", *HOT], opt_level="3", group_name="iris_hot")


if os.environ.get("IRIS_COMPILE") == "1":
    setup(ext_modules=compiled(), setup_requires=["mypy>=1.11"])
else:
    setup()
