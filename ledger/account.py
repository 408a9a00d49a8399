"""One tenant's state: what each operation does at its place in canonical order, and how to take it back.

The state of a tenant is a fold of its operations. ``now`` is the physical part of the operation's hybrid clock, ``at``
the event time that it carries; wall clocks are never read. The rules, in the order in which they are applied:

0. An operation whose key, lot or claim was used by an earlier one has the empty effect (`Outcome.DUPLICATE`).
1. Debt is repaid before and after every operation, oldest debtor first, from lots live at ``now`` in spending order;
   these postings belong to the operation at whose place they happen. So debt never stands beside live credit.
2. Then the operation itself, one method each below. One that could bring what the tenant was given, or owes, above
   ``MAX_FOLDED`` does nothing (`Outcome.CLOSED`): honest regions never get there, and forged entries get no further.

State is kept in cells (totals, lots, claims, keys): an operation replaces the values of a few of them, and its
`Effect` remembers what each was and became. The old values undo it, so that a late arrival replays only what lies
behind it; the new values are what a checkpoint writes once the operation is stable, without touching the tip.

Claims that are closed and the keys of the checkpointed past are not kept here: `Past` looks them up.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, Protocol, assert_never

from msgspec import Struct

from ledger.amount import MAX_FOLDED
from ledger.claim import Claim, ClaimState, ClaimView, Funding, merge, split, sum_of
from ledger.ids import ClaimId, Key, LotId, Position
from ledger.lot import Lot, LotState, SpendingPlace, spending_place
from ledger.operation import (
    Capture,
    Debit,
    Expire,
    Grant,
    Hold,
    Lapse,
    Operation,
    Refund,
    Release,
    Renew,
    Revoke,
    Settle,
)
from ledger.posting import (
    DEBT,
    EXPIRED,
    HELD_PREFIX,
    ISSUED,
    LOT_PREFIX,
    NO_POSTINGS,
    REVOKED,
    TOTALS,
    USED,
    Outcome,
    Postings,
)

RULES: Final = 1
"""The version of the fold's rules: nodes with other rules come to other states, and do not link."""


class Cell(StrEnum):
    """The kinds of cell that an operation can change, and a checkpoint stores."""

    LOT = "lot"
    CLAIM = "claim"
    KEY = "key"


class KeyUse(Struct, frozen=True, gc=False, array_like=True):
    """Which operation used an idempotency key first, and with what request (`ledger.command.fingerprint`)."""

    replica: str
    seq: int
    request: str | None


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
    result: ClaimView | None
    changes: tuple[Change, ...]


NOTHING: Effect = Effect(NO_POSTINGS, Outcome.POSTED, None, ())
"""The effect of an entry that takes no part in the fold."""

DUPLICATE: Effect = Effect(NO_POSTINGS, Outcome.DUPLICATE, None, ())


class Past(Protocol):
    """What the checkpointed past of a tenant knows that is not kept in memory."""

    def claim(self, claim: ClaimId) -> Claim | None:
        """A claim as the checkpoint left it, or None."""
        ...

    def key_use(self, key: Key) -> KeyUse | None:
        """The operation that used `key` first, or None."""
        ...


class NoPast:
    """The past of a tenant that has none."""

    def claim(self, claim: ClaimId) -> Claim | None:  # noqa: ARG002
        """Nothing: there is no past."""
        return None

    def key_use(self, key: Key) -> KeyUse | None:  # noqa: ARG002
        """Nothing: there is no past."""
        return None


