"""Virtual time: what happens, in order of time, and among equals in the order in which it was arranged."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Action = Callable[[], None]


class Scheduler:
    """A clock that jumps to the next thing that happens. Times are true milliseconds; no node ever sees them."""

    def __init__(self, start_ms: int) -> None:
        self.now = start_ms
        self.happened = 0
        """How many things have happened."""
        self._numbers = count()
        self._arranged: list[tuple[int, int, Action]] = []

    def after(self, delay_ms: int, action: Action) -> None:
        """Arrange for something to happen `delay_ms` from now."""
        assert delay_ms >= 0
        heappush(self._arranged, (self.now + delay_ms, next(self._numbers), action))

    def run_until(self, end_ms: int) -> None:
        """Let everything happen that is arranged for a time up to `end_ms`."""
        while self._arranged and self._arranged[0][0] <= end_ms:
            self.now, _, action = heappop(self._arranged)
            self.happened += 1
            action()
        self.now = end_ms
