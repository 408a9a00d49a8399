"""A node judges rightly by what it knows, and records what canonical order makes of a command among what it knows."""

from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    Estimate,
    GrantCredit,
    RefundUsage,
    ReportHeartbeat,
    ReportUsage,
    Reserve,
    RevokeLot,
    SetPolicy,
    TransferCredit,
    derived_id,
)
from ledger.ids import Key, TenantId, transfer_name
from ledger.refusal import Limits, Reason, Refusal
from node.region import Accepted
from tests.reference.fold import Ledger, PlainClaim
from tests.simulation.checks.serial import SerialLedgers
from tests.simulation.facts import Fact
from tests.simulation.scenario import START_MS
from tests.simulation.watch import Broken, Check

if TYPE_CHECKING:
    from tests.simulation.node import Answer, SimulatedNode


class Admission(Check):
    """Holds every decision against the serial ledger of what the node knew when it decided."""

    def __init__(self, ledgers: SerialLedgers) -> None:
        self._ledgers = ledgers

    def applied(self, node: "SimulatedNode", fact: Fact) -> None:
        """Of an own operation, the newest of all: it records what it does in a serial ledger."""
        assert node.region is not None
        if fact.entry.replica != node.region.replica or not fact.is_operation:
            return
        for leg in fact.legs:
            line, verdict = self._ledgers.of(node, leg.tenant).verdicts()[-1]
            if line.place != leg.place:
                raise Broken(f"{node.name} accepts {leg.dot} before {line.place}, which it knows")
            if (verdict.postings, verdict.outcome) != (leg.postings, leg.outcome):
                raise Broken(f"{node.name} records {leg.outcome} {leg.postings} for {leg.dot}; it does {verdict}")

    def decided(
        self, node: "SimulatedNode", tenant: TenantId, command: Command, key: Key, answer: "Answer", now: int
    ) -> None:
        ledger = self._ledgers.of(node, tenant).ledger
        if isinstance(answer, Accepted):
            self._accepted_rightly(ledger, tenant, command, key, answer)
        elif isinstance(answer, Refusal):
            assert node.region is not None
            judged = _Judged(
                ledger, tenant, command, key, answer, node.region.present(now), node.settings.terms.limits, node.name
            )
            if isinstance(command, TransferCredit):
                judged.receiver = self._ledgers.of(node, command.to).ledger
            judged.must_be_right()

    def _accepted_rightly(self, ledger: Ledger, tenant: TenantId, command: Command, key: Key, answer: Accepted) -> None:
        entry = answer.filed.entry
        if (entry.tenant, entry.key) != (tenant, key):
            raise Broken(f"the answer to {key} of {tenant} is about {entry.key} of {entry.tenant}")
        if answer.replayed:
            return
        claim = ledger.claims.get(_claim_of(tenant, command, key))
        if isinstance(command, Reserve):
            if claim is None or claim.state != "open" or None in claim.held:
                raise Broken(f"a hold was accepted that no credit covers: {command} is {claim}")
            expected = _costs(command.amount, entry.position.now)
            if expected is not None and len(claim.held) != expected:
                raise Broken(f"{command} holds {len(claim.held)}, and costs {expected}")
            held = sum(len(other.held) for other in ledger.claims.values())
            if ledger.policy.max_held is not None and held > ledger.policy.max_held:
                raise Broken(f"{held} are held, and {ledger.policy} allows less")
        is_careful = isinstance(command, DebitUsage) and command.at is None and command.on_shortage == "refuse"
        if (is_careful or isinstance(command, TransferCredit)) and (claim is None or None in claim.used):
            raise Broken(f"what no credit covers was accepted: {command} is {claim}")
        if isinstance(command, DebitUsage) and command.on_shortage == "debt" and ledger.policy.debt_limit is not None:
            assert claim is not None
            if None in claim.used and -ledger.balance("debt") > ledger.policy.debt_limit:
                raise Broken(f"{command} leaves a debt of {-ledger.balance('debt')}, {ledger.policy} allows less")


def _costs(asked: int | Estimate, now: int) -> int | None:
    """What a reservation costs, second by second; None where the clock is not that of the rates."""
    if not isinstance(asked, Estimate):
        return asked
    multiplier = {None: (Fraction(1), Fraction(1)), "high": (Fraction(3, 2), Fraction(2))}[asked.work.priority]
    change = START_MS + 30_000
    total = Fraction(0)
    for second in range(asked.seconds):
        begins = now + 1000 * second
        before = min(max(change - begins, 0), 1000)
        total += Fraction(before, 1000) * Fraction(60, 3600) * multiplier[0]
        total += Fraction(1000 - before, 1000) * Fraction(90, 3600) * multiplier[1]
    return ceil(total * asked.work.gpus)


def _claim_of(tenant: TenantId, command: Command, key: Key) -> str:
    match command:
        case Reserve(reservation=name) | DebitUsage(debit=name):
            return name or derived_id(tenant, key)
        case RefundUsage(claim=name):
            return name
        case TransferCredit(to=to):
            return transfer_name(tenant, to, key)
        case GrantCredit() | RevokeLot() | SetPolicy():
            return ""
        case ReportHeartbeat() | ReportUsage():
            return command.reservation or ""
        case _:
            return command.reservation


