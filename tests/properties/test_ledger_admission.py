"""One region alone: what it accepts does what was asked, and never makes debt that the client did not agree to."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.account import Account
from ledger.admission import admit, admit_transfer
from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    ReportHeartbeat,
    ReportUsage,
    Reserve,
    RevokeLot,
    SetPolicy,
    TransferCredit,
)
from ledger.ids import Key, Position, TenantId
from ledger.operation import OnOverspend, Transfer
from ledger.posting import DEBT, TRANSFERRED, Outcome
from ledger.refusal import Limits, Reason, Refusal, Terms
from ledger.rules import Rules
from tests.properties.histories import CLAIMS, JOBS, LOTS, START_MS, amounts, books, cells

ACME, UMBRA = TenantId("acme"), TenantId("umbra")
TERMS = Terms(Limits(max_lease_ms=50, max_ahead_ms=5, heartbeat_lease_ms=20))

lots = st.sampled_from(LOTS[:4])
claims = st.sampled_from(CLAIMS[:5])
times = st.one_of(st.none(), st.integers(START_MS, START_MS + 150))
spans_ms = st.integers(1, 60)
jobs = st.sampled_from(JOBS)
perhaps_claims = st.one_of(st.none(), claims)
limits = st.one_of(st.none(), st.none(), st.integers(0, 60))
stretches = st.tuples(st.integers(START_MS, START_MS + 150), spans_ms)
usages = st.builds(
    lambda job, stretch, cost, claim, final: ReportUsage(job, sum(stretch), stretch[0], cost, claim, final),
    jobs, stretches, amounts, perhaps_claims, st.booleans(),
)  # fmt: skip
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(GrantCredit, amounts, st.integers(START_MS, START_MS + 200), times, st.integers(-1, 1), lots),
    st.builds(Reserve, amounts, spans_ms, claims),
    st.builds(Reserve, amounts, spans_ms),
    st.builds(Reserve, amounts, spans_ms, job=jobs),
    st.builds(CaptureUsage, claims, amounts, times, st.booleans()),
    st.builds(DebitUsage, amounts, times, claims, st.sampled_from(OnShortage)),
    st.builds(DebitUsage, amounts, times),
    st.builds(RefundUsage, claims, amounts, times),
    st.builds(RenewLease, claims, spans_ms),
    st.builds(ReleaseHold, claims),
    st.builds(RevokeLot, lots),
    st.builds(SetPolicy, st.sampled_from(OnOverspend), limits, limits),
    st.builds(ReportHeartbeat, jobs, times, perhaps_claims, st.one_of(st.none(), spans_ms), st.booleans()),
    usages,
)
days = st.lists(st.tuples(st.sampled_from((0, 1, 5, 20)), commands), max_size=25)


def after(day: list[tuple[int, Command]]) -> tuple[Account, int]:
    """An account after a day at one region, and the time."""
    account, now = Account(Rules()), START_MS
    for seq, (step_ms, command) in enumerate(day, start=1):
        now += step_ms
        operation = admit(account, ACME, command, Key(f"k{seq}"), now, TERMS)
        if not isinstance(operation, Refusal):
            account.apply(operation, Position(now << 16, "eu", "b1", seq), Key(f"k{seq}"), None)
    return account, now


def may_go_into_debt(command: Command) -> bool:
    return isinstance(command, CaptureUsage | ReportUsage) or (
        isinstance(command, DebitUsage) and command.on_shortage is OnShortage.DEBT
    )


@given(days)
def test_what_one_region_accepts_does_what_was_asked(day: list[tuple[int, Command]]) -> None:
    account, replica, now = Account(Rules()), Account(Rules()), START_MS
    for seq, (step_ms, command) in enumerate(day, start=1):
        now += step_ms
        key = Key(f"k{seq}")
        before = cells(account)
        operation = admit(account, ACME, command, key, now, TERMS)
        assert cells(account) == before
        if isinstance(operation, Refusal):
            continue
        debt_before = account.totals["debt"]
        place = Position(now << 16, "eu", "b1", seq)
        effect = account.accept(operation, place, key, None)
        assert effect == replica.apply(operation, place, key, None)
        assert cells(account) == cells(replica)
        if not isinstance(command, ReportHeartbeat | ReportUsage):
            assert effect.outcome in (Outcome.APPLIED, Outcome.OVERRUN)
        assert effect.outcome is not Outcome.DUPLICATE
        if not may_go_into_debt(command):
            assert account.totals[DEBT] >= debt_before
        policy = account.policy
        if isinstance(command, Reserve) and policy.max_held is not None:
            assert account.held <= policy.max_held
        if isinstance(command, DebitUsage) and policy.debt_limit is not None:
            assert account.totals[DEBT] >= min(debt_before, -policy.debt_limit)


@given(days, days, amounts, st.one_of(st.none(), st.integers(START_MS, START_MS + 200)))
def test_a_transfer_that_is_accepted_leaves_no_debt_and_no_credit_that_outlives_what_paid_for_it(
    giving: list[tuple[int, Command]], receiving: list[tuple[int, Command]], amount: int, expires_at: int | None
) -> None:
    (giver, now), (receiver, _) = after(giving), after(receiving)
    before = cells(giver), cells(receiver)
    command = TransferCredit(UMBRA, amount, expires_at)
    operation = admit_transfer(giver, receiver, ACME, command, Key("last"), now, "eu")
    assert (cells(giver), cells(receiver)) == before
    if isinstance(operation, Refusal):
        available = operation.fields.get("available")
        if isinstance(available, int) and available > 0:
            less = TransferCredit(UMBRA, available, expires_at)
            assert available < amount
            assert isinstance(admit_transfer(giver, receiver, ACME, less, Key("last"), now, "eu"), Transfer)
        return
    assert isinstance(operation, Transfer)
    assert expires_at in (None, operation.expires_at)
    debt_before, place = giver.totals[DEBT], Position(now << 16, "eu", "b1", 99)
    effect = giver.accept(operation, place, Key("last"), None)
    assert (effect.outcome, effect.postings[TRANSFERRED]) == (Outcome.APPLIED, amount)
    assert giver.totals[DEBT] >= debt_before
    claim = giver.claim(operation.claim)
    assert claim is not None
    assert sum(part for _, part in claim.used) == amount
    assert all(giver.lots[lot].expires_at >= operation.expires_at > now for lot, _ in claim.used)
    if expires_at is None:
        assert min(giver.lots[lot].expires_at for lot, _ in claim.used) == operation.expires_at
    issued = books(receiver).get("issued", 0)
    received = receiver.accept(operation.grant, place, None, None)
    assert (received.outcome, books(receiver)["issued"]) == (Outcome.APPLIED, issued - amount)


@given(days, amounts)
def test_a_refusal_for_lack_of_credit_is_right_to_the_unit(day: list[tuple[int, Command]], amount: int) -> None:
    """What the refusal calls available would have been accepted, and one unit more would not."""
    account, now = after(day)
    most = account.policy.max_held
    answer = admit(account, ACME, Reserve(amount, 10), Key("last"), now, TERMS)
    if isinstance(answer, Refusal) and answer.reason is Reason.HELD_LIMIT:
        assert most is not None
        assert account.held + amount > most
    elif isinstance(answer, Refusal):
        assert answer.reason is Reason.INSUFFICIENT_CREDIT
        available = answer.fields["available"]
        assert isinstance(available, int)
        assert available < amount
        if available > 0:
            assert not isinstance(admit(account, ACME, Reserve(available, 10), Key("last"), now, TERMS), Refusal)
    else:
        assert amount <= account.available(now)
