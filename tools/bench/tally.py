"""Events as they are sent, counted and checked, a batch at a time. Core."""

import random
import re
from typing import Protocol

from tools.bench.wire import Buffer, Failure, binary, payload

BLOCK = 128  # events that are sent at once, each with another number in its first byte


class Stream:
    """The packets of one kind of event, as they're sent and as they come."""

    def __init__(self, kind: str, name: str, size: int) -> None:
        """kind: "publish" to a topic of this name, or "broadcast" to a cluster."""
        body = payload(size - 1)
        address = binary(name.encode())
        sent, came = (
            (b"\x08" + address, b"\x08" + address)
            if kind == "publish"
            else (b"\x03" + address, b"\x03")
        )
        whole = [binary(bytes([number]) + body) for number in range(BLOCK)]
        self.block = b"".join(sent + each for each in whole)
        self.subscribe = b"\x06" + address if kind == "publish" else b""
        self.unsubscribe = b"\x07" + address if kind == "publish" else b""
        self.cluster = "" if kind == "publish" else name  # of the receivers
        self.head, self.body = came + whole[0][:-size], body  # around the number


class Tally:
    """Counts one receiver's events, and checks every byte of them."""

    def __init__(self, stream: Stream) -> None:
        self._head, self._body = stream.head, stream.body
        self._between = stream.body + stream.head
        self.stride = len(self._between) + 1
        self.count = 0
        # of their numbers: with the count it tells whether some came twice and others never
        self.sum = 0

    def take(self, whole: Buffer) -> None:
        """Whole events came. Raises: Failure."""
        data = bytes(whole)
        count = len(data) // self.stride
        numbers = data[len(self._head) :: self.stride]
        if count and not (
            data.startswith(self._head)
            and data.endswith(self._body)
            and data.count(self._between, len(self._head)) == count - 1
            and max(numbers) < BLOCK
            and len(numbers) == count
        ):
            raise Failure(f"a receiver got something else than its events: {data[:32].hex(' ')}")
        self.count += count
        self.sum += sum(numbers)


class Topics:
    """Events of many topics, which differ in the digits that their names end in.

    Counted with the sum of those.
    """

    def __init__(self, name: str, size: int, count: int, seed: int = 1) -> None:
        names = [binary(f"{name}-{number:05}".encode()) for number in range(count)]
        event = binary(payload(size))
        self._subscribe = [b"\x06" + each for each in names]
        self._publish = [b"\x08" + each + event for each in names]
        head = self._publish[0].index(b"00000", len(name))
        first = self._publish[0]
        self.stride = len(first)
        self._came = re.compile(
            re.escape(first[:head]) + rb"(\d{5})" + re.escape(first[head + 5 :])
        )
        self._numbers, self._rng = range(count), random.Random(seed)

    def subscribe(self, part: int, parts: int) -> bytes:
        """What subscribes to one part of all topics."""
        return b"".join(self._subscribe[part::parts])

    def publish(self, count: int) -> tuple[bytes, int]:
        """Publish to so many topics, by chance. Returns.

        Packets, and the sum of the topics' numbers.
        """
        chosen = self._rng.choices(self._numbers, k=count)
        return b"".join(map(self._publish.__getitem__, chosen)), sum(chosen)

    def publish_all(self, block: int) -> list[bytes]:
        """Publish to each topic once, in blocks."""
        return [
            b"".join(self._publish[begin : begin + block])
            for begin in range(0, len(self._numbers), block)
        ]

    def take(self, whole: Buffer) -> tuple[int, int]:
        """Whole events came. Returns: how many, and the sum of their topics' numbers. Raises.

        Failure.
        """
        found = self._came.findall(whole)
        if len(found) * self.stride != len(whole):
            raise Failure(
                f"a receiver got something else than its events: {bytes(whole[:32]).hex(' ')}"
            )
        return len(found), sum(map(int, found))


class Numbers(Protocol):
    """A board."""

    def __getitem__(self, index: int) -> int: ...


class Progress:
    """What the receivers have, from when it was made. Their board has two numbers of each.

    A `Tally`'s count and sum.
    """

    def __init__(self, board: Numbers, receivers: int) -> None:
        self._board, self._receivers = board, range(receivers)
        self._base = self._read()

    def _read(self) -> list[tuple[int, int]]:
        return [(self._board[2 * i], self._board[2 * i + 1]) for i in self._receivers]

    def counts(self) -> list[int]:
        """Events of each receiver."""
        return [self._board[2 * i] - self._base[i][0] for i in self._receivers]

    def wrong(self, sent: int) -> tuple[int, int]:
        """How many events are missing, and how many came that weren't sent, of whole blocks."""
        lost = extra = 0
        numbers = sum(range(BLOCK)) * (sent // BLOCK)
        for (count, total), (count_before, sum_before) in zip(
            self._read(), self._base, strict=True
        ):
            got = count - count_before
            lost += max(0, sent - got)
            extra += max(0, got - sent)
            if got == sent and total - sum_before != numbers:  # some twice, and as many never
                lost, extra = lost + 1, extra + 1
        return lost, extra
