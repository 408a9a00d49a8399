"""What happened when, told by what came to be known in another order."""

import pytest

from ledger.event_time import EventFold, EventOrder, EventTimes, Standing
from ledger.ids import ClaimId, JobId, LotId, TenantId, transfer_name, usage_name
from ledger.operation import Admission, Grant, Heartbeat, OnOverspend, Operation, Policy, Settle, Transfer, Usage
from ledger.posting import Outcome
from ledger.rules import Rules
from ledger.timeline import Timeline
from tests.unit.ledger.story import (
    capture,
    debit,
    expire,
    grant,
    hold,
    lapse,
    place,
    refund,
    release,
    renew,
    revoke,
)
from tests.unit.ledger.test_timeline import Written, at

NAME = transfer_name(TenantId("acme"), TenantId("umbra"), "k")  # type: ignore[arg-type]
TRANSFER = Transfer(NAME, TenantId("umbra"), 30, 40, 1000, 0)


def usage(amount: int, start: int, end: int, claim: str | None = None, final: bool = False) -> Usage:
    return Usage(JobId("job"), None if claim is None else ClaimId(claim), start, end, amount, final)


def in_event_order(*entries: Written) -> EventOrder[Written]:
    """What canonical order lets take part of `entries`."""
    timeline: Timeline[Written] = Timeline(Rules())
    for entry in entries:
        timeline.insert(entry)
    order: EventOrder[Written] = EventOrder()
    for entry, effect in timeline.effects():
        if effect.outcome is not Outcome.DUPLICATE:
            order.add(entry, is_void=effect.outcome is Outcome.REVOKED)
    return order


def standing(ms: int, *entries: Written) -> Standing:
    """The figures at `ms`, by event time."""
    fold = EventFold(in_event_order(*entries), Rules())
    for _ in fold.before(ms + 1):
        pass
    return fold.standing(ms)


class TestEventTimes:
    @pytest.mark.parametrize(
        ("operation", "happened"),
        [
            (grant("L", 1, starts=700), 700), (grant("L", 1, starts=20), 20), (debit("d", 1, at=30), 30),
            (capture("c", 1, at=40), 40), (refund("c", 1, at=50), 50), (usage(1, 60, 70), 60),
            (hold("h", 1), 100), (renew("h", 9), 100), (release("h"), 100), (lapse("h", at=90), 100),
            (revoke("L"), 100), (expire("L"), 100), (Settle(), 100), (TRANSFER, 100),
            (Heartbeat(JobId("job"), None, 80, 200, started=True), 100),
        ],
    )  # fmt: skip
    def test_given_and_used_by_their_own_time_all_else_when_accepted(self, operation: Operation, happened: int) -> None:
        assert EventTimes().of(operation, 100) == happened

    @pytest.mark.parametrize(
        ("cause", "effect", "happened"),
        [
            (grant("L", 1, starts=700), revoke("L"), 700),
            (grant("L", 1, starts=700), expire("L"), 700),
            (grant("L", 1, starts=700), revoke("M"), 200),
            (hold("c", 1), capture("c", 1, at=40), 100),
            (hold("c", 1), usage(1, 40, 50, claim="c"), 100),
            (hold("c", 1), usage(1, 40, 50), 40),
            (debit("c", 1, at=60), capture("c", 1, at=40), 60),
            (debit("c", 1, at=60), refund("c", 1, at=40), 60),
            (debit("c", 1, at=60), refund("d", 1, at=40), 40),
            (capture("c", 1, at=60), refund("c", 1, at=40), 60),
            (usage(1, 60, 70), refund(usage_name(JobId("job")), 1, at=40), 60),
            (TRANSFER, capture(NAME, 1, at=40), 100),
        ],
    )
    def test_effects_do_not_precede_their_causes(self, cause: Operation, effect: Operation, happened: int) -> None:
        times = EventTimes()
        times.of(cause, 100)
        assert times.of(effect, 200) == happened

    def test_usage_is_about_the_hold_made_for_its_job_last_unless_it_names_one(self) -> None:
        times = EventTimes()
        times.of(debit("d", 1, at=90), 90)
        for ms, name in ((100, "first"), (200, "second")):
            times.of(hold(name, 1, job="job"), ms)
        assert times.reservation(usage(1, 40, 50)) == "second"
        assert times.reservation(usage(1, 40, 50, claim="first")) == "first"
        assert times.reservation(usage(1, 40, 50, claim="d")) == "second"
        assert times.of(usage(1, 40, 50, claim="first"), 300) == 100
        assert times.of(usage(1, 40, 50), 300) == 200

    def test_a_refund_waits_for_all_that_was_used_before_it_was_accepted_and_for_no_more(self) -> None:
        times = EventTimes()
        for ms, used_at in ((110, 60), (120, 80), (130, 70)):
            times.of(capture("c", 1, at=used_at), ms)
        assert times.of(refund("c", 1, at=40), 140) == 80
        times.of(capture("c", 1, at=500), 150)
        assert times.of(refund("c", 1, at=510), 600) == 510


