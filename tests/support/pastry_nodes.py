"""Nodes around OWN, as peers of a `Maintenance`, and the states that they send."""

from iris.proto.pastry.peer import Peer
from iris.proto.wire.node_id import MODULO, NodeId
from iris.proto.wire.ring import Header, Op, State
from iris.runtime.tcp import Address

OWN = NodeId(0x58_0000_0000)
HOME = "10.0.0.1:500"  # where OWN listens


def node_id(step: int) -> NodeId:
    return NodeId((OWN + step * 0x1000) % MODULO)


def address(node: NodeId) -> str:
    return f"10.1.{node >> 12 & 255}.{node >> 20 & 255}:{1024 + node % 60_000}"


def listener(node: NodeId) -> Address:
    host, _, port = address(node).partition(":")
    return host, int(port)


def make_peer(node: NodeId, port: int = 40_000, *, dialled: bool = False) -> Peer:
    host = listener(node)[0]
    ends = (f"10.0.0.1:{port}", address(node)) if dialled else (HOME, f"{host}:{port}")
    return Peer(node, (address(node),), *ends, dialled)


def state(version: int, *nodes: NodeId) -> Header:
    addresses = {str(node): [address(node)] for node in nodes}
    return Header(op=Op.EXCHANGE, dest=OWN, state=State(addresses, version))
