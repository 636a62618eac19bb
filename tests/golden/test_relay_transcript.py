"""The clients of relay_transcript.json, replayed byte by byte against our relay.

It must answer as the Go node did, packet by packet.

What the protocol leaves free isn't compared: how streams are cut into segments; how allowances are
cut, and where among other packets they come (their sums must be the same); what the two connections
get at the same moment, which depends on who is asked first when a tunnel is built (the Go node
tells the caller of success first, which is one of its defects). Where the recording has a pause
before a client speaks, all that was received by then must have come here as well.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from iris.config import Config
from iris.crypto.keys import generate_key
from iris.node import Node
from iris.relay_protocol.schema import DEFAULT, Op
from iris.runtime.interfaces import interfaces
from tests.support.client import Raw
from tests.support.relay_node import running_relay

PAUSE = 100  # milliseconds
PATIENCE = 5.0  # seconds

Packet = tuple[Any, ...]


@dataclass
class Step:
    """Something that a client sends, gets (allowances left out) or sees.

    `closed` is the end of the stream, by whoever.
    """

    at: int
    send: bytes = b""
    get: tuple[Packet, ...] = ()
    closed: bool = False
    done: bool = False


def fields(op: Op, body: Any) -> Packet:
    return (op, *(value for key, value in body.items() if key not in ("_io", "magic")))


def recorded(conn: int) -> tuple[list[Step], Counter[int]]:
    """What one of the clients did and got, and the allowances that it got by tunnel."""
    events = json.loads(Path(__file__).with_name("relay_transcript.json").read_text())["events"]
    steps, allowed = [], Counter[int]()
    for event in (event for event in events if event["conn"] == conn):
        data = bytes.fromhex(event.get("bytes", ""))
        if event.get("closed"):
            steps.append(Step(event["t_ms"], closed=True))
        elif event["dir"] == "client->relay":
            steps.append(Step(event["t_ms"], send=data))
        else:
            packets = split(data)
            for op, *rest in packets:
                if op == Op.TUNNEL_ALLOW:
                    allowed[rest[0]] += rest[1]
            steps.append(
                Step(
                    event["t_ms"],
                    get=tuple(packet for packet in packets if packet[0] != Op.TUNNEL_ALLOW),
                )
            )
    return steps, allowed


def split(data: bytes) -> list[Packet]:
    """The packets that the node sent at a moment, which the recording cuts nowhere else."""
    stream, packets = BytesIO(data), []
    while stream.tell() < len(data):
        packet = DEFAULT.from_node.parse_stream(stream)
        packets.append(fields(packet.op, packet.body))
    return packets


class Replay:
    """Both clients, each in a thread of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.changed = threading.Condition()
        self.steps: dict[int, list[Step]] = {}
        self.allowed: dict[int, Counter[int]] = {}
        self.failures: list[BaseException] = []

    def run(self) -> None:
        for conn in (1, 2):
            self.steps[conn], self.allowed[conn] = recorded(conn)
        threads = [
            threading.Thread(target=self.guarded, args=(self.client, conn)) for conn in self.steps
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def guarded(self, run: Callable[[int], None], conn: int) -> None:
        try:
            run(conn)
        except BaseException as exc:
            self.failures.append(exc)

    def client(self, conn: int) -> None:
        raw, allowed = Raw(self.port), Counter[int]()
        for step in self.steps[conn]:
            if step.send:
                self.wait_for_others(step)
                raw.send_bytes(step.send)
            for want in step.get:
                while (got := fields(*raw.recv()))[0] == Op.TUNNEL_ALLOW:
                    allowed[got[1]] += got[2]
                assert got == want
            if step.closed:
                assert raw.at_end()
            with self.changed:
                step.done = True
                self.changed.notify_all()
        assert allowed == self.allowed[conn]

    def wait_for_others(self, step: Step) -> None:
        before = [
            other for steps in self.steps.values() for other in steps if other.at <= step.at - PAUSE
        ]
        with self.changed:
            assert self.changed.wait_for(lambda: all(other.done for other in before), PATIENCE), (
                "something recorded doesn't come"
            )


def test_the_recorded_clients_get_what_they_got_from_the_go_node() -> None:
    with running_relay() as relay:
        Replay(relay.port).run()


def test_they_get_it_from_a_whole_node() -> None:
    config = replace(Config(), relay=replace(Config().relay, port=0))
    node = Node(f"replay-{os.getpid()}", generate_key(), interfaces(["lo"]), config=config)
    node.start()
    try:
        Replay(node.relay_port).run()
    finally:
        node.stop(5.0)


def test_the_schemas_write_what_they_read_from_the_recording() -> None:
    for conn in (1, 2):
        events = json.loads(Path(__file__).with_name("relay_transcript.json").read_text())["events"]
        for direction, schema in (
            ("client->relay", DEFAULT.from_client),
            ("relay->client", DEFAULT.from_node),
        ):
            data = b"".join(
                bytes.fromhex(e.get("bytes", ""))
                for e in events
                if (e["conn"], e["dir"]) == (conn, direction)
            )
            stream, written = BytesIO(data), b""
            while stream.tell() < len(data):
                written += schema.build(schema.parse_stream(stream))
            assert written == data
