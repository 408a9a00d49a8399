"""What happens to one tenant changes nothing of another."""

from collections import Counter
from typing import TYPE_CHECKING

from node.digest import tenant_digest
from tests.simulation.facts import Fact
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedNode


class TenantIsolation(Check):
    """Between two looks at a tenant its state is the same, unless an entry of its own came in."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}
        self._counts: dict[str, Counter[str]] = {}

    def started(self, node: "SimulatedNode") -> None:
        for who in [who for who in self._seen if who[0] == node.name]:
            del self._seen[who]
        assert node.region is not None
        self._counts[node.name] = Counter(
            leg.tenant for fact in node.facts.held_by(node.region.clock) for leg in fact.legs
        )

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        self._counts[node.name].update(leg.tenant for leg in fact.legs)

    def ticked(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        for book in node.region.books.in_memory.values():
            count = self._counts[node.name][book.tenant]
            if book.entry_count != count:
                raise Broken(f"{node.name} counts {book.entry_count} entries of {book.tenant}, there are {count}")
            digest = tenant_digest(book.tenant, book.account)
            known_count, known = self._seen.get((node.name, book.tenant), (-1, 0))
            if known_count == count and known != digest:
                raise Broken(f"{node.name}: the state of {book.tenant} changed without an entry of its own")
            self._seen[node.name, book.tenant] = count, digest
