"""Services with threads, against a fake node."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import iris
from iris.client.dispatcher import Dispatcher
from iris.relay_protocol.schema import MESSAGE_SIZE, Op
from tests.support.fake_frontend import FakeEnd, FakeFrontend, FakePool
from tests.support.fake_node import FakeNode

PATIENCE = 10.0  # seconds


@contextlib.contextmanager
def registered(
    handler: iris.Handler | Callable[[bytes], Any], **limits: int
) -> Iterator[tuple[FakeNode, iris.Service]]:
    with FakeNode() as node:
        welcome = node.accept_soon()
        service = iris.register("c", handler, iris.ServiceLimits(**limits), port=node.port)
        welcome.join()
        assert node.cluster == "c"
        try:
            yield node, service
        finally:
            node.vanish()
            service.close()


def ask(node: FakeNode, number: int, request: bytes = b"", timeout: int = 60_000) -> None:
    node.send(Op.REQUEST, id=number, request=request, timeout=timeout)


def answer(node: FakeNode) -> tuple[int, bool, Any]:
    body = node.expect(Op.REPLY)
    return body.id, body.success, body.result


def test_a_function_is_a_service() -> None:
    with registered(lambda request: request * 2) as (node, service):
        assert service.cluster == "c"
        ask(node, 3, b"ab")
        assert answer(node) == (3, True, b"abab")


def test_a_failing_handler_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    handler = iris.Handler()

    @handler.on_request
    def fail(request: bytes) -> Any:
        if request == b"none":
            return None
        if request == b"long":
            return bytes(MESSAGE_SIZE + 1)
        raise {b"fault": iris.Fault("said so"), b"mute": iris.Fault()}.get(
            request, ValueError("wrong")
        )

    with registered(handler) as (node, _):
        for request, text in ((b"fault", "said so"), (b"mute", "failed")):
            ask(node, 1, request)
            assert answer(node) == (1, False, text)
        assert "failed" not in caplog.text
        ask(node, 1, b"other")
        assert answer(node) == (1, False, "ValueError: wrong")
        assert "request handler failed" in caplog.text
        for request, text in ((b"none", "TypeError: "), (b"long", "ValueError: message of")):
            ask(node, 1, request)
            assert answer(node)[2].startswith(text)


def test_a_handler_that_wants_to_exit_fails_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def leave(request: bytes) -> Any:
        raise SystemExit(3)

    with registered(leave, request_threads=1) as (node, _):
        for number in range(3):
            ask(node, number)
            assert answer(node) == (number, False, "SystemExit: 3")


@pytest.mark.parametrize("handler", [None, b"reply"])
def test_a_handler_is_a_function_or_a_handler(handler: Any) -> None:
    with pytest.raises(TypeError, match=f"handler of type {type(handler).__name__}, not"):
        iris.register("c", handler)


def test_a_handler_without_requests_fails_them() -> None:
    with registered(iris.Handler()) as (node, _):
        ask(node, 0)
        assert answer(node) == (0, False, "this service takes no requests")
        node.send(Op.BROADCAST, message=b"ignored")


def test_everything_can_be_decorated() -> None:
    handler, heard = iris.Handler(), queue.SimpleQueue[object]()
    for decorate in (
        handler.on_init,
        handler.on_broadcast,
        handler.on_tunnel,
        handler.on_disconnect,
    ):
        decorate(heard.put)
    with registered(handler) as (node, service):
        assert heard.get(timeout=PATIENCE) is service.connection
        node.send(Op.BROADCAST, message=b"all")
        assert heard.get(timeout=PATIENCE) == b"all"
        node.send(Op.TUNNEL_INIT, build_id=9, chunk_limit=10)
        assert node.expect(Op.TUNNEL_CONFIRM).build_id == 9
        assert isinstance(heard.get(timeout=PATIENCE), iris.Tunnel)
        node.send(Op.CLOSE, reason="bye")
        dropped = heard.get(timeout=PATIENCE)
        assert isinstance(dropped, iris.Closed)
        assert dropped.reason == "bye"
        assert service.wait(PATIENCE)


def test_nothing_is_handled_before_init_returns() -> None:
    handler = iris.Handler()
    ready: list[bool] = []
    handler.on_request(lambda _: b"ready" if ready else b"too early")

    @handler.on_init
    def get_ready(connection: iris.Connection) -> None:
        welcome.join()
        ask(node, 1)
        future = connection.submit("c", b"", 1.0)
        node.send(Op.REPLY, id=node.expect(Op.REQUEST).id, timed_out=True)
        assert isinstance(future.exception(PATIENCE), iris.TimedOut)  # so the request has been read
        ready.append(True)

    with FakeNode() as node:
        welcome = node.accept_soon()
        service = iris.register("c", handler, port=node.port)
        assert answer(node) == (1, True, b"ready")
        node.vanish()
        service.close()


def test_a_failing_init_ends_the_registration() -> None:
    handler = iris.Handler()

    @handler.on_init
    def fail(_: iris.Connection) -> None:
        raise KeyError("not ready")

    with FakeNode() as node:
        leave = threading.Thread(target=lambda: node.accept().finish())
        leave.start()
        with pytest.raises(KeyError, match="not ready"):
            iris.register("c", handler, port=node.port)
        leave.join()


def test_a_service_whose_name_is_too_long_leaves_no_connection_behind() -> None:
    with FakeNode() as node:
        node.listener.settimeout(0.05)
        with pytest.raises(ValueError, match="4097 bytes"):
            iris.register("n" * 4_097, iris.Handler(), port=node.port)
        with pytest.raises(TimeoutError):
            node.accept()


def test_a_service_needs_a_name() -> None:
    with pytest.raises(ValueError, match="name"):
        iris.register("", iris.Handler())


def test_requests_beyond_threads_and_queue_limit_are_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def handle(request: bytes) -> bytes:
        begun.release()
        assert go_on.wait(PATIENCE)
        return request

    with registered(handle, request_threads=2, request_memory=2) as (node, service):
        for number in (0, 1):
            ask(node, number, b"x")
            assert begun.acquire(timeout=PATIENCE)
        for number in (2, 3, 4):
            ask(node, number, b"x")
        ask(node, 5, b"")  # what is empty always fits
        flushed = service.connection.submit("c", b"", 1.0)
        node.send(Op.REPLY, id=node.expect(Op.REQUEST).id, timed_out=True)
        assert flushed.exception(PATIENCE) is not None
        go_on.set()
        assert sorted(answer(node)[0] for _ in range(5)) == [0, 1, 2, 3, 5]
    assert "request dropped: queue limit" in caplog.text


def test_broadcasts_beyond_the_queue_limit_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    handler, got, go_on = iris.Handler(), queue.SimpleQueue[bytes](), threading.Event()

    @handler.on_broadcast
    def take(message: bytes) -> None:
        got.put(message)
        assert go_on.wait(PATIENCE)

    with registered(handler, broadcast_threads=1, broadcast_memory=1) as (node, service):
        node.send(Op.BROADCAST, message=b"1")
        assert got.get(timeout=PATIENCE) == b"1"
        for message in (b"2", b"3"):
            node.send(Op.BROADCAST, message=message)
        flushed = service.connection.submit("c", b"", 1.0)
        node.send(Op.REPLY, id=node.expect(Op.REQUEST).id, timed_out=True)
        assert flushed.exception(PATIENCE) is not None
        go_on.set()
        assert got.get(timeout=PATIENCE) == b"2"
    assert "broadcast dropped: queue limit" in caplog.text
    assert got.empty()


def test_expired_requests_arent_run(caplog: pytest.LogCaptureFixture) -> None:
    handled: list[bytes] = []

    def handle(request: bytes) -> bytes:
        handled.append(request)
        return b""

    with registered(handle, request_threads=1) as (node, _):
        ask(node, 0, b"late", timeout=0)
        ask(node, 1, b"in time")
        assert answer(node)[0] == 1
    assert handled == [b"in time"]
    assert "request dropped: expired" in caplog.text


class Queueing(Dispatcher[FakeEnd, FakePool]):
    """Only queues."""

    def __init__(self, limits: iris.ServiceLimits, clock: Callable[[], float]) -> None:
        self.frontend = FakeFrontend("c")
        super().__init__(self.frontend, iris.Handler(), limits, clock)
        self.broadcasts, self.requests, self.tunnels = self.frontend.pools


def test_a_request_expires_its_timeout_after_its_arrival() -> None:
    now = [100.0]
    dispatcher = Queueing(iris.ServiceLimits(), lambda: now[0])
    dispatcher.handle_request(0, b"", 2.0)
    now[0] = 101.9
    assert not dispatcher.expired(dispatcher.requests.items[0])
    now[0] = 102.0
    assert dispatcher.expired(dispatcher.requests.items[0])


def test_tunnels_beyond_the_limit_are_rejected(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = Queueing(iris.ServiceLimits(tunnel_threads=2), time.monotonic)
    for build_id in range(3):
        dispatcher.handle_tunnel_offer(build_id, 10)
    assert len(dispatcher.tunnels.items) == 2
    assert "tunnel offer dropped" in caplog.text
    dispatcher.tunnel_done()
    dispatcher.handle_tunnel_offer(3, 10)
    packets = dispatcher.frontend.packets()
    assert [body["build_id"] for op, body in packets if op == Op.TUNNEL_CONFIRM] == [0, 1, 3]


def test_a_tunnel_is_closed_when_its_handler_returns() -> None:
    handler = iris.Handler()
    handler.on_tunnel(lambda tunnel: tunnel.send(b"x"))
    with registered(handler) as (node, _):
        node.send(Op.TUNNEL_INIT, build_id=0, chunk_limit=10)
        number = node.expect(Op.TUNNEL_CONFIRM).id
        assert node.expect(Op.TUNNEL_ALLOW).id == number
        node.send(Op.TUNNEL_ALLOW, id=number, space=1)
        assert node.expect(Op.TUNNEL_TRANSFER).chunk == b"x"
        assert node.expect(Op.TUNNEL_CLOSE).id == number
        node.send(Op.TUNNEL_CLOSE, id=number, reason="")


def test_a_tunnel_without_a_thread_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    handler = iris.Handler()
    handler.on_tunnel(lambda tunnel: tunnel.send(b"x"))
    with registered(handler, tunnel_threads=1) as (node, _):
        for build_id in range(2):  # its place is free again
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                node.send(Op.TUNNEL_INIT, build_id=build_id, chunk_limit=10)
                number = node.expect(Op.TUNNEL_CONFIRM).id
                node.expect(Op.TUNNEL_ALLOW)
                assert node.expect(Op.TUNNEL_CLOSE).id == number
            node.send(Op.TUNNEL_CLOSE, id=number, reason="")


def test_a_closing_service_finishes_in_flight_requests() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def handle(request: bytes) -> bytes:
        begun.set()
        assert go_on.wait(PATIENCE)
        return request

    with registered(handle) as (node, service):
        ask(node, 7, b"in hand")
        assert begun.wait(PATIENCE)
        leaving = threading.Thread(target=service.close)
        leaving.start()
        node.expect(Op.CLOSE)
        go_on.set()
        assert answer(node) == (7, True, b"in hand")
        node.send(Op.CLOSE, reason="")
        leaving.join(PATIENCE)
        assert not leaving.is_alive()


def test_a_handler_may_close_its_service() -> None:
    def handle(request: bytes) -> bytes:
        services[0].close()
        return b"bye"

    services: list[iris.Service] = []
    with registered(handle) as (node, service):
        services.append(service)
        ask(node, 0)
        node.expect(Op.CLOSE)
        assert answer(node) == (0, True, b"bye")
        node.send(Op.CLOSE, reason="")
        assert service.wait(PATIENCE)


def test_without_threads_handlers_run_in_the_reading_thread() -> None:
    def handle(request: bytes) -> bytes:
        with pytest.raises(iris.StateError):
            services[0].connection.request("c", b"", 1.0)
        return threading.current_thread().name.encode()

    services: list[iris.Service] = []
    with registered(handle, request_threads=0) as (node, service):
        services.append(service)
        ask(node, 0)
        assert answer(node)[2].endswith(b"-rx")


def test_limits_arent_negative() -> None:
    with pytest.raises(ValueError, match="request_memory"):
        iris.ServiceLimits(request_memory=-1)
    with pytest.raises(ValueError, match="event_threads"):
        iris.TopicLimits(event_threads=-1)


def test_closing_drops_what_is_queued_and_waits_for_handlers_only_so_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def handle(request: bytes) -> bytes:
        begun.set()
        assert go_on.wait(PATIENCE)
        return request

    with registered(handle, request_threads=1) as (node, service):
        for number in range(3):
            ask(node, number)
        assert begun.wait(PATIENCE)
        leaving = threading.Thread(target=service.close, args=(0.05,))
        leaving.start()
        node.finish()
        leaving.join(PATIENCE)
        assert not leaving.is_alive()
        go_on.set()
    assert "2 queued messages dropped" in caplog.text
    assert "a handler is still running" in caplog.text


def test_a_tunnel_that_closes_while_in_use_is_no_failure_of_its_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = threading.Event()

    def use(tunnel: iris.Tunnel) -> None:
        begun.set()
        tunnel.recv()

    handler = iris.Handler()
    handler.on_tunnel(use)
    caplog.set_level("INFO")
    with registered(handler) as (node, _):
        node.send(Op.TUNNEL_INIT, build_id=0, chunk_limit=10)
        number = node.expect(Op.TUNNEL_CONFIRM).id
        assert begun.wait(PATIENCE)
        node.send(Op.TUNNEL_CLOSE, id=number, reason="cut")
    assert "tunnel closed while in use: cut" in caplog.text
    assert "failed" not in caplog.text


def test_a_reply_after_the_end_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    begun, go_on, dropped = threading.Event(), threading.Event(), threading.Event()
    handler = iris.Handler()
    handler.on_disconnect(lambda _: dropped.set())

    @handler.on_request
    def handle(request: bytes) -> bytes:
        begun.set()
        assert go_on.wait(PATIENCE)
        return request

    with registered(handler) as (node, _):
        ask(node, 0)
        assert begun.wait(PATIENCE)
        node.vanish()
        assert dropped.wait(PATIENCE)
        go_on.set()
    assert "failed" not in caplog.text


def test_the_old_names_of_disconnect_still_work_with_a_warning() -> None:
    heard: queue.SimpleQueue[iris.Closed] = queue.SimpleQueue()
    with pytest.warns(DeprecationWarning, match="handle_drop was renamed to handle_disconnect"):

        class Old(iris.Handler):
            def handle_drop(self, reason: iris.Closed) -> None:
                heard.put(reason)

    decorated = iris.Handler()
    with pytest.warns(DeprecationWarning, match="on_drop was renamed to on_disconnect"):
        decorated.on_drop(heard.put)
    for handler in (Old(), decorated):
        with registered(handler) as (node, _):
            node.vanish()
            assert heard.get(timeout=PATIENCE).reason == "connection to the node lost"


def test_a_handler_with_both_names_of_disconnect_uses_the_new_one() -> None:
    class Both(iris.Handler):
        def handle_drop(self, reason: iris.Closed) -> None: ...
        def handle_disconnect(self, reason: iris.Closed) -> None: ...

    assert Both.handle_disconnect is not Both.handle_drop
