"""A node judges rightly by what it knows, and records what canonical order makes of a command among what it knows."""

from typing import TYPE_CHECKING

from ledger.admission import Reason, Refusal
from ledger.command import CaptureUsage, Command, DebitUsage, GrantCredit, RefundUsage, Reserve, RevokeLot, derived_id
from ledger.ids import Key, TenantId
from node.region import Accepted
from tests.reference.fold import Ledger, PlainClaim
from tests.simulation.checks.serial import SerialLedgers
from tests.simulation.facts import Fact
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
        entry = fact.entry
        if entry.replica != node.region.replica or not fact.is_operation:
            return
        line, verdict = self._ledgers.of(node, entry.tenant).verdicts()[-1]
        if line.place != fact.place:
            raise Broken(f"{node.name} accepts {fact.dot} before {line.place}, which it knows")
        if (verdict.postings, verdict.outcome) != (entry.postings, entry.outcome):
            raise Broken(f"{node.name} records {entry.outcome} {entry.postings} for {fact.dot}; it does {verdict}")

    def decided(
        self, node: "SimulatedNode", tenant: TenantId, command: Command, key: Key, answer: "Answer", now: int
    ) -> None:
        ledger = self._ledgers.of(node, tenant).ledger
        if isinstance(answer, Accepted):
            self._accepted_rightly(ledger, tenant, command, key, answer)
        elif isinstance(answer, Refusal):
            assert node.region is not None
            _refused_rightly(ledger, tenant, command, key, answer, node.region.present(now))

    def _accepted_rightly(self, ledger: Ledger, tenant: TenantId, command: Command, key: Key, answer: Accepted) -> None:
        entry = answer.filed.entry
        if (entry.tenant, entry.key) != (tenant, key):
            raise Broken(f"the answer to {key} of {tenant} is about {entry.key} of {entry.tenant}")
        if answer.replayed:
            return
        claim = ledger.claims.get(_claim_of(tenant, command, key))
        if isinstance(command, Reserve) and (claim is None or None in claim.held):
            raise Broken(f"a hold was accepted that no credit covers: {command} is {claim}")
        is_careful = isinstance(command, DebitUsage) and command.at is None and command.on_shortage == "refuse"
        if is_careful and (claim is None or None in claim.used):
            raise Broken(f"a debit was accepted that no credit covers: {command} is {claim}")


def _claim_of(tenant: TenantId, command: Command, key: Key) -> str:
    match command:
        case Reserve(reservation=name):
            return name or derived_id(tenant, key)
        case DebitUsage(debit=name):
            return name or derived_id(tenant, key)
        case RefundUsage(claim=name):
            return name
        case GrantCredit() | RevokeLot():
            return ""
        case _:
            return command.reservation


def _refused_rightly(
    ledger: Ledger, tenant: TenantId, command: Command, key: Key, refusal: Refusal, present: int
) -> None:
    claim = ledger.claims.get(_claim_of(tenant, command, key))
    match refusal.reason:
        case Reason.INSUFFICIENT_CREDIT:
            assert isinstance(command, Reserve | DebitUsage)
            available = _available(ledger, command, present)
            is_right = refusal.fields["available"] == available < command.amount
        case Reason.NOT_FOUND:
            is_right = not ledger.grants or _is_unknown(ledger, command, claim)
        case Reason.RESERVATION_ENDED:
            is_right = claim is not None and claim.state != "open"
        case Reason.LOT_CLOSED:
            is_right = isinstance(command, RevokeLot) and command.lot in ledger.closed
        case Reason.ALREADY_EXISTS:
            is_right = claim is not None or (isinstance(command, GrantCredit) and str(command.lot) in ledger.grants)
        case Reason.IDEMPOTENCY_MISMATCH:
            is_right = key in ledger.keys
        case Reason.INVALID_REQUEST:
            is_right = _is_invalid(command, claim, present)
    if not is_right:
        raise Broken(f"{command} with key {key} was refused, {refusal}, although {claim}, {ledger.accounts}")


def _available(ledger: Ledger, command: Reserve | DebitUsage, present: int) -> int:
    """A late debit may also draw on lots that were live at its own time."""
    lots = set(ledger.live_lots(present))
    if isinstance(command, DebitUsage) and command.at is not None:
        lots |= set(ledger.live_lots(command.at))
    return sum(ledger.remaining(lot) for lot in lots) + ledger.balance("debt")


def _is_unknown(ledger: Ledger, command: Command, claim: PlainClaim | None) -> bool:
    if isinstance(command, RevokeLot):
        return command.lot not in ledger.grants
    # A debit is no reservation, and only a refund may name it.
    return claim is None or (not claim.lease_until and not isinstance(command, RefundUsage))


def _is_invalid(command: Command, claim: PlainClaim | None, present: int) -> bool:
    match command:
        case GrantCredit():
            return command.expires_at <= present or command.expires_at <= (command.starts_at or present)
        case RefundUsage():
            is_early = command.at is not None and command.at > present
            return is_early or (claim is not None and command.amount > len(claim.used))
        case CaptureUsage() | DebitUsage():
            return command.at is not None and command.at > present
        case _:
            return False
