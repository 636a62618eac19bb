"""Hosts with addresses of their own on one machine.

Network namespaces, wired to a bridge that has a namespace too.

    with Lab() as lab:
        alice, bob = lab.host("alice", "10.77.0.1/24"), lab.host("bob", "10.77.0.2/24")
        node = lab.node(alice, "-net", "demo", key=path)  # python -m iris, in its namespace, or any
        other node's command
        lab.partition([alice], [bob])
        with bob.inside():
            ...  # sockets made here, and threads started here, are bob's

Needs root and iproute2. Nothing is left: neither at the end, nor, if a run was killed, after the
next run. The machine's own interfaces aren't touched. What all namespaces share is the kernel's ARP
table of 1,024 entries, and a node that searches fills one for each host that isn't there: small
subnets (/27) keep tests with many nodes, and tests side by side, from losing packets.
"""

import atexit
import contextlib
import ctypes
import functools
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from types import TracebackType

import psutil

from iris.runtime.interfaces import Interface
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
OURS = (sys.executable, "-m", "iris")  # our node's command
NOWHERE = "02:00:00:00:00:01"  # a MAC address that nobody has

_LABEL = "irislab"  # namespaces are called irislab-PID-NUMBER-HOST
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)


@functools.cache
def unavailable() -> str | None:
    """Why there can be no lab here; None when there can."""
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    if shutil.which("ip") is None:
        return "making network namespaces needs iproute2's ip"
    try:
        with Lab() as lab:
            lab.host("trial", "10.77.0.1/24").run("true")
    except subprocess.CalledProcessError as exc:
        return f"network namespaces can't be made here: {exc.stderr.strip()}"
    return None


class Process:
    """A program that runs on a host, with what it says in a file.

    SIGTERM's the graceful end, SIGKILL a crash, SIGSTOP a hang.
    """

    def __init__(
        self, host: "Host", args: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path
    ) -> None:
        self.host, self.log = host, log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                host.command(args),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **env},
            )
        self.pid = self._popen.pid  # the program's own: `ip netns exec` becomes it

    @property
    def running(self) -> bool:
        """Whether it hasn't ended."""
        return self._popen.poll() is None

    def text(self) -> str:
        """What it said so far."""
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def stop(self, timeout: float = 10.0) -> int:
        """End it gracefully; its exit code. Raises: TimeoutError when it doesn't (and kills it)."""
        self.signal(signal.SIGTERM)
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(
                f"{self.log.name} didn't stop within {timeout} s:\n{self.text()}"
            ) from None

    def kill(self) -> None:
        """End it at once, as a crash would. Idempotent."""
        self._popen.kill()
        self._popen.wait()


