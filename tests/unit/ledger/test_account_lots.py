"""Which lot pays first, what is available, and how a lot is closed."""

from ledger.ids import LotId
from ledger.lot import LotState
from ledger.posting import Outcome
from tests.unit.ledger.story import (
    Story,
    capture,
    debit,
    expire,
    grant,
    hold,
    revoke,
)


class TestSpendingOrder:
    def test_first_expiring_first_out(self) -> None:
        story = Story()
        story.do(10, grant("late", 50, until=900))
        story.do(11, grant("soon", 50, until=300))
        story.do(12, hold("c", 60))
        assert story.claim("c").held == (("soon", 50), ("late", 10))

    def test_priority_comes_before_expiry(self) -> None:
        story = Story()
        story.do(10, grant("soon", 50, until=300, priority=1))
        story.do(11, grant("late", 50, until=900, priority=0))
        story.do(12, hold("c", 60))
        assert story.claim("c").held == (("late", 50), ("soon", 10))

    def test_of_lots_that_expire_together_the_one_granted_first_pays(self) -> None:
        story = Story()
        story.do(10, grant("zebra", 50))
        story.do(11, grant("ant", 50))
        story.do(12, hold("c", 60))
        assert story.claim("c").held == (("zebra", 50), ("ant", 10))

    def test_a_lot_is_live_from_its_start_to_just_before_its_expiry(self) -> None:
        story = Story()
        story.do(10, grant("L", 50, starts=100, until=200))
        assert [story.account.available(at) for at in (99, 100, 199, 200)] == [0, 50, 50, 0]

    def test_an_empty_lot_is_not_named_in_funding(self) -> None:
        story = Story()
        story.do(10, grant("A", 10, until=300))
        story.do(11, grant("B", 10, until=400))
        story.do(12, hold("c", 10))
        story.do(13, hold("d", 10))
        assert story.claim("d").held == (("B", 10),)


class TestClosingLots:
    def test_a_revoked_lot_loses_what_remains(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60))
        effect = story.do(12, revoke("L"))
        assert (effect.postings, effect.outcome) == ({"lot/L": -40, "revoked": 40}, Outcome.APPLIED)
        assert story.books == {"issued": -100, "held/c": 60, "revoked": 40}
        assert story.account.lots[LotId("L")].state is LotState.REVOKED

    def test_what_is_held_of_a_revoked_lot_can_still_be_used(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, hold("c", 60))
        story.do(12, revoke("L"))
        assert story.do(13, capture("c", 60, at=13)).postings == {"held/c": -60, "used": 60}

    def test_an_empty_lot_is_closed_without_postings(self) -> None:
        story = Story()
        story.do(10, grant("L", 10, until=100))
        story.do(11, hold("c", 10))
        effect = story.do(100, expire("L"))
        assert (effect.postings, effect.outcome) == ({}, Outcome.APPLIED)
        assert story.account.lots[LotId("L")].state is LotState.EXPIRED

    def test_a_lot_expires_at_its_time_and_not_before(self) -> None:
        story = Story()
        story.do(10, grant("L", 10, until=100))
        effect = story.do(99, expire("L"))
        assert (effect.postings, effect.outcome) == ({}, Outcome.EARLY)
        assert story.do(100, expire("L")).postings == {"lot/L": -10, "expired": 10}

    def test_a_lot_is_closed_once(self) -> None:
        story = Story()
        story.do(10, grant("L", 10, until=100))
        story.do(11, revoke("L"))
        assert story.do(110, expire("L")).outcome is Outcome.CLOSED
        assert story.do(111, revoke("L")).outcome is Outcome.CLOSED
        assert story.books == {"issued": -10, "revoked": 10}

    def test_an_unknown_lot_cannot_be_closed(self) -> None:
        story = Story()
        assert story.do(10, revoke("L")).outcome is Outcome.CLOSED
        assert story.do(11, expire("L")).outcome is Outcome.CLOSED

    def test_debt_takes_a_started_lot_before_its_revocation_can(self) -> None:
        story = Story()
        story.do(10, grant("L", 50, starts=50))
        story.do(11, debit("d", 30, at=11))
        assert story.do(60, revoke("L")).postings == {"lot/L": -50, "debt": 30, "revoked": 20}


class TestWhatIsAvailable:
    def test_available_is_live_credit_less_debt_and_may_be_negative(self) -> None:
        story = Story()
        story.do(10, grant("now", 50, until=100))
        story.do(11, grant("then", 70, starts=100))
        story.do(12, debit("d", 80, at=12))
        assert (story.account.available(12), story.account.available(100)) == (-30, 40)
        assert story.account.live_credit(100) == 70

    def test_credit_at_either_time_counts_a_lot_once(self) -> None:
        story = Story()
        story.do(10, grant("old", 5, until=100))
        story.do(11, grant("both", 7))
        story.do(12, grant("new", 11, starts=100))
        story.do(13, grant("neither", 13, starts=500))
        assert story.account.credit_at_either(50, 150, "eu") == 5 + 7 + 11

    def test_held_is_the_sum_of_all_reservations(self) -> None:
        story = Story()
        story.do(10, grant("L", 50))
        story.do(11, hold("a", 30))
        story.do(12, hold("b", 40))
        story.do(13, capture("a", 10, at=13))
        assert story.account.held == 60
