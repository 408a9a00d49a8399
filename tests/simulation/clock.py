"""Wall clocks that are wrong: off by something, too fast or too slow, set back, set forward, standing still."""


class WallClock:
    """What one node takes for the time. True time and readings are in ms."""

    def __init__(self, start_ms: int, offset_ms: int, drift_ppm: int) -> None:
        self._start_ms = start_ms
        self._offset_ms = offset_ms
        self._drift_ppm = drift_ppm
        self._frozen_at: int | None = None

    def read(self, now: int) -> int:
        """The reading at the true time `now`."""
        if self._frozen_at is not None:
            return self._frozen_at
        return now + self._offset_ms + (now - self._start_ms) * self._drift_ppm // 1_000_000

    def step(self, by_ms: int) -> None:
        """Set the clock forward, or back."""
        self._offset_ms += by_ms

    @property
    def is_frozen(self) -> bool:
        """Whether it stands still."""
        return self._frozen_at is not None

    def freeze(self, now: int) -> None:
        """Let the clock stand still."""
        self._frozen_at = self.read(now)

    def thaw(self, now: int) -> None:
        """Let it go on from where it stands."""
        if self._frozen_at is not None:
            stood_at, self._frozen_at = self._frozen_at, None
            self._offset_ms += stood_at - self.read(now)

    def set_right(self, now: int, within_ms: int) -> None:
        """What a time service does in the end: no more drift, and off by no more than `within_ms`."""
        self.thaw(now)
        off = self.read(now) - now
        self._drift_ppm = 0
        self._offset_ms = max(-within_ms, min(within_ms, off))
