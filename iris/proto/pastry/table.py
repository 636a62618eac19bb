"""The routing state of one node as an immutable snapshot: where does a message go next?

Counterpart of Go's proto/pastry/table.go, the choice of the next hop in routing.go, and the merging
half of maintenance.go. Two things are better: a key beyond the last leaf of a side where all nodes
are known goes to the closest node known (Go may bounce it between two nodes for ever), and of
several nodes that are closer to a key the closest is taken, not the first.

How routing arrives: while the leaf sets are right, a node that isn't the closest to a key always
knows one with at least as long a common prefix that is closer, if only its own outermost leaf on
that side. Missing table cells cost hops, no correctness.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable
from typing import Final

from iris.proto.wire.node_id import (
    BITS,
    COLUMNS,
    DIGIT_BITS,
    HALF,
    MODULO,
    ROWS,
    NodeId,
    delta,
    distance,
)

_EMPTY: tuple[NodeId | None, ...] = (None,) * (ROWS * COLUMNS)
_TOP: Final = BITS - DIGIT_BITS  # bits below the first digit


def _cell(origin: NodeId, node: NodeId) -> int:
    """Return the index of the cell of `node`, which isn't `origin`."""
    row = (BITS - (origin ^ node).bit_length()) // DIGIT_BITS
    return row * COLUMNS + (node >> (_TOP - row * DIGIT_BITS) & (COLUMNS - 1))


class RoutingTable:
    """Nodes known to `origin`. Immutable; what would change nothing returns `self`.

    leaves: nearest ids along the ring, own one included: up to half of the leaf set below it, one
        less than half above.
    cells: row after row, an id or None; the row is the number of digits shared with `origin`, the
        column the next digit.
    far: where the half of the ring above has less leaves than there is room for, so that all of it
        is known, the node that comes next after it; the same below. It decides which node is
        closest to a key over there. Go has no such thing, and may be wrong.
    active: all ids in any of these, without the own one.
    """

    __slots__ = (
        "_deltas", "_half", "_high", "_highest", "_hops", "_low", "_lowest", "_near",
        "_sparse_high", "_sparse_low", "active", "cells", "far", "leaves", "origin",
    )  # fmt: skip

    def __init__(
        self,
        origin: NodeId,
        leaf_set: int = 8,
        leaves: Iterable[NodeId] = (),
        cells: tuple[NodeId | None, ...] = _EMPTY,
    ) -> None:
        """Keep the nearest of `leaves`, and the farthest of a side where there are too few."""
        self.origin = origin
        self._half = half = leaf_set // 2
        ways = {delta(origin, leaf): leaf for leaf in leaves}
        ways[0] = origin
        ordered = sorted(ways)
        own = ordered.index(0)
        self._sparse_low = own < half
        self._sparse_high = len(ordered) - own < half
        self._lowest, self._highest = ordered[0], ordered[-1]
        self._deltas = ordered = ordered[max(0, own - half) : own + half]
        self.leaves = tuple([ways[way] for way in ordered])
        self.cells = cells
        self._hops = tuple([ways[way] if way else None for way in ordered])
        self._low, self._high = ordered[0], ordered[-1]
        far = []
        if self._sparse_high and self._lowest < self._low:
            far.append(ways[self._lowest])
        if self._sparse_low and self._highest > self._high:
            far.append(ways[self._highest])
        self.far = tuple(far)
        active = {*self.leaves, *self.far, *cells}
        active.discard(None)
        active.discard(origin)
        self.active = frozenset[NodeId](active)  # type: ignore[arg-type]
        self._near: dict[int, list[NodeId]] = {}

    def next_hop(self, dest: NodeId) -> NodeId | None:
        """Return the node that a message for `dest` goes to from here; None: it has arrived."""
        origin = self.origin
        way = dest - origin
        if way > HALF:
            way -= MODULO
        elif way < -HALF:
            way += MODULO
        if self._low <= way <= self._high:
            ways = self._deltas
            at = bisect_left(ways, way)
            if at and way - ways[at - 1] <= ways[at] - way:
                return self._hops[at - 1]
            return self._hops[at]
        if self._sparse_high if way > 0 else self._sparse_low:
            return self._nearest(0, dest)
        row = (BITS - (origin ^ dest).bit_length()) // DIGIT_BITS
        hop = self.cells[row * COLUMNS + (dest >> (_TOP - row * DIGIT_BITS) & 15)]
        if hop is not None:
            return hop
        return self._nearest(row, dest)

    def _nearest(self, row: int, dest: NodeId) -> NodeId | None:
        """Return the closest to `dest` of the nodes that share `row` digits with both.

        None when that is `origin`.
        """
        near = self._near.get(row)
        if near is None:
            shift = BITS - row * DIGIT_BITS
            begin = self.origin >> shift
            near = sorted(node for node in (self.origin, *self.active) if node >> shift == begin)
            self._near[row] = near
        at = bisect_left(near, dest)
        below, above = near[at - 1], near[at % len(near)]
        best = below if distance(below, dest) <= distance(above, dest) else above
        return None if best == self.origin else best

    def _is_near(self, way: int) -> bool:
        """Whether a node at that delta would become a leaf or a far node, unless it is one."""
        if way < 0:
            return self._sparse_low or way > self._low or (self._sparse_high and way < self._lowest)
        return self._sparse_high or way < self._high or (self._sparse_low and way > self._highest)

    def wants(self, node: NodeId) -> bool:
        """Whether a node, which isn't active, would improve the leaf set or fill an empty cell."""
        if node == self.origin or node in self.active:
            return False
        origin = self.origin
        return self._is_near(delta(origin, node)) or self.cells[_cell(origin, node)] is None

    def merged(self, nodes: Iterable[NodeId]) -> "RoutingTable":
        """Add nodes: the nearest to the leaf set, any to an empty cell; others are ignored."""
        origin, known = self.origin, self.active
        leaves: list[NodeId] = []
        cells: list[NodeId | None] | tuple[NodeId | None, ...] = self.cells
        for node in nodes:
            if node == origin:
                continue
            cell = _cell(origin, node)
            if cells[cell] is None:
                if not isinstance(cells, list):
                    cells = list(cells)
                cells[cell] = node
            new = node not in known or node not in self.leaves  # one may be in a cell alone
            if new and self._is_near(delta(origin, node)):
                leaves.append(node)
        if leaves or cells is not self.cells:
            every = (*self.leaves, *self.far, *leaves)
            return RoutingTable(origin, 2 * self._half, every, tuple(cells))
        return self

    def without(self, nodes: Collection[NodeId]) -> "RoutingTable":
        """Remove nodes. The holes stay until `merged` with all that are connected."""
        if not any(node in self.active for node in nodes):
            return self
        leaves = [leaf for leaf in (*self.leaves, *self.far) if leaf not in nodes]
        cells = tuple([None if cell in nodes else cell for cell in self.cells])
        return RoutingTable(self.origin, 2 * self._half, leaves, cells)

    def row(self, index: int) -> list[NodeId]:
        """List the nodes in the cells that share exactly `index` digits with `origin`."""
        cells = self.cells[index * COLUMNS : (index + 1) * COLUMNS]
        return [node for node in cells if node is not None]

    def gained_rows(self, older: "RoutingTable") -> set[int]:
        """Return the rows with a node that wasn't there in an older snapshot."""
        if self.cells is older.cells:
            return set()
        pairs = enumerate(zip(self.cells, older.cells, strict=True))
        return {index // COLUMNS for index, (now, then) in pairs if now is not None and now != then}
