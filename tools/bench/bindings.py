"""A program that uses a binding.

`python -m tools.bench.bindings ROLE JSON`, with the same manners as a driver (`driver.py`). Shell.

Ours with threads and with asyncio, and that of NATS, do the same in the same way: so many tasks
that ask again and again, or callbacks each of which issues the next request.
"""

import asyncio
import gc
import json
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import iris
import iris.aio
from tools.bench.driver import Facts
from tools.bench.raw_connection import Window
from tools.bench.stats import latencies
from tools.bench.wire import Failure, payload

_TIMEOUT = 8.0  # seconds for a request
_PROBE = 0.3  # seconds for one while the service may be out of reach
_PATIENCE = 20.0  # seconds until it must not be


class _Count:
    """What has been answered, with the latencies of the window's requests."""

    def __init__(self, data: bytes, window: Window) -> None:
        self._data, self._window = data, window
        self._latencies: list[int] = []
        self._stage = 0  # 1 in the window, 2 behind it
        self.over = False
        self.facts: Facts = {}  # when it's over

    def answered(self, reply: bytes, began: int) -> None:
        """A request that began then has its answer. Raises: Failure."""
        if reply != self._data:
            raise Failure("an answer that isn't the request's echo")
        now = time.perf_counter_ns()
        self._latencies.append(now - began)
        if self._stage == 0 and now >= self._window.opens:
            self._window.begin()
            self._latencies.clear()
            self._stage = 1
        elif self._stage == 1 and now >= self._window.closes:
            self._window.end()
            self.facts = self._facts()
            self.over = True
            self._stage = 2

    @property
    def patience(self) -> float:
        """Seconds until it must be over."""
        return _PATIENCE + (self._window.closes - time.perf_counter_ns()) / 1e9

    def _facts(self) -> Facts:
        count = len(self._latencies)
        return {
            "per_second": count / self._window.seconds,
            "messages": count,
            **latencies(self._latencies),
            "lost": 0,
            "cpu": self._window.cpu(count),
        }


def _serve_threads(port: int, cluster: str, size: int) -> Facts:
    with iris.register(
        cluster, lambda request: request, iris.ServiceLimits(request_threads=0), port=port
    ) as service:
        print("ready", flush=True)
        service.wait()
    raise Failure("the service ended")


def _ask_threads(
    port: int,
    cluster: str,
    size: int,
    in_flight: int,
    warm_up: float,
    seconds: float,
    pids: dict[str, int],
) -> Facts:
    data = payload(size)
    with iris.connect(port) as connection:
        deadline, whole = time.monotonic() + _PATIENCE, 0
        while whole < 20:
            try:
                connection.request(cluster, data, _PROBE)
                whole += 1
            except iris.TimedOut:
                whole = 0
                if time.monotonic() > deadline:
                    raise Failure("the service can't be reached") from None
        count = _Count(data, Window(warm_up, seconds, pids))
        if in_flight == 1:
            while not count.over:
                began = time.perf_counter_ns()
                count.answered(connection.request(cluster, data, _TIMEOUT), began)
            return count.facts
        return _chain_threads(connection, cluster, data, in_flight, count)


def _chain_threads(
    connection: iris.Connection, cluster: str, data: bytes, in_flight: int, count: _Count
) -> Facts:
    """Each answer issues the next request, in the thread that reads."""
    done, failed, left = threading.Event(), list[BaseException](), in_flight

    def ask() -> None:
        began = time.perf_counter_ns()
        connection.submit(cluster, data, _TIMEOUT).add_done_callback(
            lambda future: answered(future, began)
        )

    def answered(future: Any, began: int) -> None:
        nonlocal left
        try:
            if not count.over:
                count.answered(future.result(), began)
            if not count.over:
                return ask()
        except Exception as exc:
            failed.append(exc)
        left -= 1
        if failed or not left:
            done.set()
        return None

    with connection.batch():
        for _ in range(in_flight):
            ask()
    if not done.wait(count.patience):
        raise Failure("requests get no answers")
    if failed:
        raise Failure(str(failed[0])) from failed[0]
    return count.facts


async def _serve_aio(port: int, cluster: str, size: int) -> Facts:
    async def echo(request: bytes) -> bytes:
        return request

    async with iris.aio.register(cluster, echo, port=port) as service:
        print("ready", flush=True)
        await service.wait()
    raise Failure("the service ended")


