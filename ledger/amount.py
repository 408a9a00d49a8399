"""What an amount of credit may be: an integer of the smallest unit, within bounds that every layer can carry.

2^53−1 is the largest integer that JSON readers agree on. A node keeps the sums over a tenant within it too
(``MAX_TOTAL``), and what several regions accept without seeing each other still fits the 64-bit integers of the log.
"""

from typing import Annotated, Final

from msgspec import Meta

MAX_AMOUNT: Final = 2**53 - 1
MAX_TOTAL: Final = MAX_AMOUNT
MAX_FOLDED: Final = 2**61
"""What no tenant is given, or owes, above this, whatever stands in the log: beyond what all regions together can have
accepted without seeing each other, and little enough that every sum of it fits 64 bits."""

MAX_OPEN_LOTS: Final = 500
"""Of a tenant, at the node that grants: one operation may have to name them all in its entry."""
MAX_TIME_MS: Final = 2**48 - 1

Amount = Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]
"""A positive amount of credit, in the smallest unit."""

Millis = Annotated[int, Meta(ge=0, le=MAX_TIME_MS)]
"""A time: milliseconds since the epoch (what the 48 bits of a hybrid logical clock can hold)."""

Priority = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
"""Of two lots that could both pay, the one with the smaller priority pays first."""
