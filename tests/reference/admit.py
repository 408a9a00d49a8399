"""Whether a request may be accepted, a second time: all that speaks against it, and what it comes to if nothing does.

Written from the rules alone (docs/internals/ledger.md, "Accepting") over the serial ledger of what a node knows, to be
seen to be right. A node names the first objection that it comes upon; here all of them are listed, so that it makes no
difference in which order one looks. Left out are the bounds of what a tenant can have at all (2^53, 500 open lots,
1,000 pieces of a job's time): no ledger that is counted out coin by coin comes near them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import ceil

from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    Estimate,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    ReportHeartbeat,
    ReportUsage,
    Reserve,
    RevokeLot,
    SetPolicy,
    TransferCredit,
    derived_id,
)
from ledger.ids import MAX_NAME, ClaimId, JobId, Key, LotId, TenantId, transfer_name
from ledger.operation import (
    Admission,
    Capture,
    Debit,
    Grant,
    Heartbeat,
    Hold,
    OnOverspend,
    Operation,
    Policy,
    Refund,
    Release,
    Renew,
    Revoke,
    Transfer,
    Usage,
)
from ledger.pricing import Work
from ledger.refusal import Limits, Reason, Refusal
from tests.reference.fold import Ledger, PlainClaim

_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Prices:
    """What a GPU-hour costs from a time on (ms), until the next prices begin."""

    since: int
    per_gpu_hour: dict[str, Fraction]
    multipliers: dict[str, Fraction]


@dataclass(frozen=True)
class House:
    """What a node goes by beside the tenant's books."""

    here: str
    regions: tuple[str, ...]
    limits: Limits
    prices: tuple[Prices, ...]


@dataclass(frozen=True)
class Request:
    """A request, and what the node that judges it takes for the present (ms)."""

    tenant: TenantId
    command: Command
    key: Key
    now: int


@dataclass(frozen=True)
class Objection:
    """Something that speaks against a request, and what a refusal for this reason has to say."""

    reason: Reason
    says: dict[str, int | str | None] = field(default_factory=dict)

    def explains(self, refusal: Refusal) -> bool:
        """Whether a refusal is for this reason."""
        fields = refusal.fields
        return refusal.reason is self.reason and all(fields.get(name, "") == said for name, said in self.says.items())


def objections(request: Request, ledger: Ledger, receiver: Ledger, house: House) -> list[Objection]:
    """Everything that speaks against a request; `receiver` has the books of whom a transfer goes to."""
    if not ledger.grants and not isinstance(request.command, GrantCredit):
        return [Objection(Reason.NOT_FOUND, {"tenant": request.tenant})]
    return list(_Judge(request, ledger, receiver, house).objections())


def accepted_as(request: Request, ledger: Ledger, house: House) -> Operation:
    """The operation that a request becomes against which nothing speaks."""
    return _Judge(request, ledger, Ledger(0), house).operation()


