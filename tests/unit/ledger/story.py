"""Short words for stories about one tenant: what happens, at which millisecond, and what the books say then."""

from ledger.account import Account
from ledger.cells import Effect, Past
from ledger.claim import Claim
from ledger.ids import ClaimId, JobId, Key, LotId, Position, TenantId
from ledger.job import Job
from ledger.operation import (
    Capture,
    Debit,
    Expire,
    Grant,
    Heartbeat,
    Hold,
    Lapse,
    OnOverspend,
    Operation,
    Policy,
    Refund,
    Release,
    Renew,
    Revoke,
    Transfer,
    Usage,
)
from ledger.posting import HELD_PREFIX, LOT_PREFIX
from ledger.rules import Rules


def place(ms: int, seq: int = 1, region: str = "eu", boot: str = "b1", counter: int = 0) -> Position:
    """A place in canonical order, at `ms` since the epoch."""
    return Position((ms << 16) | counter, region, boot, seq)


def grant(lot: str, amount: int, until: int = 1000, starts: int = 0, priority: int = 0) -> Grant:
    """A lot that is live from `starts` until `until`."""
    return Grant(LotId(lot), amount, starts, until, priority)


def hold(claim: str, amount: int, lease: int = 500, job: str | None = None) -> Hold:
    """A reservation, for a job if one is named."""
    return Hold(ClaimId(claim), amount, lease, None if job is None else JobId(job))


def capture(claim: str, amount: int, at: int, final: bool = False) -> Capture:
    """Usage of a reservation."""
    return Capture(ClaimId(claim), amount, at, final)


def release(claim: str) -> Release:
    """The end of a reservation."""
    return Release(ClaimId(claim))


def renew(claim: str, lease: int) -> Renew:
    """A longer lease."""
    return Renew(ClaimId(claim), lease)


def lapse(claim: str, at: int) -> Lapse:
    """What a sweeper posts."""
    return Lapse(ClaimId(claim), at)


def debit(claim: str, amount: int, at: int) -> Debit:
    """Usage without a reservation."""
    return Debit(ClaimId(claim), amount, at)


def refund(claim: str, amount: int, at: int = 0) -> Refund:
    """Usage taken back."""
    return Refund(ClaimId(claim), amount, at)


def revoke(lot: str) -> Revoke:
    """A lot closed by its giver."""
    return Revoke(LotId(lot))


def expire(lot: str) -> Expire:
    """A lot closed since its time has passed."""
    return Expire(LotId(lot))


def transfer(name: str, amount: int, until: int = 1000, to: str = "umbra") -> Transfer:
    """Credit given to another tenant."""
    return Transfer(name, TenantId(to), amount, 0, until, 0)


def heartbeat(job: str, at: int, lease: int = 0, claim: str | None = None, started: bool = False) -> Heartbeat:
    """A job's sign of life."""
    return Heartbeat(JobId(job), None if claim is None else ClaimId(claim), at, lease, started)


def usage(job: str, start: int, end: int, amount: int, claim: str | None = None, final: bool = False) -> Usage:
    """A job ran, and what that costs."""
    return Usage(JobId(job), None if claim is None else ClaimId(claim), start, end, amount, final)


VOID = Policy(OnOverspend.REVOKE)
"""The rule by which a hold that falls short is void."""


class Story:
    """A tenant to whom one thing happens after another."""

    def __init__(self, past: Past | None = None, rules: Rules | None = None) -> None:
        self.account = Account(rules or Rules(), past)
        self.seq = 0

    def do(self, at: int, operation: Operation, key: str | None = None, request: str | None = None) -> Effect:
        """Fold one operation at `at` (ms)."""
        self.seq += 1
        return self.account.apply(operation, place(at, self.seq), None if key is None else Key(key), request)

    def claim(self, name: str) -> Claim:
        """A claim that must be known."""
        claim = self.account.claim(ClaimId(name))
        assert claim is not None
        return claim

    def job(self, name: str) -> Job:
        """A job that must be known."""
        job = self.account.job(JobId(name))
        assert job is not None
        return job

    @property
    def books(self) -> dict[str, int]:
        """The balance of every account that is not at zero."""
        account = self.account
        balances = {
            **account.totals,
            **{LOT_PREFIX + lot.id: lot.remaining for lot in account.lots.values()},
            **{HELD_PREFIX + claim.id: claim.held_total for claim in account.claims.values()},
        }
        return {name: balance for name, balance in balances.items() if balance}
