"""Whether an operation lost: its canonical effect against what its origin recorded, and who the rivals are.

An origin records the effect that an operation has among all that the origin knows. When entries of other regions take
earlier places, the effect in canonical order can become another one. The cause is always concurrency: the rivals are
the operations of the same tenant that stand earlier in canonical order and that the loser's clock does not cover. A
difference without a rival is no conflict but an alarm: a fault, or a forged entry.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from conflict.rivals import Rivals
from ledger.cells import Effect
from ledger.operation import (
    Capture,
    Debit,
    Heartbeat,
    Hold,
    Lapse,
    Refund,
    Release,
    Renew,
    Revoke,
    Transfer,
    Usage,
)
from ledger.posting import DEBT, LOT_PREFIX, USED, Outcome, Postings, subtract, total
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
    """Usage of a job that was charged, in part or whole, for the same time earlier elsewhere."""
    REFUND = "refund"
    """A refund of usage that was refunded concurrently."""
    REALLOCATED = "reallocated"
    """The same amount from other lots: nobody owes anything more."""


def differs(filed: Filed, effect: Effect) -> bool:
    """Whether an operation's canonical effect is not what its origin recorded."""
    return effect.postings != filed.postings or effect.outcome != filed.outcome


def difference(canonical: Mapping[str, int], recorded: Mapping[str, int], compensated: Postings) -> Postings:
    """What is still to be posted for one operation: canonical − (recorded + compensations so far)."""
    return subtract(subtract(canonical, recorded), compensated)


def new_debt(filed: Filed, canonical: Mapping[str, int], outcome: Outcome) -> int:
    """How much more the tenant owes for a loser than its origin recorded.

    Only what spends leaves debt. Whatever else repays less than recorded does so because the debt was gone already,
    unless it does nothing at all: what a duplicate grant had repaid is owed again.
    """
    if isinstance(filed.operation, Hold | Debit | Capture | Transfer | Usage) or outcome is Outcome.DUPLICATE:
        return max(0, filed.postings.get(DEBT, 0) - canonical.get(DEBT, 0))
    return 0


def classify(
    filed: Filed, canonical: Mapping[str, int], outcome: Outcome, rivals: Rivals, compensations: Iterable[Postings]
) -> Kind:
    """Name the conflict of a loser.

    Where later entries have taken the difference back, the first compensation tells what it was.
    """
    recorded, operation = filed.postings, filed.operation
    if outcome is Outcome.DUPLICATE and filed.outcome != Outcome.DUPLICATE:
        return Kind.KEY_MISMATCH if rivals.is_other_request else Kind.DUPLICATE
    change = subtract(canonical, recorded)
    if isinstance(operation, Usage) and (outcome is Outcome.COVERED or change.get(USED, 0) < 0):
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
        first = next(iter(compensations), {})
        was_short = new_debt(filed, total([recorded, first]), outcome)
        return Kind.OVERSPEND if was_short else _taken_back(filed, first)
    if any(change.get(LOT_PREFIX + lot, 0) > 0 for lot in rivals.revoked):
        return Kind.REVOKED
    if new_debt(filed, canonical, outcome):
        return Kind.OVERSPEND
    return Kind.REFUND if isinstance(operation, Refund) and USED in change else Kind.REALLOCATED


def _taken_back(filed: Filed, first: Postings) -> Kind:
    """What it was before it was cleared, as far as the first amends tell."""
    if isinstance(filed.operation, Usage) and first.get(USED, 0) < 0:
        return Kind.OVERLAP
    undone = {account: -amount for account, amount in filed.postings.items()}
    return Kind.DUPLICATE if first == undone else Kind.REALLOCATED
