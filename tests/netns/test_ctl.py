"""A file from one host to another by `irisctl tunnel`. By hand with more.

IRISCTL_MIB=1024, and what the processes take is printed (-s).
"""

import hashlib
import os
import random
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import hosts, start
from tests.support.lab import Lab, Process
from tests.support.waiting import wait_for

pytestmark = pytest.mark.netns

MIB = int(os.environ.get("IRISCTL_MIB", "32"))
ROOM = 200  # MiB that a process may take more than before: what waits in a tunnel, but no file


def resident(processes: dict[str, Process]) -> dict[str, int]:
    """MiB of each process that is there."""
    return {
        name: psutil.Process(each.pid).memory_info().rss >> 20
        for name, each in processes.items()
        if each.running
    }


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("victim", ["sender", "its node"])
def test_a_file_that_is_cut_off_is_told_from_a_whole_one(
    lab: Lab, key_file: Path, tmp_path: Path, victim: str
) -> None:
    nodes = [start(lab, key_file, host) for host in hosts(lab, 2)]
    command = f"exec {sys.executable} -m iris.ctl tunnel files"
    target = tmp_path / "target"
    receiver = nodes[0].host.popen(
        "sh", "-c", f"{command[5:]} --accept --receive --verbose > {target}; echo code $?"
    )
    wait_for(lambda: "attached" in receiver.text(), 10.0, "a receiver")
    sender = nodes[1].host.popen(
        "sh", "-c", f"(echo all of this; exec sleep 30) | {command} --send --timeout 30"
    )
    wait_for(lambda: target.read_bytes() == b"all of this\n", 40.0, "what was sent")
    if victim == "sender":
        next(
            each
            for each in psutil.Process(sender.pid).children(recursive=True)
            if "iris.ctl" in each.cmdline()
        ).kill()
    else:
        nodes[1].process.kill()
    wait_for(lambda: "code 1" in receiver.text(), 10.0, "the end of the receiver")
    assert (
        "irisctl: the tunnel was cut off: the other application disconnected, or its node"
        in receiver.text()
    )
    assert target.read_bytes() == b"all of this\n"


def test_a_file_goes_from_host_to_host(lab: Lab, key_file: Path, tmp_path: Path) -> None:
    source, target, chance = tmp_path / "source", tmp_path / "target", random.Random(7)
    with source.open("wb") as file:
        for _ in range(MIB):
            file.write(chance.randbytes(1 << 20))
    nodes = [start(lab, key_file, host) for host in hosts(lab, 2)]
    command = f"exec {sys.executable} -m iris.ctl tunnel files"
    receiver = nodes[0].host.popen("sh", "-c", f"{command} --accept --receive --verbose > {target}")
    wait_for(lambda: "attached" in receiver.text(), 10.0, "a receiver")
    processes = {
        "sending node": nodes[1].process,
        "receiving node": nodes[0].process,
        "receiver": receiver,
    }
    time.sleep(1.0)
    before = resident(processes)
    sender = nodes[1].host.popen("sh", "-c", f"{command} --send --timeout 30 --verbose < {source}")
    processes["sender"] = sender
    wait_for(lambda: "built a tunnel" in sender.text(), 30.0, "a tunnel")
    began, seen = time.monotonic(), [resident(processes)]
    while receiver.running or sender.running:
        assert time.monotonic() - began < 110.0, "it takes too long"
        time.sleep(0.1)
        seen.append(resident(processes))
    took = time.monotonic() - began
    assert "irisctl: iris-1: closed" in sender.text()
    assert digest(source) == digest(target)
    most = {name: max(sample.get(name, 0) for sample in seen) for name in processes}
    middle, after = seen[len(seen) // 2], resident(processes)
    print(
        f"\n{MIB} MiB in {took:.1f} s, {MIB / took:.1f} MiB/s\nRSS in MiB: before {before}\n"
        f"middle {middle}\nat most {most}\nafter {after}"
    )
    first = {**before, "sender": before["receiver"]}
    assert all(most[name] - first[name] < ROOM for name in most), (before, most)
