"""The fold of one tenant's operations, a second time: one serial ledger that is given them in canonical order.

Written from the rules alone, to be seen to be right and never to be fast. Nothing is remembered between two calls of
`fold`; nothing can be undone. Credit is counted out coin by coin: what pays for a claim is a list with one element for
each unit of credit, the name of the lot that the coin came from, or None for a coin that is still owed. So only small
amounts can be folded here.

A claim has two heaps of such coins, what it holds and what it has used. In a heap the coins of one lot lie together, in
the order in which the lots were first taken, and the owed ones lie last.

A transfer is a line in two ledgers: `Transfer` in the giver's, `Grant` in the receiver's. The time for which a job has
been charged is kept as it was reported, interval by interval.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import assert_never

from ledger.ids import JobId, Position, usage_name
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

Coins = list[str | None]


@dataclass(frozen=True)
class Line:
    """One line of the serial ledger: an operation, its place and the idempotency key under which it was accepted."""

    place: Position
    operation: Operation
    key: str | None


@dataclass(frozen=True)
class Verdict:
    """What an operation did at its place; the claim that it was about, and what that one owed right behind it."""

    postings: dict[str, int]
    outcome: str
    claim: str | None = field(default=None, compare=False)
    owed: int = field(default=0, compare=False)


NOTHING = Verdict({}, "duplicate")


@dataclass
class PlainClaim:
    """A hold or a debit, coin by coin."""

    state: str
    lease_until: int
    held: Coins = field(default_factory=list)
    used: Coins = field(default_factory=list)
    debtor_since: Position | None = None
    used_from: int | None = None
    """Before which time it cannot have used anything, if that is known."""


@dataclass
class PlainJob:
    """What was said of a job."""

    reserved_by: str | None = None
    started: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    reported: list[tuple[int, int]] = field(default_factory=list)
    charged: int = 0
    unreserved: int = 0
    reports: list[tuple[int, Position]] = field(default_factory=list)
    """What each report is about, and its place."""
    unheld: list[Position] = field(default_factory=list)
    """The reports since the last that found a reservation open, or since the last that was made."""


@dataclass
class Ledger:
    """One tenant's books after some of its operations, in a cluster that remembers keys for so long (ms)."""

    key_lifetime_ms: int
    accounts: dict[str, int] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    granted_at: dict[str, Position] = field(default_factory=dict)
    share_of: dict[str, str] = field(default_factory=dict)
    """Of lots that are a region's share of a grant: the region."""
    closed: dict[str, str] = field(default_factory=dict)
    claims: dict[str, PlainClaim] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    """When each key was used first, since it was last forgotten."""
    key_users: dict[str, Position] = field(default_factory=dict)
    """And by which operation."""
    jobs: dict[str, PlainJob] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    verdicts: list[Verdict] = field(default_factory=list)

    def balance(self, account: str) -> int:
        """What stands on an account."""
        return self.accounts.get(account, 0)

    def remaining(self, lot: str) -> int:
        """What is left of a lot."""
        return self.balance(f"lot/{lot}")

    def live_lots(self, at: int) -> list[str]:
        """The lots that may pay at `at`, in the order in which they pay."""
        live = [
            lot
            for lot, grant in self.grants.items()
            if lot not in self.closed and grant.starts_at <= at < grant.expires_at
        ]
        return sorted(live, key=self.spending_place)

    def job(self, name: str) -> PlainJob:
        """A job, heard of or not."""
        return self.jobs.setdefault(name, PlainJob())

    def remembers(self, key: str, now: int) -> bool:
        """Whether a key was used, and not so long ago that it is forgotten."""
        return key in self.keys and self.keys[key] + self.key_lifetime_ms > now

    def spending_place(self, lot: str) -> tuple[int, int, Position, str]:
        """First expiring, first out, among lots of the same priority."""
        grant = self.grants[lot]
        return (grant.priority, grant.expires_at, self.granted_at[lot], lot)

    def available(self, at: int) -> int:
        """What is left of the lots live at `at`, less the debt."""
        return sum(self.remaining(lot) for lot in self.live_lots(at)) + self.balance("debt")

    def owner(self, lot: str) -> str:
        """The region that may spend a lot, if the tenant is under escrow."""
        return self.share_of.get(lot, self.granted_at[lot].region)

    def lots_of(self, region: str, lots: Iterable[str]) -> list[str]:
        """Those of `lots` that a region may spend."""
        if self.policy.admission != Admission.ESCROW:
            return list(lots)
        return [lot for lot in lots if self.owner(lot) == region]

    def available_in(self, region: str, lots: Iterable[str]) -> int:
        """What is left of those of `lots` that a region may spend, less what they have to repay."""
        debts = sum(
            (claim.held + claim.used).count(None) for claim in self.claims.values() if self.repays(region, claim)
        )
        return sum(self.remaining(lot) for lot in self.lots_of(region, lots)) - debts

    def repays(self, region: str, claim: PlainClaim) -> bool:
        """Whether a region's lots pay what a claim owes."""
        if self.policy.admission != Admission.ESCROW:
            return True
        return claim.debtor_since is not None and claim.debtor_since.region == region


