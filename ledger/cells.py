"""One tenant's state as cells: what an operation replaces, what undoes it, and what a checkpoint writes.

State is kept in cells (lots, claims, keys, jobs, the policy) beside the totals of the accounts. An operation replaces
the values of a few cells, and its `Effect` remembers what each was and became. The old values undo it, so that a late
arrival replays only what lies behind it; the new values are what a checkpoint writes once the operation is stable,
without touching the tip.

Claims that have ended, and the keys and jobs of the checkpointed past, are not kept here: `Past` looks them up.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar, assert_never

from msgspec import Struct

from ledger.claim import Claim, ClaimView
from ledger.ids import ClaimId, JobId, Key, LotId, Position
from ledger.job import Job
from ledger.lot import Lot, LotState, SpendingPlace, spending_place
from ledger.operation import Policy
from ledger.posting import NO_POSTINGS, TOTALS, Outcome, Postings

K = TypeVar("K")
V = TypeVar("V")

DEFAULT_POLICY: Final = Policy()
"""The rules of a tenant for which none have been set."""


class Cell(StrEnum):
    """The kinds of cell that an operation can change, and a checkpoint stores."""

    LOT = "lot"
    CLAIM = "claim"
    KEY = "key"
    JOB = "job"
    POLICY = "policy"


class KeyUse(Struct, frozen=True, gc=False, array_like=True):
    """Which operation used an idempotency key first, for what request (`ledger.command.fingerprint`), and when (ms)."""

    replica: str
    seq: int
    request: str | None
    at: int


class Change(Struct, frozen=True, gc=False):
    """One cell before and after an operation. ``old`` is None where memory held no value for it."""

    cell: Cell
    id: str
    old: Any
    new: Any


class Effect(Struct, frozen=True, gc=False):
    """All that one operation did at its place: postings, outcome, the claim it concerned, the cells it changed."""

    postings: Postings
    outcome: Outcome
    claim: ClaimId | None
    result: ClaimView | None
    changes: tuple[Change, ...]


NOTHING: Effect = Effect(NO_POSTINGS, Outcome.POSTED, None, None, ())
"""The effect of an entry that takes no part in the fold."""

DUPLICATE: Effect = Effect(NO_POSTINGS, Outcome.DUPLICATE, None, None, ())


class Past(Protocol):
    """What the checkpointed past of a tenant knows that is not kept in memory."""

    def claim(self, claim: ClaimId) -> Claim | None:
        """A claim as the checkpoint left it, or None."""
        ...

    def key_use(self, key: Key) -> KeyUse | None:
        """The operation that used `key` first, or None."""
        ...

    def job(self, job: JobId) -> Job | None:
        """A job as the checkpoint left it, or None."""
        ...


class NoPast:
    """The past of a tenant that has none."""

    def claim(self, claim: ClaimId) -> Claim | None:  # noqa: ARG002
        """Nothing: there is no past."""
        return None

    def key_use(self, key: Key) -> KeyUse | None:  # noqa: ARG002
        """Nothing: there is no past."""
        return None

    def job(self, job: JobId) -> Job | None:  # noqa: ARG002
        """Nothing: there is no past."""
        return None


class Cells:
    """The state of one tenant, and what is being done to it.

    Relations kept: ``totals`` + lots + holds sum to zero; ``spending_order`` holds exactly the open lots, sorted;
    ``debtors`` holds exactly the claims with debt, by the place where they became debtors.
    """

    __slots__ = (
        "_changes",
        "_postings",
        "claims",
        "debtors",
        "jobs",
        "keys",
        "lots",
        "past",
        "policy",
        "spending_order",
        "totals",
    )  # fmt: skip

    def __init__(self, past: Past | None = None) -> None:
        self.past: Past = past if past is not None else NoPast()
        self.totals: dict[str, int] = dict.fromkeys(TOTALS, 0)
        self.lots: dict[LotId, Lot] = {}
        self.claims: dict[ClaimId, Claim] = {}
        self.keys: dict[Key, KeyUse] = {}
        self.jobs: dict[JobId, Job] = {}
        self.policy: Policy = DEFAULT_POLICY
        self.spending_order: list[SpendingPlace] = []
        self.debtors: dict[Position, ClaimId] = {}
        self._postings: Postings = {}
        self._changes: list[Change] = []

    # -- looking things up ------------------------------------------------------------------------------------------

    def claim(self, claim: ClaimId) -> Claim | None:
        """The claim as it stands, also when only the past has it."""
        known = self.claims.get(claim)
        return known if known is not None else self.past.claim(claim)

    def key_use(self, key: Key) -> KeyUse | None:
        """The operation that used `key` first, however long ago."""
        known = self.keys.get(key)
        return known if known is not None else self.past.key_use(key)

    def job(self, job: JobId) -> Job | None:
        """The job as its reports leave it."""
        known = self.jobs.get(job)
        return known if known is not None else self.past.job(job)

    # -- undoing, forgetting, starting again ------------------------------------------------------------------------

    def undo(self, effect: Effect) -> None:
        """Take back the operation applied last, whose effect this was."""
        totals = self.totals
        for account in TOTALS:
            if account in effect.postings:
                totals[account] -= effect.postings[account]
        for change in reversed(effect.changes):
            match change.cell:
                case Cell.LOT:
                    self._put_lot(LotId(change.id), change.old, change.new)
                case Cell.CLAIM:
                    self._put_claim(ClaimId(change.id), change.old, change.new)
                case Cell.KEY:
                    _put_back(self.keys, Key(change.id), change.old)
                case Cell.JOB:
                    _put_back(self.jobs, JobId(change.id), change.old)
                case Cell.POLICY:
                    self.policy = change.old
                case _:
                    assert_never(change.cell)

    def forget(self, effect: Effect) -> None:
        """Drop what the past answers for from now on: keys, jobs and ended claims that nothing later has changed."""
        for change in effect.changes:
            if change.cell is Cell.KEY:
                if self.keys.get(Key(change.id)) is change.new:
                    del self.keys[Key(change.id)]
            elif change.cell is Cell.JOB:
                if self.jobs.get(JobId(change.id)) is change.new:
                    del self.jobs[JobId(change.id)]
            elif change.cell is Cell.CLAIM:
                claim = self.claims.get(ClaimId(change.id))
                if claim is change.new and claim.is_ended:
                    del self.claims[claim.id]

    def load(self, totals: dict[str, int], policy: Policy, lots: Iterable[Lot], claims: Iterable[Claim]) -> None:
        """Start from a checkpoint: totals, policy, all lots, and the claims that are open or owe."""
        assert not self.lots
        assert not self.claims
        self.totals.update(totals)
        self.policy = policy
        for lot in lots:
            self._put_lot(lot.id, lot, None)
        for claim in claims:
            self._put_claim(claim.id, claim, None)

    # -- cells ------------------------------------------------------------------------------------------------------

    def _post(self, account: str, amount: int) -> None:
        postings = self._postings
        postings[account] = postings.get(account, 0) + amount
        if account in self.totals:
            self.totals[account] += amount

    def _set_lot(self, old: Lot | None, new: Lot) -> Lot:
        self._changes.append(Change(Cell.LOT, new.id, old, new))
        self._put_lot(new.id, new, old)
        return new

    def _put_lot(self, lot: LotId, value: Lot | None, before: Lot | None) -> None:
        if value is None:
            del self.lots[lot]
        else:
            self.lots[lot] = value
        was_open = before is not None and before.state is LotState.OPEN
        is_open = value is not None and value.state is LotState.OPEN
        if is_open and not was_open:
            assert value is not None
            insort(self.spending_order, spending_place(value))
        elif was_open and not is_open:
            assert before is not None
            del self.spending_order[bisect_left(self.spending_order, spending_place(before))]

    def _touched(self, claim: Claim | None) -> Claim | None:
        """Keep a claim at hand that an operation looked at, so that its view can be taken after repayment."""
        return claim if claim is None or claim.id in self.claims else self._set_claim(None, claim)

    def _set_claim(self, old: Claim | None, new: Claim) -> Claim:
        self._changes.append(Change(Cell.CLAIM, new.id, old, new))
        self._put_claim(new.id, new, old)
        return new

    def _put_claim(self, claim: ClaimId, value: Claim | None, before: Claim | None) -> None:
        if value is None:
            self.claims.pop(claim, None)
        else:
            self.claims[claim] = value
        owed_since = before.owes_since if before is not None else None
        owes_since = value.owes_since if value is not None else None
        if owed_since != owes_since:
            if owed_since is not None:
                del self.debtors[owed_since]
            if owes_since is not None:
                self.debtors[owes_since] = claim

    def _set_key(self, key: Key, use: KeyUse) -> None:
        self._changes.append(Change(Cell.KEY, key, self.keys.get(key), use))
        self.keys[key] = use

    def _set_job(self, new: Job) -> None:
        self._changes.append(Change(Cell.JOB, new.id, self.jobs.get(new.id), new))
        self.jobs[new.id] = new

    def _set_policy(self, new: Policy) -> None:
        self._changes.append(Change(Cell.POLICY, "", self.policy, new))
        self.policy = new


def _put_back(cells: dict[K, V], name: K, old: V | None) -> None:
    if old is None:
        del cells[name]
    else:
        cells[name] = old
