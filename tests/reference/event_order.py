"""One tenant's operations in the order in which they happened, line by line: the serial ledger does the rest.

Written from the rules alone, to be seen to be right: for every line all lines before it are looked through again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from msgspec import structs

from ledger.ids import ClaimId, LotId, Position, usage_name
from ledger.operation import (
    Capture,
    Debit,
    Expire,
    Grant,
    Hold,
    OnOverspend,
    Operation,
    Policy,
    Refund,
    Release,
    Revoke,
    Transfer,
    Usage,
)
from tests.reference.fold import Ledger, Line, Verdict, extend, fold


@dataclass(frozen=True)
class Happening:
    """An operation, when it happened (ms), and the claim that it uses credit of, if it uses any."""

    at: int
    place: Position
    operation: Operation
    is_void: bool
    uses: ClaimId | None = None


def with_verdicts(lines: Iterable[Line], key_lifetime_ms: int) -> list[tuple[Line, Verdict]]:
    """The lines in canonical order, and what each of them did there."""
    canonical = sorted(lines, key=lambda line: line.place)
    return list(zip(canonical, fold(canonical, key_lifetime_ms).verdicts, strict=True))


def happened(canonical: Iterable[tuple[Line, Verdict]]) -> list[Line]:
    """The lines in event order: without keys, and with the time at which they happened for a place."""
    told: list[Happening] = []
    for line, verdict in canonical:
        if verdict.outcome != "duplicate":
            told += _parts(_dated(line, told, is_void=verdict.outcome == "revoked"))
    written: list[Line] = []
    for number, each in enumerate(sorted(told, key=_order)):
        # Numbers that go up: what else they are makes no difference.
        place = Position((each.at << 16) + number, each.place.region, each.place.boot, each.place.seq)
        written.append(Line(place, each.operation, None))
        if each.is_void and isinstance(each.operation, Hold):
            written.append(Line(place, Release(each.operation.claim), None))
    return written


def ledger_at(lines: Iterable[Line], at: int, key_lifetime_ms: int) -> Ledger:
    """The books after all of the lines, which are in event order, that happened up to `at` (ms)."""
    ledger = Ledger(key_lifetime_ms)
    for line in lines:
        if line.place.now <= at:
            extend(ledger, line)
    return ledger


def _order(each: Happening) -> tuple[int, bool, Position]:
    return each.at, not isinstance(each.operation, Grant), each.place


def _dated(line: Line, told: list[Happening], *, is_void: bool) -> Happening:
    """A line with its event time; `told` are those before it in canonical order."""
    operation, at, uses = line.operation, line.place.now, None
    match operation:
        case Grant():
            at = operation.starts_at
        case Policy():
            operation = structs.replace(operation, on_overspend=OnOverspend.DEBT)
        case Debit():
            at, uses = operation.at, operation.claim
        case Capture():
            at, uses = operation.at, operation.claim
        case Usage():
            operation = structs.replace(operation, claim=_reservation(operation, told))
            at, uses = operation.start, operation.claim or usage_name(operation.job)
        case Refund():
            at = max([operation.at, *(each.at for each in told if each.uses == operation.claim)])
        case Revoke() | Expire():
            at = max([at, *(each.at for each in told if _grants(each, operation.lot))])
        case _:
            pass
    if uses is not None:
        at = max([at, *(each.at for each in told if _makes(each, uses))])
    return Happening(at, line.place, operation, is_void, uses)


def _parts(each: Happening) -> list[Happening]:
    """What a final report of usage releases, it releases when the job ended; else an operation happens at one time."""
    usage = each.operation
    if not isinstance(usage, Usage) or not usage.final or each.at >= usage.end:
        return [each]
    used = replace(each, operation=structs.replace(usage, final=False))
    ended = replace(each, at=usage.end, uses=None, operation=structs.replace(usage, start=usage.end, amount=0))
    return [used, ended]


def _grants(each: Happening, lot: LotId) -> bool:
    grant = each.operation
    return isinstance(grant, Grant) and lot in (grant.lot, *(name for name, _, _ in grant.lots))


def _makes(each: Happening, claim: ClaimId) -> bool:
    return isinstance(each.operation, Hold | Debit | Transfer) and each.operation.claim == claim


def _reservation(usage: Usage, told: list[Happening]) -> ClaimId | None:
    holds = [each.operation for each in told if isinstance(each.operation, Hold)]
    if any(hold.claim == usage.claim for hold in holds):
        return usage.claim
    of_job = [hold.claim for hold in holds if hold.job == usage.job]
    return of_job[-1] if of_job else None
