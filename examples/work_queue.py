"""Distribute work over any number of workers, on any host of the network.

Start some workers, at any time, and one client:

python examples/work_queue.py PORT work          # until Ctrl-C
python examples/work_queue.py PORT primes LIMIT  # count the primes below LIMIT
"""

import asyncio
import math
import os
import signal
import sys

import iris
import iris.aio

CLUSTER = "primes"
JOB_SIZE = 2_000  # numbers in one job
MAX_IN_FLIGHT = 32  # jobs
TIMEOUT = 5.0  # seconds until a job is retried with another worker

worker = iris.Handler()


@worker.on_request
def count_primes(request: bytes) -> bytes:
    """Do a job: reply to "FROM TO" with the number of primes in between."""
    first, last = map(int, request.split())
    count = sum(
        number > 1 and all(number % i for i in range(2, math.isqrt(number) + 1))
        for number in range(first, last)
    )
    return str(count).encode()


def work(port: int) -> None:
    """Work in one thread, as Python uses one CPU; start more workers to use more."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with iris.register(
        CLUSTER, worker, iris.ServiceLimits(request_threads=1), port=port
    ) as service:
        print(f"worker {os.getpid()} is ready", flush=True)
        try:
            service.wait()
        except KeyboardInterrupt:
            print("finishing in-flight jobs")


async def count(port: int, limit: int) -> int:
    """Send all jobs, and retry those that fail or time out."""
    slots = asyncio.Semaphore(MAX_IN_FLIGHT)
    async with iris.aio.connect(port) as connection:

        async def do_job(first: int) -> int:
            request = f"{first} {min(first + JOB_SIZE, limit)}".encode()
            async with slots:
                while True:
                    try:
                        return int(await connection.request(CLUSTER, request, TIMEOUT))
                    except (iris.TimedOut, iris.Fault) as exc:
                        print(f"retrying the job at {first}: {exc}", file=sys.stderr)

        return sum(await asyncio.gather(*map(do_job, range(0, limit, JOB_SIZE))))


if __name__ == "__main__":
    match sys.argv[1:]:
        case [port, "work"]:
            work(int(port))
        case [port, "primes", limit]:
            print(asyncio.run(count(int(port), int(limit))))
        case _:
            sys.exit(__doc__)
