"""What is due when: leases that end, lots that start while debt stands, lots that expire.

A region sweeps only what it made itself: the holds that it accepted and the lots that it granted, in any of its boots.
The schedule only says when to look again; whether anything is to be done is decided on the state at that time. So an
item may be listed for nothing, and none is ever taken back. There is one item for each thing to look at: who looks too
early finds out when to look again.
"""

from enum import IntEnum
from heapq import heappop, heappush

from ledger.ids import TenantId


class Due(IntEnum):
    """What there is to look at."""

    LEASE = 0
    START = 1
    EXPIRY = 2


Item = tuple[int, Due, TenantId, str]
"""When (ms), what, whose, and the id of the claim or lot."""


class Schedule:
    """A heap of items by time.

    Relation kept: ``_listed`` says for what time each thing is listed; an item of the heap that says another is void.
    """

    def __init__(self) -> None:
        self._heap: list[Item] = []
        self._listed: dict[tuple[Due, TenantId, str], int] = {}

    def __len__(self) -> int:
        return len(self._listed)

    def add(self, at: int, due: Due, tenant: TenantId, name: str) -> None:
        """Look at `name` at `at` (ms), or earlier if it is listed already."""
        thing = due, tenant, name
        if self._listed.get(thing, at + 1) > at:
            self._listed[thing] = at
            heappush(self._heap, (at, due, tenant, name))

    def take_due(self, now: int, at_most: int) -> list[Item]:
        """Up to `at_most` items due at `now` (ms), the earliest first; they leave the schedule."""
        taken: list[Item] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < at_most:
            at, due, tenant, name = heappop(self._heap)
            if self._listed.get((due, tenant, name)) == at:
                del self._listed[due, tenant, name]
                taken.append((at, due, tenant, name))
        return taken
