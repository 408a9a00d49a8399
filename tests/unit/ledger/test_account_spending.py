"""What is used, of a reservation or without one, and what of it is given back."""

from ledger.claim import ClaimState
from ledger.posting import Outcome
from tests.unit.ledger.story import (
    Story,
    capture,
    debit,
    expire,
    grant,
    hold,
    lapse,
    refund,
    revoke,
)


class TestDebit:
    def test_a_debit_moves_credit_to_used(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        effect = story.do(11, debit("d", 60, at=11))
        assert effect.postings == {"lot/L": -60, "used": 60}
        assert (story.claim("d").state, story.claim("d").is_reservation) == (ClaimState.CLOSED, False)

    def test_a_late_debit_pays_from_lots_live_at_its_own_time(self) -> None:
        story = Story()
        story.do(10, grant("old", 50, until=100))
        story.do(11, grant("new", 50, starts=100))
        assert story.do(150, debit("d", 60, at=90)).postings == {"lot/old": -50, "lot/new": -10, "used": 60}
        assert story.claim("d").used == (("old", 50), ("new", 10))

    def test_what_a_late_debit_lacks_is_repaid_at_once_from_what_is_live_now(self) -> None:
        story = Story()
        story.do(10, grant("new", 50, starts=100))
        effect = story.do(150, debit("d", 60, at=90))
        assert effect.postings == {"lot/new": -50, "debt": -10, "used": 60}
        assert effect.result is not None
        assert (effect.result.funding, effect.result.debt) == ((("new", 50),), 10)

    def test_a_late_debit_finds_nothing_in_a_lot_that_was_closed_meanwhile(self) -> None:
        story = Story()
        story.do(10, grant("old", 50, until=100))
        story.do(110, expire("old"))
        assert story.do(150, debit("d", 20, at=90)).postings == {"debt": -20, "used": 20}


class TestCapture:
    def test_usage_moves_held_credit_in_funding_order(self) -> None:
        story = Story()
        story.do(10, grant("A", 30, until=300))
        story.do(11, grant("B", 30, until=400))
        story.do(12, hold("c", 50))
        effect = story.do(13, capture("c", 40, at=13))
        assert (effect.postings, effect.outcome) == ({"held/c": -40, "used": 40}, Outcome.APPLIED)
        assert story.claim("c").used == (("A", 30), ("B", 10))
        assert story.claim("c").held == (("B", 10),)
        assert story.claim("c").state is ClaimState.OPEN

    def test_the_debt_of_a_hold_is_used_last(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, hold("c", 60))
        story.do(12, capture("c", 50, at=12))
        claim = story.claim("c")
        assert (claim.used, claim.used_debt, claim.held, claim.held_debt) == ((("L", 40),), 10, (), 10)

    def test_a_final_capture_gives_the_rest_back(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60))
        effect = story.do(12, capture("c", 25, at=12, final=True))
        assert effect.postings == {"held/c": -60, "used": 25, "lot/L": 35}
        assert (story.claim("c").state, story.claim("c").held) == (ClaimState.CLOSED, ())

    def test_a_final_capture_cancels_debt_that_was_only_held(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, hold("c", 60))
        assert story.do(12, capture("c", 50, at=12, final=True)).postings == {"held/c": -60, "used": 50, "debt": 10}
        assert story.claim("c").debt == 10

    def test_usage_beyond_the_hold_is_funded_anew(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60))
        effect = story.do(12, capture("c", 80, at=12))
        assert (effect.postings, effect.outcome) == ({"held/c": -60, "lot/L": -20, "used": 80}, Outcome.APPLIED)
        assert story.claim("c").used == (("L", 80),)
        assert story.claim("c").state is ClaimState.OPEN

    def test_an_overrun_that_no_lot_covers_is_debt(self) -> None:
        story = Story()
        story.do(10, grant("L", 60))
        story.do(11, hold("c", 60))
        assert story.do(12, capture("c", 80, at=12)).postings == {"held/c": -60, "debt": -20, "used": 80}

    def test_an_overrun_takes_lots_live_at_its_own_time(self) -> None:
        story = Story()
        story.do(10, grant("old", 50, until=100))
        story.do(11, grant("new", 50, starts=90))
        story.do(12, hold("c", 20))
        story.do(150, capture("c", 60, at=80))
        assert story.claim("c").used == (("old", 50), ("new", 10))

    def test_usage_of_a_reservation_that_has_ended_is_all_overrun(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60, lease=50))
        story.do(60, lapse("c", at=60))
        effect = story.do(70, capture("c", 30, at=40, final=True))
        assert (effect.postings, effect.outcome) == ({"lot/L": -30, "used": 30}, Outcome.OVERRUN)
        assert story.claim("c").state is ClaimState.LAPSED

    def test_usage_of_a_debit_is_all_overrun(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, debit("d", 10, at=11))
        assert story.do(12, capture("d", 5, at=12)).outcome is Outcome.OVERRUN
        assert story.claim("d").used == (("L", 15),)

    def test_usage_of_an_unknown_reservation_is_recorded_all_the_same(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        effect = story.do(11, capture("c", 30, at=11))
        assert (effect.postings, effect.outcome) == ({"lot/L": -30, "used": 30}, Outcome.OVERRUN)
        assert (story.claim("c").state, story.claim("c").amount) == (ClaimState.CLOSED, 0)
        assert story.do(12, hold("c", 10)).outcome is Outcome.DUPLICATE


class TestRefund:
    def test_debt_is_refunded_first(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, debit("d", 60, at=11))
        effect = story.do(12, refund("d", 30))
        assert effect.postings == {"used": -30, "debt": 20, "lot/L": 10}
        assert (story.claim("d").used, story.claim("d").debt, story.claim("d").owes_since) == ((("L", 30),), 0, None)

    def test_then_the_latest_expiring_lot_is_refunded_first(self) -> None:
        story = Story()
        story.do(10, grant("late", 20, until=900, priority=0))
        story.do(11, grant("soon", 20, until=300, priority=1))
        story.do(12, grant("mid", 20, until=600, priority=2))
        story.do(13, debit("d", 55, at=13))
        assert story.claim("d").used == (("late", 20), ("soon", 20), ("mid", 15))
        assert story.do(14, refund("d", 30)).postings == {"used": -30, "lot/late": 20, "lot/mid": 10}
        assert story.claim("d").used == (("soon", 20), ("mid", 5))

    def test_of_lots_that_expire_together_the_one_granted_last_is_refunded_first(self) -> None:
        story = Story()
        story.do(10, grant("zebra", 20, priority=1))
        story.do(11, grant("ant", 20, priority=0))
        story.do(12, debit("d", 40, at=12))
        assert story.do(13, refund("d", 20)).postings == {"used": -20, "lot/ant": 20}

    def test_a_refund_keeps_the_original_expiry(self) -> None:
        story = Story()
        story.do(10, grant("L", 40, until=100))
        story.do(11, debit("d", 40, at=11))
        story.do(150, refund("d", 40))
        assert story.books == {"issued": -40, "lot/L": 40}
        assert story.account.available(150) == 0

    def test_a_refund_to_a_closed_lot_has_expired(self) -> None:
        story = Story()
        story.do(10, grant("L", 40, until=100))
        story.do(11, debit("d", 40, at=11))
        story.do(100, expire("L"))
        assert story.do(150, refund("d", 30)).postings == {"used": -30, "expired": 30}

    def test_a_refund_to_a_revoked_lot_has_expired_too(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, debit("d", 40, at=11))
        story.do(12, revoke("L"))
        assert story.do(13, refund("d", 30)).postings == {"used": -30, "expired": 30}

    def test_what_is_refunded_of_one_claim_repays_what_another_owes(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, debit("d", 40, at=11))
        story.do(12, debit("e", 25, at=12))
        assert story.do(13, refund("d", 30)).postings == {"used": -30, "debt": 25, "lot/L": 5}
        assert (story.claim("d").used, story.claim("e").used) == ((("L", 10),), (("L", 25),))

    def test_never_more_than_was_used_is_refunded(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, debit("d", 40, at=11))
        story.do(12, refund("d", 30))
        assert story.do(13, refund("d", 30)).postings == {"used": -10, "lot/L": 10}
        effect = story.do(14, refund("d", 30))
        assert (effect.postings, effect.outcome) == ({}, Outcome.CLOSED)

    def test_only_what_was_captured_of_a_reservation_is_refunded(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60))
        story.do(12, capture("c", 20, at=12))
        assert story.do(13, refund("c", 50)).postings == {"used": -20, "lot/L": 20}
        claim = story.claim("c")
        assert (claim.state, claim.held_total, claim.used_total) == (ClaimState.OPEN, 40, 0)

    def test_held_debt_is_not_refunded(self) -> None:
        story = Story()
        story.do(10, grant("L", 20))
        story.do(11, hold("c", 60))
        story.do(12, capture("c", 20, at=12))
        # What comes back to the lot repays what the reservation itself still lacks.
        assert story.do(13, refund("c", 20)).postings == {"used": -20, "debt": 20}
        assert (story.claim("c").held, story.claim("c").held_debt) == ((("L", 20),), 20)

    def test_a_claim_that_nobody_knows_cannot_be_refunded(self) -> None:
        assert Story().do(10, refund("d", 30)).outcome is Outcome.CLOSED