class Account:
    """One tenant, folded up to some place in canonical order.

    Relations kept: ``totals`` + lots + holds sum to zero; ``spending_order`` holds exactly the open lots, sorted;
    ``debtors`` holds exactly the claims with debt, by the place where they became debtors.
    """

    __slots__ = ("_changes", "_postings", "claims", "debtors", "keys", "lots", "past", "spending_order", "totals")

    def __init__(self, past: Past | None = None) -> None:
        self.past: Past = past if past is not None else NoPast()
        self.totals: dict[str, int] = dict.fromkeys(TOTALS, 0)
        self.lots: dict[LotId, Lot] = {}
        self.claims: dict[ClaimId, Claim] = {}
        self.keys: dict[Key, KeyUse] = {}
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
        """The operation that used `key` first."""
        known = self.keys.get(key)
        return known if known is not None else self.past.key_use(key)

    def live_credit(self, at: int) -> int:
        """What remains of the lots live at `at` (ms)."""
        lots = self.lots
        live = 0
        for place in self.spending_order:
            lot = lots[place.lot]
            if lot.remaining and lot.starts_at <= at < lot.expires_at:
                live += lot.remaining
        return live

    def credit_at_either(self, at: int, now: int) -> int:
        """What remains of the lots live at `at` or at `now` (ms)."""
        lots = [self.lots[place.lot] for place in self.spending_order]
        return sum([lot.remaining for lot in lots if lot.is_live(at) or lot.is_live(now)])

    def available(self, at: int) -> int:
        """Live credit less debt; negative when the tenant owes more than it has."""
        return self.live_credit(at) + self.totals[DEBT]

    @property
    def held(self) -> int:
        """What all reservations hold together: what the other accounts leave, since all sum to zero."""
        return -sum(self.totals.values()) - sum([lot.remaining for lot in self.lots.values()])

    # -- applying and undoing ---------------------------------------------------------------------------------------

    def apply(self, operation: Operation, place: Position, key: Key | None, request: str | None) -> Effect:
        """Fold one operation in at `place`, which is later than everything folded before."""
        if key is not None and self.key_use(key) is not None:
            return DUPLICATE
        return self._fold(operation, place, key, request, self._is_taken(operation))

    def accept(self, operation: Operation, place: Position, key: Key | None, request: str | None) -> Effect:
        """As `apply`, for an operation that admission has just judged: neither its key nor what it makes is taken."""
        return self._fold(operation, place, key, request, is_taken=False)

    def _fold(
        self, operation: Operation, place: Position, key: Key | None, request: str | None, is_taken: bool
    ) -> Effect:
        postings: Postings = {}
        changes: list[Change] = []
        self._postings, self._changes = postings, changes
        now = place.hlc >> 16
        if is_taken:
            outcome, claim = Outcome.DUPLICATE, None
        else:
            if self.totals[DEBT]:
                self._repay(now)
            outcome, claim = self._perform(operation, place, now)
            if self.totals[DEBT]:
                self._repay(now)
                claim = self.claims[claim.id] if claim is not None else None
        if key is not None:
            self._set_key(key, KeyUse(f"{place.region}/{place.boot}", place.seq, request))
        if 0 in postings.values():
            postings = {account: amount for account, amount in postings.items() if amount}
        # A tuple of what holds no containers is nothing that the garbage collector has to look at; a list always is.
        return Effect(postings, outcome, claim.view() if claim is not None else None, tuple(changes))

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
                    if change.old is None:
                        del self.keys[Key(change.id)]
                    else:
                        self.keys[Key(change.id)] = change.old
                case _:
                    assert_never(change.cell)

    def forget(self, effect: Effect) -> None:
        """Drop what the past answers for from now on: keys and ended claims that nothing later has changed."""
        for change in effect.changes:
            if change.cell is Cell.KEY:
                if self.keys.get(Key(change.id)) is change.new:
                    del self.keys[Key(change.id)]
            elif change.cell is Cell.CLAIM:
                claim = self.claims.get(ClaimId(change.id))
                if claim is change.new and claim.is_ended:
                    del self.claims[claim.id]

    def load(self, totals: dict[str, int], lots: Iterable[Lot], claims: Iterable[Claim]) -> None:
        """Start from a checkpoint: totals, all lots, and the claims that are open or owe."""
        assert not self.lots
        assert not self.claims
        self.totals.update(totals)
        for lot in lots:
            self._put_lot(lot.id, lot, None)
        for claim in claims:
            self._put_claim(claim.id, claim, None)

    def _is_taken(self, operation: Operation) -> bool:
        if isinstance(operation, Hold | Debit):
            return self.claim(operation.claim) is not None
        return isinstance(operation, Grant) and operation.lot in self.lots

    def _perform(self, operation: Operation, place: Position, now: int) -> tuple[Outcome, Claim | None]:
        match operation:
            case Hold():
                return self._hold(operation, place, now)
            case Capture():
                return self._capture(operation, place)
            case Release():
                return self._release(operation)
            case Renew():
                return self._renew(operation)
            case Debit():
                return self._debit(operation, place)
            case Grant():
                return self._grant(operation, place)
            case Lapse():
                return self._lapse(operation)
            case Refund():
                return self._refund(operation)
            case Revoke():
                return self._close_lot(operation.lot, LotState.REVOKED, REVOKED)
            case Expire():
                lot = self.lots.get(operation.lot)
                if lot is not None and lot.expires_at > now:
                    return Outcome.EARLY, None
                return self._close_lot(operation.lot, LotState.EXPIRED, EXPIRED)
            case Settle():
                return Outcome.APPLIED, None
            case _:
                assert_never(operation)

    # -- the operations ---------------------------------------------------------------------------------------------

    def _grant(self, grant: Grant, place: Position) -> tuple[Outcome, None]:
        if grant.amount - self.totals[ISSUED] > MAX_FOLDED:
            return Outcome.CLOSED, None
        self._post(ISSUED, -grant.amount)
        self._post(LOT_PREFIX + grant.lot, grant.amount)
        self._set_lot(
            None,
            Lot(
                grant.lot, grant.amount, grant.amount, grant.starts_at, grant.expires_at, grant.priority, place,
            ),
        )  # fmt: skip
        return Outcome.APPLIED, None

    def _hold(self, hold: Hold, place: Position, now: int) -> tuple[Outcome, Claim | None]:
        if hold.amount - self.totals[DEBT] > MAX_FOLDED:
            return Outcome.CLOSED, None
        funding, short = self._fund(hold.amount, now)
        self._post(HELD_PREFIX + hold.claim, hold.amount)
        claim = Claim(
            hold.claim, ClaimState.OPEN, hold.amount, place.region, hold.lease_until,
            funding, short, (), 0, place if short else None, hold.job,
        )  # fmt: skip
        return Outcome.APPLIED, self._set_claim(None, claim)

    def _debit(self, debit: Debit, place: Position) -> tuple[Outcome, Claim | None]:
        if debit.amount - self.totals[DEBT] > MAX_FOLDED:
            return Outcome.CLOSED, None
        funding, short = self._fund(debit.amount, debit.at)
        self._post(USED, debit.amount)
        claim = Claim(
            debit.claim, ClaimState.CLOSED, debit.amount, place.region, 0,
            (), 0, funding, short, place if short else None, None,
        )  # fmt: skip
        return Outcome.APPLIED, self._set_claim(None, claim)

    def _capture(self, capture: Capture, place: Position) -> tuple[Outcome, Claim | None]:
        if capture.amount - self.totals[DEBT] > MAX_FOLDED:
            return Outcome.CLOSED, None
        old = self.claim(capture.claim)
        if old is None:
            # The hold itself was a duplicate of a request under another claim: the work was done all the same.
            claim = Claim(
                capture.claim, ClaimState.CLOSED, 0, place.region, 0, (), 0, (), 0, None, None,
            )  # fmt: skip
        else:
            claim = old
        open_before = claim.state is ClaimState.OPEN
        taken, held, rest = split(claim.held, capture.amount)
        from_debt = min(rest, claim.held_debt)
        overrun = rest - from_debt
        if capture.amount > overrun:
            self._post(HELD_PREFIX + claim.id, overrun - capture.amount)
        self._post(USED, capture.amount)
        more, short = self._fund(overrun, capture.at) if overrun else ((), 0)
        state, held_debt = claim.state, claim.held_debt - from_debt
        if capture.final and open_before:
            self._give_back(claim.id, held, held_debt)
            state, held, held_debt = ClaimState.CLOSED, (), 0
        used = merge(merge(claim.used, taken), more)
        used_debt = claim.used_debt + from_debt + short
        changed = Claim(
            claim.id, state, claim.amount, claim.region, claim.lease_until, held, held_debt, used, used_debt,
            (claim.owes_since or place) if held_debt or used_debt else None, claim.job,
        )  # fmt: skip
        return Outcome.APPLIED if open_before else Outcome.OVERRUN, self._set_claim(self.claims.get(claim.id), changed)

    def _release(self, release: Release) -> tuple[Outcome, Claim | None]:
        claim = self.claim(release.claim)
        if claim is None or claim.state is not ClaimState.OPEN:
            return Outcome.CLOSED, self._touched(claim)
        return Outcome.APPLIED, self._end(claim, ClaimState.CLOSED)

    def _renew(self, renew: Renew) -> tuple[Outcome, Claim | None]:
        claim = self.claim(renew.claim)
        if claim is None or claim.state is not ClaimState.OPEN:
            return Outcome.CLOSED, self._touched(claim)
        if renew.lease_until <= claim.lease_until:
            return Outcome.APPLIED, self._touched(claim)
        changed = Claim(
            claim.id, claim.state, claim.amount, claim.region, renew.lease_until, claim.held, claim.held_debt,
            claim.used, claim.used_debt, claim.owes_since, claim.job,
        )  # fmt: skip
        return Outcome.APPLIED, self._set_claim(claim, changed)

    def _lapse(self, lapse: Lapse) -> tuple[Outcome, Claim | None]:
        claim = self.claim(lapse.claim)
        if claim is None or claim.state is not ClaimState.OPEN:
            return Outcome.CLOSED, self._touched(claim)
        if claim.lease_until > lapse.at:
            return Outcome.RENEWED, self._touched(claim)
        return Outcome.LAPSED, self._end(claim, ClaimState.LAPSED)

    def _refund(self, refund: Refund) -> tuple[Outcome, Claim | None]:
        claim = self.claim(refund.claim)
        if claim is None or not claim.used_total:
            return Outcome.CLOSED, self._touched(claim)
        amount = min(refund.amount, claim.used_total)
        self._post(USED, -amount)
        from_debt = min(amount, claim.used_debt)
        if from_debt:
            self._post(DEBT, from_debt)
        latest_first = sorted(claim.used, key=lambda part: spending_place(self.lots[part[0]])[1:], reverse=True)
        given, _, _ = split(tuple(latest_first), amount - from_debt)
        for lot, part in given:
            self._put_back(lot, part)
        back = dict(given)
        used = tuple((lot, part - back.get(lot, 0)) for lot, part in claim.used if part > back.get(lot, 0))
        used_debt = claim.used_debt - from_debt
        changed = Claim(
            claim.id, claim.state, claim.amount, claim.region, claim.lease_until, claim.held, claim.held_debt,
            used, used_debt, claim.owes_since if claim.held_debt or used_debt else None, claim.job,
        )  # fmt: skip
        return Outcome.APPLIED, self._set_claim(self.claims.get(claim.id), changed)

    def _close_lot(self, lot_id: LotId, state: LotState, account: str) -> tuple[Outcome, None]:
        lot = self.lots.get(lot_id)
        if lot is None or lot.state is not LotState.OPEN:
            return Outcome.CLOSED, None
        if lot.remaining:
            self._post(LOT_PREFIX + lot_id, -lot.remaining)
            self._post(account, lot.remaining)
        self._set_lot(lot, lot.closed(state))
        return Outcome.APPLIED, None

    # -- the moves they are made of ---------------------------------------------------------------------------------

    def _fund(self, amount: int, at: int) -> tuple[Funding, int]:
        """Take `amount` from the lots live at `at`, in spending order; the rest is debt."""
        funding: list[tuple[LotId, int]] = []
        lots = self.lots
        for place in self.spending_order:
            lot = lots[place.lot]
            if lot.remaining and lot.starts_at <= at < lot.expires_at:
                part = lot.remaining if lot.remaining < amount else amount
                self._post(LOT_PREFIX + lot.id, -part)
                self._set_lot(lot, lot.with_remaining(lot.remaining - part))
                funding.append((lot.id, part))
                amount -= part
                if not amount:
                    break
        if amount:
            self._post(DEBT, -amount)
        return tuple(funding), amount

    def _repay(self, now: int) -> None:
        """Pay debt from what is live, the oldest debtor first."""
        for place in self.spending_order:
            lot = self.lots[place.lot]
            while lot.remaining and lot.is_live(now) and self.debtors:
                claim = self.claims[self.debtors[min(self.debtors)]]
                part = min(lot.remaining, claim.debt)
                self._post(LOT_PREFIX + lot.id, -part)
                self._post(DEBT, part)
                lot = self._set_lot(lot, lot.with_remaining(lot.remaining - part))
                self._repaid_by(claim, lot.id, part)
            if not self.debtors:
                return

    def _repaid_by(self, claim: Claim, lot: LotId, part: int) -> None:
        """That part of the debtor's funding now names the lot: what was used before what is only held."""
        used_part = min(part, claim.used_debt)
        held_part = part - used_part
        self._set_claim(
            claim,
            Claim(
                claim.id, claim.state, claim.amount, claim.region, claim.lease_until,
                merge(claim.held, ((lot, held_part),)) if held_part else claim.held, claim.held_debt - held_part,
                merge(claim.used, ((lot, used_part),)) if used_part else claim.used, claim.used_debt - used_part,
                claim.owes_since if claim.debt > part else None, claim.job,
            ),
        )  # fmt: skip

    def _end(self, claim: Claim, state: ClaimState) -> Claim:
        """Release what a reservation still holds, and close it."""
        self._give_back(claim.id, claim.held, claim.held_debt)
        changed = Claim(
            claim.id, state, claim.amount, claim.region, claim.lease_until, (), 0, claim.used, claim.used_debt,
            claim.owes_since if claim.used_debt else None, claim.job,
        )  # fmt: skip
        return self._set_claim(claim, changed)

    def _give_back(self, claim: ClaimId, held: Funding, held_debt: int) -> None:
        """Held credit goes back where it came from: lots to lots, debt cancels."""
        amount = sum_of(held) + held_debt
        if amount:
            self._post(HELD_PREFIX + claim, -amount)
        for lot, part in held:
            self._put_back(lot, part)
        if held_debt:
            self._post(DEBT, held_debt)

    def _put_back(self, lot_id: LotId, part: int) -> None:
        """Return credit to a lot; to one that has been closed means expired."""
        lot = self.lots[lot_id]
        if lot.state is LotState.OPEN:
            self._post(LOT_PREFIX + lot_id, part)
            self._set_lot(lot, lot.with_remaining(lot.remaining + part))
        else:
            self._post(EXPIRED, part)

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