class _Judged:
    """A refusal, and all that it may rest on."""

    def __init__(
        self,
        ledger: Ledger,
        tenant: TenantId,
        command: Command,
        key: Key,
        refusal: Refusal,
        present: int,
        limits: Limits,
        here: str,
    ) -> None:
        self.receiver = Ledger(0)
        self._ledger = ledger
        self._tenant = tenant
        self._command = command
        self._key = key
        self._refusal = refusal
        self._present = present
        self._limits = limits
        self._here = here
        self._claim: PlainClaim | None = ledger.claims.get(_claim_of(tenant, command, key))

    def must_be_right(self) -> None:
        """Raise `Broken` if it is not."""
        if not self._is_right():
            raise Broken(
                f"{self._command} with key {self._key} was refused, {self._refusal}, although {self._claim},"
                f" {self._ledger.accounts}"
            )

    def _is_right(self) -> bool:
        ledger, command, claim, fields = self._ledger, self._command, self._claim, self._refusal.fields
        match self._refusal.reason:
            case Reason.INSUFFICIENT_CREDIT:
                return self._available() == fields["available"] and self._available() < self._asked()
            case Reason.HELD_LIMIT:
                held = sum(len(other.held) for other in ledger.claims.values())
                return (
                    held == fields["held"]
                    and ledger.policy.max_held is not None
                    and (held + self._asked() > ledger.policy.max_held)
                )
            case Reason.DEBT_LIMIT:
                return ledger.policy.debt_limit is not None and (self._owed_after() > ledger.policy.debt_limit)
            case Reason.NOT_FOUND:
                return not ledger.grants or self._is_unknown()
            case Reason.RESERVATION_ENDED:
                is_void = claim is not None and claim.state == "revoked"
                return claim is not None and claim.state != "open" and is_void == ("conflict" in fields)
            case Reason.LOT_CLOSED:
                return isinstance(command, RevokeLot) and all(lot in ledger.closed for lot in self._lots_of(command))
            case Reason.ALREADY_EXISTS:
                lot = command.lot or derived_id(self._tenant, self._key) if isinstance(command, GrantCredit) else ""
                return claim is not None or any(name.partition("@")[0] == lot for name in ledger.grants)
            case Reason.IDEMPOTENCY_MISMATCH:
                return ledger.remembers(self._key, self._present)
            case Reason.INVALID_REQUEST:
                return self._is_invalid()

    def _asked(self) -> int:
        command = self._command
        assert isinstance(command, Reserve | DebitUsage | TransferCredit)
        asked = _costs(command.amount, self._present)
        assert asked is not None
        return asked

    def _owed_after(self) -> int:
        own = -self._ledger.available_in(self._here, ())
        return self._asked() - self._available() - self._ledger.balance("debt") - own

    def _available(self) -> int:
        """A late debit may also draw on lots that were live at its own time; a transfer on those that last."""
        ledger, command = self._ledger, self._command
        if isinstance(command, TransferCredit):
            return self._left_to_give(command.expires_at)
        lots = set(ledger.live_lots(self._present))
        if isinstance(command, DebitUsage) and command.at is not None:
            lots |= set(ledger.live_lots(command.at))
        return ledger.available_in(self._here, lots)

    def _left_to_give(self, until: int | None) -> int:
        """Coin by coin: debt takes the first, whatever lot they are of; of the others those count that last."""
        ledger = self._ledger
        lots = ledger.lots_of(self._here, ledger.live_lots(self._present))
        coins = [lot for lot in lots for _ in range(ledger.remaining(lot))]
        owed = -ledger.available_in(self._here, ())
        lasting = [lot for lot in coins[owed:] if until is None or ledger.grants[lot].expires_at >= until]
        return len(lasting) - max(0, owed - len(coins))

    def _is_unknown(self) -> bool:
        command, claim = self._command, self._claim
        match command:
            case RevokeLot():
                return not self._lots_of(command)
            case TransferCredit():
                return not self.receiver.grants
            case RefundUsage():
                return claim is None or claim.state == "transferred"
            case ReportHeartbeat() | ReportUsage():
                # What names nothing is taken; what names something else than a reservation is not.
                return claim is not None and not claim.lease_until
            case _:
                return claim is None or not claim.lease_until

    def _lots_of(self, command: RevokeLot) -> list[str]:
        """The lot, or the shares of the grant, that is to be revoked."""
        grants = self._ledger.grants
        return (
            [command.lot] if command.lot in grants else [lot for lot in grants if lot.partition("@")[0] == command.lot]
        )

    def _is_invalid(self) -> bool:
        command, claim, present = self._command, self._claim, self._present
        earliest = present - self._limits.max_late_ms
        match command:
            case GrantCredit():
                starts_at = present if command.starts_at is None else command.starts_at
                return command.expires_at <= max(present, starts_at) or starts_at < earliest
            case RefundUsage():
                is_off = command.at is not None and not earliest <= command.at <= present
                return is_off or (claim is not None and command.amount > len(claim.used))
            case CaptureUsage() | DebitUsage():
                return command.at is not None and not earliest <= command.at <= present
            case TransferCredit():
                is_over = command.expires_at is not None and command.expires_at <= present
                return is_over or command.to == self._tenant
            case ReportHeartbeat():
                return command.at is not None and (
                    not earliest <= command.at <= present or self._is_too_early(command.at)
                )
            case ReportUsage():
                start = command.start if command.start is not None else self._started(command)
                end = present if command.end is None else command.end
                if start is None or not earliest <= start or not earliest <= end <= present:
                    return True
                is_empty = start > end or (start == end and not command.final)
                return is_empty or self._is_too_early(start)
            case _:
                return False

    def _started(self, command: ReportUsage) -> int | None:
        if command.cost is None:
            return self._present if command.end is None else command.end
        job = self._ledger.jobs.get(command.job)
        return min(job.started, default=None) if job is not None else None

    def _is_too_early(self, at: int) -> bool:
        ledger = self._ledger
        begins = [
            *(grant.starts_at for grant in ledger.grants.values()),
            *(at.now for at in ledger.granted_at.values()),
        ]
        return at < min(begins)