class Host:
    """One namespace. Made by `Lab.host`.

    Its links are called e0, e1 … in the order of its addresses.
    """

    def __init__(
        self, lab: "Lab", name: str, namespace: str, addresses: Sequence[IPv4Interface]
    ) -> None:
        self._lab, self.name, self.namespace = lab, name, namespace
        self.address = str(addresses[0].ip) if addresses else "127.0.0.1"
        self.interfaces = [
            Interface(f"e{i}", address.ip, address.network) for i, address in enumerate(addresses)
        ]
        self.ports: list[str] = []  # the bridge's end of each link

    def command(self, args: Sequence[str]) -> list[str]:
        """The command that runs a program here, from anywhere."""
        return ["ip", "netns", "exec", self.namespace, *args]

    def run(self, *args: str, timeout: float = 30.0) -> str:
        """Run a program to its end; what it printed. Raises: CalledProcessError."""
        return _output(*self.command(args), timeout=timeout)

    def popen(
        self,
        *args: str,
        log: str = "program",
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> Process:
        """Start a program; the lab kills it at its end, if it's still there."""
        process = Process(
            self,
            args,
            self._lab.directory / f"{self.name}-{log}-{next(_numbers)}.log",
            env or {},
            cwd,
        )
        self._lab.processes.append(process)
        return process

    def python(
        self, *args: str, log: str = "python", env: Mapping[str, str] | None = None
    ) -> Process:
        """Start this Python with these arguments."""
        return self.popen(sys.executable, *args, log=log, env=env)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Put the calling thread on this host.

        For sockets made and threads started in the block, as long as they live.
        """
        with (
            open("/proc/thread-self/ns/net") as before,
            open(f"/run/netns/{self.namespace}") as there,
        ):
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(before.fileno())

    def connect(self, port: int, address: str = "127.0.0.1", timeout: float = 1.0) -> socket.socket:
        """A TCP connection from this host, by default to itself."""
        with self.inside():
            return socket.create_connection((address, port), timeout)

    def listens(self, port: int, address: str = "127.0.0.1") -> bool:
        """Whether a TCP port takes connections."""
        try:
            self.connect(port, address).close()
        except OSError:
            return False
        return True

    def unplug(self) -> None:
        """Take the cables out. The host isn't told: its own links stay up."""
        _ip(self._lab.switch, *(f"link set {port} nomaster" for port in self.ports))

    def plug(self) -> None:
        """Put the cables in again."""
        _ip(self._lab.switch, *(f"link set {port} master br0" for port in self.ports))


class Lab:
    """All hosts of one test. Removes them at its end, with whatever runs on them."""

    def __init__(self, directory: Path | None = None) -> None:
        """Keep what programs say in `directory`, which the caller removes.

        By default in a temporary one.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix=_LABEL) if directory is None else None
        self.directory = directory or Path(self._temporary.name if self._temporary else "")
        self.processes: list[Process] = []
        self._prefix = f"{_LABEL}-{os.getpid()}-{next(_numbers)}-"
        self._namespaces: list[str] = []
        self._hosts: list[Host] = []
        self.switch = ""

    def __enter__(self) -> "Lab":
        _remove_leftovers()
        atexit.register(self.close)
        try:
            self.switch = self._namespace("switch")
            _ip(self.switch, "link add br0 type bridge", "link set br0 up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _namespace(self, name: str) -> str:
        namespace = self._prefix + name
        self._namespaces.append(namespace)  # first, so that it's removed whatever happens
        _output("ip", "netns", "add", namespace)
        return namespace

    def host(self, name: str, *addresses: str) -> Host:
        """Add a host, at any time.

        Each address ("10.77.0.1/24") gets a link of its own to the one bridge.
        """
        host = Host(
            self, name, self._namespace(name), [IPv4Interface(address) for address in addresses]
        )
        commands = ["link set lo up"]
        for interface, address in zip(host.interfaces, addresses, strict=True):
            port = f"p{next(_numbers)}"
            host.ports.append(port)
            commands.append(
                f"link add {interface.name} type veth peer name {port} netns {self.switch}"
            )
            commands += [
                f"addr add {address} dev {interface.name}",
                f"link set {interface.name} up",
            ]
        _ip(host.namespace, *commands)
        _ip(self.switch, *(f"link set {port} master br0 up" for port in host.ports))
        self._hosts.append(host)
        return host

    def partition(
        self, some: Sequence[Host], others: Sequence[Host], *, both_ways: bool = True
    ) -> None:
        """Lose every packet from `some` to `others`, silently.

        By default also those from `others` to `some`.
        """
        self._neighbours(some, others, f"replace {{}} lladdr {NOWHERE} nud permanent")
        if both_ways:
            self._neighbours(others, some, f"replace {{}} lladdr {NOWHERE} nud permanent")

    def heal(self) -> None:
        """Undo all partitions."""
        for host in self._hosts:
            lost = re.findall(
                rf"^(\S+) dev \S+ lladdr {NOWHERE}",
                _output("ip", "-n", host.namespace, "neigh"),
                re.MULTILINE,
            )
            self._neighbours(
                [host], self._hosts, "del {}", only=[IPv4Address(address) for address in lost]
            )

    def _neighbours(
        self,
        some: Sequence[Host],
        others: Sequence[Host],
        action: str,
        only: Sequence[IPv4Address] | None = None,
    ) -> None:
        for host in some:
            commands = [
                f"neigh {action.format(other.address)} dev {own.name}"
                for own in host.interfaces
                for other in itertools.chain.from_iterable(
                    each.interfaces for each in others if each is not host
                )
                if other.address in own.network and (only is None or other.address in only)
            ]
            _ip(host.namespace, *commands)

    def node(
        self,
        host: Host,
        *flags: str,
        key: Path | None = None,
        port: int = 55555,
        timeout: float = 30.0,
        command: Sequence[str] = OURS,
    ) -> Process:
        """Start a node and wait until clients can attach. Raises.

        RuntimeError with what it said, when it ends or takes too long.
        """
        args = [*command, *flags, *(("-rsa", str(key)) if key else ()), "-port", str(port)]
        return await_node(host.popen(*args, log="node"), port, timeout)

    def close(self) -> None:
        """Remove everything. Idempotent."""
        for process in self.processes:
            process.kill()
        while self._namespaces:
            _remove(self._namespaces[-1])
            self._namespaces.pop()
        if self._temporary is not None:
            self._temporary.cleanup()
        atexit.unregister(self.close)


def await_node(process: Process, port: int, timeout: float) -> Process:
    """Wait until clients can attach to a node. Raises.

    RuntimeError with what it said, when it ends or takes too long.
    """
    try:
        wait_for(
            lambda: process.host.listens(port) or not process.running,
            timeout,
            "a node that takes clients",
        )
    except TimeoutError as exc:
        process.kill()
        raise RuntimeError(f"{exc}:\n{process.text()}") from None
    if not process.running:
        raise RuntimeError(f"the node ended:\n{process.text()}")
    return process


def _remove_leftovers() -> None:
    """Remove what killed runs left: namespaces that carry the id of a process that is gone."""
    if not os.path.isdir("/run/netns"):
        return
    for namespace in os.listdir("/run/netns"):
        owner = re.match(rf"{_LABEL}-(\d+)-", namespace)
        if owner and not psutil.pid_exists(int(owner[1])):
            _remove(namespace)


def _remove(namespace: str) -> None:
    """Kill what runs in a namespace of ours, and remove it.

    One that is gone already is fine, since other runs tidy up too.
    """
    if not os.path.exists(f"/run/netns/{namespace}"):
        return
    inhabitants = subprocess.run(
        ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False
    ).stdout.split()
    for pid in map(int, inhabitants):
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


def _setns(fd: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(namespace: str, *commands: str) -> None:
    """Have ip do all of these in a namespace. Raises.

    CalledProcessError, having stopped at the first that failed.
    """
    _output(
        "ip", "-n", namespace, "-batch", "-", stdin="".join(f"{command}\n" for command in commands)
    )


def _output(*args: str, stdin: str | None = None, timeout: float = 30.0) -> str:
    return subprocess.run(
        args, input=stdin, capture_output=True, text=True, check=True, timeout=timeout
    ).stdout
