"""Reservations: what is set aside, for how long, and how it goes back."""

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
    release,
    renew,
    revoke,
)


class TestHold:
    def test_a_hold_moves_credit_from_lots_to_the_claim(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        effect = story.do(11, hold("c", 60, lease=500))
        assert (effect.postings, effect.outcome) == ({"lot/L": -60, "held/c": 60}, Outcome.APPLIED)
        assert effect.result == story.claim("c").view()
        claim = story.claim("c")
        assert (claim.state, claim.lease_until, claim.region, claim.amount) == (ClaimState.OPEN, 500, "eu", 60)

    def test_a_hold_that_falls_short_is_part_debt(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        assert story.do(11, hold("c", 60)).postings == {"lot/L": -40, "debt": -20, "held/c": 60}
        assert (story.claim("c").held, story.claim("c").held_debt) == ((("L", 40),), 20)

    def test_a_hold_takes_lots_that_are_live_now(self) -> None:
        story = Story()
        story.do(10, grant("over", 40, until=50))
        story.do(11, grant("coming", 40, starts=200))
        assert story.do(100, hold("c", 60)).postings == {"debt": -60, "held/c": 60}


class TestRelease:
    def test_what_is_held_goes_back_where_it_came_from(self) -> None:
        story = Story()
        story.do(10, grant("A", 30, until=300))
        story.do(11, grant("B", 30, until=400))
        story.do(12, hold("c", 50))
        story.do(13, capture("c", 10, at=13))
        effect = story.do(14, release("c"))
        assert (effect.postings, effect.outcome) == ({"held/c": -40, "lot/A": 20, "lot/B": 20}, Outcome.APPLIED)
        assert (story.claim("c").state, story.claim("c").used) == (ClaimState.CLOSED, (("A", 10),))

    def test_debt_that_was_held_cancels(self) -> None:
        story = Story()
        story.do(10, grant("L", 40))
        story.do(11, hold("c", 60))
        assert story.do(12, release("c")).postings == {"held/c": -60, "lot/L": 40, "debt": 20}
        assert story.claim("c").owes_since is None

    def test_credit_of_a_closed_lot_has_expired_when_it_comes_back(self) -> None:
        story = Story()
        story.do(10, grant("A", 30, until=100))
        story.do(11, grant("B", 30, until=400))
        story.do(12, hold("c", 60))
        story.do(110, expire("A"))
        story.do(111, revoke("B"))
        assert story.do(120, release("c")).postings == {"held/c": -60, "expired": 60}

    def test_a_lot_past_its_time_but_not_closed_takes_its_credit_back(self) -> None:
        story = Story()
        story.do(10, grant("L", 30, until=100))
        story.do(11, hold("c", 20))
        assert story.do(150, release("c")).postings == {"held/c": -20, "lot/L": 20}

    def test_a_second_release_finds_it_closed(self) -> None:
        story = Story()
        story.do(10, grant("L", 30))
        story.do(11, hold("c", 20))
        story.do(12, release("c"))
        effect = story.do(13, release("c"))
        assert (effect.postings, effect.outcome, effect.result) == ({}, Outcome.CLOSED, story.claim("c").view())

    def test_a_debit_cannot_be_released(self) -> None:
        story = Story()
        story.do(10, grant("L", 30))
        story.do(11, debit("d", 20, at=11))
        assert story.do(12, release("d")).outcome is Outcome.CLOSED
        assert story.books == {"issued": -30, "lot/L": 10, "used": 20}


class TestLease:
    def test_a_renewal_never_shortens_a_lease(self) -> None:
        story = Story()
        story.do(10, hold("c", 20, lease=500))
        assert story.do(11, renew("c", 400)).outcome is Outcome.APPLIED
        assert story.claim("c").lease_until == 500
        assert story.do(12, renew("c", 600)).outcome is Outcome.APPLIED
        assert story.claim("c").lease_until == 600

    def test_a_reservation_that_has_ended_is_not_renewed(self) -> None:
        story = Story()
        story.do(10, hold("c", 20, lease=500))
        story.do(11, release("c"))
        assert story.do(12, renew("c", 600)).outcome is Outcome.CLOSED
        assert story.do(13, renew("unknown", 600)).outcome is Outcome.CLOSED
        assert story.claim("c").lease_until == 500

    def test_a_lease_that_has_ended_lapses(self) -> None:
        story = Story()
        story.do(10, grant("L", 30))
        story.do(11, hold("c", 20, lease=100))
        story.do(12, capture("c", 5, at=12))
        effect = story.do(130, lapse("c", at=100))
        assert (effect.postings, effect.outcome) == ({"held/c": -15, "lot/L": 15}, Outcome.LAPSED)
        assert story.claim("c").state is ClaimState.LAPSED

    def test_a_lease_that_ends_later_does_not_lapse(self) -> None:
        story = Story()
        story.do(11, hold("c", 20, lease=101))
        effect = story.do(130, lapse("c", at=100))
        assert (effect.postings, effect.outcome) == ({}, Outcome.RENEWED)
        assert story.claim("c").state is ClaimState.OPEN

    def test_renewal_beats_a_sweep_that_had_not_seen_it(self) -> None:
        story = Story()
        story.do(10, grant("L", 30))
        story.do(11, hold("c", 20, lease=100))
        story.do(101, renew("c", 300))
        assert story.do(102, lapse("c", at=101)).outcome is Outcome.RENEWED
        assert story.books == {"issued": -30, "lot/L": 10, "held/c": 20}

    def test_what_has_ended_does_not_lapse(self) -> None:
        story = Story()
        story.do(11, hold("c", 20, lease=100))
        story.do(12, release("c"))
        assert story.do(130, lapse("c", at=120)).outcome is Outcome.CLOSED
        assert story.do(131, lapse("unknown", at=120)).outcome is Outcome.CLOSED
        assert story.claim("c").state is ClaimState.CLOSED
