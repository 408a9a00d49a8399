"""Reports of usage: whether what a scheduler tells of a job is taken, and as which operation.

Reports are about what has happened. They are never refused for lack of credit, nor because nothing was reserved: the
GPU time is spent, and is charged; what is unusual about it shows in the job and in the outcome. They are refused when
they make no sense, and then the scheduler has to say it right.
"""

from typing import Final

from ledger.account import Account
from ledger.command import ReportHeartbeat, ReportUsage
from ledger.ids import ClaimId
from ledger.job import Job, cover, length
from ledger.operation import Heartbeat, Usage
from ledger.pricing import NoPrice
from ledger.refusal import Limits, Reason, Refusal, Terms, event_time, invalid, not_found, too_much_used, unpriced

MAX_PIECES: Final = 4_096
"""Of the time that a job was charged for: each report changes all of them."""


def heartbeat(account: Account, command: ReportHeartbeat, now: int, limits: Limits) -> Heartbeat | Refusal:
    """Judge a sign of life at `now` (ms)."""
    at = event_time(command.at, now, limits)
    if isinstance(at, Refusal):
        return at
    lease_ms = limits.heartbeat_lease_ms if command.lease_ms is None else command.lease_ms
    if lease_ms > limits.max_lease_ms:
        return invalid("lease_ms", f"must be at most {limits.max_lease_ms}")
    job = account.job(command.job) or Job(command.job)
    return (
        _no_reservation(account, command.reservation)
        or _before_the_tenant(account, at, "at")
        or Heartbeat(command.job, _reservation(account, job, command.reservation), at, at + lease_ms, command.started)
    )


def usage(account: Account, command: ReportUsage, now: int, terms: Terms) -> Usage | Refusal:
    """Judge a report of usage at `now` (ms), and price it."""
    if command.cost is None and not command.final:
        return invalid("cost", "is required of a report that is not final")
    job = account.job(command.job) or Job(command.job)
    end = event_time(command.end, now, terms.limits, "end")
    if isinstance(end, Refusal):
        return end
    start = _start(command, job, end, now, terms.limits)
    if isinstance(start, Refusal):
        return start
    if start > end or (start == end and not command.final):
        return invalid("end", "must be after start")
    if command.cost is None:
        # It covers no time: what ran before is charged also when it is reported later.
        start = end
    amount = _cost(command, start, end, job, terms)
    if isinstance(amount, Refusal):
        return amount
    covered, _ = cover(job.covered, start, end)
    if len(covered) > max(MAX_PIECES, len(job.covered)):
        return invalid(
            "start", f"would leave the time of the job in more than {MAX_PIECES} pieces; fill the gaps first"
        )
    return (
        _no_reservation(account, command.reservation)
        or _before_the_tenant(account, start, "start")
        or too_much_used(account, amount)
        or Usage(command.job, _reservation(account, job, command.reservation), start, end, amount, command.final)
    )


def _reservation(account: Account, job: Job, named: ClaimId | None) -> ClaimId | None:
    """What the report names, which other regions may know; else what was reserved for the job, as far as is known."""
    return named if named is not None else account.reservation_of(job, None)


def _start(command: ReportUsage, job: Job, end: int, now: int, limits: Limits) -> int | Refusal:
    start = command.start
    if start is None:
        start = end if command.cost is None else job.started_at
    if start is None:
        detail = "no report says when the job started, as far as this region knows: say its start, or ask again later"
        return Refusal(Reason.START_UNKNOWN, detail, {"job": command.job})
    return event_time(start, now, limits, "start")


def _cost(command: ReportUsage, start: int, end: int, job: Job, terms: Terms) -> int | Refusal:
    if command.cost is None:
        return 0
    if isinstance(command.cost, int):
        return command.cost
    amount = terms.rates.price(command.cost, start, end, length(job.covered))
    return unpriced(amount) if isinstance(amount, NoPrice) else amount


def _no_reservation(account: Account, named: ClaimId | None) -> Refusal | None:
    """Whether what is named is something else than a reservation. One that is not known here may be known elsewhere."""
    claim = account.claim(named) if named is not None else None
    if claim is not None and not claim.is_reservation:
        return not_found("reservation", claim.id)
    return None


def _before_the_tenant(account: Account, at: int, field: str) -> Refusal | None:
    # The oldest lots come first, so this ends at once for all but nonsense.
    if any(lot.starts_at <= at or lot.granted.now <= at for lot in account.lots.values()):
        return None
    return invalid(
        field, "lies before the tenant had anything: before its first grant, and before any lot of it starts"
    )