class TestOrder:
    def test_grants_come_first_and_then_canonical_order_decides(self) -> None:
        entries = [
            at(30, debit("late", 1, at=10), seq=3), at(20, debit("early", 1, at=10), seq=2),
            at(40, grant("L", 5, starts=10), seq=4), at(5, grant("M", 5, starts=5), seq=1),
        ]  # fmt: skip
        seqs = [dated.place.seq for dated in in_event_order(*entries)]
        assert seqs == [1, 4, 2, 3]

    def test_it_is_kept_over_more_than_are_sorted_at_once(self) -> None:
        entries = [at(5000, grant("L", 9_999, starts=0, until=9_000), seq=1)]
        entries += [at(5000 + n, debit(f"d{n}", 1, at=5000 - n), seq=n + 1) for n in range(1, 1700)]
        order = in_event_order(*entries)
        assert [dated.at for dated in order] == [0, *range(5000 - 1699, 5000)]
        assert [dated.at for dated in order] == [dated.at for dated in order]

    def test_duplicates_take_no_part(self) -> None:
        entries = [
            at(10, grant("L", 100, starts=10), seq=1), at(20, debit("d", 30, at=5), "k", seq=2),
            at(30, debit("e", 30, at=15), "k", seq=3), at(40, Policy(), seq=4), at(50, None, seq=5),
        ]  # fmt: skip
        assert [dated.place.seq for dated in in_event_order(*entries)] == [2, 1, 4]

    def test_more_than_a_clock_can_count_in_one_millisecond_is_still_that_millisecond(self) -> None:
        order: EventOrder[Written] = EventOrder()
        order.add(at(10, grant("L", 50, starts=10, until=11), seq=1), is_void=False)
        for seq in range(2, 2**16 + 2):
            order.add(at(10, Settle(), seq=seq), is_void=False)
        order.add(at(10, hold("c", 50), seq=2**16 + 2), is_void=False)
        fold = EventFold(order, Rules())
        for _ in fold.before(11):
            pass
        assert fold.standing(10) == Standing(0, 50, 0, 0)


class TestFold:
    def test_a_backdated_grant_was_there_for_what_happened_meanwhile(self) -> None:
        entries = [
            at(10, grant("L", 50, starts=10), seq=1),
            at(20, debit("d", 80, at=20), seq=2),
            at(90, grant("B", 100, starts=15, until=500), seq=3),
        ]
        assert standing(14, *entries) == Standing(50, 0, 0, 0)
        assert standing(15, *entries) == Standing(150, 0, 0, 0)
        # B expires first, so it pays, though nobody knew of it then.
        assert standing(20, *entries) == Standing(70, 0, 80, 0)
        assert standing(500, *entries) == Standing(50, 0, 80, 0)

    def test_a_late_debit_counts_from_when_it_happened(self) -> None:
        entries = [at(10, grant("L", 50, starts=10), seq=1), at(900, debit("d", 20, at=30), seq=2)]
        assert standing(29, *entries) == Standing(50, 0, 0, 0)
        assert standing(30, *entries) == Standing(30, 0, 20, 0)

    def test_before_anything_happened_there_is_nothing(self) -> None:
        assert standing(9, at(10, grant("L", 50, starts=10), seq=1)) == Standing(0, 0, 0, 0)

    def test_a_time_to_come_has_what_is_known_to_come(self) -> None:
        entries = [at(10, grant("L", 50, starts=10), seq=1), at(20, grant("F", 7, starts=600, until=2_000), seq=2)]
        assert standing(599, *entries) == Standing(50, 0, 0, 0)
        assert standing(600, *entries) == Standing(57, 0, 0, 0)
        assert standing(1_000, *entries) == Standing(7, 0, 0, 0)
        assert standing(2_000, *entries) == Standing(0, 0, 0, 0)

    def test_a_lot_revoked_before_it_starts_never_pays(self) -> None:
        entries = [at(10, grant("F", 50, starts=600), seq=1), at(20, revoke("F"), seq=2)]
        assert standing(700, *entries) == Standing(0, 0, 0, 0)

    def test_a_capture_reported_from_before_its_hold_is_taken_from_the_hold(self) -> None:
        entries = [
            at(10, grant("L", 50, starts=10), seq=1),
            at(100, hold("c", 30), seq=2),
            at(200, capture("c", 20, at=40, final=True), seq=3),
        ]
        assert standing(99, *entries) == Standing(50, 0, 0, 0)
        assert standing(100, *entries) == Standing(30, 0, 20, 0)

    def test_what_is_refunded_from_before_it_was_used_comes_back_when_it_was_used(self) -> None:
        entries = [
            at(10, grant("L", 50, starts=10), seq=1), at(20, hold("c", 30), seq=2),
            at(30, capture("c", 20, at=30, final=True), seq=3), at(40, refund("c", 20, at=25), seq=4),
        ]  # fmt: skip
        assert standing(29, *entries) == Standing(20, 30, 0, 0)
        assert standing(30, *entries) == Standing(50, 0, 0, 0)

    def test_which_of_two_requests_counts_canonical_order_has_decided(self) -> None:
        entries = [
            at(10, grant("L", 50, starts=0), seq=1),
            at(20, debit("d", 20, at=15), "k", seq=2),
            at(30, debit("e", 30, at=5), "k", seq=3),
        ]
        assert standing(40, *entries) == Standing(30, 0, 20, 0)

    def test_a_hold_that_is_void_stays_void_though_credit_turns_out_to_have_been_there(self) -> None:
        entries = [
            at(10, grant("L", 50, starts=10), seq=1), at(11, Policy(OnOverspend.REVOKE), seq=2),
            at(20, hold("c", 80, job="job"), seq=3), at(90, grant("B", 100, starts=15), seq=4),
            at(95, usage(10, 20, 30, final=True), seq=5), at(99, refund("c", 4, at=99), seq=6),
        ]  # fmt: skip
        assert standing(19, *entries) == Standing(150, 0, 0, 0)
        assert standing(20, *entries) == Standing(140, 0, 10, 0)
        assert standing(99, *entries) == Standing(144, 0, 6, 0)

    def test_a_hold_that_stands_is_not_made_void_by_what_happened_before_it(self) -> None:
        entries = [
            at(10, grant("L", 50, starts=10), seq=1), at(11, Policy(OnOverspend.REVOKE), seq=2),
            at(20, hold("c", 50), seq=3), at(90, debit("late", 30, at=15), seq=4),
        ]  # fmt: skip
        assert standing(20, *entries) == Standing(-30, 50, 30, 30)

    def test_usage_is_charged_to_the_hold_that_canonical_order_charges(self) -> None:
        """A scheduler's clock is ahead: by event time a second hold of the job came before the usage of the first."""
        entries = [
            at(10, grant("L", 90, starts=10), seq=1), at(20, hold("first", 30, job="job"), seq=2),
            at(30, usage(5, 55, 60, final=True), seq=3), at(50, hold("second", 40, job="job"), seq=4),
        ]  # fmt: skip
        assert standing(55, *entries) == Standing(20, 65, 5, 0)
        assert standing(60, *entries) == Standing(45, 40, 5, 0)


