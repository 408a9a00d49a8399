"""What happened in a run: a hash that names it, counts that show it was no idle one, and, when asked for, the story."""

from collections import Counter
from hashlib import blake2b


class Trace:
    """Takes note of everything that happens.

    Two runs with the same hash did the same things at the same times in the same order: nodes started and stopped, put
    the same bytes on the wire and on disk, applied the same entries, and clients were told the same.
    """

    def __init__(self, start_ms: int, *, keep_lines: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        """How often each fault and each rare branch happened, by name."""
        self.lines: list[str] = []
        self._keep_lines = keep_lines
        self._start_ms = start_ms
        self._hash = blake2b(digest_size=16)

    @property
    def hash(self) -> str:
        """The name of all that has happened so far."""
        return self._hash.hexdigest()

    def note(self, now: int, who: str, what: str) -> None:
        """Something happened at `now`."""
        self._hash.update(f"{now} {who} {what}\n".encode())
        if self._keep_lines:
            self.lines.append(f"{clock_text(now - self._start_ms)}  {who:<10} {what}")

    def mix(self, now: int, who: str, what: bytes) -> None:
        """Something happened at `now` that nobody needs to read, such as a frame: it is told by its bytes."""
        self._hash.update(f"{now} {who} {len(what)} ".encode())
        self._hash.update(what)

    def count(self, name: str) -> None:
        """One more of these."""
        self.counts[name] += 1


def clock_text(ms: int) -> str:
    """Simulated time since the beginning, as hours:minutes:seconds."""
    seconds, rest = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"
