"""Packaging entry point: setup.cfg declares everything but what is compiled, which is nothing unless IRIS_COMPILE=1 asks for it.

Compiled, the modules below are C extensions that mypyc makes of the same source. They do the same, in less time; docs/performance.md.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup

HOT = [  # a message's whole way through the node, in its order
    "iris/service/relay/attachment.py",
    "iris/service/relay/codec.py",
    "iris/service/relay/client.py",
    "iris/service/relay/tunnel.py",
    "iris/proto/iris/connection.py",
    "iris/proto/iris/requests.py",
    "iris/proto/iris/tunnel.py",
    "iris/proto/iris/tunnel_link.py",
    "iris/proto/iris/overlay.py",
    "iris/proto/scribe/overlay.py",
    "iris/proto/scribe/topic.py",
    "iris/balancer.py",
    "iris/proto/pastry/overlay.py",
    "iris/proto/pastry/routing.py",
    "iris/proto/pastry/table.py",
    "iris/proto/pastry/space.py",
    "iris/proto/session/session.py",
    "iris/gobber/record.py",
    "iris/proto/pastry/wire.py",
    "iris/proto/scribe/wire.py",
    "iris/proto/iris/wire.py",
    "iris/proto/message.py",
    "iris/proto/heads.py",
    "iris/proto/packet.py",
    "iris/proto/link.py",
    "iris/inbox.py",
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
BUILDS = {"build", "build_ext", "bdist_wheel", "editable_wheel", "install", "develop"}  # other commands only ask, or pack up the source


def compiled(target: str) -> list[Extension]:
    """What mypyc makes of the hot modules, in C, in a folder. Ends the installation, saying why, where that can't be done."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if shutil.which(compiler.split()[0]) is None:
        sys.exit(f"IRIS_COMPILE=1 needs a C compiler, and there is no {compiler.split()[0]}: install gcc, or leave IRIS_COMPILE away")
    if not header.exists():
        sys.exit(f"IRIS_COMPILE=1 needs Python's headers, and there is no {header}: install python3-dev, or leave IRIS_COMPILE away")
    try:
        from mypyc.build import mypycify
    except ModuleNotFoundError:
        sys.exit("IRIS_COMPILE=1 needs mypy: install with pip's build isolation, or install mypy first")
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent", f"--cache-dir={target}"]
    return mypycify([*options, *HOT], opt_level="3", group_name="iris_hot", target_dir=target)


if os.environ.get("IRIS_COMPILE") == "1":
    with tempfile.TemporaryDirectory() as scratch:  # instead of build/, which would be left behind
        extensions = compiled(scratch) if BUILDS & set(sys.argv) else []
        setup(ext_modules=extensions, setup_requires=["mypy>=2.4"], options={"build": {"build_base": scratch}})
else:
    setup()
