"""What a conflict is called and how much it is about, a second time: from the table in docs/internals/ledger.md.

A case is an operation, what its origin recorded, what canonical order makes of it, and what rivals did: operations that
stand earlier, of which the origin had not heard.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from conflict.detect import Kind
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
from tests.reference.fold import Verdict

_OUTCOME_DIFFERS = {
    Capture: Kind.LEASE,
    Usage: Kind.LEASE,
    Renew: Kind.LEASE,
    Heartbeat: Kind.LEASE,
    Release: Kind.LEASE,
    Lapse: Kind.LEASE,
    Refund: Kind.REFUND,
    Revoke: Kind.REVOKED,
    Hold: Kind.REVOKED,
}


@dataclass(frozen=True)
class Case:
    """One loser. ``amends`` is what was posted first to make up for it, empty if nothing was.

    Both verdicts say what the operation's claim owed right behind it.
    """

    operation: Operation
    recorded: Verdict
    canonical: Verdict
    rivals: list[Operation]
    is_other_request: bool
    amends: dict[str, int]

    def kind(self) -> Kind:
        """What sort of conflict it is."""
        if self._is_undone():
            return Kind.KEY_MISMATCH if self.is_other_request else Kind.DUPLICATE
        is_covered_once = (self.canonical.outcome == "covered") != (self.recorded.outcome == "covered")
        if isinstance(self.operation, Usage) and (self._change("used") or is_covered_once):
            return Kind.OVERLAP
        if self.canonical.outcome != self.recorded.outcome:
            return _OUTCOME_DIFFERS.get(type(self.operation), Kind.REALLOCATED)
        if self.canonical.postings == self.recorded.postings:
            return self._kind_before_it_was_cleared()
        spared = [account for account in self._accounts() if self._change(account) > 0]
        if self._spends() and any(self._is_revoked(account) for account in spared):
            return Kind.REVOKED
        if self.debt():
            return Kind.OVERSPEND
        is_refund = isinstance(self.operation, Refund) and self._change("used")
        return Kind.REFUND if is_refund else Kind.REALLOCATED

    def debt(self) -> int:
        """How much more is owed than was recorded.

        Who makes a claim owes what it lacks; usage of one, what it adds to that; a duplicate, what it had repaid.
        """
        posted = max(0, -self._change("debt"))
        if self._is_undone():
            return posted
        if isinstance(self.operation, Hold | Debit | Transfer):
            return max(0, self.canonical.owed - self.recorded.owed)
        if isinstance(self.operation, Capture | Usage):
            return min(posted, self.canonical.owed)
        return 0

    def amount(self) -> int:
        """What is owed; or else how much stands on other accounts than was recorded."""
        return self.debt() or sum(max(0, self._change(account)) for account in self._accounts())

    def lots(self) -> list[tuple[str, int, int]]:
        """The lots on which it posts something else: as recorded, and in canonical order."""
        return [
            (
                account.removeprefix("lot/"),
                self.recorded.postings.get(account, 0),
                self.canonical.postings.get(account, 0),
            )
            for account in self._accounts()
            if account.startswith("lot/") and self._change(account)
        ]

    def _spends(self) -> bool:
        return isinstance(self.operation, Hold | Debit | Capture | Transfer | Usage)

    def _is_undone(self) -> bool:
        return self.canonical.outcome == "duplicate" != self.recorded.outcome

    def _accounts(self) -> Iterable[str]:
        return sorted(self.recorded.postings.keys() | self.canonical.postings.keys())

    def _change(self, account: str) -> int:
        return self.canonical.postings.get(account, 0) - self.recorded.postings.get(account, 0)

    def _is_revoked(self, account: str) -> bool:
        """Whether a rival revoked the lot, or the grant that it is a share of."""
        names = {rival.lot for rival in self.rivals if isinstance(rival, Revoke)}
        lot = account.removeprefix("lot/")
        return account.startswith("lot/") and (lot in names or lot.partition("@")[0] in names)

    def _kind_before_it_was_cleared(self) -> Kind:
        """What it was when the first amends were made."""
        if isinstance(self.operation, Usage) and self.amends.get("used", 0):
            return Kind.OVERLAP
        if self._spends() and self.amends.get("debt", 0) < 0:
            return Kind.OVERSPEND
        undone = {account: -amount for account, amount in self.recorded.postings.items()}
        return Kind.DUPLICATE if self.amends == undone else Kind.REALLOCATED
