import pytest

from iris.proto.pastry.peer import Peer, keeps_old
from iris.proto.wire.node_id import NodeId

OWN, OTHER = NodeId(1), NodeId(2)


def peer(local: str, remote: str, *, dialled: bool) -> Peer:
    return Peer(OTHER, (), local, remote, dialled)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # both accepted: the lower client; "10000" is lower than "9999" as text
        (
            peer("10.0.0.1:500", "10.0.0.2:10000", dialled=False),
            peer("10.0.0.1:500", "10.0.0.2:9999", dialled=False),
        ),
        # both dialled: the lower client
        (
            peer("10.0.0.1:10000", "10.0.0.2:500", dialled=True),
            peer("10.0.0.1:9999", "10.0.0.2:500", dialled=True),
        ),
        # opposite directions: the lower server
        (
            peer("10.0.0.1:500", "10.0.0.2:9999", dialled=False),
            peer("10.0.0.1:1000", "10.0.0.2:400", dialled=True),
        ),
        # different networks: the lower host
        (
            peer("10.0.0.1:9999", "10.0.0.2:9999", dialled=False),
            peer("192.168.0.1:1000", "192.168.0.2:400", dialled=True),
        ),
    ],
    ids=["accepted", "dialled", "crossed", "networks"],
)
def test_of_two_connections_the_lower_one_stays(old: Peer, new: Peer) -> None:
    assert keeps_old(OWN, old, new)
    assert not keeps_old(OWN, new, old)