class _Judge:
    def __init__(self, request: Request, ledger: Ledger, receiver: Ledger, house: House) -> None:
        self.request = request
        self.ledger = ledger
        self.receiver = receiver
        self.house = house
        self.now = request.now
        self.limits = house.limits

    # -- what speaks against it -------------------------------------------------------------------------------------

    def objections(self) -> Iterator[Objection]:
        command = self.request.command
        match command:
            case GrantCredit():
                yield from self._against_grant(command)
            case Reserve():
                yield from self._against_lease(command.lease_ms)
                yield from self._against_name("reservation", self._claim_name(command.reservation))
                yield from self._against_hold(command)
            case RenewLease():
                yield from self._against_lease(command.lease_ms)
                yield from self._unless_open(command.reservation)
            case ReleaseHold():
                yield from self._unless_open(command.reservation)
            case CaptureUsage():
                yield from self._unless_reservation(command.reservation)
                yield from self._against_time(command.at, "at")
            case DebitUsage():
                yield from self._against_name("debit", self._claim_name(command.debit))
                yield from self._against_time(command.at, "at")
                yield from self._against_debit(command)
            case RefundUsage():
                claim = self._claim(command.claim)
                if claim is None or claim.state == "transferred":
                    yield Objection(Reason.NOT_FOUND, {"claim": command.claim})
                elif command.amount > len(claim.used):
                    yield _invalid("amount")
                yield from self._against_time(command.at, "at")
            case RevokeLot():
                lots = self._lots_called(command.lot)
                if not lots:
                    yield Objection(Reason.NOT_FOUND, {"lot": command.lot})
                elif all(lot in self.ledger.closed for lot in lots):
                    yield Objection(Reason.LOT_CLOSED, {"lot": command.lot})
            case SetPolicy():
                if command.admission == Admission.ESCROW and command.on_overspend == OnOverspend.REVOKE:
                    yield _invalid("on_overspend")
            case TransferCredit():
                yield from self._against_transfer(command)
            case ReportHeartbeat():
                yield from self._against_time(command.at, "at")
                yield from self._against_lease(self._heartbeat_lease_ms(command))
                yield from self._if_no_reservation(command.reservation)
                yield from self._if_before_the_tenant(self._when(command.at), "at")
            case ReportUsage():
                yield from self._against_usage(command)

    def _against_grant(self, grant: GrantCredit) -> Iterator[Objection]:
        starts_at = self._when(grant.starts_at)
        if starts_at < self.now - self.limits.max_late_ms:
            yield _invalid("starts_at")
        if grant.expires_at <= starts_at or grant.expires_at <= self.now:
            yield _invalid("expires_at")
        name = self._lot_name(grant)
        if self._lots_called(name):
            yield Objection(Reason.ALREADY_EXISTS, {"lot": name})
        if not self._is_escrowed():
            if grant.weights is not None:
                yield _invalid("weights")
            return
        weights = self._weights(grant)
        if not sum(weights.values()) or not weights.keys() <= set(self.house.regions):
            yield _invalid("weights")
        if any(len(f"{name}@{region}") > MAX_NAME for region in weights):
            yield _invalid("lot")
        if any(f"{name}@{region}" in self.ledger.grants for region, _ in self._shares(grant)):
            yield Objection(Reason.ALREADY_EXISTS, {"lot": name})

    def _against_hold(self, reserve: Reserve) -> Iterator[Objection]:
        wrong = self._without_price(reserve.amount.work) if isinstance(reserve.amount, Estimate) else None
        if wrong is not None:
            yield _invalid(wrong)
            return
        amount, held, most = self._to_hold(reserve), self._held(), self.ledger.policy.max_held
        if most is not None and held + amount > most:
            yield Objection(Reason.HELD_LIMIT, {"requested": amount, "held": held, "max_held": most})
        yield from self._if_short(amount, self.ledger.live_lots(self.now))

    def _against_debit(self, debit: DebitUsage) -> Iterator[Objection]:
        """A late debit may also draw on lots that were live at its own time."""
        lots = {*self.ledger.live_lots(self.now), *self.ledger.live_lots(self._when(debit.at))}
        available, limit = self._available(lots), self.ledger.policy.debt_limit
        if debit.on_shortage == OnShortage.REFUSE:
            yield from self._if_short(debit.amount, lots)
        elif limit is not None and debit.amount > available:
            own_credit = sum(self.ledger.remaining(lot) for lot in self.ledger.lots_of(self.house.here, lots))
            if debit.amount + self._debt() - own_credit > limit:
                yield Objection(
                    Reason.DEBT_LIMIT, {"requested": debit.amount, "available": available, "debt_limit": limit}
                )

    def _against_transfer(self, transfer: TransferCredit) -> Iterator[Objection]:
        if transfer.to == self.request.tenant:
            yield _invalid("to")
            return
        if not self.receiver.grants:
            yield Objection(Reason.NOT_FOUND, {"tenant": transfer.to})
        if transfer.expires_at is not None and transfer.expires_at <= self.now:
            yield _invalid("expires_at")
        until = self._transferred_until(transfer)
        coins, owed = self._left_to_give()
        lasting = [lot for lot in coins if self.ledger.grants[lot].expires_at >= until]
        yield from self._if_less(len(lasting) - owed, transfer.amount)
        yield from self._against_name("transfer", transfer_name(self.request.tenant, transfer.to, self.request.key))

    def _against_usage(self, usage: ReportUsage) -> Iterator[Objection]:
        start, end = self._usage_start(usage), self._when(usage.end)
        if usage.cost is None and not usage.final:
            yield _invalid("cost")
        yield from self._against_time(usage.end, "end")
        if start is None:
            yield Objection(Reason.START_UNKNOWN, {"job": usage.job})
            return
        yield from self._against_time(start, "start")
        if start > end or (start == end and not usage.final):
            yield _invalid("end")
        wrong = self._without_price(usage.cost) if isinstance(usage.cost, Work) else None
        if wrong is not None:
            yield _invalid(wrong)
        yield from self._if_no_reservation(usage.reservation)
        yield from self._if_before_the_tenant(start if usage.cost is not None else end, "start")

    def _against_lease(self, lease_ms: int) -> Iterator[Objection]:
        if lease_ms > self.limits.max_lease_ms:
            yield _invalid("lease_ms")

    def _against_time(self, at: int | None, name: str) -> Iterator[Objection]:
        if at is not None and not self.now - self.limits.max_late_ms <= at <= self.now + self.limits.max_ahead_ms:
            yield _invalid(name)

    def _against_name(self, what: str, name: str) -> Iterator[Objection]:
        if name in self.ledger.claims or (what == "transfer" and name in self.receiver.grants):
            yield Objection(Reason.ALREADY_EXISTS, {what: name})

    def _unless_reservation(self, name: str) -> Iterator[Objection]:
        claim = self._claim(name)
        if claim is None or not claim.lease_until:
            yield Objection(Reason.NOT_FOUND, {"reservation": name})

    def _unless_open(self, name: str) -> Iterator[Objection]:
        yield from self._unless_reservation(name)
        claim = self._claim(name)
        if claim is not None and claim.lease_until and claim.state != "open":
            says: dict[str, int | str | None] = {"state": claim.state, "captured": len(claim.used)}
            yield Objection(Reason.RESERVATION_ENDED, {"reservation": name, **says})

    def _if_no_reservation(self, name: str | None) -> Iterator[Objection]:
        """What is not known may be known elsewhere; what is known as something else is wrong."""
        claim = self._claim(name)
        if claim is not None and not claim.lease_until:
            yield Objection(Reason.NOT_FOUND, {"reservation": name})

    def _if_before_the_tenant(self, at: int, name: str) -> Iterator[Objection]:
        ledger = self.ledger
        begins = [grant.starts_at for grant in ledger.grants.values()]
        given = [place.now for place in ledger.granted_at.values()]
        if at < min(begins + given):
            yield _invalid(name)

    def _if_short(self, amount: int, lots: Iterable[str]) -> Iterator[Objection]:
        yield from self._if_less(self._available(lots), amount)

    def _if_less(self, available: int, amount: int) -> Iterator[Objection]:
        ledger, live = self.ledger, self.ledger.live_lots(self.now)
        if amount > available:
            says: dict[str, int | str | None] = {"requested": amount, "available": available}
            says |= {"debt": self._debt(), "held": self._held()}
            to_come = [each.starts_at for lot, each in ledger.grants.items() if ledger.remaining(lot)]
            says["next_start"] = min((at for at in to_come if at > self.now), default=None)
            if self._is_escrowed():
                says["elsewhere"] = sum(ledger.remaining(lot) for lot in live if ledger.owner(lot) != self.house.here)
            yield Objection(Reason.INSUFFICIENT_CREDIT, says)

    # -- what it comes to -------------------------------------------------------------------------------------------

    def operation(self) -> Operation:
        command, now = self.request.command, self.now
        match command:
            case GrantCredit():
                shares = self._shares(command) if self._is_escrowed() else ()
                starts_at, lot = self._when(command.starts_at), LotId(self._lot_name(command))
                return Grant(lot, command.amount, starts_at, command.expires_at, command.priority, shares)
            case Reserve():
                claim = self._claim_name(command.reservation)
                return Hold(claim, self._to_hold(command), now + command.lease_ms, command.job)
            case RenewLease():
                return Renew(command.reservation, now + command.lease_ms)
            case ReleaseHold():
                return Release(command.reservation)
            case CaptureUsage():
                return Capture(command.reservation, command.amount, self._when(command.at), command.final)
            case DebitUsage():
                return Debit(self._claim_name(command.debit), command.amount, self._when(command.at))
            case RefundUsage():
                return Refund(command.claim, command.amount, self._when(command.at))
            case RevokeLot():
                return Revoke(command.lot)
            case SetPolicy():
                return Policy(command.on_overspend, command.admission, command.max_held, command.debt_limit)
            case TransferCredit():
                name = transfer_name(self.request.tenant, command.to, self.request.key)
                until = self._transferred_until(command)
                return Transfer(name, command.to, command.amount, now, until, command.priority)
            case ReportHeartbeat():
                at = self._when(command.at)
                reservation = self._reservation_for(command.job, command.reservation)
                lease_until = at + self._heartbeat_lease_ms(command)
                return Heartbeat(command.job, reservation, at, lease_until, command.started)
            case ReportUsage():
                start, end = self._usage_start(command), self._when(command.end)
                assert start is not None
                reservation = self._reservation_for(command.job, command.reservation)
                if command.cost is None:
                    # Nothing is charged for any time.
                    return Usage(command.job, reservation, end, end, 0, command.final)
                amount = self._cost(command.cost, start, end, self._reported_ms(command.job))
                return Usage(command.job, reservation, start, end, amount, command.final)

    # -- what is asked ----------------------------------------------------------------------------------------------

    def _when(self, at: int | None) -> int:
        return self.now if at is None else at

    def _claim_name(self, named: ClaimId | None) -> ClaimId:
        return named or ClaimId(derived_id(self.request.tenant, self.request.key))

    def _lot_name(self, grant: GrantCredit) -> str:
        return grant.lot or derived_id(self.request.tenant, self.request.key)

    def _to_hold(self, reserve: Reserve) -> int:
        asked = reserve.amount
        if isinstance(asked, Estimate):
            return self._cost(asked.work, self.now, self.now + 1000 * asked.seconds)
        return asked

    def _heartbeat_lease_ms(self, beat: ReportHeartbeat) -> int:
        return self.limits.heartbeat_lease_ms if beat.lease_ms is None else beat.lease_ms

    def _usage_start(self, usage: ReportUsage) -> int | None:
        """As reported, or the end if nothing is charged, or when the job was first reported to have started."""
        if usage.start is not None:
            return usage.start
        if usage.cost is None:
            return self._when(usage.end)
        job = self.ledger.jobs.get(usage.job)
        return min(job.started, default=None) if job is not None else None

    def _transferred_until(self, transfer: TransferCredit) -> int:
        """As asked, or until the first of the lots expires from which the coins would be taken one by one."""
        if transfer.expires_at is not None:
            return transfer.expires_at
        coins = self._left_to_give()[0][: transfer.amount]
        if len(coins) < transfer.amount:
            return self.now
        return min(self.ledger.grants[lot].expires_at for lot in coins)

    def _left_to_give(self) -> tuple[list[str], int]:
        """Coin by coin what is left when debt has taken the first, of whatever lots; and the debt that remains."""
        ledger, here = self.ledger, self.house.here
        own = ledger.lots_of(here, ledger.live_lots(self.now))
        coins = [lot for lot in own for _ in range(ledger.remaining(lot))]
        owed = -ledger.available_in(here, ())
        return coins[owed:], max(0, owed - len(coins))

    def _reservation_for(self, job_name: str, named: ClaimId | None) -> ClaimId | None:
        """What the report names, or else the last that was reserved for the job."""
        job = self.ledger.jobs.get(job_name)
        if named is None and job is not None and job.reserved_by is not None:
            return ClaimId(job.reserved_by)
        return named

    # -- prices and shares ------------------------------------------------------------------------------------------

    def _without_price(self, work: Work) -> str | None:
        for prices in self.house.prices:
            if work.gpu_type not in prices.per_gpu_hour:
                return "gpu_type"
            if work.priority is not None and work.priority not in prices.multipliers:
                return "priority"
        return None

    def _reported_ms(self, name: JobId) -> int:
        job = self.ledger.jobs.get(name)
        if job is None or not job.reported:
            return 0
        bounds = sorted({bound for interval in job.reported for bound in interval})
        spans = pairwise(bounds)
        return sum(b - a for a, b in spans if any(first <= a and b <= last for first, last in job.reported))

    def _cost(self, asked: int | Work, start: int, end: int, paid_ms: int = 0) -> int:
        """What work costs: the time under each of the prices, at these prices, and in the end rounded up.

        Behind time that was paid for, only what comes above the rounded price of that, at the same rate.
        """
        if isinstance(asked, int):
            return asked
        cost = Fraction(0)
        ends = [prices.since for prices in self.house.prices[1:]] + [end]
        for prices, until in zip(self.house.prices, ends, strict=True):
            lasts = max(0, min(end, until) - max(start, prices.since))
            rate = prices.per_gpu_hour[asked.gpu_type]
            multiplier = Fraction(1) if asked.priority is None else prices.multipliers[asked.priority]
            cost += asked.gpus * rate * multiplier * Fraction(lasts, _HOUR_MS)
        if not paid_ms or start == end:
            return ceil(cost)
        a_millisecond = cost / (end - start)
        return ceil(a_millisecond * (paid_ms + end - start)) - ceil(a_millisecond * paid_ms)

    def _weights(self, grant: GrantCredit) -> dict[str, int]:
        return dict.fromkeys(self.house.regions, 1) if grant.weights is None else dict(grant.weights)

    def _shares(self, grant: GrantCredit) -> tuple[tuple[str, int], ...]:
        """To each region its part, rounded down; of what is left over one each, to the heaviest first."""
        weights = self._weights(grant)
        total = sum(weights.values())
        if not total:
            return ()
        parts = {region: int(Fraction(grant.amount * weight, total)) for region, weight in weights.items()}
        left_over = grant.amount - sum(parts.values())
        for region in sorted(weights, key=lambda region: (-weights[region], region))[:left_over]:
            parts[region] += 1
        return tuple((region, part) for region, part in sorted(parts.items()) if part)

    # -- the books --------------------------------------------------------------------------------------------------

    def _claim(self, name: str | None) -> PlainClaim | None:
        return None if name is None else self.ledger.claims.get(name)

    def _lots_called(self, name: str) -> list[str]:
        """A lot, or the shares of a grant."""
        ledger = self.ledger
        shares = [f"{name}@{region}" for region in set(ledger.share_of.values())]
        return [name] if name in ledger.grants else [lot for lot in shares if lot in ledger.share_of]

    def _is_escrowed(self) -> bool:
        return self.ledger.policy.admission == Admission.ESCROW

    def _available(self, lots: Iterable[str]) -> int:
        return self.ledger.available_in(self.house.here, lots)

    def _debt(self) -> int:
        return -self.ledger.balance("debt")

    def _held(self) -> int:
        return sum(len(claim.held) for claim in self.ledger.claims.values())


def _invalid(name: str) -> Objection:
    return Objection(Reason.INVALID_REQUEST, {"field": name})
