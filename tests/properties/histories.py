"""Random histories of one tenant: what several regions wrote without asking each other.

The pools of names are small and the times lie close together, so that keys, lots and claims collide, lots expire in the
middle of things, credit falls short, debt stands for a while, and leases lapse late.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hypothesis import strategies as st

from ledger.account import Account
from ledger.cells import Cell, Effect, KeyUse
from ledger.claim import Claim
from ledger.ids import ClaimId, JobId, Key, LotId, Position, TenantId, derived, usage_name
from ledger.job import Job
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
from ledger.rules import Rules

REGIONS = ("eu", "us", "ap")
LOTS = tuple(LotId(f"lot-{letter}") for letter in "abcdefgh")
JOBS = tuple(JobId(f"job-{number}") for number in range(3))
OTHERS = tuple(TenantId(name) for name in ("umbra", "zenith"))
TRANSFERS = tuple(f"~{derived(other, number)}" for other in OTHERS for number in "123")
CLAIMS = (
    *(ClaimId(f"claim-{letter}") for letter in "pqrstuvwxyz"),
    *map(ClaimId, TRANSFERS),
    *map(usage_name, JOBS),
)
RULES = Rules(key_lifetime_ms=120)
CONTESTED_KEYS = tuple(Key(name) for name in ("k-1", "k-2", "k-3"))
OWN_KEY = Key("an entry's own key")
START_MS = 10_000


@dataclass(frozen=True)
class Written:
    """An entry as the fold needs to know it."""

    position: Position
    operation: Operation | None
    key: Key | None
    request: str | None


@dataclass(frozen=True)
class Named:
    """The lots and claims that a history has named so far: what most of its operations are about."""

    lots: list[LotId]
    claims: list[ClaimId]


regions = st.sampled_from(REGIONS)
lots = st.sampled_from(LOTS)
claims = st.sampled_from(CLAIMS[:11])
choices = st.integers(0, 15)
given_amounts = st.integers(1, 90)
amounts = st.integers(1, 40)
yes_or_no = st.booleans()
jobs = st.sampled_from((None, *JOBS))
some_job = st.sampled_from(JOBS)
transfers = st.sampled_from(TRANSFERS)
policies = st.builds(Policy, st.sampled_from(OnOverspend), st.sampled_from(Admission))
is_shared = st.sampled_from((False, False, True))
starts_in_ms = st.sampled_from((0, 0, 0, -20, 15))
lasts_ms = st.integers(1, 120)
priorities = st.sampled_from((0, 0, -1))
lease_ms = st.integers(1, 40)
renewed_ms = st.integers(-10, 60)
swept_ms = st.integers(-15, 40)
event_ms = st.one_of(st.just(0), st.integers(-80, 10))


def _a_lot(draw: st.DrawFn, named: Named) -> LotId:
    choice = draw(choices)
    return named.lots[-1 - choice % len(named.lots)] if named.lots and choice < 15 else draw(lots)


def _a_claim(draw: st.DrawFn, named: Named) -> ClaimId:
    choice = draw(choices)
    return named.claims[-1 - choice % len(named.claims)] if named.claims and choice < 15 else draw(claims)


def _grant(draw: st.DrawFn, now: int, named: Named) -> Grant:
    lot, starts_at, ends_at = draw(lots), now + draw(starts_in_ms), now + draw(lasts_ms) + 15
    shares: tuple[tuple[str, int], ...] = ()
    amount = draw(given_amounts)
    if draw(is_shared):
        shares = tuple((region, draw(amounts)) for region in REGIONS[: 1 + draw(choices) % 3])
        amount = sum(part for _, part in shares)
    named.lots.extend([name for name, _, _ in Grant(lot, amount, 0, 1, 0, shares).lots])
    return Grant(lot, amount, starts_at, ends_at, draw(priorities), shares)


def _move(draw: st.DrawFn, _: int, named: Named) -> Move:
    return Move(_a_lot(draw, named), draw(regions), draw(amounts))


def _hold(draw: st.DrawFn, now: int, named: Named) -> Hold:
    claim = draw(claims)
    named.claims.append(claim)
    return Hold(claim, draw(amounts), now + draw(lease_ms), draw(jobs))


def _debit(draw: st.DrawFn, now: int, named: Named) -> Debit:
    claim = draw(claims)
    named.claims.append(claim)
    return Debit(claim, draw(amounts), now + draw(event_ms))


def _capture(draw: st.DrawFn, now: int, named: Named) -> Capture:
    return Capture(_a_claim(draw, named), draw(amounts), now + draw(event_ms), draw(yes_or_no))


def _renew(draw: st.DrawFn, now: int, named: Named) -> Renew:
    return Renew(_a_claim(draw, named), now + draw(renewed_ms))


def _release(draw: st.DrawFn, _: int, named: Named) -> Release:
    return Release(_a_claim(draw, named))


def _lapse(draw: st.DrawFn, now: int, named: Named) -> Lapse:
    return Lapse(_a_claim(draw, named), now + draw(swept_ms))


def _refund(draw: st.DrawFn, now: int, named: Named) -> Refund:
    return Refund(_a_claim(draw, named), draw(amounts), now)


def _revoke(draw: st.DrawFn, _: int, named: Named) -> Revoke:
    return Revoke(_a_lot(draw, named))


def _expire(draw: st.DrawFn, _: int, named: Named) -> Expire:
    return Expire(_a_lot(draw, named))


def _settle(_draw: st.DrawFn, _: int, _named: Named) -> Settle:
    return Settle()


def _policy(draw: st.DrawFn, _: int, __: Named) -> Policy:
    return draw(policies)


def _transfer(draw: st.DrawFn, now: int, named: Named) -> Transfer:
    name = draw(transfers)
    named.claims.append(ClaimId(name))
    return Transfer(name, OTHERS[0], draw(amounts), now, now + draw(lasts_ms), 0)


def _heartbeat(draw: st.DrawFn, now: int, named: Named) -> Heartbeat:
    claim = _a_claim(draw, named) if draw(yes_or_no) else None
    return Heartbeat(draw(some_job), claim, now + draw(event_ms), now + draw(renewed_ms), draw(yes_or_no))


def _usage(draw: st.DrawFn, now: int, named: Named) -> Usage:
    claim = _a_claim(draw, named) if draw(yes_or_no) else None
    start, final = now + draw(event_ms), draw(yes_or_no)
    end = start + draw(lasts_ms) - (1 if final else 0)
    return Usage(draw(some_job), claim, start, end, draw(st.integers(0, 40)), final)


KINDS: tuple[Callable[[st.DrawFn, int, Named], Operation], ...] = (
    _grant, _grant, _grant, _hold, _hold, _hold, _hold, _capture, _capture, _capture, _debit, _debit,
    _refund, _refund, _release, _renew, _lapse, _revoke, _expire, _settle, _policy, _transfer, _heartbeat,
    _usage, _usage, _usage, _move,
)  # fmt: skip

kinds = st.sampled_from(KINDS)
more = st.integers(0, 24).map(bool)
steps_ms = st.sampled_from((0, 0, 1, 3, 10, 25))
counters = st.integers(0, 2)
is_compensation = st.sampled_from((False,) * 9 + (True,))
contested_keys = st.sampled_from((*(OWN_KEY,) * 12, None, *CONTESTED_KEYS))


@st.composite
def histories(draw: st.DrawFn, max_size: int = 30, compensations: bool = False) -> list[Written]:
    """The entries of one tenant in canonical order."""
    written: list[Written] = []
    named = Named([], [])
    now = START_MS
    while len(written) < max_size and (draw(more) or not written):
        number = len(written) + 1
        now += draw(steps_ms)
        place = Position((now << 16) | draw(counters), draw(regions), "b1", number)
        if compensations and draw(is_compensation):
            written.append(Written(place, None, None, None))
            continue
        operation = draw(kinds)(draw, now, named)
        contested = draw(contested_keys)
        key = Key(f"k{number}") if contested == OWN_KEY else contested
        written.append(Written(place, operation, key, None if key is None else f"{number:016x}"))
    return sorted(written, key=lambda entry: entry.position)


@st.composite
def deliveries(draw: st.DrawFn, max_size: int = 20) -> tuple[list[Written], list[Written]]:
    """A history in canonical order, and the same entries in the order in which one region received them."""
    history = draw(histories(max_size=max_size, compensations=True))
    return history, draw(st.permutations(history))


class Checkpoint:
    """A past in memory, written from the effects that become stable, as a region's store writes its own."""

    def __init__(self) -> None:
        self.claims: dict[ClaimId, Claim] = {}
        self.keys: dict[Key, KeyUse] = {}
        self.jobs: dict[JobId, Job] = {}

    def claim(self, claim: ClaimId) -> Claim | None:
        """A claim as the checkpoint left it."""
        return self.claims.get(claim)

    def key_use(self, key: Key) -> KeyUse | None:
        """The operation that used `key` first."""
        return self.keys.get(key)

    def job(self, job: JobId) -> Job | None:
        """A job as the checkpoint left it."""
        return self.jobs.get(job)

    def take(self, effects: Iterable[Effect]) -> None:
        """Write the new values of the cells that `effects` changed."""
        for effect in effects:
            for change in effect.changes:
                if change.cell is Cell.CLAIM:
                    self.claims[ClaimId(change.id)] = change.new
                elif change.cell is Cell.KEY:
                    self.keys[Key(change.id)] = change.new
                elif change.cell is Cell.JOB:
                    self.jobs[JobId(change.id)] = change.new


