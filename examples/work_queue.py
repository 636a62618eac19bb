"""Share work over all who can do it, on any host of the network.

Start some workers, any time, and one who has work:

python examples/work_queue.py PORT work          # until Ctrl-C python examples/work_queue.py PORT
primes LIMIT  # how many primes are there below LIMIT?
"""

import asyncio
import math
import os
import signal
import sys

import iris
import iris.aio

CLUSTER = "primes"
LOT = 2_000  # numbers in one piece of work
AT_A_TIME = 32  # pieces that are given out
PATIENCE = 5.0  # seconds until a piece is given to somebody else

worker = iris.Handler()


@worker.on_request
def count_primes(request: bytes) -> bytes:
    """Do a piece of work: "FROM TO" is answered by how many primes there are."""
    first, last = map(int, request.split())
    count = sum(
        number > 1 and all(number % i for i in range(2, math.isqrt(number) + 1))
        for number in range(first, last)
    )
    return str(count).encode()


def work(port: int) -> None:
    """Work, with a thread alone: in Python more of them wouldn't compute more.

    For that, start more workers.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with iris.register(
        CLUSTER, worker, iris.ServiceLimits(request_threads=1), port=port
    ) as service:
        print(f"worker {os.getpid()} is ready", flush=True)
        try:
            service.wait()
        except KeyboardInterrupt:
            print("finishing what I have in hand")


async def give_out(port: int, limit: int) -> int:
    """Have all of it done. A piece whose worker is lost is given to the next one."""
    free = asyncio.Semaphore(AT_A_TIME)
    async with iris.aio.connect(port) as connection:

        async def piece(first: int) -> int:
            request = f"{first} {min(first + LOT, limit)}".encode()
            async with free:
                while True:
                    try:
                        return int(await connection.request(CLUSTER, request, PATIENCE))
                    except (iris.TimedOut, iris.Fault) as exc:
                        print(f"once more from {first}: {exc}", file=sys.stderr)

        return sum(await asyncio.gather(*map(piece, range(0, limit, LOT))))


if __name__ == "__main__":
    match sys.argv[1:]:
        case [port, "work"]:
            work(int(port))
        case [port, "primes", limit]:
            print(asyncio.run(give_out(int(port), int(limit))))
        case _:
            sys.exit(__doc__)
