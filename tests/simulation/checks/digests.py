"""Canonical state is a function of the set of entries: equal clocks, equal digests, whoever, whenever, however."""

from typing import TYPE_CHECKING

from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedNode


class EqualDigests(Check):
    """Remembers the digest of every clock that any node ever had after doing what was due."""

    def __init__(self) -> None:
        self._digests: dict[tuple[tuple[str, int], ...], tuple[str, str]] = {}

    def ticked(self, node: "SimulatedNode") -> None:
        assert node.region is not None
        clock = tuple(sorted(node.region.clock.items()))
        digest = node.region.books.digest()
        known, who = self._digests.setdefault(clock, (digest, node.name))
        if known != digest:
            raise Broken(f"{node.name} and {who} hold the same entries and not the same state: {clock}")