def apply(account: Account, entry: Written) -> Effect:
    """Fold one entry that carries an operation."""
    assert entry.operation is not None
    return account.apply(entry.operation, entry.position, entry.key, entry.request)


def fold(history: Iterable[Written]) -> tuple[Account, list[Effect]]:
    """An account after `history`, which is in canonical order, and what each operation did."""
    account = Account(RULES)
    return account, [apply(account, entry) for entry in history if entry.operation is not None]


def cells(account: Account) -> dict[str, object]:
    """Everything that an account keeps in memory, copied."""
    return {
        "totals": dict(account.totals),
        "lots": dict(account.lots),
        "claims": dict(account.claims),
        "keys": dict(account.keys),
        "jobs": dict(account.jobs),
        "policy": account.policy,
        "spending_order": list(account.spending_order),
        "debtors": dict(account.debtors),
    }


def answers(account: Account) -> dict[str, object]:
    """Everything that an account knows, whether memory or its past answers."""
    names = (*CONTESTED_KEYS, *(Key(f"k{number}") for number in range(1, 41)))
    return {
        "totals": dict(account.totals),
        "lots": dict(account.lots),
        "claims": {name: account.claim(name) for name in CLAIMS},
        "keys": {name: account.key_use(name) for name in names},
        "jobs": {name: account.job(name) for name in JOBS},
        "policy": account.policy,
        "spending_order": list(account.spending_order),
        "debtors": dict(account.debtors),
    }


def books(account: Account) -> dict[str, int]:
    """The balance of every account that is not at zero."""
    balances = {
        **account.totals,
        **{f"lot/{lot.id}": lot.remaining for lot in account.lots.values()},
        **{f"held/{claim.id}": claim.held_total for claim in account.claims.values()},
    }
    return {name: balance for name, balance in balances.items() if balance}