def fold(lines: Iterable[Line], key_lifetime_ms: int) -> Ledger:
    """The books after `lines`, whose order is put right first, and what each line did (`Ledger.verdicts`)."""
    ledger = Ledger(key_lifetime_ms)
    for line in sorted(lines, key=lambda line: line.place):
        extend(ledger, line)
    return ledger


def extend(ledger: Ledger, line: Line) -> None:
    """Let the ledger take its next line, which must come behind all that it has."""
    ledger.verdicts.append(_judge(ledger, line))


def _judge(ledger: Ledger, line: Line) -> Verdict:
    now = line.place.hlc >> 16
    if line.key is not None:
        if not ledger.remembers(line.key, now):
            ledger.keys[line.key] = now
            ledger.key_users[line.key] = line.place
        elif not isinstance(line.operation, Transfer):
            return NOTHING
    if _names_something_taken(ledger, line.operation):
        return NOTHING
    before = dict(ledger.accounts)
    _repay(ledger, now, line.place.region)
    _note_debtors(ledger, line.place)
    outcome = _do(ledger, line, now)
    _note_debtors(ledger, line.place)
    _repay(ledger, now, line.place.region)
    _note_debtors(ledger, line.place)
    claim = concerned(ledger, line.operation)
    owed = owed_by(ledger, claim)
    return Verdict(_difference(before, ledger.accounts), outcome, claim, owed)


def concerned(ledger: Ledger, operation: Operation) -> str | None:
    """The claim that an operation is about, as things stand, if it is about one."""
    match operation:
        case Hold() | Debit() | Transfer() | Capture() | Release() | Renew() | Refund() | Lapse():
            return operation.claim
        case Heartbeat() | Usage():
            own = usage_name(JobId(operation.job)) if isinstance(operation, Usage) else None
            return _reservation_for(ledger, operation.claim, operation.job) or own
        case _:
            return None


def owed_by(ledger: Ledger, claim: str | None) -> int:
    """What a claim owes."""
    known = ledger.claims.get(claim) if claim is not None else None
    return (known.held + known.used).count(None) if known is not None else 0


def _names_something_taken(ledger: Ledger, operation: Operation) -> bool:
    if isinstance(operation, Grant):
        names = {operation.lot, *(f"{operation.lot}@{region}" for region, _ in operation.shares)}
        shared = {f"{operation.lot}@{region}" for region in set(ledger.share_of.values())} & ledger.share_of.keys()
        return bool(names & ledger.grants.keys() or shared)
    if isinstance(operation, Hold | Debit):
        return operation.claim in ledger.claims
    if isinstance(operation, Transfer):
        return operation.name in ledger.claims
    return False


