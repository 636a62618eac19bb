"""The proxy: between clients and a relay of ours, and between sockets that say anything."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iris.relay_protocol.schema import DEFAULT, VERSION, Op
from iris.relaycheck.proxy import Proxy
from iris.relaycheck.report import Report
from iris.relaycheck.rules import RULES
from tests.support.client import Client, Fault, Raw, TimedOut
from tests.support.node import ROOT, free_port
from tests.support.relay_node import running_relay

MIB = 1 << 20


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with running_relay() as relay:
        proxy = Proxy(0, relay.port)
        try:
            yield proxy
        finally:
            proxy.close()


def broken(report: Report) -> set[str]:
    return {check.id for check in report.checks if not check.passed}


def test_everything_passes_unchanged_and_nothing_is_violated(proxy: Proxy) -> None:
    def serve(data: bytes) -> bytes:
        if data == b"fail":
            raise Fault("no")
        return data[::-1]

    with Client(proxy.port, "c", on_request=serve) as service, Client(proxy.port) as client:
        assert client.request("c", bytes(range(256)) * 1_000) == (bytes(range(256)) * 1_000)[::-1]
        with pytest.raises(Fault):
            client.request("c", b"fail")
        with pytest.raises(TimedOut):
            client.request("nobody", b"", 0.05)
        client.subscribe("t")
        client.publish("t", b"event")
        assert client.events.get(timeout=5) == ("t", b"event")
        client.unsubscribe("t")
        client.broadcast("c", b"all")
        assert service.broadcasts.get(timeout=5) == b"all"
        tunnel = client.tunnel("c")
        other = service.tunnels.get(timeout=5)
        message = bytes(range(251)) * (9 * MIB // 251)
        tunnel.send(message)
        assert other.recv() == message
        other.send(message)
        assert tunnel.recv() == message
        tunnel.close()
        assert other.wait_closed() == ""
    Client(proxy.port).vanish()
    assert proxy.wait_idle(5)
    report = proxy.close()
    assert report.passed, report.table()
    assert report.connections == 3
    assert report.packets["client", "REQUEST"] == 3
    assert report.packets["node", "TUNNEL_CLOSE"] == 2
    assert len(report.checks) == len(RULES)


def test_a_client_that_breaks_the_rules_is_named_and_the_node_is_not(proxy: Proxy) -> None:
    raw = Raw(proxy.port).init()
    raw.send(Op.UNSUBSCRIBE, topic="t")
    raw.expect(Op.CLOSE)
    assert raw.at_end()
    raw.close()
    assert proxy.wait_idle(5)
    assert broken(proxy.close()) == {"topic.unknown"}


@contextlib.contextmanager
def scripted(answer: bytes) -> Iterator[Proxy]:
    """A proxy before a node that says this to anybody, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(0, listener.getsockname()[1])
        raw = Raw(proxy.port)
        raw.send(Op.INIT, version=VERSION, cluster="")
        node, _ = listener.accept()
        with node:
            assert node.recv(100)
            node.sendall(answer)
        while raw.sock.recv(100):
            pass
        raw.close()
        assert proxy.wait_idle(5)
        try:
            yield proxy
        finally:
            proxy.close()


def test_a_node_that_breaks_the_rules_is_named() -> None:
    init = DEFAULT.node(Op.INIT, version=VERSION)
    for answer, rules in (
        (init, {"close.word"}),
        (init + DEFAULT.node(Op.CLOSE, reason="") + init, {"close.last"}),
        (b"", {"open.answer"}),
        (init[:5], {"open.answer", "value.whole"}),
    ):
        with scripted(answer) as proxy:
            assert broken(proxy.close()) == rules


def test_a_failing_checker_delays_no_client_and_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running_relay() as relay:
        proxy = Proxy(0, relay.port)
        # so that nobody may be kept waiting
        monkeypatch.setattr("iris.relaycheck.proxy._QUEUE_LIMIT", 1_000)
        monkeypatch.setattr("iris.relaycheck.checker.ConformanceChecker.feed", lambda *_: 1 // 0)
        with Client(proxy.port, "c", on_request=lambda data: data), Client(proxy.port) as client:
            for _ in range(10):
                assert client.request("c", bytes(1_000)) == bytes(1_000)
        with pytest.raises(RuntimeError, match="the checker failed"):
            proxy.close()


def test_who_attaches_without_a_node_is_hung_up_on() -> None:
    proxy = Proxy(0, free_port())
    raw = Raw(proxy.port)
    assert raw.at_end()
    raw.close()
    assert proxy.close().connections == 0


@pytest.mark.parametrize("once", [False, True])
def test_the_command_line(tmp_path: Path, once: bool) -> None:
    with running_relay() as relay:
        port, junit = free_port(), tmp_path / "junit.xml"
        flags = [
            "--listen",
            str(port),
            "--node",
            str(relay.port),
            "--json",
            "--junit",
            str(junit),
            *["--once"][: int(once)],
        ]
        process = subprocess.Popen(
            [sys.executable, ROOT / "tools" / "relaycheck", "proxy", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )
        try:
            assert process.stderr is not None
            assert b"forwarding" in process.stderr.readline()
            raw = Raw(port).init()
            raw.send_bytes(b"\x0e")
            raw.expect(Op.CLOSE)
            assert raw.at_end()
            raw.close()
            if not once:
                process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=10)[0]
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 1
        assert [check["id"] for check in json.loads(output)["checks"] if not check["passed"]] == [
            "value.opcode"
        ]
        assert 'failures="1"' in junit.read_text()


def test_usage_is_exit_code_2() -> None:
    for flags in (["proxy"], ["proxy", "--listen", "0", "--node", "1"], []):
        assert (
            subprocess.run(
                [sys.executable, ROOT / "tools" / "relaycheck", *flags],
                capture_output=True,
                check=False,
            ).returncode
            == 2
        )
