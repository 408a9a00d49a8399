"""One entry in the books in which it stands: what it is there, and what its origin recorded for that tenant."""

import msgspec

from ledger.operation import Compensation, Difference, Transfer
from ledger.posting import Outcome
from replication.clock import Dot
from replication.entry import Entry
from replication.filed import Filed, legs_of
from tests.unit.replication.test_entry import EU, GIFT, HOLD, TRANSFER, US


def filed(entry: Entry) -> Filed:
    return Filed(entry, entry.position, {US: 7}, 3)


def test_an_operation_stands_in_its_tenants_book_as_it_was_recorded() -> None:
    held = filed(HOLD)
    assert legs_of(held) == (held,)
    assert (held.tenant, held.operation, held.postings) == ("acme", HOLD.content, HOLD.postings)
    assert (held.outcome, held.key, held.request) == (Outcome.APPLIED, "k-1", "0123456789abcdef")
    assert (held.dot, held.clock) == (Dot(EU, 1), {US: 7, EU: 1})


def test_a_compensation_is_no_operation() -> None:
    content = Compensation((Difference(EU, 1, {"lot/gold": 5, "debt": -5}),))
    amends = filed(msgspec.structs.replace(HOLD, content=content, outcome=Outcome.POSTED, result=None))
    assert legs_of(amends) == (amends,)
    assert (amends.tenant, amends.operation, amends.outcome) == ("acme", None, Outcome.POSTED)


class TestATransfer:
    GIVEN, RECEIVED = legs_of(filed(TRANSFER))

    def test_is_a_transfer_in_the_givers_book(self) -> None:
        given = self.GIVEN
        assert given == filed(TRANSFER)
        assert not given.is_receipt
        assert (given.tenant, given.operation, given.postings) == ("acme", TRANSFER.content, TRANSFER.postings)
        assert given.key == "k-1"

    def test_is_a_grant_in_the_receivers(self) -> None:
        received, content = self.RECEIVED, TRANSFER.content
        assert isinstance(content, Transfer)
        assert received.is_receipt
        assert (received.tenant, received.operation) == ("umbra", content.grant)
        assert received.postings == {"issued": -60, f"lot/{GIFT}": 60}

    def test_has_its_key_in_the_givers_book_only(self) -> None:
        assert (self.RECEIVED.key, self.RECEIVED.request) == (None, "0123456789abcdef")

    def test_was_applied_in_the_receivers_whatever_the_giver_recorded(self) -> None:
        given, received = legs_of(filed(msgspec.structs.replace(TRANSFER, outcome=Outcome.CLOSED)))
        assert (given.outcome, received.outcome) == (Outcome.CLOSED, Outcome.APPLIED)

    def test_is_one_entry_with_one_place_and_one_clock(self) -> None:
        given, received = self.GIVEN, self.RECEIVED
        assert given.entry is received.entry
        assert (given.position, given.dot, given.clock, given.commit) == (
            received.position, received.dot, received.clock, received.commit,
        )  # fmt: skip
        assert given.others is received.others