def _do(ledger: Ledger, line: Line, now: int) -> str:
    operation, region = line.operation, line.place.region
    match operation:
        case Grant():
            if not operation.shares:
                _open_lot(ledger, line, operation.lot, operation, operation.amount, "issued")
            for share, amount in operation.shares:
                name = f"{operation.lot}@{share}"
                _open_lot(ledger, line, name, operation, amount, "issued")
                ledger.share_of[name] = share
            return "applied"
        case Move():
            return _move_share(ledger, operation, line, now)
        case Hold():
            claim = PlainClaim("open", operation.lease_until, used_from=now)
            ledger.claims[operation.claim] = claim
            if operation.job is not None:
                ledger.job(operation.job).reserved_by = operation.claim
                ledger.job(operation.job).unheld = []
            credit = sum(ledger.remaining(lot) for lot in ledger.lots_of(region, ledger.live_lots(now)))
            if ledger.policy.on_overspend == OnOverspend.REVOKE and credit < operation.amount:
                claim.state = "revoked"
                return "revoked"
            claim.held = _spend(ledger, operation.amount, now, f"held/{operation.claim}", region)
            return "applied"
        case Debit():
            claim = PlainClaim("closed", 0, used_from=operation.at)
            ledger.claims[operation.claim] = claim
            claim.used = _spend(ledger, operation.amount, operation.at, "used", region)
            return "applied"
        case Capture():
            return _capture(ledger, operation, region)
        case Release():
            if not _is_open(ledger, operation.claim):
                return "closed"
            _give_back_held(ledger, operation.claim)
            ledger.claims[operation.claim].state = "closed"
            return "applied"
        case Lapse():
            if not _is_open(ledger, operation.claim):
                return "closed"
            if ledger.claims[operation.claim].lease_until > operation.at:
                return "renewed"
            _give_back_held(ledger, operation.claim)
            ledger.claims[operation.claim].state = "lapsed"
            return "lapsed"
        case Renew():
            if not _is_open(ledger, operation.claim):
                return "closed"
            claim = ledger.claims[operation.claim]
            claim.lease_until = max(claim.lease_until, operation.lease_until)
            return "applied"
        case Refund():
            return _refund(ledger, operation)
        case Revoke():
            shares = [f"{operation.lot}@{share}" for share in set(ledger.share_of.values())]
            open_shares = [lot for lot in shares if lot in ledger.share_of and lot not in ledger.closed]
            if operation.lot in ledger.grants or not open_shares:
                return _close_lot(ledger, operation.lot, "revoked")
            for lot in open_shares:
                _close_lot(ledger, lot, "revoked")
            return "applied"
        case Expire():
            if operation.lot in ledger.grants and now < ledger.grants[operation.lot].expires_at:
                return "early"
            return _close_lot(ledger, operation.lot, "expired")
        case Settle():
            return "applied"
        case Policy():
            ledger.policy = operation
            return "applied"
        case Transfer():
            claim = PlainClaim("transferred", 0)
            ledger.claims[operation.name] = claim
            lasting = [lot for lot in ledger.grants if ledger.grants[lot].expires_at >= operation.expires_at]
            claim.used = _spend(ledger, operation.amount, now, "transferred", region, among=lasting)
            return "applied"
        case Heartbeat():
            return _heartbeat(ledger, operation, line.place)
        case Usage():
            return _usage(ledger, operation, line.place)
        case _:
            assert_never(operation)


def _capture(ledger: Ledger, capture: Capture, region: str) -> str:
    if capture.claim not in ledger.claims:
        ledger.claims[capture.claim] = PlainClaim("closed", 0)
    claim = ledger.claims[capture.claim]
    was_open = claim.state == "open"
    from_hold = claim.held[: capture.amount]
    claim.held = claim.held[capture.amount :]
    _move(ledger, f"held/{capture.claim}", "used", len(from_hold))
    overrun = _spend(ledger, capture.amount - len(from_hold), capture.at, "used", region)
    claim.used = _tidy(claim.used + from_hold + overrun)
    if capture.final and was_open:
        _close(ledger, capture.claim)
    return "applied" if was_open else "overrun"


