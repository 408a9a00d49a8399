"""One tenant's account: what each operation does at its place in canonical order.

The state of a tenant is a fold of its operations. ``now`` is the physical part of the operation's hybrid clock, ``at``
the event time that it carries; wall clocks are never read. The rules, in the order in which they are applied:

0. An operation whose key was used less than the key lifetime ago by an earlier one, or whose lot or claim exists, has
   the empty effect (`Outcome.DUPLICATE`). A transfer is known by its name alone, because the receiver's account does
   not know the giver's keys, and both must come to the same.
1. Debt is repaid before and after every operation, oldest debtor first, from lots live at ``now`` in spending order;
   these postings belong to the operation at whose place they happen. So debt never stands beside live credit. Under
   escrow an operation repays only what its own region owes, from that region's shares.
2. Then the operation itself, one method each below. One that could bring what the tenant was given, or owes, above
   ``MAX_FOLDED`` does nothing (`Outcome.CLOSED`): honest regions never get there, and forged entries get no further.

How state is kept and undone: `ledger.cells`.
"""

from typing import assert_never

from ledger.amount import MAX_FOLDED
from ledger.cells import DUPLICATE, Cells, Change, Effect, KeyUse, Past
from ledger.claim import Claim, ClaimState, Funding, merge, split, sum_of
from ledger.ids import ClaimId, JobId, Key, LotId, Position, usage_name
from ledger.job import Job, cover, share
from ledger.lot import Lot, LotState, share_of, spending_place
from ledger.operation import (
    Admission,
    Capture,
    Debit,
    Expire,
    Grant,
    Heartbeat,
    Hold,
    Lapse,
    Move,
    OnOverspend,
    Operation,
    Policy,
    Refund,
    Release,
    Renew,
    Revoke,
    Settle,
    Transfer,
    Usage,
)
from ledger.posting import (
    DEBT,
    EXPIRED,
    HELD_PREFIX,
    ISSUED,
    LOT_PREFIX,
    REVOKED,
    TRANSFERRED,
    USED,
    Outcome,
    Postings,
)
from ledger.rules import Rules

_FOR_EVER = 0


