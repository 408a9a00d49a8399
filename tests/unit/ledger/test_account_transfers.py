"""Credit given to another tenant: a claim in the giver's account, a lot in the receiver's, one name for both."""

from ledger.claim import ClaimState
from ledger.ids import Key, LotId, TenantId
from ledger.lot import LotState
from ledger.operation import Transfer
from ledger.posting import Outcome
from ledger.rules import Rules
from tests.unit.ledger.story import (
    Story,
    capture,
    debit,
    expire,
    grant,
    hold,
    lapse,
    refund,
    release,
    renew,
    revoke,
    transfer,
)

GIFT, OTHER = "~" + 24 * "a", "~" + 24 * "b"


class TestTheGiver:
    def test_credit_leaves_the_lots_in_spending_order(self) -> None:
        story = Story()
        story.do(10, grant("late", 50, until=900))
        story.do(11, grant("soon", 50, until=300))
        effect = story.do(12, transfer(GIFT, 60, until=300))
        assert (effect.postings, effect.outcome) == (
            {"lot/soon": -50, "lot/late": -10, "transferred": 60}, Outcome.APPLIED,
        )  # fmt: skip
        claim = story.claim(GIFT)
        assert (claim.state, claim.amount, claim.used) == (ClaimState.TRANSFERRED, 60, (("soon", 50), ("late", 10)))
        assert (claim.is_reservation, claim.is_ended) == (False, True)
        assert (claim.owes_since, story.account.debtors) == (None, {})
        assert effect.result == claim.view()

    def test_only_lots_that_last_as_long_as_the_gift_pay_for_it(self) -> None:
        story = Story()
        story.do(10, grant("soon", 50, until=300))
        story.do(11, grant("just", 50, until=600))
        story.do(12, grant("late", 50, until=900))
        assert story.do(13, transfer(GIFT, 60, until=600)).postings == {
            "lot/just": -50, "lot/late": -10, "transferred": 60,
        }  # fmt: skip

    def test_nor_does_a_lot_that_is_over_or_has_not_begun(self) -> None:
        story = Story()
        story.do(10, grant("over", 50, until=50))
        story.do(11, grant("coming", 50, starts=200))
        assert story.do(100, transfer(GIFT, 30, until=40)).postings == {"debt": -30, "transferred": 30}

    def test_what_lasting_lots_do_not_cover_is_owed(self) -> None:
        story = Story()
        story.do(10, grant("L", 20))
        assert story.do(11, transfer(GIFT, 30)).postings == {"lot/L": -20, "debt": -10, "transferred": 30}
        assert (story.claim(GIFT).debt, story.claim(GIFT).is_ended) == (10, False)

    def test_what_is_owed_is_repaid_from_any_live_lot_as_all_debt_is(self) -> None:
        story = Story()
        story.do(10, grant("soon", 50, until=300))
        assert story.do(11, transfer(GIFT, 30, until=900)).postings == {"lot/soon": -30, "transferred": 30}
        assert story.claim(GIFT).used == (("soon", 30),)

    def test_a_refund_of_a_transfer_does_nothing(self) -> None:
        story = Story()
        story.do(10, grant("L", 50))
        story.do(11, transfer(GIFT, 30))
        effect = story.do(12, refund(GIFT, 30))
        assert (effect.postings, effect.outcome) == ({}, Outcome.CLOSED)
        assert story.books == {"issued": -50, "lot/L": 20, "transferred": 30}

    def test_it_is_no_reservation(self) -> None:
        story = Story()
        story.do(10, grant("L", 50))
        story.do(11, transfer(GIFT, 30))
        for operation in (release(GIFT), renew(GIFT, 900), lapse(GIFT, at=900)):
            assert story.do(12, operation).outcome is Outcome.CLOSED
        assert story.claim(GIFT).used_total == 30

    def test_a_closed_lot_loses_no_more_than_what_was_left_in_it(self) -> None:
        story = Story()
        story.do(10, grant("L", 50))
        story.do(11, transfer(GIFT, 30))
        assert story.do(12, revoke("L")).postings == {"lot/L": -20, "revoked": 20}


