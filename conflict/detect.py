"""Whether an operation lost: its canonical effect against what its origin recorded, and who the rivals are.

An origin records the effect that an operation has among all that the origin knows. When entries of other regions take
earlier places, the effect in canonical order can become another one. The cause is always concurrency: the rivals are
the operations of the same tenant that stand earlier in canonical order and that the loser's clock does not cover. A
difference without a rival is no conflict but an alarm: a fault, or a forged entry.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

from conflict.rivals import Rivals
from ledger.cells import Effect
from ledger.ids import ClaimId
from ledger.operation import (
    Capture,
    Debit,
    Heartbeat,
    Hold,
    Lapse,
    Operation,
    Refund,
    Release,
    Renew,
    Revoke,
    Transfer,
    Usage,
)
from ledger.posting import DEBT, LOT_PREFIX, USED, Outcome, Postings, subtract
from replication.filed import Filed


class Kind(StrEnum):
    """What happened to the loser, canonical effect against recorded."""

    OVERSPEND = "overspend"
    """More debt: what it spent was spent earlier in canonical order."""
    DUPLICATE = "duplicate"
    """Nothing: the same key, claim or lot was accepted earlier elsewhere."""
    KEY_MISMATCH = "key_mismatch"
    """Nothing: the same key was accepted earlier elsewhere for another request."""
    REVOKED = "revoked"
    """A lot that should have paid was revoked concurrently, or was revoked twice; or policy made a hold void."""
    LEASE = "lease"
    """Usage, renewal, release or lapse of a reservation that had ended, or been renewed, concurrently."""
    OVERLAP = "overlap"
    """Usage of a job for a time that, in part or whole, another report than recorded is charged for."""
    REFUND = "refund"
    """A refund of usage that was refunded concurrently."""
    REALLOCATED = "reallocated"
    """The same amount from other lots: nobody owes anything more."""


class Canonical(Struct, frozen=True, gc=False):
    """What canonical order makes of an operation."""

    postings: Postings
    outcome: Outcome
    claim: ClaimId | None
    """The claim that it concerns there: usage is charged to one that it need not name."""
    owed: int
    """What that claim owes right behind it."""


def canonical_of(effect: Effect) -> Canonical:
    """What an operation's effect in canonical order is for a conflict."""
    owed = effect.result.debt if effect.result is not None else 0
    return Canonical(effect.postings, effect.outcome, effect.claim, owed)


def differs(filed: Filed, effect: Effect) -> bool:
    """Whether an operation's canonical effect is not what its origin recorded."""
    return effect.postings != filed.postings or effect.outcome != filed.outcome


def difference(canonical: Mapping[str, int], recorded: Mapping[str, int], compensated: Postings) -> Postings:
    """What is still to be posted for one operation: canonical − (recorded + compensations so far)."""
    return subtract(subtract(canonical, recorded), compensated)


def new_debt(filed: Filed, canonical: Canonical) -> int:
    """How much more the tenant owes for a loser than its origin recorded.

    What makes a claim owes what the claim lacks. Usage adds to what a claim may have lacked before, so what it posted
    decides, as far as the claim owes that much: an operation also repays, and repays less than recorded if the debt was
    gone already. Whatever else repays less does so for no other reason, unless it does nothing at all: what a duplicate
    grant had repaid is owed again. What posts as recorded adds no debt, whatever its claim owes there: it may have paid
    for another claim instead, and whoever has checkpointed it cannot tell any more.
    """
    if canonical.postings == filed.postings and canonical.outcome == filed.outcome:
        return 0
    posted = filed.postings.get(DEBT, 0) - canonical.postings.get(DEBT, 0)
    if canonical.outcome is Outcome.DUPLICATE:
        return max(0, posted)
    match filed.operation:
        case Hold() | Debit() | Transfer():
            recorded = filed.entry.result
            return max(0, canonical.owed - (recorded.debt if recorded is not None else 0))
        case Capture() | Usage():
            return max(0, min(posted, canonical.owed))
        case _:
            return 0


def classify(filed: Filed, canonical: Canonical, rivals: Rivals, compensations: Iterable[Postings]) -> Kind:
    """Name the conflict of a loser.

    Where later entries have taken the difference back, the first compensation tells what it was.
    """
    operation, outcome = filed.operation, canonical.outcome
    if outcome is Outcome.DUPLICATE and filed.outcome != Outcome.DUPLICATE:
        return Kind.KEY_MISMATCH if rivals.is_other_request else Kind.DUPLICATE
    change = subtract(canonical.postings, filed.postings)
    is_covered, was_covered = outcome is Outcome.COVERED, filed.outcome is Outcome.COVERED
    if isinstance(operation, Usage) and (USED in change or is_covered != was_covered):
        return Kind.OVERLAP
    if outcome != filed.outcome:
        match operation:
            case Capture() | Usage() | Renew() | Heartbeat() | Release() | Lapse():
                return Kind.LEASE
            case Refund():
                return Kind.REFUND
            case Revoke() | Hold():
                return Kind.REVOKED
            case _:
                return Kind.REALLOCATED
    if not change:
        return _taken_back(filed, next(iter(compensations), {}))
    if _spends(operation) and any(change.get(LOT_PREFIX + lot, 0) > 0 for lot in rivals.revoked):
        return Kind.REVOKED
    if new_debt(filed, canonical):
        return Kind.OVERSPEND
    return Kind.REFUND if isinstance(operation, Refund) and USED in change else Kind.REALLOCATED


def _taken_back(filed: Filed, first: Postings) -> Kind:
    """What it was before it was cleared, as far as the first amends tell."""
    operation = filed.operation
    if isinstance(operation, Usage) and USED in first:
        return Kind.OVERLAP
    if _spends(operation) and first.get(DEBT, 0) < 0:
        return Kind.OVERSPEND
    undone = {account: -amount for account, amount in filed.postings.items()}
    return Kind.DUPLICATE if first == undone else Kind.REALLOCATED


def _spends(operation: Operation | None) -> bool:
    """Whether an operation takes credit from lots, and does not only repay from them what is owed."""
    return isinstance(operation, Hold | Debit | Capture | Transfer | Usage)