class Account(Cells):
    """One tenant, folded up to some place in canonical order by the rules of its cluster."""

    __slots__ = ("_key_lifetime_ms",)

    def __init__(self, rules: Rules, past: Past | None = None) -> None:
        super().__init__(past)
        self._key_lifetime_ms = rules.key_lifetime_ms

    # -- what can be spent ------------------------------------------------------------------------------------------

    def remembered(self, key: Key, now: int) -> KeyUse | None:
        """The operation that used `key` first, if that was less than the key lifetime before `now` (ms)."""
        use = self.key_use(key)
        return use if use is not None and now - use.at < self._key_lifetime_ms else None

    @property
    def is_escrowed(self) -> bool:
        """Whether a region may spend only its own shares."""
        return self.policy.admission is Admission.ESCROW

    def live_credit(self, at: int, region: str | None = None) -> int:
        """What remains of the lots live at `at` (ms); with a `region`, of those that it may spend."""
        only = region if self.is_escrowed else None
        lots = self.lots
        live = 0
        for place in self.spending_order:
            lot = lots[place.lot]
            is_live = lot.remaining and lot.starts_at <= at < lot.expires_at
            if is_live and (only is None or lot.owner == only):
                live += lot.remaining
        return live

    def debt(self, region: str | None = None) -> int:
        """What is owed; with a `region`, what its shares have to repay."""
        if region is None or not self.is_escrowed:
            return -self.totals[DEBT]
        return sum([self.claims[name].debt for since, name in self.debtors.items() if since.region == region])

    def credit_at_either(self, at: int, now: int, region: str) -> int:
        """What remains of the lots live at `at` or at `now` (ms) that `region` may spend."""
        only = region if self.is_escrowed else None
        lots = [self.lots[place.lot] for place in self.spending_order]
        return sum(
            [
                lot.remaining
                for lot in lots
                if (lot.is_live(at) or lot.is_live(now)) and (only is None or lot.owner == only)
            ]
        )

    def available(self, at: int, region: str | None = None) -> int:
        """Live credit less debt; negative when more is owed than there is. With a `region`, what it may spend."""
        return self.live_credit(at, region) - self.debt(region)

    @property
    def held(self) -> int:
        """What all reservations hold together: what the other accounts leave, since all sum to zero."""
        return -sum(self.totals.values()) - sum([lot.remaining for lot in self.lots.values()])

    def concerned(self, operation: Operation) -> ClaimId | None:
        """The claim that an operation is about, as things stand; None if it is about none."""
        match operation:
            case Hold() | Renew() | Capture() | Release() | Lapse() | Debit() | Refund() | Transfer():
                return operation.claim
            case Heartbeat() | Usage():
                name = self.reservation_of(self.job(operation.job) or Job(operation.job), operation.claim)
                return usage_name(operation.job) if name is None and isinstance(operation, Usage) else name
            case Grant() | Revoke() | Expire() | Move() | Settle() | Policy():
                return None
            case _:
                assert_never(operation)

    def reservation_of(self, job: Job, named: ClaimId | None) -> ClaimId | None:
        """The reservation that a report names, if there is one, or else the last that was made for the job."""
        claim = self.claim(named) if named is not None else None
        return claim.id if claim is not None and claim.is_reservation else job.claim

    # -- applying ---------------------------------------------------------------------------------------------------

    def apply(self, operation: Operation, place: Position, key: Key | None, request: str | None) -> Effect:
        """Fold one operation in at `place`, which is later than everything folded before."""
        if key is not None and type(operation) is not Transfer and self.remembered(key, place.hlc >> 16) is not None:
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
                self._repay(now, place.region)
            outcome, claim = self._perform(operation, place, now)
            if self.totals[DEBT]:
                self._repay(now, place.region)
                claim = self.claims[claim.id] if claim is not None else None
        if key is not None and not (isinstance(operation, Transfer) and self.remembered(key, now) is not None):
            self._set_key(key, KeyUse(f"{place.region}/{place.boot}", place.seq, request, now))
        if 0 in postings.values():
            postings = {account: amount for account, amount in postings.items() if amount}
        name, view = (claim.id, claim.view()) if claim is not None else (None, None)
        # A tuple of what holds no containers is nothing that the garbage collector has to look at; a list always is.
        return Effect(postings, outcome, name, view, tuple(changes))

    def _is_taken(self, operation: Operation) -> bool:
        if isinstance(operation, Hold | Debit | Transfer):
            return self.claim(operation.claim) is not None
        return isinstance(operation, Grant) and self.is_granted(operation)

    def is_granted(self, grant: Grant) -> bool:
        """Whether a grant of this name was made, as one lot or in shares, or a lot is called like one of its lots."""
        if any(lot in self.lots for lot, _, _ in grant.lots):
            return True
        return grant.lot in self.lots or any(lot.grant == grant.lot for lot in self.lots.values())

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
                return self._revoke(operation.lot)
            case Move():
                return self._move(operation, place, now)
            case Expire():
                lot = self.lots.get(operation.lot)
                if lot is not None and lot.expires_at > now:
                    return Outcome.EARLY, None
                return self._close_lot(operation.lot, LotState.EXPIRED, EXPIRED)
            case Settle():
                return Outcome.APPLIED, None
            case Heartbeat():
                return self._heartbeat(operation, place)
            case Usage():
                return self._usage(operation, place)
            case Transfer():
                return self._transfer(operation, place, now)
            case Policy():
                self._set_policy(operation)
                return Outcome.APPLIED, None
            case _:
                assert_never(operation)

    # -- the operations ---------------------------------------------------------------------------------------------

    def _grant(self, grant: Grant, place: Position) -> tuple[Outcome, None]:
        if grant.amount - self.totals[ISSUED] > MAX_FOLDED:
            return Outcome.CLOSED, None
        self._post(ISSUED, -grant.amount)
        for name, region, amount in grant.lots:
            self._post(LOT_PREFIX + name, amount)
            lot = Lot(
                name, amount, amount, grant.starts_at, grant.expires_at, grant.priority, place, LotState.OPEN, region
            )
            self._set_lot(None, lot)
        return Outcome.APPLIED, None

    def _hold(self, hold: Hold, place: Position, now: int) -> tuple[Outcome, Claim | None]:
        if hold.amount - self.totals[DEBT] > MAX_FOLDED:
            return Outcome.CLOSED, None
        if hold.job is not None:
            self._set_job((self.job(hold.job) or Job(hold.job)).reserved(hold.claim))
        if self.policy.on_overspend is OnOverspend.REVOKE and self.live_credit(now, place.region) < hold.amount:
            claim = Claim(
                hold.claim, ClaimState.REVOKED, hold.amount, place, hold.lease_until, (), 0, (), 0, None, hold.job,
            )  # fmt: skip
            return Outcome.REVOKED, self._set_claim(None, claim)
        funding, short = self._fund(hold.amount, now, place.region)
        self._post(HELD_PREFIX + hold.claim, hold.amount)
        claim = Claim(
            hold.claim, ClaimState.OPEN, hold.amount, place, hold.lease_until,
            funding, short, (), 0, place if short else None, hold.job,
        )  # fmt: skip
        return Outcome.APPLIED, self._set_claim(None, claim)

    def _debit(self, debit: Debit, place: Position) -> tuple[Outcome, Claim | None]:
        if debit.amount - self.totals[DEBT] > MAX_FOLDED:
            return Outcome.CLOSED, None
        funding, short = self._fund(debit.amount, debit.at, place.region)
        self._post(USED, debit.amount)
        return Outcome.APPLIED, self._spent_at_once(debit.claim, ClaimState.CLOSED, debit.amount, place, funding, short)

    def _transfer(self, transfer: Transfer, place: Position, now: int) -> tuple[Outcome, Claim | None]:
        amount = transfer.amount
        if amount - self.totals[DEBT] > MAX_FOLDED:
            return Outcome.CLOSED, None
        funding, short = self._fund(amount, now, place.region, transfer.expires_at)
        self._post(TRANSFERRED, amount)
        return Outcome.APPLIED, self._spent_at_once(
            transfer.claim, ClaimState.TRANSFERRED, amount, place, funding, short
        )

    def _spent_at_once(
        self, name: ClaimId, state: ClaimState, amount: int, place: Position, funding: Funding, short: int
    ) -> Claim:
        since = place if short else None
        return self._set_claim(None, Claim(name, state, amount, place, 0, (), 0, funding, short, since, None))

    def _capture(self, capture: Capture, place: Position) -> tuple[Outcome, Claim | None]:
        if capture.amount - self.totals[DEBT] > MAX_FOLDED:
            return Outcome.CLOSED, None
        return self._consume(capture.claim, capture.amount, capture.at, place, final=capture.final)

    def _consume(
        self, name: ClaimId, amount: int, at: int, place: Position, *, final: bool, job: JobId | None = None
    ) -> tuple[Outcome, Claim | None]:
        """Usage of a claim at `at`: from what it holds, and the rest funded anew. A new claim is one of `job`."""
        # Of a claim that nobody made (the hold was a duplicate of a request under another claim, or there was none) the
        # work was done all the same.
        claim = self.claim(name) or Claim(name, ClaimState.CLOSED, 0, place, 0, (), 0, (), 0, None, job)
        open_before = claim.state is ClaimState.OPEN
        taken, held, rest = split(claim.held, amount)
        from_debt = min(rest, claim.held_debt)
        overrun = rest - from_debt
        if amount > overrun:
            self._post(HELD_PREFIX + claim.id, overrun - amount)
        self._post(USED, amount)
        more, short = self._fund(overrun, at, place.region) if overrun else ((), 0)
        state, held_debt = claim.state, claim.held_debt - from_debt
        if final and open_before:
            self._give_back(claim.id, held, held_debt)
            state, held, held_debt = ClaimState.CLOSED, (), 0
        used = merge(merge(claim.used, taken), more)
        used_debt = claim.used_debt + from_debt + short
        changed = Claim(
            claim.id, state, claim.amount, claim.made, claim.lease_until, held, held_debt, used, used_debt,
            (claim.owes_since or place) if held_debt or used_debt else None, claim.job,
        )  # fmt: skip
        return Outcome.APPLIED if open_before else Outcome.OVERRUN, self._set_claim(self.claims.get(claim.id), changed)

    def _usage(self, usage: Usage, place: Position) -> tuple[Outcome, Claim | None]:
        if usage.amount - self.totals[DEBT] > MAX_FOLDED:
            return Outcome.CLOSED, None
        job = self.job(usage.job) or Job(usage.job)
        name = self.reservation_of(job, usage.claim) or usage_name(usage.job)
        covered, fresh_ms = cover(job.covered, usage.start, usage.end)
        amount = share(usage.amount, fresh_ms, usage.end - usage.start) if fresh_ms else 0
        reserved = name != usage_name(usage.job)
        held = self._is_open(name)
        self._set_job(job.used(covered, usage.end, amount, place, reserved=reserved, held=held, final=usage.final))
        if amount:
            return self._consume(name, amount, usage.start, place, final=usage.final, job=usage.job)
        claim = self.claim(name)
        if usage.final and claim is not None and claim.state is ClaimState.OPEN:
            return Outcome.APPLIED, self._end(claim, ClaimState.CLOSED)
        if fresh_ms:
            return Outcome.APPLIED, self._touched(claim)
        return Outcome.COVERED if usage.start < usage.end else Outcome.CLOSED, self._touched(claim)

    def _heartbeat(self, beat: Heartbeat, place: Position) -> tuple[Outcome, Claim | None]:
        job = self.job(beat.job) or Job(beat.job)
        name = self.reservation_of(job, beat.claim)
        self._set_job(job.seen(beat.at, place, started=beat.started, held=name is not None and self._is_open(name)))
        return self._extend(self.claim(name) if name is not None else None, beat.lease_until)

    def _is_open(self, name: ClaimId) -> bool:
        """Whether a claim holds anything; one that does is in memory."""
        claim = self.claims.get(name)
        return claim is not None and claim.state is ClaimState.OPEN

    def _release(self, release: Release) -> tuple[Outcome, Claim | None]:
        claim = self.claim(release.claim)
        if claim is None or claim.state is not ClaimState.OPEN:
            return Outcome.CLOSED, self._touched(claim)
        return Outcome.APPLIED, self._end(claim, ClaimState.CLOSED)

    def _renew(self, renew: Renew) -> tuple[Outcome, Claim | None]:
        return self._extend(self.claim(renew.claim), renew.lease_until)

    def _extend(self, claim: Claim | None, lease_until: int) -> tuple[Outcome, Claim | None]:
        """A lease becomes the later of the two; one that has ended stays so."""
        if claim is None or claim.state is not ClaimState.OPEN:
            return Outcome.CLOSED, self._touched(claim)
        if lease_until <= claim.lease_until:
            return Outcome.APPLIED, self._touched(claim)
        changed = Claim(
            claim.id, claim.state, claim.amount, claim.made, lease_until, claim.held, claim.held_debt,
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
        if claim is None or not claim.used_total or claim.state is ClaimState.TRANSFERRED:
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
            claim.id, claim.state, claim.amount, claim.made, claim.lease_until, claim.held, claim.held_debt,
            used, used_debt, claim.owes_since if claim.held_debt or used_debt else None, claim.job,
        )  # fmt: skip
        return Outcome.APPLIED, self._set_claim(self.claims.get(claim.id), changed)

    def _revoke(self, name: LotId) -> tuple[Outcome, None]:
        """Close a lot, or all shares of a grant."""
        if name in self.lots:
            return self._close_lot(name, LotState.REVOKED, REVOKED)
        shares = [place.lot for place in self.spending_order if self.lots[place.lot].grant == name]
        for lot in shares:
            self._close_lot(lot, LotState.REVOKED, REVOKED)
        return Outcome.APPLIED if shares else Outcome.CLOSED, None

    def _move(self, move: Move, place: Position, now: int) -> tuple[Outcome, None]:
        lot = self.lots.get(move.lot)
        amount = min(move.amount, lot.remaining) if lot is not None and lot.is_live(now) else 0
        if lot is None or not amount or lot.owner != place.region or move.to == place.region:
            return Outcome.CLOSED, None
        name = share_of(lot.grant, move.to)
        target = self.lots.get(name)
        if target is not None and (target.owner != move.to or target.state is not LotState.OPEN):
            # A lot of another grant, which somebody has called so; or one that takes nothing any more.
            return Outcome.CLOSED, None
        self._post(LOT_PREFIX + lot.id, -amount)
        self._set_lot(lot, lot.given(-amount))
        self._post(LOT_PREFIX + name, amount)
        if target is None:
            new = Lot(name, amount, amount, lot.starts_at, lot.expires_at, lot.priority, place, LotState.OPEN, move.to)
            self._set_lot(None, new)
        else:
            self._set_lot(target, target.given(amount))
        return Outcome.APPLIED, None

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

    def _fund(self, amount: int, at: int, region: str, lasting_until: int = _FOR_EVER) -> tuple[Funding, int]:
        """Take `amount` from the lots live at `at` that `region` may spend, in spending order; the rest is debt.

        Only from lots that do not expire before `lasting_until`.
        """
        only = region if self.is_escrowed else None
        funding: list[tuple[LotId, int]] = []
        lots = self.lots
        for place in self.spending_order:
            lot = lots[place.lot]
            if lot.remaining and lot.starts_at <= at < lot.expires_at >= lasting_until:
                if only is not None and lot.owner != only:
                    continue
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

    def _repay(self, now: int, region: str) -> None:
        """Pay debt from what is live, the oldest debtor first; under escrow a region's shares pay its own debts."""
        only = region if self.is_escrowed else None
        for place in self.spending_order:
            lot = self.lots[place.lot]
            if only is not None and lot.owner != only:
                continue
            while lot.remaining and lot.is_live(now) and (since := self._oldest_debt(only)) is not None:
                claim = self.claims[self.debtors[since]]
                part = min(lot.remaining, claim.debt)
                self._post(LOT_PREFIX + lot.id, -part)
                self._post(DEBT, part)
                lot = self._set_lot(lot, lot.with_remaining(lot.remaining - part))
                self._repaid_by(claim, lot.id, part)
            if not self.debtors:
                return

    def _oldest_debt(self, region: str | None) -> Position | None:
        if region is None:
            return min(self.debtors, default=None)
        return min([since for since in self.debtors if since.region == region], default=None)

    def _repaid_by(self, claim: Claim, lot: LotId, part: int) -> None:
        """That part of the debtor's funding now names the lot: what was used before what is only held."""
        used_part = min(part, claim.used_debt)
        held_part = part - used_part
        self._set_claim(
            claim,
            Claim(
                claim.id, claim.state, claim.amount, claim.made, claim.lease_until,
                merge(claim.held, ((lot, held_part),)) if held_part else claim.held, claim.held_debt - held_part,
                merge(claim.used, ((lot, used_part),)) if used_part else claim.used, claim.used_debt - used_part,
                claim.owes_since if claim.debt > part else None, claim.job,
            ),
        )  # fmt: skip

    def _end(self, claim: Claim, state: ClaimState) -> Claim:
        """Release what a reservation still holds, and close it."""
        self._give_back(claim.id, claim.held, claim.held_debt)
        changed = Claim(
            claim.id, state, claim.amount, claim.made, claim.lease_until, (), 0, claim.used, claim.used_debt,
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
