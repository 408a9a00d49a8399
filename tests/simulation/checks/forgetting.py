"""What has a lifetime is let go of when it is over: the row of a key that no operation can remember is deleted."""

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

from msgspec import Struct

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


class Stable(Struct, frozen=True):
    """Until when (ms) no operation may still be folded: of all tenants, and of those with operations in memory."""

    of_all: int
    of: dict[TenantId, int]


class KeysForgotten(Check):
    """In the end: the rows of keys, against what each node knew to be stable a few ticks ago."""

    def __init__(self) -> None:
        self._known: defaultdict[str, deque[Stable]] = defaultdict(lambda: deque(maxlen=_TICKS))

    def started(self, node: "SimulatedNode") -> None:
        self._known[node.name].clear()

    def ticked(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        frontier_ms = node.region.frontier >> 16
        firsts = ((tenant, book.timeline.first_place) for tenant, book in node.region.books.in_memory.items())
        until = {tenant: min(frontier_ms, first.now) for tenant, first in firsts if first is not None}
        self._known[node.name].append(Stable(frontier_ms, until))

    def rested(self, cluster: "Cluster") -> None:
        lifetime_ms = cluster.scenario.key_lifetime_ms
        for node in cluster.nodes.values():
            assert node.region is not None
            rows = node.region._overlay.scan(Table.KEYS, b"", None, _MOST_ROWS)
            known = self._known[node.name]
            if len(rows) == _MOST_ROWS or len(known) < _TICKS:
                continue
            for key, row in rows:
                use = decode_key_use(row)
                if known[0].of.get(TenantId(tenant_of(key)), known[0].of_all) - use.at >= lifetime_ms:
                    raise Broken(f"{node.name} keeps the row of {key!r}, used at {use.at}, past its lifetime")
