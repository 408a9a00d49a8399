"""What has a lifetime is let go of when it is over: the row of a key that no operation can remember is deleted."""

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

from ledger.ids import TenantId
from node.store.kv import Table
from node.store.rows import decode_key_use, tenant_of
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.node import SimulatedNode

_TICKS: Final = 6
"""How long it may take at most to get round to a row, in worlds with few of them."""
_MOST_ROWS: Final = 200


class KeysForgotten(Check):
    """In the end: the rows of keys, against what each node knew to be stable a few ticks ago."""

    def __init__(self) -> None:
        self._frontiers: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_TICKS))

    def started(self, node: "SimulatedNode") -> None:
        self._frontiers[node.name].clear()

    def ticked(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        self._frontiers[node.name].append(node.region.frontier >> 16)

    def rested(self, cluster: "Cluster") -> None:
        lifetime_ms = cluster.scenario.key_lifetime_ms
        for node in cluster.nodes.values():
            assert node.region is not None
            rows = node.region._overlay.scan(Table.KEYS, b"", None, _MOST_ROWS)
            frontiers = self._frontiers[node.name]
            if len(rows) == _MOST_ROWS or len(frontiers) < _TICKS:
                continue
            for key, row in rows:
                use = decode_key_use(row)
                if self._earliest(node, TenantId(tenant_of(key)), frontiers[0]) - use.at >= lifetime_ms:
                    raise Broken(f"{node.name} keeps the row of {key!r}, used at {use.at}, past its lifetime")

    def _earliest(self, node: "SimulatedNode", tenant: TenantId, stable_ms: int) -> int:
        """When the first operation of a tenant is that may still be folded."""
        assert node.region is not None
        book = node.region.books.get(tenant)
        first = book.timeline.first_place if book is not None else None
        return stable_ms if first is None else min(stable_ms, first.now)
