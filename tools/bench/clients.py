"""Our binding against NATS with TLS, each with a Python program at both ends on two hosts.

`--clients`. Shell.
"""

import contextlib
import datetime
import ipaddress
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.lab import Host
from tests.support.waiting import wait_for
from tools.bench.figures import TWO, Figure, Metric
from tools.bench.results import START, Results
from tools.bench.run import Report, network_key
from tools.bench.table import number
from tools.bench.testbed import NodeUnderTest, Testbed
from tools.bench.wire import Failure

NATS_PORT = 4222
_SIZE = 64
_RATE = Metric("per_second", "/s", True, {TWO: 1.0})
_P50, _P99 = Metric("p50", "µs", targets={TWO: 1.0}), Metric("p99", "µs")


def _figure(face: str, in_flight: int) -> Figure:
    metrics = (
        (_P50, _P99, Metric("per_second", "/s", True))
        if in_flight == 1
        else (_RATE, Metric("p50", "µs"), _P99)
    )
    return Figure(
        f"{face}-{in_flight}x{_SIZE}B",
        f"ask-{face}",
        metrics,
        f"serve-{face}",
        {"size": _SIZE},
        {"in_flight": in_flight},
    )


FIGURES = tuple(_figure(face, in_flight) for face in ("threads", "aio") for in_flight in (1, 256))


def unavailable() -> str | None:
    """Why there can be no comparison; None when there can."""
    if shutil.which("nats-server") is None:
        return "--clients needs nats-server (a Debian package)"
    try:
        import nats  # noqa: F401
    except ModuleNotFoundError:
        return "--clients needs nats-py: pip install 'iris-node[bench]'"
    return None


def run(
    ours: NodeUnderTest, *, pairs: int, seconds: float, warm_up: float, report: Report
) -> Results:
    """Measure both, figure by figure in turn."""
    results = Results([ours.name, "NATS"])
    with tempfile.TemporaryDirectory(prefix="irisbench") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        report("nodes and nats-server start")
        testbed = stack.enter_context(Testbed(ours, TWO, network_key(directory)))
        results.add(TWO, START.name, ours.name, testbed.start)
        server = testbed.hosts[-1]
        options = _nats_server(server, directory)
        for pair in range(1, pairs + 1):
            results.machine.append({"layout": TWO, **testbed.machine(seconds)})
            for figure in FIGURES:
                parts = []
                for candidate in results.candidates:
                    try:
                        facts = _measure(
                            testbed,
                            figure,
                            None if candidate == ours.name else options,
                            seconds,
                            warm_up,
                        )
                    except Failure as exc:
                        results.fail(TWO, figure.name, candidate, str(exc))
                        parts.append(f"{candidate} FAILED: {exc}")
                        continue
                    results.add(TWO, figure.name, candidate, facts)
                    first = figure.metrics[0]
                    parts.append(f"{candidate} {number(facts[first.key])} {first.unit}")
                report(f"{pair}/{pairs} {figure.name:16} {', '.join(parts)}")
    return results


def _measure(
    testbed: Testbed, figure: Figure, nats: Mapping[str, Any] | None, seconds: float, warm_up: float
) -> dict[str, Any]:
    """One run: of our binding, or with the same method of NATS's."""
    if nats is None:
        return testbed.measure(figure, seconds, warm_up, module="tools.bench.bindings")
    chain = figure.caller == "ask-threads" and figure.caller_options["in_flight"] > 1
    other = Figure(
        figure.name,
        "ask-nats",
        figure.metrics,
        "serve-nats",
        figure.options,
        {**figure.caller_options, "chain": chain},
    )
    pids = {"server": nats["pid"]}
    return testbed.measure(
        other, seconds, warm_up, module="tools.bench.bindings", at=nats["at"], pids=pids
    )


def _nats_server(host: Host, directory: Path) -> dict[str, Any]:
    """Start a server with TLS. Returns: where programs find it, and its process."""
    certificate, key = _certificate(host, directory)
    config = directory / "nats.conf"
    config.write_text(
        f'listen: "0.0.0.0:{NATS_PORT}"\ntls {{ cert_file: "{certificate}", key_file: "{key}" }}\n'
    )
    server = host.popen("nats-server", "-c", str(config), log="nats")
    wait_for(lambda: host.listens(NATS_PORT) or not server.running, 20.0, "nats-server")
    if not server.running:
        raise Failure(f"nats-server ended:\n{server.text()}")
    return {
        "pid": server.pid,
        "at": {"server": f"tls://{host.address}:{NATS_PORT}", "certificate": str(certificate)},
    }


def _certificate(host: Host, directory: Path) -> tuple[Path, Path]:
    """Make a certificate for a host, signed by itself. Returns: its file and its key's."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")]),
    )
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host.address))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = directory / "nats.pem", directory / "nats.key"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files