def _close(ledger: Ledger, claim: str) -> None:
    _give_back_held(ledger, claim)
    ledger.claims[claim].state = "closed"


def _reservation_for(ledger: Ledger, named: str | None, job: str) -> str | None:
    if named is not None and named in ledger.claims and ledger.claims[named].lease_until:
        return named
    return ledger.job(job).reserved_by


def _note_report(ledger: Ledger, job: PlainJob, at: int, place: Position, reservation: str | None) -> None:
    job.reports.append((at, place))
    if reservation is not None and _is_open(ledger, reservation):
        job.unheld = []
    else:
        job.unheld.append(place)


def _heartbeat(ledger: Ledger, beat: Heartbeat, place: Position) -> str:
    job = ledger.job(beat.job)
    job.seen.append(beat.at)
    if beat.started:
        job.started.append(beat.at)
    reservation = _reservation_for(ledger, beat.claim, beat.job)
    _note_report(ledger, job, beat.at, place, reservation)
    if reservation is None or not _is_open(ledger, reservation):
        return "closed"
    claim = ledger.claims[reservation]
    claim.lease_until = max(claim.lease_until, beat.lease_until)
    return "applied"


def _usage(ledger: Ledger, usage: Usage, place: Position) -> str:
    job = ledger.job(usage.job)
    unpaid = _not_yet_reported(job.reported, usage.start, usage.end)
    job.reported.append((usage.start, usage.end))
    job.seen.append(usage.end)
    if usage.final:
        job.finished.append(usage.end)
    reservation = _reservation_for(ledger, usage.claim, usage.job)
    _note_report(ledger, job, usage.end, place, reservation)
    amount = 0
    while unpaid and amount * (usage.end - usage.start) < usage.amount * unpaid:
        amount += 1
    job.charged += amount
    if reservation is None:
        job.unreserved += amount
    claim = reservation or usage_name(JobId(usage.job))
    if amount:
        return _capture(ledger, Capture(claim, amount, usage.start, usage.final), place.region)  # type: ignore[arg-type]
    if usage.final and _is_open(ledger, claim):
        _close(ledger, claim)
        return "applied"
    if unpaid:
        return "applied"
    return "closed" if usage.start == usage.end else "covered"


def _not_yet_reported(reported: list[tuple[int, int]], start: int, end: int) -> int:
    """How many milliseconds of [start, end) lie in none of the intervals: between two bounds nothing changes."""
    bounds = sorted({start, end, *(bound for interval in reported for bound in interval if start < bound < end)})
    free = 0
    for begin, stop in pairwise(bounds):
        if not any(first <= begin and stop <= last for first, last in reported):
            free += stop - begin
    return free


def _refund(ledger: Ledger, refund: Refund) -> str:
    claim = ledger.claims.get(refund.claim)
    if claim is None or not claim.used or claim.state == "transferred":
        return "closed"
    for _ in range(min(refund.amount, len(claim.used))):
        if None in claim.used:
            claim.used.remove(None)
            _move(ledger, "used", "debt", 1)
        else:
            lots = {lot for lot in claim.used if lot is not None}
            # Among lots that expire together, the one that was granted last gets its coin back first.
            lot = max(lots, key=lambda lot: (ledger.grants[lot].expires_at, ledger.granted_at[lot], lot))
            claim.used.remove(lot)
            _return_coin(ledger, lot, "used")
    return "applied"


def _close_lot(ledger: Ledger, lot: str, account: str) -> str:
    if lot not in ledger.grants or lot in ledger.closed:
        return "closed"
    ledger.closed[lot] = account
    _move(ledger, f"lot/{lot}", account, ledger.remaining(lot))
    return "applied"


def _is_open(ledger: Ledger, claim: str) -> bool:
    return claim in ledger.claims and ledger.claims[claim].state == "open"


