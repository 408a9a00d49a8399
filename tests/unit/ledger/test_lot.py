"""When a lot can pay, and which pays first."""

from ledger.ids import LotId
from ledger.lot import Lot, LotState, spending_place
from tests.unit.ledger.story import place


def lot(name: str, expires: int = 200, priority: int = 0, granted: int = 10) -> Lot:
    return Lot(LotId(name), 100, 70, 100, expires, priority, place(granted))


def test_a_lot_is_live_from_its_start_to_just_before_its_expiry() -> None:
    assert [lot("L").is_live(at) for at in (99, 100, 199, 200)] == [False, True, True, False]


def test_a_closed_lot_is_never_live_and_has_nothing_left() -> None:
    for state in (LotState.EXPIRED, LotState.REVOKED):
        closed = lot("L").closed(state)
        assert (closed.state, closed.remaining, closed.is_live(150)) == (state, 0, False)
        assert (closed.id, closed.amount, closed.granted) == ("L", 100, place(10))


def test_only_the_rest_changes_when_a_lot_pays() -> None:
    before = lot("L", priority=3)
    after = before.with_remaining(20)
    assert (before.remaining, after.remaining) == (70, 20)
    assert after.with_remaining(70) == before


def test_a_lot_with_nothing_left_is_still_live() -> None:
    assert lot("L").with_remaining(0).is_live(150)


def test_lots_pay_by_priority_then_expiry_then_grant_then_name() -> None:
    in_order = [
        lot("z", expires=900, priority=-1, granted=99),
        lot("y", expires=200, priority=0, granted=99),
        lot("x", expires=300, priority=0, granted=10),
        lot("v", expires=300, priority=0, granted=11),
        lot("w", expires=300, priority=0, granted=11),
        lot("a", expires=200, priority=1, granted=10),
    ]
    assert sorted(in_order, key=spending_place) == in_order
