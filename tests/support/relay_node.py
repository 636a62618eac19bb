"""A relay that listens on a free port, above a node of `FakeNetwork`, in real time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from iris.config import Config
from iris.runtime.timer import Timer
from iris.service.relay.server import Overlay, RelayServer
from tests.support.client import Raw
from tests.support.fake_scribe import FakeNetwork


def relay_config(*, limits: dict[str, int] | None = None, **relay: Any) -> Config:
    """Settings that differ in these; the port is a free one."""
    default = Config()
    return replace(
        default,
        limits=replace(default.limits, **(limits or {})),
        relay=replace(default.relay, port=0, **relay),
    )


@contextmanager
def running_relay(
    config: Config | None = None, overlay: Overlay | None = None, timer: Timer | None = None
) -> Iterator[RelayServer]:
    """A relay, closed at the end."""
    config, own_timer = config or relay_config(), timer or Timer()
    if timer is None:
        own_timer.start()
    relay = RelayServer(
        overlay or FakeNetwork(real_timer=own_timer, config=config)[1],
        config=config,
        timer=own_timer,
    )
    relay.start()
    try:
        yield relay
    finally:
        relay.close("the test is over")
        if timer is None:
            own_timer.close()


_open: list[Raw] = []


def connect(relay: RelayServer) -> Raw:
    """A connection that is gone before the relay closes, unless the test closes it."""
    _open.append(Raw(relay.port))
    return _open[-1]


def attach(relay: RelayServer, cluster: str = "") -> Raw:
    return connect(relay).init(cluster)


@contextmanager
def running(config: Config | None = None, overlay: Overlay | None = None) -> Iterator[RelayServer]:
    """A relay, and no connections of `connect` left when it closes."""
    with running_relay(config, overlay) as relay:
        try:
            yield relay
        finally:
            while _open:
                _open.pop().close()
