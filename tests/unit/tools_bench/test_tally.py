"""Events as they are sent and counted, against the schemas."""

import os
import random

import pytest

from iris.relay_protocol.schema import DEFAULT, Op
from tests.unit.tools_bench.test_wire import feed
from tools.bench.shared_counters import SharedCounters
from tools.bench.tally import BLOCK, Progress, Stream, Tally, Topics
from tools.bench.wire import Failure

SUM = sum(range(BLOCK))


def delivered(kind: str, block: bytes) -> list[bytes]:
    """What a node delivers of what a client sends."""
    packets = []
    while block:
        packet = DEFAULT.from_client.parse(block)
        block = block[len(DEFAULT.from_client.build(packet)) :]
        if kind == "publish":
            assert packet.body.topic == "news"
            packets.append(DEFAULT.node(Op.PUBLISH, topic="news", event=packet.body.event))
        else:
            assert packet.body.cluster == "news"
            packets.append(DEFAULT.node(Op.BROADCAST, message=packet.body.message))
    return packets


@pytest.mark.parametrize("kind", ["publish", "broadcast"])
@pytest.mark.parametrize("size", [1, 2, 64, 300])
@pytest.mark.parametrize("seed", range(4))
def test_events_are_counted_in_any_order_however_the_bytes_are_split(
    kind: str, size: int, seed: int
) -> None:
    chance, stream = random.Random(seed), Stream(kind, "news", size)
    packets = delivered(kind, stream.block)
    assert len(set(packets)) == BLOCK
    chance.shuffle(packets)
    tally = Tally(stream)

    def take(data: bytes) -> int:
        whole = len(data) // tally.stride * tally.stride
        tally.take(data[:whole])
        return whole

    feed(b"".join(packets), chance, take)
    assert (tally.count, tally.sum) == (BLOCK, SUM)


@pytest.mark.parametrize("kind", ["publish", "broadcast"])
def test_anything_but_the_events_is_refused(kind: str) -> None:
    stream = Stream(kind, "news", 64)
    packets = delivered(kind, stream.block)
    whole = b"".join(packets[:3])
    for at in {*range(len(packets[0]) + 1, 2 * len(packets[0]))} - {
        len(packets[0]) + len(stream.head)
    }:
        wrong = bytearray(whole)
        wrong[at] ^= 0x01
        with pytest.raises(Failure):
            Tally(stream).take(wrong)
    number = bytearray(whole)
    number[len(stream.head)] = BLOCK
    with pytest.raises(Failure):
        Tally(stream).take(number)


def test_subscribing_is_for_topics_only() -> None:
    topic, cluster = Stream("publish", "news", 64), Stream("broadcast", "news", 64)
    assert (topic.subscribe, topic.cluster) == (DEFAULT.client(Op.SUBSCRIBE, topic="news"), "")
    assert (cluster.subscribe, cluster.cluster) == (b"", "news")


@pytest.fixture
def board() -> SharedCounters:
    fd = SharedCounters.new()
    made = SharedCounters(fd)
    os.close(fd)
    return made


def test_what_two_boards_of_one_memory_show_is_the_same() -> None:
    fd = SharedCounters.new()
    one, other = SharedCounters(fd), SharedCounters(fd)
    os.close(fd)
    one[511] = 1 << 63
    assert (other[511], other[0]) == (1 << 63, 0)


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        ([(BLOCK, SUM), (BLOCK, SUM)], (0, 0)),
        ([(BLOCK, SUM), (BLOCK - 2, SUM - 5)], (2, 0)),
        ([(BLOCK + 1, SUM + 1), (BLOCK, SUM)], (0, 1)),
        # as many, but one came twice and another one never
        ([(BLOCK, SUM + 1), (BLOCK, SUM)], (1, 1)),
        ([(0, 0), (0, 0)], (2 * BLOCK, 0)),
    ],
)
def test_what_is_missing_and_what_came_twice_is_found(
    board: SharedCounters, came: list[tuple[int, int]], expected: tuple[int, int]
) -> None:
    board[0], board[1], board[2] = 7, 9, 1  # from before
    progress = Progress(board, 2)
    for i, (count, total) in enumerate(came):
        board[2 * i] += count
        board[2 * i + 1] += total
    assert progress.counts() == [count for count, _ in came]
    assert progress.wrong(BLOCK) == expected


@pytest.mark.parametrize("seed", range(4))
def test_events_of_many_topics_are_counted_with_their_numbers(seed: int) -> None:
    chance, topics = random.Random(seed), Topics("news", 64, 1_000, seed)
    sent, total = topics.publish(BLOCK)
    assert DEFAULT.from_client.parse(sent).body.topic in {
        f"news-{number:05}" for number in range(1_000)
    }
    found = []

    def take(data: bytes) -> int:
        whole = len(data) // topics.stride * topics.stride
        found.append(topics.take(data[:whole]))
        return whole

    feed(sent, chance, take)  # as it comes, it looks as it was sent
    assert (sum(count for count, _ in found), sum(numbers for _, numbers in found)) == (
        BLOCK,
        total,
    )


def test_each_of_many_topics_is_subscribed_to_once_and_reached_once() -> None:
    topics = Topics("news", 64, 300)
    subscribed = [topics.subscribe(part, 2) for part in range(2)]
    assert sum(len(part) for part in subscribed) == 300 * len(
        DEFAULT.client(Op.SUBSCRIBE, topic="news-00000")
    )
    assert [topics.take(block) for block in topics.publish_all(128)] == [
        (128, sum(range(128))),
        (128, sum(range(128, 256))),
        (44, sum(range(256, 300))),
    ]


def test_anything_but_events_of_the_topics_is_refused() -> None:
    topics = Topics("news", 64, 10)
    whole, _ = topics.publish(3)
    for at in (0, 1, topics.stride - 1, topics.stride + 20):
        wrong = bytearray(whole)
        wrong[at] ^= 0x40
        with pytest.raises(Failure):
            topics.take(wrong)