class TestTheReceiver:
    def test_it_is_a_grant(self) -> None:
        gift = Transfer(GIFT, TenantId("umbra"), 30, 12, 900, -1)
        story = Story()
        effect = story.do(12, gift.grant)
        assert (effect.postings, effect.outcome) == ({"issued": -30, f"lot/{GIFT}": 30}, Outcome.APPLIED)
        lot = story.account.lots[LotId(GIFT)]
        assert (lot.amount, lot.starts_at, lot.expires_at, lot.priority) == (30, 12, 900, -1)

    def test_it_repays_what_the_receiver_owes(self) -> None:
        story = Story()
        story.do(10, debit("d", 20, at=10))
        assert story.do(12, transfer(GIFT, 30).grant).postings == {"issued": -30, f"lot/{GIFT}": 10, "debt": 20}

    def test_it_can_be_spent_revoked_and_expires_like_any_lot(self) -> None:
        story = Story()
        story.do(12, transfer(GIFT, 30, until=100).grant)
        story.do(13, hold("c", 10))
        story.do(14, capture("c", 10, at=14))
        assert story.do(100, expire(GIFT)).postings == {f"lot/{GIFT}": -20, "expired": 20}
        assert story.account.lots[LotId(GIFT)].state is LotState.EXPIRED


class TestItsName:
    """The receiver's account does not know the giver's keys, and both must come to the same."""

    def test_the_second_of_one_name_does_nothing_whatever_its_key(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, transfer(GIFT, 30), key="k1")
        effect = story.do(12, transfer(GIFT, 40), key="k2")
        assert (effect.postings, effect.outcome, effect.result) == ({}, Outcome.DUPLICATE, None)
        assert story.do(13, transfer(GIFT, 30).grant).outcome is Outcome.APPLIED, "a lot is no claim"
        assert story.do(14, transfer(GIFT, 40).grant).outcome is Outcome.DUPLICATE

    def test_another_name_is_another_transfer_whatever_its_key(self) -> None:
        story = Story()
        story.do(10, grant("L", 100), key="k")
        effect = story.do(11, transfer(GIFT, 30), key="k")
        assert (effect.outcome, effect.postings) == (Outcome.APPLIED, {"lot/L": -30, "transferred": 30})

    def test_a_key_that_was_used_before_still_names_what_used_it_first(self) -> None:
        story = Story()
        story.do(10, grant("L", 100), key="k", request="a" * 16)
        story.do(11, transfer(GIFT, 30), key="k", request="b" * 16)
        use = story.account.key_use(Key("k"))
        assert use is not None
        assert (use.seq, use.request) == (1, "a" * 16)

    def test_a_key_that_was_forgotten_names_the_transfer_from_then_on(self) -> None:
        story = Story(rules=Rules(key_lifetime_ms=100))
        story.do(10, grant("L", 100), key="k")
        story.do(110, transfer(GIFT, 30), key="k")
        use = story.account.key_use(Key("k"))
        assert use is not None
        assert (use.seq, use.at) == (2, 110)

    def test_its_fresh_key_is_used_up(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, transfer(GIFT, 30), key="k")
        assert story.do(12, hold("c", 10), key="k").outcome is Outcome.DUPLICATE
        story.do(13, transfer(GIFT, 30), key="k2")
        assert story.do(14, hold("c", 10), key="k2").outcome is Outcome.DUPLICATE

    def test_it_is_given_once_also_when_its_key_has_been_forgotten(self) -> None:
        story = Story(rules=Rules(key_lifetime_ms=100))
        story.do(10, grant("L", 100))
        story.do(11, transfer(GIFT, 30), key="k")
        assert story.do(200, transfer(GIFT, 30), key="k").outcome is Outcome.DUPLICATE
        assert story.do(201, transfer(OTHER, 30), key="k").outcome is Outcome.APPLIED

    def test_a_debit_or_a_hold_of_its_name_is_taken(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, transfer(GIFT, 30))
        assert story.do(12, debit(GIFT, 1, at=12)).outcome is Outcome.DUPLICATE
        assert story.do(13, hold(GIFT, 1)).outcome is Outcome.DUPLICATE


def test_undo_of_a_transfer_leaves_no_trace() -> None:
    story = Story()
    story.do(10, grant("L", 20))
    before = story.books
    story.account.undo(story.do(11, transfer(GIFT, 30), key="k"))
    assert (story.books, story.account.claims, story.account.debtors, story.account.keys) == (before, {}, {}, {})