class TestFinalReports:
    ENTRIES = (
        at(10, grant("L", 100, starts=0), seq=1),
        at(20, hold("c", 60, job="job"), seq=2),
        at(90, usage(30, 30, 80, final=True), seq=3),
    )

    def test_what_a_job_used_counts_from_its_start_and_what_is_released_from_its_end(self) -> None:
        assert standing(29, *self.ENTRIES) == Standing(40, 60, 0, 0)
        assert standing(30, *self.ENTRIES) == Standing(40, 30, 30, 0)
        assert standing(79, *self.ENTRIES) == Standing(40, 30, 30, 0)
        assert standing(80, *self.ENTRIES) == Standing(70, 0, 30, 0)

    def test_one_that_covers_no_time_only_releases(self) -> None:
        entries = (*self.ENTRIES[:2], at(90, usage(0, 80, 80, final=True), seq=3))
        assert standing(79, *entries) == Standing(40, 60, 0, 0)
        assert standing(80, *entries) == Standing(100, 0, 0, 0)

    def test_one_of_before_its_hold_is_over_at_once(self) -> None:
        entries = (*self.ENTRIES[:2], at(90, usage(30, 5, 15, final=True), seq=3))
        assert standing(20, *entries) == Standing(70, 0, 30, 0)


class TestEscrow:
    """Regions' shares: which lot pays shows when lots of different ends have something left."""

    SHARES = (
        Written(place(1, 1), Policy(admission=Admission.ESCROW)),
        Written(place(2, 2), Grant(LotId("L"), 100, 2, 500, 0, (("eu", 60), ("us", 40)))),
        Written(place(3, 3), Grant(LotId("M"), 100, 3, 900, 0, (("eu", 60), ("us", 40)))),
    )

    def test_a_region_uses_its_own_shares_at_any_time(self) -> None:
        fold = EventFold(in_event_order(*self.SHARES, Written(place(9, 1, "us"), debit("d", 50, at=6))), Rules())
        for _ in fold.before(7):
            pass
        left = {lot.id: lot.remaining for lot in fold.account.lots.values()}
        assert left == {"L@eu": 60, "L@us": 0, "M@eu": 60, "M@us": 30}

    def test_what_was_used_before_the_policy_was_paid_from_any_lot(self) -> None:
        early = Written(place(0, 1), Grant(LotId("E"), 100, 0, 500, 0))
        fold = EventFold(in_event_order(early, *self.SHARES, Written(place(9, 1, "us"), debit("d", 50, at=0))), Rules())
        for _ in fold.before(7):
            pass
        assert fold.account.lots[LotId("E")].remaining == 50

    def test_a_share_is_not_closed_before_its_grant(self) -> None:
        times = EventTimes()
        times.of(Grant(LotId("L"), 100, 700, 900, 0, (("eu", 60), ("us", 40))), 100)
        assert [times.of(revoke(name), 200) for name in ("L", "L@eu", "L@ap")] == [700, 700, 200]
