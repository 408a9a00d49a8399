"""What a node accepts and as which operation; what it refuses, with the reason and the fields that programs read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from ledger.admission import admit
from ledger.amount import MAX_AMOUNT, MAX_OPEN_LOTS, MAX_TOTAL
from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    Estimate,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    Reserve,
    RevokeLot,
    SetPolicy,
    derived_id,
)
from ledger.ids import ClaimId, JobId, Key, LotId, TenantId, transfer_name
from ledger.operation import Capture, Debit, Grant, Hold, OnOverspend, Operation, Policy, Refund, Release, Renew, Revoke
from ledger.posting import ISSUED, USED
from ledger.pricing import HOUR_MS, RateCard, Rates, Work
from ledger.refusal import Limits, Reason, Refusal, Terms
from tests.unit.ledger.story import (
    VOID,
    Story,
    capture,
    debit,
    expire,
    grant,
    hold,
    lapse,
    release,
    revoke,
    transfer,
    usage,
)

ACME, UMBRA, KEY = TenantId("acme"), TenantId("umbra"), Key("k")
DERIVED = derived_id(ACME, KEY)
NAME = transfer_name(ACME, UMBRA, KEY)
CARD = RateCard(
    [
        Rates(0, {"a100": Fraction(36), "spare": Fraction(0)}),
        Rates(HOUR_MS, {"a100": Fraction(72)}, {"high": Fraction(2)}),
    ]
)
TERMS = Terms(Limits(max_lease_ms=1_000, max_ahead_ms=50, max_late_ms=2_000), CARD)
C, D, L = ClaimId("c"), ClaimId("d"), LotId("L")


@dataclass
class Desk:
    """A tenant, and a node that judges commands about it at 100 ms."""

    story: Story = field(default_factory=Story)

    def ask(self, command: Command, now: int = 100) -> Operation | Refusal:
        return admit(self.story.account, ACME, command, KEY, now, TERMS)

    def refusal(self, command: Command, now: int = 100) -> Refusal:
        answer = self.ask(command, now)
        assert isinstance(answer, Refusal)
        return answer


@pytest.fixture
def desk() -> Desk:
    """100 credit until 1000 ms, of which 60 are held by c, and 10 used by d."""
    desk = Desk()
    desk.story.do(10, grant("L", 100))
    desk.story.do(11, hold("c", 60))
    desk.story.do(12, debit("d", 10, at=12))
    return desk


def invalid_field(answer: Refusal) -> object:
    assert answer.reason is Reason.INVALID_REQUEST
    assert answer.detail == f"{answer.fields['field']} {answer.fields['rule']}"
    return answer.fields["field"]


class TestGrant:
    def test_a_grant_starts_now_under_a_derived_id(self, desk: Desk) -> None:
        assert desk.ask(GrantCredit(50, 900)) == Grant(LotId(DERIVED), 50, 100, 900, 0)

    def test_a_grant_may_name_its_lot_its_start_and_its_priority(self, desk: Desk) -> None:
        command = GrantCredit(50, 900, starts_at=500, priority=3, lot=LotId("M"))
        assert desk.ask(command) == Grant(LotId("M"), 50, 500, 900, 3)

    def test_a_grant_may_have_started_already(self, desk: Desk) -> None:
        assert desk.ask(GrantCredit(50, 900, starts_at=0)) == Grant(LotId(DERIVED), 50, 0, 900, 0)

    def test_a_lot_must_live_for_some_time(self, desk: Desk) -> None:
        assert invalid_field(desk.refusal(GrantCredit(50, 500, starts_at=500))) == "expires_at"

    def test_a_lot_must_not_have_expired_already(self, desk: Desk) -> None:
        assert invalid_field(desk.refusal(GrantCredit(50, 100, starts_at=0))) == "expires_at"
        assert isinstance(desk.ask(GrantCredit(50, 101, starts_at=0)), Grant)

    def test_a_lot_may_have_started_only_as_long_ago_as_usage_may_lie_back(self, desk: Desk) -> None:
        assert isinstance(desk.ask(GrantCredit(50, 9_000, starts_at=1_000), now=3_000), Grant)
        answer = desk.refusal(GrantCredit(50, 9_000, starts_at=999), now=3_000)
        assert answer.fields == {"field": "starts_at", "rule": "lies 2001 ms in the past; at most 2000 are taken"}

    def test_a_lot_under_a_name_from_a_key_that_was_forgotten_needs_a_new_key(self, desk: Desk) -> None:
        desk.story.do(13, grant(DERIVED, 5))
        answer = desk.refusal(GrantCredit(50, 900))
        assert (answer.reason, answer.fields) == (Reason.ALREADY_EXISTS, {"lot": DERIVED})
        assert answer.detail == "the lot was made long ago, under this key; take a new key"

    def test_a_tenant_has_only_so_many_open_lots(self, desk: Desk) -> None:
        for number in range(MAX_OPEN_LOTS - 1):
            desk.story.do(20, grant(f"M{number}", 1))
        assert invalid_field(desk.refusal(GrantCredit(1, 900))) == "lot"
        desk.story.do(21, revoke("M0"))
        assert isinstance(desk.ask(GrantCredit(1, 900)), Grant)

    def test_a_lot_that_exists_is_not_given_again(self, desk: Desk) -> None:
        answer = desk.refusal(GrantCredit(50, 900, lot=L))
        assert (answer.reason, answer.fields) == (Reason.ALREADY_EXISTS, {"lot": "L"})
        assert answer.detail == "the lot exists already, under another key"

    def test_what_a_tenant_was_given_stays_within_the_largest_total(self, desk: Desk) -> None:
        desk.story.account.totals[ISSUED] = -(MAX_TOTAL - 50)
        assert isinstance(desk.ask(GrantCredit(50, 900)), Grant)
        assert invalid_field(desk.refusal(GrantCredit(51, 900))) == "amount"


class TestReserve:
    def test_a_reservation_has_a_derived_id_and_a_lease_from_now(self, desk: Desk) -> None:
        assert desk.ask(Reserve(30, 500, job=JobId("train"))) == Hold(ClaimId(DERIVED), 30, 600, JobId("train"))

    def test_a_reservation_may_name_itself(self, desk: Desk) -> None:
        assert desk.ask(Reserve(30, 500, reservation=ClaimId("mine"))) == Hold(ClaimId("mine"), 30, 600, None)

    def test_more_than_is_available_is_refused_with_all_that_a_scheduler_asks_next(self, desk: Desk) -> None:
        desk.story.do(13, grant("later", 500, starts=300))
        desk.story.do(14, grant("sooner", 500, starts=200))
        answer = desk.refusal(Reserve(31, 500))
        assert (answer.reason, answer.detail) == (Reason.INSUFFICIENT_CREDIT, "31 asked, 30 available")
        assert answer.fields == {"requested": 31, "available": 30, "debt": 0, "held": 60, "next_start": 200}

    def test_a_debtor_is_told_what_is_owed(self, desk: Desk) -> None:
        desk.story.do(13, capture("c", 110, at=13))
        answer = desk.refusal(Reserve(1, 500))
        assert answer.fields == {"requested": 1, "available": -20, "debt": 20, "held": 0, "next_start": None}

    def test_credit_that_starts_while_debt_stands_is_available_less_the_debt(self, desk: Desk) -> None:
        desk.story.do(13, capture("c", 110, at=13))
        desk.story.do(14, grant("later", 50, starts=90))
        assert isinstance(desk.ask(Reserve(30, 500)), Hold)
        assert desk.refusal(Reserve(31, 500)).fields["available"] == 30

    def test_a_lot_that_starts_now_is_not_the_next_to_start(self, desk: Desk) -> None:
        desk.story.do(13, grant("now", 5, starts=100))
        assert desk.refusal(Reserve(36, 500)).fields["next_start"] is None

    def test_a_closed_lot_will_not_start(self, desk: Desk) -> None:
        desk.story.do(13, grant("later", 500, starts=300))
        desk.story.do(14, revoke("later"))
        assert desk.refusal(Reserve(31, 500)).fields["next_start"] is None

    def test_a_name_that_is_taken_is_refused(self, desk: Desk) -> None:
        for taken in (C, D):
            answer = desk.refusal(Reserve(1, 500, reservation=taken))
            assert (answer.reason, answer.fields) == (Reason.ALREADY_EXISTS, {"reservation": taken})

    def test_a_lease_longer_than_the_node_gives_is_refused(self, desk: Desk) -> None:
        assert isinstance(desk.ask(Reserve(1, 1_000)), Hold)
        assert invalid_field(desk.refusal(Reserve(1, 1_001))) == "lease_ms"

    def test_one_whose_name_comes_from_a_key_that_was_forgotten_needs_a_new_key(self, desk: Desk) -> None:
        desk.story.do(13, hold(DERIVED, 5))
        answer = desk.refusal(Reserve(1, 500))
        assert answer.reason is Reason.ALREADY_EXISTS
        assert answer.detail == "the reservation was made long ago, under this key; take a new key"

    def test_work_is_priced_from_now_on(self, desk: Desk) -> None:
        work = Work("a100", 2)
        assert desk.ask(Reserve(Estimate(work, 1_500), 500)) == Hold(ClaimId(DERIVED), 30, 600, None)
        assert desk.refusal(Reserve(Estimate(work, 1_501), 500)).fields["requested"] == 31

    def test_work_that_spans_a_change_of_rates_pays_each_part_at_its_own(self, desk: Desk) -> None:
        desk.story.do(20, grant("M", 1_000, until=2 * HOUR_MS))
        operation = desk.ask(Reserve(Estimate(Work("a100", 1), 1_000), 500), now=HOUR_MS - 500_000)
        assert isinstance(operation, Hold)
        assert operation.amount == 5 + 10

    def test_work_without_a_price_is_refused_by_field(self, desk: Desk) -> None:
        assert invalid_field(desk.refusal(Reserve(Estimate(Work("abacus", 1), 1), 500))) == "gpu_type"
        assert invalid_field(desk.refusal(Reserve(Estimate(Work("a100", 1, "high"), 1), 500))) == "priority"
        assert invalid_field(desk.refusal(Reserve(Estimate(Work("a100", MAX_AMOUNT), 3_600), 500))) == "gpus"

    def test_for_work_that_costs_nothing_there_is_nothing_to_reserve(self, desk: Desk) -> None:
        assert invalid_field(desk.refusal(Reserve(Estimate(Work("spare", 8), 60), 500))) == "estimate"

    def test_a_refusal_leaves_nothing_behind_and_is_judged_afresh(self, desk: Desk) -> None:
        before = desk.story.books
        assert isinstance(desk.ask(Reserve(50, 500)), Refusal)
        assert (desk.story.books, desk.story.account.keys) == (before, {})
        desk.story.do(50, grant("M", 20))
        assert isinstance(desk.ask(Reserve(50, 500)), Hold)


class TestRenew:
    def test_a_lease_is_counted_from_now(self, desk: Desk) -> None:
        assert desk.ask(RenewLease(C, 700)) == Renew(C, 800)

    def test_a_lease_that_has_run_out_but_was_not_swept_can_be_renewed(self, desk: Desk) -> None:
        assert desk.ask(RenewLease(C, 700), now=600) == Renew(C, 1_300)

    def test_a_lease_longer_than_the_node_gives_is_refused(self, desk: Desk) -> None:
        assert invalid_field(desk.refusal(RenewLease(C, 1_001))) == "lease_ms"

    def test_a_reservation_that_has_lapsed_must_be_made_anew(self, desk: Desk) -> None:
        desk.story.do(20, capture("c", 15, at=20))
        desk.story.do(600, lapse("c", at=500))
        answer = desk.refusal(RenewLease(C, 700))
        assert answer.reason is Reason.RESERVATION_ENDED
        assert answer.fields == {"reservation": "c", "state": "lapsed", "captured": 15}


class TestCapture:
    def test_usage_is_now_unless_it_says_otherwise(self, desk: Desk) -> None:
        assert desk.ask(CaptureUsage(C, 20)) == Capture(C, 20, 100, False)
        assert desk.ask(CaptureUsage(C, 20, at=3, final=True)) == Capture(C, 20, 3, True)

    def test_usage_is_never_refused_for_lack_of_credit(self, desk: Desk) -> None:
        much = MAX_AMOUNT // 2
        assert desk.ask(CaptureUsage(C, much)) == Capture(C, much, 100, False)

    def test_usage_of_a_reservation_that_has_ended_is_taken(self, desk: Desk) -> None:
        desk.story.do(20, release("c"))
        assert desk.ask(CaptureUsage(C, 20)) == Capture(C, 20, 100, False)

    def test_usage_may_lie_a_little_ahead_of_this_clock_and_no_more(self, desk: Desk) -> None:
        assert desk.ask(CaptureUsage(C, 20, at=150)) == Capture(C, 20, 150, False)
        assert invalid_field(desk.refusal(CaptureUsage(C, 20, at=151))) == "at"

    def test_usage_may_be_late_and_no_later(self, desk: Desk) -> None:
        assert desk.ask(CaptureUsage(C, 20, at=500), now=2_500) == Capture(C, 20, 500, False)
        answer = desk.refusal(CaptureUsage(C, 20, at=499), now=2_500)
        assert answer.fields == {"field": "at", "rule": "lies 2001 ms in the past; at most 2000 are taken"}

    def test_usage_of_a_void_reservation_is_taken(self, desk: Desk) -> None:
        desk.story.do(20, VOID)
        desk.story.do(21, hold("e", 90))
        assert desk.ask(CaptureUsage(ClaimId("e"), 20)) == Capture(ClaimId("e"), 20, 100, False)

    def test_what_a_tenant_used_stays_within_the_largest_total(self, desk: Desk) -> None:
        desk.story.account.totals[USED] = MAX_TOTAL - 50
        assert isinstance(desk.ask(CaptureUsage(C, 50)), Capture)
        assert invalid_field(desk.refusal(CaptureUsage(C, 51))) == "amount"


class TestRelease:
    def test_an_open_reservation_is_released(self, desk: Desk) -> None:
        assert desk.ask(ReleaseHold(C)) == Release(C)

    def test_a_closed_one_is_not(self, desk: Desk) -> None:
        desk.story.do(20, capture("c", 20, at=20, final=True))
        answer = desk.refusal(ReleaseHold(C))
        assert answer.reason is Reason.RESERVATION_ENDED
        assert answer.fields == {"reservation": "c", "state": "closed", "captured": 20}


@pytest.mark.parametrize("name", ["nobody", "d", NAME])
def test_only_reservations_are_renewed_captured_and_released(desk: Desk, name: str) -> None:
    desk.story.do(13, transfer(NAME, 5))
    claim = ClaimId(name)
    for command in (RenewLease(claim, 500), CaptureUsage(claim, 1), ReleaseHold(claim)):
        answer = desk.refusal(command)
        assert (answer.reason, answer.fields) == (Reason.NOT_FOUND, {"reservation": name})


class TestDebit:
    def test_a_debit_is_now_under_a_derived_id(self, desk: Desk) -> None:
        assert desk.ask(DebitUsage(30)) == Debit(ClaimId(DERIVED), 30, 100)
        assert desk.ask(DebitUsage(30, at=90, debit=ClaimId("mine"))) == Debit(ClaimId("mine"), 30, 90)

    def test_more_than_is_available_is_refused(self, desk: Desk) -> None:
        answer = desk.refusal(DebitUsage(31))
        assert answer.reason is Reason.INSUFFICIENT_CREDIT
        assert answer.fields == {"requested": 31, "available": 30, "debt": 0, "held": 60, "next_start": None}

    def test_usage_that_has_happened_can_be_recorded_as_debt(self, desk: Desk) -> None:
        assert desk.ask(DebitUsage(31, on_shortage=OnShortage.DEBT)) == Debit(ClaimId(DERIVED), 31, 100)

    def test_a_late_debit_may_draw_on_lots_that_were_live_at_its_time(self, desk: Desk) -> None:
        assert desk.refusal(DebitUsage(30), now=2_000).fields["available"] == 0
        assert isinstance(desk.ask(DebitUsage(30, at=999), now=2_000), Debit)
        desk.story.do(1_500, expire("L"))
        assert desk.refusal(DebitUsage(30, at=999), now=2_000).fields["available"] == 0

    def test_a_late_debit_may_also_draw_on_what_is_live_now(self, desk: Desk) -> None:
        desk.story.do(20, grant("new", 25, starts=50))
        assert isinstance(desk.ask(DebitUsage(55, at=20)), Debit)
        assert desk.refusal(DebitUsage(56, at=20)).fields["available"] == 55

    def test_a_late_debit_leaves_alone_what_is_owed_already(self, desk: Desk) -> None:
        desk.story.do(13, capture("c", 110, at=13))
        desk.story.do(20, grant("new", 50, starts=90))
        assert desk.refusal(DebitUsage(31, at=50)).fields["available"] == 30
        operation = desk.ask(DebitUsage(30, at=50))
        assert isinstance(operation, Debit)
        assert desk.story.do(100, operation).postings == {"lot/new": -50, "debt": 20, "used": 30}

    def test_an_admitted_late_debit_leaves_no_debt(self, desk: Desk) -> None:
        desk.story.do(20, grant("new", 25, starts=50))
        operation = desk.ask(DebitUsage(55, at=20))
        assert isinstance(operation, Debit)
        assert desk.story.do(100, operation).postings == {"lot/L": -30, "lot/new": -25, "used": 55}

    def test_a_name_that_is_taken_is_refused(self, desk: Desk) -> None:
        for taken in (C, D):
            answer = desk.refusal(DebitUsage(1, debit=taken))
            assert (answer.reason, answer.fields) == (Reason.ALREADY_EXISTS, {"debit": taken})
            assert answer.detail == "the debit exists already, under another key"

    def test_one_whose_name_comes_from_a_key_that_was_forgotten_needs_a_new_key(self, desk: Desk) -> None:
        desk.story.do(13, debit(DERIVED, 5, at=13))
        answer = desk.refusal(DebitUsage(1))
        assert answer.detail == "the debit was made long ago, under this key; take a new key"

    def test_usage_in_the_future_or_too_late_is_refused(self, desk: Desk) -> None:
        assert invalid_field(desk.refusal(DebitUsage(1, at=151))) == "at"
        assert invalid_field(desk.refusal(DebitUsage(1, at=999), now=3_000)) == "at"

    def test_what_a_tenant_used_stays_within_the_largest_total(self, desk: Desk) -> None:
        desk.story.account.totals[USED] = MAX_TOTAL - 50
        assert isinstance(desk.ask(DebitUsage(50, on_shortage=OnShortage.DEBT)), Debit)
        assert invalid_field(desk.refusal(DebitUsage(51, on_shortage=OnShortage.DEBT))) == "amount"


class TestRefund:
    def test_what_was_used_can_be_refunded(self, desk: Desk) -> None:
        assert desk.ask(RefundUsage(D, 10)) == Refund(D, 10, 100)
        assert desk.ask(RefundUsage(D, 4, at=50)) == Refund(D, 4, 50)

    def test_no_more_than_was_used_can_be_refunded(self, desk: Desk) -> None:
        answer = desk.refusal(RefundUsage(D, 11))
        assert invalid_field(answer) == "amount"
        assert answer.detail.endswith(", 10")

    def test_what_is_only_held_cannot_be_refunded(self, desk: Desk) -> None:
        assert invalid_field(desk.refusal(RefundUsage(C, 1))) == "amount"

    def test_an_unknown_claim_cannot_be_refunded(self, desk: Desk) -> None:
        answer = desk.refusal(RefundUsage(ClaimId("nobody"), 1))
        assert (answer.reason, answer.fields) == (Reason.NOT_FOUND, {"claim": "nobody"})

    def test_a_refund_in_the_future_or_too_late_is_refused(self, desk: Desk) -> None:
        assert invalid_field(desk.refusal(RefundUsage(D, 1, at=151))) == "at"
        assert invalid_field(desk.refusal(RefundUsage(D, 1, at=999), now=3_000)) == "at"

    def test_usage_without_a_reservation_can_be_refunded(self, desk: Desk) -> None:
        desk.story.do(20, usage("train", 0, 10, 25))
        (own,) = (claim for claim in desk.story.account.claims if claim.startswith("~"))
        assert desk.ask(RefundUsage(own, 25)) == Refund(own, 25, 100)

    def test_a_transfer_is_not_refunded_and_the_refusal_says_why(self, desk: Desk) -> None:
        desk.story.do(20, transfer(NAME, 5))
        answer = desk.refusal(RefundUsage(ClaimId(NAME), 5))
        assert invalid_field(answer) == "claim"
        assert answer.detail.startswith("claim is a transfer, which cannot be refunded")


class TestBeforeTheTenant:
    """L was granted at 10 ms, and starts then: nothing can have been used before."""

    @pytest.fixture
    def late(self) -> Desk:
        desk = Desk()
        desk.story.do(10, grant("L", 100, starts=10))
        desk.story.do(11, hold("c", 60))
        desk.story.do(12, debit("d", 10, at=12))
        return desk

    @pytest.mark.parametrize("sort", [lambda at: CaptureUsage(C, 5, at), lambda at: RefundUsage(D, 5, at),
                                      lambda at: DebitUsage(5, at),
                                      lambda at: DebitUsage(500, at, on_shortage=OnShortage.DEBT)])  # fmt: skip
    def test_what_was_used_or_given_back_then_is_refused(self, late: Desk, sort: Callable[[int], Command]) -> None:
        assert not isinstance(late.ask(sort(10)), Refusal)
        answer = late.refusal(sort(9))
        assert invalid_field(answer) == "at"
        assert "before the tenant had anything" in answer.detail

    def test_a_lot_that_starts_before_it_was_granted_is_something_that_it_had(self, late: Desk) -> None:
        late.story.do(20, grant("back", 5, starts=3))
        assert isinstance(late.ask(DebitUsage(5, at=3)), Debit)
        assert invalid_field(late.refusal(DebitUsage(5, at=2))) == "at"


class TestRevoke:
    def test_an_open_lot_can_be_revoked(self, desk: Desk) -> None:
        assert desk.ask(RevokeLot(L)) == Revoke(L)

    def test_a_closed_lot_cannot(self, desk: Desk) -> None:
        desk.story.do(20, revoke("L"))
        answer = desk.refusal(RevokeLot(L))
        assert (answer.reason, answer.fields) == (Reason.LOT_CLOSED, {"lot": "L"})
        assert answer.detail == "the lot is revoked already"

    def test_an_unknown_lot_cannot(self, desk: Desk) -> None:
        answer = desk.refusal(RevokeLot(LotId("nobody")))
        assert (answer.reason, answer.fields) == (Reason.NOT_FOUND, {"lot": "nobody"})


class TestPolicy:
    def test_a_policy_is_taken_as_it_is(self, desk: Desk) -> None:
        command = SetPolicy(OnOverspend.REVOKE, max_held=5, debt_limit=7)
        assert desk.ask(command) == Policy(OnOverspend.REVOKE, max_held=5, debt_limit=7)
        assert desk.ask(SetPolicy()) == Policy()

    def test_no_more_is_held_than_it_allows(self, desk: Desk) -> None:
        desk.story.do(20, Policy(max_held=80))
        assert isinstance(desk.ask(Reserve(20, 500)), Hold)
        answer = desk.refusal(Reserve(21, 500))
        assert (answer.reason, answer.fields) == (Reason.HELD_LIMIT, {"requested": 21, "held": 60, "max_held": 80})
        assert answer.detail == "21 asked, 60 held already, and the tenant's policy allows 80"

    def test_a_limit_of_nothing_holds_too(self, desk: Desk) -> None:
        desk.story.do(20, release("c"))
        desk.story.do(21, Policy(max_held=0))
        assert desk.refusal(Reserve(1, 500)).reason is Reason.HELD_LIMIT

    def test_the_limit_comes_before_the_credit(self, desk: Desk) -> None:
        desk.story.do(20, Policy(max_held=80))
        assert desk.refusal(Reserve(500, 500)).reason is Reason.HELD_LIMIT

    def test_no_debit_brings_more_debt_than_it_allows(self, desk: Desk) -> None:
        desk.story.do(20, Policy(debt_limit=15))
        assert isinstance(desk.ask(DebitUsage(45, on_shortage=OnShortage.DEBT)), Debit)
        answer = desk.refusal(DebitUsage(46, on_shortage=OnShortage.DEBT))
        assert (answer.reason, answer.fields) == (
            Reason.DEBT_LIMIT, {"requested": 46, "available": 30, "debt_limit": 15},
        )  # fmt: skip
        assert answer.detail == "46 asked, 30 available: 16 would be owed, and the policy allows 15"

    def test_what_is_owed_already_counts(self, desk: Desk) -> None:
        desk.story.do(20, Policy(debt_limit=15))
        desk.story.do(21, debit("e", 40, at=21))
        assert isinstance(desk.ask(DebitUsage(5, on_shortage=OnShortage.DEBT)), Debit)
        assert desk.refusal(DebitUsage(6, on_shortage=OnShortage.DEBT)).reason is Reason.DEBT_LIMIT

    def test_a_limit_of_nothing_leaves_what_credit_covers(self, desk: Desk) -> None:
        desk.story.do(20, Policy(debt_limit=0))
        assert isinstance(desk.ask(DebitUsage(30, on_shortage=OnShortage.DEBT)), Debit)
        assert desk.refusal(DebitUsage(31, on_shortage=OnShortage.DEBT)).reason is Reason.DEBT_LIMIT

    def test_a_client_that_wants_no_debt_is_told_of_the_credit(self, desk: Desk) -> None:
        desk.story.do(20, Policy(debt_limit=0))
        assert desk.refusal(DebitUsage(31)).reason is Reason.INSUFFICIENT_CREDIT

    def test_usage_that_has_happened_is_taken_whatever_it_says(self, desk: Desk) -> None:
        desk.story.do(20, Policy(max_held=0, debt_limit=0))
        assert isinstance(desk.ask(CaptureUsage(C, 500)), Capture)
