"""Jobs: what a scheduler has said of one piece of work, and for which time it has been charged.

Usage is reported at least once, late, out of order and through several regions, so that reports of one job overlap. A
job is charged for the union of the intervals that were reported: each report pays for the milliseconds that no report
before it, in canonical order, has paid for.
"""

from bisect import bisect_left, bisect_right

from msgspec import Struct

from ledger.ids import ClaimId, JobId

Intervals = tuple[tuple[int, int], ...]
"""Half-open stretches of time in ms, in order, with gaps between them."""


class Job(Struct, frozen=True, gc=False, array_like=True):
    """A job as its reports leave it; every change makes a new one. Times in ms, by the scheduler's clock."""

    id: JobId
    claim: ClaimId | None = None
    """The reservation that was made for it last."""
    started_at: int | None = None
    seen_at: int | None = None
    """The latest time at which it was reported to be running."""
    finished_at: int | None = None
    covered: Intervals = ()
    """What it has been charged for."""
    charged: int = 0
    unreserved: int = 0
    """How much of ``charged`` no reservation was there for."""

    @property
    def is_running(self) -> bool:
        """Whether reports say so: it was seen to run, and nobody has said that it has finished."""
        return self.seen_at is not None and self.finished_at is None

    def reserved(self, claim: ClaimId) -> "Job":
        """With a reservation made for it."""
        return Job(
            self.id, claim, self.started_at, self.seen_at, self.finished_at, self.covered, self.charged, self.unreserved
        )

    def seen(self, at: int, *, started: bool) -> "Job":
        """Known to run at `at`, and perhaps to have started then."""
        began = at if started and (self.started_at is None or at < self.started_at) else self.started_at
        return Job(
            self.id, self.claim, began, max(at, self.seen_at or 0), self.finished_at, self.covered,
            self.charged, self.unreserved,
        )  # fmt: skip

    def used(self, covered: Intervals, until: int, amount: int, *, reserved: bool, final: bool) -> "Job":
        """Charged `amount` more, for what is now `covered`."""
        return Job(
            self.id,
            self.claim,
            self.started_at,
            max(until, self.seen_at or 0),
            max(until, self.finished_at or 0) if final else self.finished_at,
            covered,
            self.charged + amount,
            self.unreserved + (0 if reserved else amount),
        )


def cover(covered: Intervals, start: int, end: int) -> tuple[Intervals, int]:
    """`covered` with ``[start, end)`` added, and how many of its milliseconds were not covered before."""
    if start >= end:
        return covered, 0
    # Those that touch it become one with it.
    first = bisect_left(covered, start, key=_end)
    last = bisect_right(covered, end, key=_start)
    touched = covered[first:last]
    begins, ends = min([start, *map(_start, touched)]), max([end, *map(_end, touched)])
    fresh = (ends - begins) - sum([stop - begin for begin, stop in touched])
    return (*covered[:first], (begins, ends), *covered[last:]), fresh


def length(covered: Intervals) -> int:
    """How many milliseconds are covered."""
    return sum([end - start for start, end in covered])


def share(amount: int, part_ms: int, whole_ms: int) -> int:
    """What a part of an interval costs that costs `amount` as a whole, rounded up."""
    return amount if part_ms == whole_ms else -(-amount * part_ms // whole_ms)


def _start(interval: tuple[int, int]) -> int:
    return interval[0]


def _end(interval: tuple[int, int]) -> int:
    return interval[1]
