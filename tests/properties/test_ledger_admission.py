"""One region alone: what it accepts does what was asked, and never makes debt that the client did not agree to."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.account import Account
from ledger.admission import admit
from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    Reserve,
    RevokeLot,
)
from ledger.ids import Key, Position, TenantId
from ledger.posting import Outcome
from ledger.refusal import Limits, Reason, Refusal, Terms
from ledger.rules import Rules
from tests.properties.histories import CLAIMS, LOTS, START_MS, amounts, cells

ACME = TenantId("acme")
TERMS = Terms(Limits(max_lease_ms=50, max_ahead_ms=5))

lots = st.sampled_from(LOTS[:4])
claims = st.sampled_from(CLAIMS[:5])
times = st.one_of(st.none(), st.integers(START_MS, START_MS + 150))
spans_ms = st.integers(1, 60)
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(GrantCredit, amounts, st.integers(START_MS, START_MS + 200), times, st.integers(-1, 1), lots),
    st.builds(Reserve, amounts, spans_ms, claims),
    st.builds(Reserve, amounts, spans_ms),
    st.builds(CaptureUsage, claims, amounts, times, st.booleans()),
    st.builds(DebitUsage, amounts, times, claims, st.sampled_from(OnShortage)),
    st.builds(DebitUsage, amounts, times),
    st.builds(RefundUsage, claims, amounts, times),
    st.builds(RenewLease, claims, spans_ms),
    st.builds(ReleaseHold, claims),
    st.builds(RevokeLot, lots),
)
days = st.lists(st.tuples(st.sampled_from((0, 1, 5, 20)), commands), max_size=25)


def may_go_into_debt(command: Command) -> bool:
    return isinstance(command, CaptureUsage) or (
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
        assert effect.outcome in (Outcome.APPLIED, Outcome.OVERRUN)
        if not may_go_into_debt(command):
            assert account.totals["debt"] >= debt_before


@given(days, amounts)
def test_a_refusal_for_lack_of_credit_is_right_to_the_unit(day: list[tuple[int, Command]], amount: int) -> None:
    """What the refusal calls available would have been accepted, and one unit more would not."""
    account, now = Account(Rules()), START_MS
    for seq, (step_ms, command) in enumerate(day, start=1):
        now += step_ms
        operation = admit(account, ACME, command, Key(f"k{seq}"), now, TERMS)
        if not isinstance(operation, Refusal):
            account.apply(operation, Position(now << 16, "eu", "b1", seq), Key(f"k{seq}"), None)
    answer = admit(account, ACME, Reserve(amount, 10), Key("last"), now, TERMS)
    if isinstance(answer, Refusal):
        assert answer.reason is Reason.INSUFFICIENT_CREDIT
        available = answer.fields["available"]
        assert isinstance(available, int)
        assert available < amount
        if available > 0:
            assert not isinstance(admit(account, ACME, Reserve(available, 10), Key("last"), now, TERMS), Refusal)
    else:
        assert amount <= account.available(now)
