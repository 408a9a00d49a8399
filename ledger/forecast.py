"""Forecasts: when a tenant's credit runs out if it goes on being used as it was.

How it was used is counted in a window of event time. A report of usage counts where the time lies that it pays for,
millisecond by millisecond: of a job that ran for a day and was reported at its end, the last hour used a 24th. All else
counts at the moment at which it happened.

Lots pay in spending order, those that start later join in, and what is left of one that expires is gone. What is held
stays held, because jobs that end make room for others: what runs out is what can still be reserved. All is integers:
amounts are multiplied by the length of the window, so that what was used in the window is what is used per millisecond.
"""

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

from msgspec import Struct

from ledger.amount import MAX_TIME_MS
from ledger.event_time import EntryT, EventFold
from ledger.job import Intervals, cover
from ledger.lot import Lot, SpendingPlace, spending_place
from ledger.operation import Usage
from ledger.posting import USED

HOUR_MS: Final = 3_600_000


class Burn(Struct, frozen=True, gc=False):
    """How fast credit is used: so much (at least 0) in so long (ms)."""

    used: int
    window_ms: int

    @property
    def per_hour(self) -> int:
        """Credit per hour, rounded up."""
        return -(-self.used * HOUR_MS // self.window_ms)


def used_in(fold: EventFold[EntryT], since: int, to: int) -> Iterator[int]:
    """What was used in ``[since, to)`` (ms) by a tenant of which nothing is folded yet: step by step, less refunds."""
    # To the end: a report of before its reservation is folded when that was made, and counts where it says.
    while (at := fold.next_at) is not None:
        operation = fold.coming
        job = fold.account.job(operation.job) if isinstance(operation, Usage) else None
        _, effect = fold.step()
        amount = effect.postings.get(USED, 0)
        if isinstance(operation, Usage) and amount:
            covered = job.covered if job is not None else ()
            yield _used_until(to, operation, covered, amount) - _used_until(since, operation, covered, amount)
        else:
            yield amount if since <= at < to else 0


def _used_until(end: int, usage: Usage, covered: Intervals, amount: int) -> int:
    """How much of the `amount` charged for what was not `covered` is for the time before `end` (ms), rounded down.

    So the parts in periods that join add up to the whole.
    """
    if end <= usage.start or usage.end <= end:
        return 0 if end <= usage.start else amount
    _, whole_ms = cover(covered, usage.start, usage.end)
    _, part_ms = cover(covered, usage.start, end)
    return amount * part_ms // whole_ms


def runs_out_at(lots: Iterable[Lot], debt: int, now: int, burn: Burn) -> int | None:
    """When (ms, rounded up) nothing of `lots` less `debt` is available any more, at or after `now` (ms).

    None if that is not before ``MAX_TIME_MS``: a lot that is granted until then is one that does not expire.
    """
    scale = burn.window_ms
    lots = [lot for lot in lots if lot.remaining and max(now, lot.starts_at) < lot.expires_at]
    live = {spending_place(lot): lot.remaining * scale for lot in lots if lot.starts_at <= now}
    if sum(live.values()) <= debt * scale:
        return now
    _take(live, debt * scale)
    later = sorted([lot for lot in lots if lot.starts_at > now], key=attrgetter("starts_at"), reverse=True)
    at = now
    while live:
        end = min([*(place.expires_at for place in live), *(lot.starts_at for lot in later[-1:])])
        left, wanted = sum(live.values()), burn.used * (end - at)
        if left < wanted:
            return at - (-left // burn.used)
        _take(live, wanted)
        live = {place: rest for place, rest in live.items() if place.expires_at > end}
        while later and later[-1].starts_at == end:
            lot = later.pop()
            live[spending_place(lot)] = lot.remaining * scale
        at = end
    return at if at < MAX_TIME_MS else None


def _take(live: dict[SpendingPlace, int], amount: int) -> None:
    """Take `amount`, which is there, from the lots in spending order."""
    for place in sorted(live):
        if not amount:
            return
        part = min(amount, live[place])
        amount -= part
        live[place] -= part
        if not live[place]:
            del live[place]