def _open_lot(ledger: Ledger, line: Line, name: str, like: Grant, amount: int, source: str) -> None:
    ledger.grants[name] = like
    ledger.granted_at[name] = line.place
    _move(ledger, source, f"lot/{name}", amount)


def _move_share(ledger: Ledger, move: Move, line: Line, now: int) -> str:
    region = line.place.region
    if move.lot not in ledger.live_lots(now) or ledger.owner(move.lot) != region or move.to == region:
        return "closed"
    amount = min(move.amount, ledger.remaining(move.lot))
    grant = move.lot.removesuffix(f"@{ledger.share_of[move.lot]}") if move.lot in ledger.share_of else move.lot
    target = f"{grant}@{move.to}"
    if not amount or target in ledger.closed or (target in ledger.grants and ledger.owner(target) != move.to):
        return "closed"
    if target in ledger.grants:
        _move(ledger, f"lot/{move.lot}", f"lot/{target}", amount)
    else:
        _open_lot(ledger, line, target, ledger.grants[move.lot], amount, f"lot/{move.lot}")
        ledger.share_of[target] = move.to
    return "applied"


def _spend(ledger: Ledger, amount: int, at: int, account: str, region: str, among: list[str] | None = None) -> Coins:
    own = [lot for lot in ledger.lots_of(region, ledger.live_lots(at)) if among is None or lot in among]
    coins: Coins = []
    for _ in range(amount):
        payer = next((lot for lot in own if ledger.remaining(lot) > 0), None)
        _move(ledger, "debt" if payer is None else f"lot/{payer}", account, 1)
        coins.append(payer)
    return coins


def _give_back_held(ledger: Ledger, claim_id: str) -> None:
    claim = ledger.claims[claim_id]
    for lot in claim.held:
        if lot is None:
            _move(ledger, f"held/{claim_id}", "debt", 1)
        else:
            _return_coin(ledger, lot, f"held/{claim_id}")
    claim.held = []


def _return_coin(ledger: Ledger, lot: str, source: str) -> None:
    _move(ledger, source, "expired" if lot in ledger.closed else f"lot/{lot}", 1)


def _repay(ledger: Ledger, now: int, region: str) -> None:
    while ledger.balance("debt"):
        owing = [claim for claim in ledger.claims.values() if None in claim.held or None in claim.used]
        debtors = [claim for claim in owing if ledger.repays(region, claim)]
        payers = [lot for lot in ledger.lots_of(region, ledger.live_lots(now)) if ledger.remaining(lot) > 0]
        if not debtors or not payers:
            return
        debtor = min(debtors, key=_debtor_since)
        _move(ledger, f"lot/{payers[0]}", "debt", 1)
        if None in debtor.used:
            debtor.used[debtor.used.index(None)] = payers[0]
            debtor.used = _tidy(debtor.used)
        else:
            debtor.held[debtor.held.index(None)] = payers[0]
            debtor.held = _tidy(debtor.held)


def _note_debtors(ledger: Ledger, place: Position) -> None:
    is_debt = ledger.balance("debt") != 0
    for claim in ledger.claims.values():
        if not is_debt or (None not in claim.held and None not in claim.used):
            claim.debtor_since = None
        elif claim.debtor_since is None:
            claim.debtor_since = place


def _debtor_since(claim: PlainClaim) -> Position:
    assert claim.debtor_since is not None
    return claim.debtor_since


def _tidy(coins: Coins) -> Coins:
    lots = list(dict.fromkeys(coin for coin in coins if coin is not None))
    heap: Coins = []
    for lot in [*lots, None]:
        heap.extend([lot] * coins.count(lot))
    return heap


def _move(ledger: Ledger, source: str, target: str, amount: int) -> None:
    if amount:
        ledger.accounts[source] = ledger.balance(source) - amount
        ledger.accounts[target] = ledger.balance(target) + amount


def _difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    changes = {account: balance - before.get(account, 0) for account, balance in after.items()}
    return {account: change for account, change in changes.items() if change}
