"""A node's wall clock: the machine's, or, for tests of clock faults, one that is set wrong on purpose.

Everything in a node that asks for the time asks this; pauses between two looks are measured by the event loop's own
clock, which nobody sets.
"""

import time


def machine_ms() -> int:
    """Milliseconds since the epoch, as the machine has it."""
    return time.time_ns() // 1_000_000


class WallClock:
    """Tells the machine's time until it is `set` otherwise."""

    def __init__(self) -> None:
        self.offset_ms = 0
        self._stands_at: int | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether it stands still."""
        return self._stands_at is not None

    def now_ms(self) -> int:
        """What it shows, in milliseconds since the epoch."""
        return machine_ms() + self.offset_ms if self._stands_at is None else self._stands_at

    def set(self, offset_ms: int, frozen: bool) -> None:
        """Make it differ from the machine's by `offset_ms` from here on; if `frozen`, stand still there."""
        self.offset_ms = offset_ms
        self._stands_at = machine_ms() + offset_ms if frozen else None
