"""What is due when: leases that end, lots that start while debt stands, lots that expire.

A region sweeps only what it made itself: the holds that it accepted and the lots that it granted, in any of its boots.
The schedule only says when to look again; whether anything is to be done is decided on the state at that time. So an
item may be listed twice, or for nothing, and none is ever taken back.
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
    """A heap of items by time."""

    def __init__(self) -> None:
        self._heap: list[Item] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: int, due: Due, tenant: TenantId, name: str) -> None:
        """Look at `name` at `at` (ms)."""
        heappush(self._heap, (at, due, tenant, name))

    def take_due(self, now: int, at_most: int) -> list[Item]:
        """Up to `at_most` items due at `now` (ms), the earliest first; they leave the schedule."""
        taken: list[Item] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < at_most:
            taken.append(heappop(self._heap))
        return taken
