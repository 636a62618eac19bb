"""The nodes that are measured.

A candidate's nodes on one or two hosts of a lab, with the drivers beside them. Shell.
"""

import contextlib
import itertools
import json
import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.lab import OURS, ROOT, Host, Lab, Process, await_node
from tools.bench import asking, standing
from tools.bench.figures import CROWDS, ONE, Figure
from tools.bench.shared_counters import SharedCounters
from tools.bench.wire import Failure

PORT = 55555
DRIVER = "tools.bench.driver"  # what plays most roles
_BOOT = 60.0  # seconds until a node takes clients; a lone Go node takes more than ten
_MARGIN = 45.0  # seconds that a driver may take beyond what it measures
_END = 3.0  # seconds that a driver may take to end
_PROBE = {"port": PORT, "cluster": "reach", "size": 64}


@dataclass(frozen=True)
class NodeUnderTest:
    """A node program: its command, and where and with what it is run."""

    name: str
    command: tuple[str, ...]
    cwd: Path = ROOT
    env: Mapping[str, str] | None = None
    checkout: bool = False  # of ours


def candidate(text: str, name: str = "") -> NodeUnderTest:
    """What a user names.

    A checkout of ours (a directory), or a command, which may be a binary alone. Raises: ValueError.
    """
    path = Path(text).resolve()
    if text and path.is_dir():
        python = path / ".venv" / "bin" / "python"
        found = NodeUnderTest(
            name or path.name,
            (str(python) if python.exists() else sys.executable, "-m", "iris"),
            path,
            {"PYTHONPATH": str(path)},
            checkout=True,
        )
        probe = [found.command[0], "-c", "import iris; print(iris.__file__)"]
        run = subprocess.run(
            probe,
            cwd=path,
            env={**os.environ, **(found.env or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        if not run.stdout.startswith(str(path)):
            raise ValueError(
                f"{text} is no checkout with a package iris: {run.stdout or run.stderr}"
            )
        return found
    command = shlex.split(text)
    if not command or not (
        os.access(command[0], os.X_OK)
        or any(os.access(Path(d, command[0]), os.X_OK) for d in os.get_exec_path())
    ):
        raise ValueError(f"{text!r} is neither a directory nor a command")
    if len(command) == 1 and path.is_file():
        return NodeUnderTest(name or f"{path.parent.name}/{path.name}", (str(path),))
    return NodeUnderTest(name or Path(command[0]).name, tuple(command))


def ours(command: str | None) -> NodeUnderTest:
    """Our node: this one, unless the user names another."""
    return NodeUnderTest("ours", OURS) if command is None else candidate(command, "ours")


class Driver:
    """One driver's process."""

    def __init__(
        self,
        host: Host,
        role: str,
        options: Mapping[str, Any],
        log: Path,
        pass_fds: Sequence[int] = (),
        module: str = DRIVER,
    ) -> None:
        args = host.command([sys.executable, "-m", module, role, json.dumps(options)])
        self._role, self._log = role, log
        with log.open("ab") as errors:
            self._popen = subprocess.Popen(
                args,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                pass_fds=pass_fds,
            )
        self.pid = self._popen.pid

    def line(self, timeout: float) -> str:
        """What it says next. Raises: Failure when it doesn't, or failed."""
        assert self._popen.stdout is not None
        if not select.select([self._popen.stdout], [], [], timeout)[0]:
            raise Failure(f"the driver for {self._role} reported nothing for {timeout:.0f} s")
        text = self._popen.stdout.readline()
        if not text:
            raise Failure(f"the driver for {self._role} ended:\n{self._log.read_text()}")
        if text.startswith('{"error"'):
            raise Failure(json.loads(text)["error"])
        return text

    def facts(self, timeout: float) -> dict[str, Any]:
        """What it found. Raises: Failure."""
        found: dict[str, Any] = json.loads(self.line(timeout))
        return found

    def check(self) -> None:
        """See that one that serves still does. Raises: Failure."""
        if self._popen.poll() is not None:
            self.line(1.0)

    def end(self) -> None:
        """End it, if it's still there."""
        self._popen.terminate()
        try:
            self._popen.wait(_END)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


class Testbed:
    """Nodes of one candidate, running in a lab of their own, as long as it's entered."""

    def __init__(
        self, candidate: NodeUnderTest, layout: str, key: Path, count: int | None = None
    ) -> None:
        """count: nodes, if the layout doesn't tell.

        The first one has the caller, and the last one the callee.
        """
        self.candidate, self.layout = candidate, layout
        self._count = count or (1 if layout == ONE else 2)
        self._key, self._lab = key, Lab()
        self.hosts: list[Host] = []
        self.nodes: list[Process] = []
        # seconds: until clients can attach, and until a request is answered
        self.start: dict[str, float] = {}

    def __enter__(self) -> "Testbed":
        self._lab.__enter__()
        try:
            self._start()
        except BaseException:
            self._lab.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lab.close()

    def _start(self) -> None:
        # no larger than it must be, as all hosts share one ARP table
        prefix = min(29, 32 - (self._count + 1).bit_length())
        self.hosts = [
            self._lab.host(f"h{i}", f"10.77.0.{i}/{prefix}") for i in range(1, self._count + 1)
        ]
        flags = ("-net", "bench", "-rsa", str(self._key), "-port", str(PORT))
        began = time.monotonic()
        self.nodes = [
            host.popen(
                *self.candidate.command,
                *flags,
                log="node",
                env=self.candidate.env,
                cwd=self.candidate.cwd,
            )
            for host in self.hosts
        ]
        try:
            await_node(self.nodes[0], PORT, _BOOT)
            joined = time.monotonic()
            for node in self.nodes[1:]:
                await_node(node, PORT, _BOOT)
        except RuntimeError as exc:
            raise Failure(str(exc)) from exc
        with self.callee("serve", _PROBE), self.driver(self.hosts[0], "reach", _PROBE) as caller:
            reached = caller.facts(_MARGIN)["at"]
            for host in self.hosts[1:-1]:
                with host.inside():
                    asking.reach(**_PROBE)  # type: ignore[arg-type]
                reached = time.monotonic()
        self.start = {"join": joined - began, "converge": reached - began}

    @property
    def pids(self) -> dict[str, int]:
        """The nodes' processes: "node"; "node a" and "node b"; or "node 1" and so on."""
        names = (
            ("node",)
            if self._count == 1
            else ("node a", "node b")
            if self._count == 2
            else map("node {}".format, itertools.count(1))
        )
        return {name: node.pid for name, node in zip(names, self.nodes, strict=False)}

    def received(self) -> int:
        """Bytes that all hosts got from each other so far."""
        total = 0
        for host in self.hosts:
            with host.inside():
                lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.lstrip().startswith("e0:"))
        return total

    def machine(self, seconds: float) -> dict[str, Any]:
        """What the machine can do at the moment; takes half of so many seconds, and at most one."""
        with self.driver(self.hosts[0], "machine", {"part": min(0.25, seconds / 8)}) as driver:
            return driver.facts(_MARGIN)

    def measure(
        self,
        figure: Figure,
        seconds: float,
        warm_up: float,
        *,
        module: str = DRIVER,
        at: Mapping[str, Any] | None = None,
        pids: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """One run of a figure. Raises: Failure.

        module: what plays the roles; at: options with the port to attach to (default: a node's);
        pids: then, whose CPU time counts.
        """
        if figure.caller == "idle":
            return standing.idle(self.nodes[0], seconds)
        if figure.caller == "clients":
            return self._crowds()
        pids = dict(pids or self.pids)
        options = {**(at or {"port": PORT}), "cluster": figure.name, **figure.options}
        with contextlib.ExitStack() as stack:
            at_caller, at_callee = stack.enter_context(shared(figure.shared))
            if figure.callee is not None:
                callee = stack.enter_context(
                    self.callee(
                        figure.callee, {**options, **at_callee}, tuple(at_callee.values()), module
                    )
                )
                pids["callee"] = callee.pid
            times = {"warm_up": warm_up, "seconds": seconds, "pids": pids}
            options = {**options, **times, **figure.caller_options, **at_caller}
            caller = stack.enter_context(
                self.driver(
                    self.hosts[0], figure.caller, options, tuple(at_caller.values()), module
                )
            )
            try:
                facts = caller.facts(warm_up + seconds + _MARGIN)
                if figure.callee is not None:
                    callee.check()
            except Failure:
                self.check_nodes()  # which is why, then
                if figure.callee is not None:
                    callee.check()  # which may know better
                raise
        self.check_nodes()
        return facts

    def check_nodes(self) -> None:
        """See that all nodes are there. Raises: Failure."""
        for node in self.nodes:
            if not node.running:
                raise Failure(f"a node ended:\n{node.text()[-2_000:]}")

    def _crowds(self) -> dict[str, Any]:
        """Memory and threads of the node with more and more clients."""
        facts: dict[str, Any] = {}
        with contextlib.ExitStack() as stack:
            there = 0
            for clients in CROWDS:
                if clients > there:
                    stack.enter_context(
                        self.callee("crowd", {"port": PORT, "clients": clients - there})
                    )
                    there = clients
                for what, value in standing.size(self.nodes[0]).items():
                    facts[f"{what}_at_{clients}"] = value
        return facts

    @contextlib.contextmanager
    def callee(
        self,
        role: str,
        options: Mapping[str, Any],
        pass_fds: Sequence[int] = (),
        module: str = DRIVER,
    ) -> Iterator[Driver]:
        """Run a driver at the last node; yield once it is ready. Raises: Failure if it isn't."""
        with self.driver(self.hosts[-1], role, options, pass_fds, module) as driver:
            if driver.line(_MARGIN) != "ready\n":
                raise Failure(f"the driver for {role} isn't ready")
            yield driver

    @contextlib.contextmanager
    def driver(
        self,
        host: Host,
        role: str,
        options: Mapping[str, Any],
        pass_fds: Sequence[int] = (),
        module: str = DRIVER,
    ) -> Iterator[Driver]:
        """A driver on a host, as long as it's entered."""
        driver = Driver(
            host, role, options, self._lab.directory / f"{role}-{host.name}.log", pass_fds, module
        )
        try:
            yield driver
        finally:
            driver.end()


@contextlib.contextmanager
def shared(what: Sequence[str]) -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    """What the drivers of a figure share. Returns.

    File descriptors by option, of the caller and of the callee.
    """
    caller: dict[str, int] = {}
    callee: dict[str, int] = {}
    try:
        if "board" in what:
            caller["board"] = callee["board"] = SharedCounters.new()
        if "ack" in what:
            caller["ack"], callee["ack"] = os.pipe()
        yield caller, callee
    finally:
        for fd in {*caller.values(), *callee.values()}:
            os.close(fd)
