"""Stability: up to which clock reading no entry can come in any more.

A promise of a region says: whoever holds all that I held when I gave it, holds every entry that I have accepted, or
ever will, up to this reading. It counts here once this node holds, durably, the clock that it was given with. The
*frontier* is the least promise that counts, over all regions of the cluster; everything up to it is stable.

A peer that has lost its disk, or part of it, no longer holds what it said that it held, and perhaps nobody does. So
what it says next takes the place of what it said with a clock that it does not cover: else that would be waited for
for ever, and every later promise behind it.

Promises are passed on: a node that holds what a promise needs gives it to its peers with its own clock, which covers
the promise's. So a promise finds its way around a cut link just as entries do.

A region that is away holds the frontier back. That costs memory and disk, never correctness. The frontier never goes
back, not even when a region joins: the newcomer's clock has heard of ours before it accepts anything.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from replication.clock import VectorClock, descends

MAX_PENDING: Final = 16


class Frontier:
    """The promises that a node knows.

    Relations kept: ``counted[region]`` is the greatest promise of the region whose clock was covered by a clock given
    to `advance`, or of this node itself; ``_pending`` holds, for each peer, what it said that was not covered yet,
    oldest first, each clock covering the one before; ``reached`` is the greatest that the least of ``counted`` has
    been.
    """

    def __init__(self, region: str, regions: Iterable[str]) -> None:
        self._region = region
        self.counted: dict[str, int] = {}
        self.reached = 0
        self._pending: dict[str, deque[tuple[VectorClock, dict[str, int]]]] = {}
        self.set_members(regions)

    def set_members(self, regions: Iterable[str]) -> None:
        """The regions of the cluster from now on. Of one that is new nothing is promised yet."""
        self.counted = {region: self.counted.get(region, 0) for region in regions}

    def heard(self, peer: str, clock: VectorClock, promises: dict[str, int]) -> None:
        """What a peer holds, and what it passes on as promised to whoever holds that."""
        pending = self._pending.setdefault(peer, deque())
        while pending and not descends(clock, pending[-1][0]):
            pending.pop()
        if len(pending) == MAX_PENDING:
            # The oldest stay, or a node that is always a little behind would never have any of them covered.
            pending.pop()
        pending.append((clock, promises))

    def advance(self, durable: Mapping[str, int], own_promise: int) -> int:
        """Count what is covered by now; returns the frontier.

        `own_promise`: every entry that this node ever accepts up to this reading is in `durable`.
        """
        self._count(self._region, own_promise)
        for pending in self._pending.values():
            while pending and descends(durable, pending[0][0]):
                _, promises = pending.popleft()
                for region, promise in promises.items():
                    if region != self._region:
                        self._count(region, promise)
        self.reached = max(self.reached, min(self.counted.values(), default=0))
        return self.reached

    def _count(self, region: str, promise: int) -> None:
        if promise > self.counted.get(region, promise):
            self.counted[region] = promise

    @property
    def holders(self) -> list[str]:
        """The regions whose promise is the least: they hold the frontier back."""
        least = min(self.counted.values(), default=0)
        return [region for region, promise in self.counted.items() if promise == least]
