"""Packaging entry point.

Setup.cfg declares everything but what is compiled, which is nothing unless IRIS_COMPILE=1 asks for
it.

Compiled, the modules below are C extensions that mypyc makes of the same source. They do the same,
in less time; docs/performance.md.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup

HOT = [  # a message's whole way through the node, in its order
    "iris/service/relay/connection.py",
    "iris/relay_protocol/varint.py",
    "iris/relay_protocol/parser.py",
    "iris/relay_protocol/node_packets.py",
    "iris/service/relay/session.py",
    "iris/service/relay/tunnel.py",
    "iris/proto/iris/base.py",
    "iris/proto/iris/connection.py",
    "iris/proto/iris/connection_tunnels.py",
    "iris/proto/iris/requests.py",
    "iris/proto/iris/tunnel.py",
    "iris/proto/iris/tunnel_link.py",
    "iris/proto/iris/overlay.py",
    "iris/proto/scribe/overlay.py",
    "iris/proto/scribe/topic.py",
    "iris/balancer.py",
    "iris/metrics.py",
    "iris/proto/pastry/overlay.py",
    "iris/proto/pastry/routing.py",
    "iris/proto/pastry/table.py",
    "iris/proto/wire/node_id.py",
    "iris/proto/session/session.py",
    "iris/gobber/record.py",
    "iris/proto/wire/ring.py",
    "iris/proto/wire/trees.py",
    "iris/proto/wire/clusters.py",
    "iris/proto/wire/message.py",
    "iris/proto/link/base.py",
    "iris/proto/link/header_templates.py",
    "iris/proto/link/classic.py",
    "iris/proto/link/link.py",
    "iris/runtime/reader.py",
    "iris/runtime/batch.py",
    "iris/runtime/send_buffer.py",
    "iris/runtime/timer.py",
    "iris/runtime/bounded_queue.py",
    "iris/runtime/worker_pool.py",
    "iris/runtime/credit_window.py",
    "iris/relay_protocol/client_packets.py",  # and an application's end of it
    "iris/client/protocol.py",
    "iris/client/flow.py",
    "iris/client/base_node_connection.py",
    "iris/client/dispatcher.py",
    "iris/client/node_connection.py",
    "iris/client/threaded_dispatcher.py",
]
# other commands only ask, or pack up the source
BUILDS = {"build", "build_ext", "bdist_wheel", "editable_wheel", "install", "develop"}


def compiled(target: str) -> list[Extension]:
    """What mypyc makes of the hot modules, in C, in a folder.

    Ends the installation, saying why, where that can't be done.
    """
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if shutil.which(compiler.split()[0]) is None:
        sys.exit(
            f"IRIS_COMPILE=1 needs a C compiler, and there is no {compiler.split()[0]}: install gcc, or leave IRIS_COMPILE away"
        )
    if not header.exists():
        sys.exit(
            f"IRIS_COMPILE=1 needs Python's headers, and there is no {header}: install python3-dev, or leave IRIS_COMPILE away"
        )
    try:
        from mypyc.build import mypycify
    except ModuleNotFoundError:
        sys.exit(
            "IRIS_COMPILE=1 needs mypy: install with pip's build isolation, or install mypy first"
        )
    options = [
        "--config-file=",
        "--ignore-missing-imports",
        "--follow-imports=silent",
        f"--cache-dir={target}",
    ]
    return mypycify([*options, *HOT], opt_level="3", group_name="iris_hot", target_dir=target)


if os.environ.get("IRIS_COMPILE") == "1":
    with tempfile.TemporaryDirectory() as scratch:  # instead of build/, which would be left behind
        extensions = compiled(scratch) if BUILDS & set(sys.argv) else []
        setup(
            ext_modules=extensions,
            setup_requires=["mypy>=2.4"],
            options={"build": {"build_base": scratch}},
        )
else:
    setup()
