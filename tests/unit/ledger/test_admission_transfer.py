"""Transfers: judged by both accounts, the giver's for its credit, the receiver's for what it has room for."""

from dataclasses import dataclass, field

import pytest

from ledger.admission import admit_transfer
from ledger.amount import MAX_OPEN_LOTS, MAX_TOTAL
from ledger.command import TransferCredit, derived_id
from ledger.ids import Key, TenantId, transfer_name
from ledger.operation import OnOverspend, Policy, Transfer
from ledger.posting import ISSUED, TRANSFERRED
from ledger.refusal import Reason, Refusal
from tests.unit.ledger.story import Story, debit, grant, transfer
from tests.unit.ledger.test_admission import invalid_field

ACME, UMBRA, KEY = TenantId("acme"), TenantId("umbra"), Key("k")
DERIVED = derived_id(ACME, KEY)
NAME = transfer_name(ACME, UMBRA, KEY)


class TestTransfer:
    @dataclass
    class Desk:
        """A giver with 100 until 500 ms and 100 until 900, a receiver with nothing."""

        giver: Story = field(default_factory=Story)
        receiver: Story = field(default_factory=Story)

        def ask(self, command: TransferCredit, now: int = 100) -> Transfer | Refusal:
            return admit_transfer(self.giver.account, self.receiver.account, ACME, command, KEY, now, "eu")

        def refusal(self, command: TransferCredit, now: int = 100) -> Refusal:
            answer = self.ask(command, now)
            assert isinstance(answer, Refusal)
            return answer

    @pytest.fixture
    def two(self) -> Desk:
        two = TestTransfer.Desk()
        two.giver.do(10, grant("soon", 100, until=500))
        two.giver.do(11, grant("late", 100, until=900))
        return two

    def test_it_is_called_in_both_accounts_by_what_it_is(self, two: Desk) -> None:
        command = TransferCredit(UMBRA, 30, expires_at=900, priority=2)
        assert two.ask(command) == Transfer(NAME, UMBRA, 30, 100, 900, 2)
        assert len({transfer_name(ACME, UMBRA, KEY), transfer_name(UMBRA, ACME, KEY), DERIVED}) == 3

    def test_it_lasts_as_long_as_the_first_lot_to_expire_of_those_that_pay(self, two: Desk) -> None:
        assert two.ask(TransferCredit(UMBRA, 100)) == Transfer(NAME, UMBRA, 100, 100, 500, 0)
        assert two.ask(TransferCredit(UMBRA, 101)) == Transfer(NAME, UMBRA, 101, 100, 500, 0)
        two.giver.do(12, debit("d", 100, at=12))
        assert two.ask(TransferCredit(UMBRA, 100)) == Transfer(NAME, UMBRA, 100, 100, 900, 0)

    def test_lots_that_are_over_or_have_not_begun_have_no_say(self, two: Desk) -> None:
        two.giver.do(12, grant("over", 10, until=90))
        two.giver.do(13, grant("coming", 10, starts=150, until=400))
        assert two.ask(TransferCredit(UMBRA, 100)) == Transfer(NAME, UMBRA, 100, 100, 500, 0)
        answer = two.refusal(TransferCredit(UMBRA, 201))
        assert (answer.fields["available"], answer.fields["next_start"]) == (200, 150)

    def test_which_is_not_always_the_first_in_spending_order(self, two: Desk) -> None:
        two.giver.do(12, grant("first", 10, until=700, priority=-1))
        assert two.ask(TransferCredit(UMBRA, 10)) == Transfer(NAME, UMBRA, 10, 100, 700, 0)
        assert two.ask(TransferCredit(UMBRA, 11)) == Transfer(NAME, UMBRA, 11, 100, 500, 0)

    def test_what_it_says_is_what_pays(self, two: Desk) -> None:
        for amount, paid in ((100, {"lot/soon": -100}), (150, {"lot/soon": -100, "lot/late": -50})):
            operation = two.ask(TransferCredit(UMBRA, amount))
            assert isinstance(operation, Transfer)
            effect = two.giver.do(100, operation)
            assert effect.postings == {**paid, "transferred": amount}
            two.giver.account.undo(effect)

    def test_only_lots_that_last_count(self, two: Desk) -> None:
        assert isinstance(two.ask(TransferCredit(UMBRA, 200, expires_at=500)), Transfer)
        answer = two.refusal(TransferCredit(UMBRA, 101, expires_at=501))
        assert answer.reason is Reason.INSUFFICIENT_CREDIT
        assert answer.fields == {"requested": 101, "available": 100, "debt": 0, "held": 0, "next_start": None}

    def test_more_than_is_available_is_refused(self, two: Desk) -> None:
        answer = two.refusal(TransferCredit(UMBRA, 201))
        assert (answer.reason, answer.fields["available"]) == (Reason.INSUFFICIENT_CREDIT, 200)

    def test_what_is_owed_is_not_given_away(self, two: Desk) -> None:
        two.giver.do(12, debit("d", 250, at=12))
        assert two.refusal(TransferCredit(UMBRA, 1)).fields["available"] == -50
        two.giver.do(13, grant("new", 100, starts=90, until=900))
        assert isinstance(two.ask(TransferCredit(UMBRA, 50)), Transfer)
        assert two.refusal(TransferCredit(UMBRA, 51)).fields["available"] == 50

    def test_what_repays_it_need_not_last_and_does_not_say_how_long_the_gift_does(self, two: Desk) -> None:
        two.giver.do(12, debit("d", 250, at=12))
        two.giver.do(13, grant("first", 60, starts=90, until=500))
        two.giver.do(14, grant("then", 60, starts=90, until=900))
        assert two.ask(TransferCredit(UMBRA, 60, expires_at=900)) == Transfer(NAME, UMBRA, 60, 100, 900, 0)
        assert two.refusal(TransferCredit(UMBRA, 61, expires_at=900)).fields["available"] == 60
        assert two.ask(TransferCredit(UMBRA, 11)) == Transfer(NAME, UMBRA, 11, 100, 500, 0)
        two.giver.do(15, debit("e", 10, at=15))
        assert two.ask(TransferCredit(UMBRA, 60)) == Transfer(NAME, UMBRA, 60, 100, 900, 0)

    def test_a_gift_must_last_for_some_time(self, two: Desk) -> None:
        assert isinstance(two.ask(TransferCredit(UMBRA, 1, expires_at=101)), Transfer)
        assert invalid_field(two.refusal(TransferCredit(UMBRA, 1, expires_at=100))) == "expires_at"

    def test_one_that_was_made_long_ago_needs_a_new_key(self, two: Desk) -> None:
        two.giver.do(12, transfer(NAME, 5))
        answer = two.refusal(TransferCredit(UMBRA, 5))
        assert (answer.reason, answer.fields) == (Reason.ALREADY_EXISTS, {"transfer": NAME})
        assert answer.detail == "the transfer was made long ago, under this key; take a new key"

    def test_also_when_only_the_receiver_has_it(self, two: Desk) -> None:
        two.receiver.do(12, transfer(NAME, 5).grant)
        assert two.refusal(TransferCredit(UMBRA, 5)).reason is Reason.ALREADY_EXISTS

    def test_the_receiver_has_only_so_many_open_lots(self, two: Desk) -> None:
        for number in range(MAX_OPEN_LOTS):
            two.receiver.do(20, grant(f"M{number}", 1))
        assert invalid_field(two.refusal(TransferCredit(UMBRA, 5))) == "lot"

    def test_what_the_receiver_was_given_stays_within_the_largest_total(self, two: Desk) -> None:
        two.receiver.account.totals[ISSUED] = -(MAX_TOTAL - 50)
        assert isinstance(two.ask(TransferCredit(UMBRA, 50)), Transfer)
        assert invalid_field(two.refusal(TransferCredit(UMBRA, 51))) == "amount"

    def test_what_the_giver_gave_away_stays_within_the_largest_total(self, two: Desk) -> None:
        two.giver.account.totals[TRANSFERRED] = MAX_TOTAL - 50
        assert isinstance(two.ask(TransferCredit(UMBRA, 50)), Transfer)
        assert invalid_field(two.refusal(TransferCredit(UMBRA, 51))) == "amount"

    def test_neither_account_is_changed_by_being_asked(self, two: Desk) -> None:
        before = two.giver.books, two.receiver.books
        two.ask(TransferCredit(UMBRA, 50))
        assert (two.giver.books, two.receiver.books) == before

    def test_the_givers_policy_limits_what_is_held_and_not_what_is_given(self, two: Desk) -> None:
        two.giver.do(12, Policy(OnOverspend.REVOKE, max_held=0, debt_limit=0))
        assert isinstance(two.ask(TransferCredit(UMBRA, 50)), Transfer)
