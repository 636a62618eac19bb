"""Packaging entry point: setup.cfg declares everything but what is compiled.

The modules below become C extensions, which mypyc makes of the same source; they do the same in
half the time (docs/performance.md). IRIS_COMPILE=1 requires that, IRIS_COMPILE=0 leaves it; unset,
what can't be compiled is installed as pure Python. Editable installations are pure Python.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

HOT = [  # a message's whole way through the node, in its order
    "iris/service/relay/connection.py",
    "iris/relay_protocol/varint.py",
    "iris/relay_protocol/parser.py",
    "iris/relay_protocol/node_packets.py",
    "iris/service/relay/base.py",
    "iris/service/relay/session.py",
    "iris/service/relay/writer.py",
    "iris/service/relay/client_tunnels.py",
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
BUILDS = {"build", "build_ext", "bdist_wheel", "install"}  # other commands compile nothing
EDITABLE = {"editable_wheel", "develop"}
COMMANDS = set(sys.argv)
CORES = len(os.sched_getaffinity(0))


class ParallelBuild(build_ext):
    """Compiles the C files of an extension side by side, not only the extensions."""

    def build_extensions(self) -> None:
        """Build all extensions."""
        compile_in_turn = self.compiler.compile

        def compile_all(sources: list[str], **options: object) -> list[str]:
            with ThreadPoolExecutor(CORES) as pool:
                objects = pool.map(lambda source: compile_in_turn([source], **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_all
        super().build_extensions()


def obstacle() -> str | None:
    """Tell what is missing to compile."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    if not header.exists():
        return f"there are no Python headers ({header})"
    if BUILDS & COMMANDS and find_spec("mypyc") is None:
        return "there is no mypy, which pip's build isolation brings"
    return None


def extensions(target: str) -> list[Extension]:
    """Translate the hot modules to C, into the directory `target`.

    Raises: SystemExit where mypy finds errors; it prints them.
    """
    from mypyc.build import mypycify

    options = [
        "--config-file=",
        "--ignore-missing-imports",
        "--follow-imports=silent",
        f"--cache-dir={target}",
    ]
    made = mypycify(
        [*options, *HOT],
        opt_level="2",
        debug_level="0",
        multi_file=True,
        group_name="iris_hot",
        target_dir=target,
    )
    # one of the warnings that Python asks for takes as long as all the rest of the compilation
    flags = ["-fvisibility=hidden", "-Wno-misleading-indentation"]
    for extension in made:
        extension.extra_compile_args = [*extension.extra_compile_args, *flags]
    return made


def install(scratch: str, *, compiled: bool, note: str = "") -> None:
    """Run setuptools with `scratch` for what would be left behind in the checkout.

    `note` tells in the installed package why it isn't compiled.
    """

    class AnnotatedBuild(build_py):
        def run(self) -> None:
            super().run()
            if note:
                Path(self.build_lib, "iris/runtime/not_compiled.txt").write_text(note)

    options: dict[str, dict[str, object]] = {
        "build": {"build_base": scratch},
        "build_ext": {"parallel": CORES},
    }
    if not EDITABLE & COMMANDS:
        options["egg_info"] = {"egg_base": scratch}
    setup(
        ext_modules=extensions(scratch) if compiled and BUILDS & COMMANDS else [],
        setup_requires=["mypy>=2.4"] if compiled else [],
        cmdclass={"build_ext": ParallelBuild, "build_py": AnnotatedBuild},
        options=options,
    )


def main() -> None:
    """Install compiled where that is wanted and possible, else as pure Python."""
    choice, building = os.environ.get("IRIS_COMPILE"), bool(BUILDS & COMMANDS)
    if choice == "1" and EDITABLE & COMMANDS:
        sys.exit("IRIS_COMPILE=1: an editable installation is pure Python; leave one of them away")
    note = ""
    if choice != "0" and not EDITABLE & COMMANDS:
        reason = obstacle()
        if reason is None:
            try:
                with tempfile.TemporaryDirectory() as scratch:
                    install(scratch, compiled=True)
                return
            except SystemExit:
                if choice == "1" or not building:
                    raise
                reason = "compiling failed (pip install -v tells more)"
        if choice == "1":
            sys.exit(f"IRIS_COMPILE=1: {reason}")
        note = f"{reason}; compiled it carries twice as many requests"
        if building:
            print(f"iris: installing as pure Python: {note}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        install(scratch, compiled=False, note=note)


main()