async def _ask_aio(
    port: int,
    cluster: str,
    size: int,
    in_flight: int,
    warm_up: float,
    seconds: float,
    pids: dict[str, int],
) -> Facts:
    data = payload(size)
    async with iris.aio.connect(port) as connection:
        return await _tasks(
            lambda timeout: connection.request(cluster, data, timeout),
            iris.TimedOut,
            data,
            in_flight,
            warm_up,
            seconds,
            pids,
        )


async def _tasks(
    request: Callable[[float], Awaitable[bytes]],
    not_yet: type[Exception] | tuple[type[Exception], ...],
    data: bytes,
    in_flight: int,
    warm_up: float,
    seconds: float,
    pids: dict[str, int],
) -> Facts:
    """So many tasks that ask again and again."""
    await _reach(request, not_yet)
    count = _Count(data, Window(warm_up, seconds, pids))

    async def ask() -> None:
        while not count.over:
            began = time.perf_counter_ns()
            reply = await request(_TIMEOUT)
            if not count.over:
                count.answered(reply, began)

    await asyncio.gather(*(ask() for _ in range(in_flight)))
    return count.facts


async def _reach(
    request: Callable[[float], Awaitable[bytes]],
    not_yet: type[Exception] | tuple[type[Exception], ...],
) -> None:
    deadline, whole = time.monotonic() + _PATIENCE, 0
    while whole < 20:
        try:
            await request(_PROBE)
            whole += 1
        except not_yet:
            whole = 0
            if time.monotonic() > deadline:
                raise Failure("the service can't be reached") from None
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _nats(server: str, certificate: str) -> AsyncIterator[Any]:
    import nats

    client = await nats.connect(server, tls=ssl.create_default_context(cafile=certificate))
    try:
        yield client
    finally:
        await client.close()


async def _serve_nats(server: str, certificate: str, cluster: str, size: int) -> Facts:
    async with _nats(server, certificate) as client:

        async def echo(message: Any) -> None:
            await message.respond(message.data)

        await client.subscribe(cluster, cb=echo)
        await client.flush()
        print("ready", flush=True)
        await asyncio.Event().wait()
    raise AssertionError


async def _ask_nats(
    server: str,
    certificate: str,
    cluster: str,
    size: int,
    in_flight: int,
    chain: bool,
    warm_up: float,
    seconds: float,
    pids: dict[str, int],
) -> Facts:
    import nats.errors

    data = payload(size)
    async with _nats(server, certificate) as client:

        async def request(timeout: float) -> bytes:
            return bytes((await client.request(cluster, data, timeout)).data)

        not_yet = (nats.errors.TimeoutError, nats.errors.NoRespondersError)
        if not chain:
            return await _tasks(request, not_yet, data, in_flight, warm_up, seconds, pids)
        await _reach(request, not_yet)
        return await _chain_nats(
            client, cluster, data, in_flight, _Count(data, Window(warm_up, seconds, pids))
        )


async def _chain_nats(
    client: Any, cluster: str, data: bytes, in_flight: int, count: _Count
) -> Facts:
    """Each answer issues the next request, under an inbox of its own, so that there is neither a
    task nor a timer for each.
    """
    inbox, began, done = client.new_inbox(), [0] * in_flight, asyncio.Event()

    async def ask(i: int) -> None:
        began[i] = time.perf_counter_ns()
        await client.publish(cluster, data, reply=f"{inbox}.{i}")

    async def answered(message: Any) -> None:
        i = int(message.subject.rpartition(".")[2])
        if not count.over:
            count.answered(message.data, began[i])
        if count.over:
            done.set()
        else:
            await ask(i)

    await client.subscribe(f"{inbox}.*", cb=answered)
    for i in range(in_flight):
        await ask(i)
    try:
        await asyncio.wait_for(done.wait(), count.patience)
    except TimeoutError:
        raise Failure("requests get no answers") from None
    return count.facts


def _run(role: Callable[..., Coroutine[Any, Any, Facts]]) -> Callable[..., Facts]:
    return lambda **options: asyncio.run(role(**options))


ROLES: dict[str, Callable[..., Facts]] = {
    "serve-threads": _serve_threads,
    "ask-threads": _ask_threads,
    "serve-aio": _run(_serve_aio),
    "ask-aio": _run(_ask_aio),
    "serve-nats": _run(_serve_nats),
    "ask-nats": _run(_ask_nats),
}


def main(role: str, options: str) -> int:
    """Play a role. Returns: the exit code, 1 when something failed."""
    gc.freeze()
    try:
        facts = ROLES[role](**json.loads(options))
    except (Failure, OSError, iris.IrisError) as exc:
        print(json.dumps({"error": f"{role}: {exc}"}), flush=True)
        return 1
    print(json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
