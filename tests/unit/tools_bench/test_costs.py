from tools.bench.costs import measure


def test_every_piece_of_a_message_has_its_cost() -> None:
    pieces = list(measure(64, seconds=0.001))
    assert len({name for name, _ in pieces}) == len(pieces) >= 13
    assert all(0.01 < cost < 10_000 for _, cost in pieces)
    cost = dict(pieces)
    assert cost["link: seal a packet"] > cost["  of a link's seal and of its open: MAC"]
