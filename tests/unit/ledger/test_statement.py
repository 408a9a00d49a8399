"""Statements line by line: what has a line, where lines stand, and that they add up."""

from ledger.event_time import EventFold, Standing
from ledger.ids import LotId
from ledger.operation import Admission, Grant, Move, Policy, Settle
from ledger.posting import Outcome
from ledger.rules import Rules
from ledger.statement import EXPIRY, Line, Statement
from tests.unit.ledger.story import capture, debit, expire, grant, hold, lapse, place, refund, release, renew, revoke
from tests.unit.ledger.test_event_time import in_event_order
from tests.unit.ledger.test_timeline import Written, at

FOR_EVER = 10_000


def told(since: int, to: int, *entries: Written) -> tuple[Statement[Written], list[Line[Written]]]:
    statement = Statement(EventFold(in_event_order(*entries), Rules()), since, to)
    for _ in statement.begin():
        pass
    return statement, [line for line in statement.lines() if line is not None]


def lines(since: int, to: int, *entries: Written) -> list[tuple[int, str, int, int, int, int, int]]:
    """Time, what, change; available, held, used, debt."""
    statement, found = told(since, to, *entries)
    assert statement.opening.available + sum(line.amount for line in found) == statement.closing.available
    return [
        (
            line.order.at,
            _what(line),
            line.amount,
            line.after.available,
            line.after.held,
            line.after.used,
            line.after.debt,
        )
        for line in found
    ]


def _what(line: Line[Written]) -> str:
    if line.entry is None:
        assert line.outcome is None
        assert line.order.rank == EXPIRY
        return f"expiry {line.lot}"
    return f"{type(line.entry.operation).__name__.lower()} {line.claim or line.lot}"


LIFE = [
    at(10, grant("L", 100, starts=10, until=500), seq=1),
    at(20, hold("c", 60), seq=2),
    at(30, renew("c", 900), seq=3),
    at(40, capture("c", 25, at=40), seq=4),
    at(50, release("c"), seq=5),
    at(60, debit("d", 90, at=60), seq=6),
    at(70, refund("d", 90, at=70), seq=7),
    at(80, Settle(), seq=8),
    at(600, expire("L"), seq=9),
]


def test_a_line_for_all_that_changes_a_figure_and_for_nothing_else() -> None:
    assert lines(0, FOR_EVER, *LIFE) == [
        (10, "grant L", 100, 100, 0, 0, 0),
        (20, "hold c", -60, 40, 60, 0, 0),
        (40, "capture c", 0, 40, 35, 25, 0),
        (50, "release c", 35, 75, 0, 25, 0),
        (60, "debit d", -90, -15, 0, 115, 15),
        (70, "refund d", 90, 75, 0, 25, 0),
        (500, "expiry L", -75, 0, 0, 25, 0),
    ]


def test_opening_and_closing_are_what_stands_before_the_period_and_before_its_end() -> None:
    statement, _ = told(20, 60, *LIFE)
    assert (statement.opening, statement.closing) == (Standing(100, 0, 0, 0), Standing(75, 0, 25, 0))
    statement, found = told(600, 700, *LIFE)
    assert (statement.opening, statement.closing, found) == (Standing(0, 0, 25, 0), Standing(0, 0, 25, 0), [])


def test_a_lot_that_expires_as_the_period_begins_is_in_it_and_one_that_expires_as_it_ends_is_not() -> None:
    assert lines(500, 501, *LIFE) == [(500, "expiry L", -75, 0, 0, 25, 0)]
    assert lines(499, 500, *LIFE) == []


def test_an_expiry_comes_before_whatever_else_happens_in_that_millisecond() -> None:
    entries = [
        at(10, grant("L", 100, starts=10, until=500), seq=1),
        at(20, grant("M", 30, starts=500, until=900), seq=2),
        at(500, hold("c", 20, lease=900), seq=3),
    ]
    assert lines(400, 600, *entries) == [
        (500, "expiry L", -100, 0, 0, 0, 0),
        (500, "grant M", 30, 30, 0, 0, 0),
        (500, "hold c", -20, 10, 20, 0, 0),
    ]


def test_lots_that_expire_together_have_a_line_each_in_the_order_of_their_grants_names() -> None:
    entries = [
        at(10, grant("L", 1, starts=10, until=500), region="us"),
        at(11, grant("M", 2, starts=5, until=500), region="eu"),
    ]
    assert [what for _, what, *_ in lines(400, 600, *entries)] == ["expiry M", "expiry L"]


def test_a_lot_with_nothing_left_or_revoked_expires_without_a_line() -> None:
    entries = [
        at(10, grant("L", 100, starts=10, until=500), seq=1),
        at(11, grant("M", 100, starts=11, until=500), seq=2),
        at(20, debit("d", 100, at=20), seq=3),
        at(30, revoke("M"), seq=4),
    ]
    assert [what for _, what, *_ in lines(0, FOR_EVER, *entries)] == ["grant L", "grant M", "debit d", "revoke M"]


def test_what_comes_back_to_a_lot_in_time_expires_with_it_and_what_comes_back_later_is_gone_already() -> None:
    entries = [
        at(10, grant("L", 100, starts=10, until=500), seq=1),
        at(20, hold("early", 100, lease=400), seq=2),
        at(30, release("early"), seq=3),
        at(40, hold("late", 60, lease=900), seq=4),
        at(600, release("late"), seq=5),
    ]
    assert lines(35, FOR_EVER, *entries) == [
        (40, "hold late", -60, 40, 60, 0, 0),
        (500, "expiry L", -40, 0, 60, 0, 0),
        (600, "release late", 0, 0, 0, 0, 0),
    ]


def test_a_refund_to_a_lot_that_has_expired_shows_in_what_is_used() -> None:
    entries = [
        at(10, grant("L", 100, starts=10, until=500), seq=1),
        at(20, debit("d", 100, at=20), seq=2),
        at(600, refund("d", 30, at=600), seq=3),
    ]
    assert lines(500, FOR_EVER, *entries) == [(600, "refund d", 0, 0, 0, 70, 0)]


def test_debt_is_repaid_in_the_line_of_the_grant() -> None:
    entries = [
        at(10, grant("L", 10, starts=10), seq=1),
        at(20, debit("d", 30, at=20), seq=2),
        at(30, grant("M", 50, starts=30), seq=3),
    ]
    assert lines(15, FOR_EVER, *entries)[:2] == [
        (20, "debit d", -30, -20, 0, 30, 20),
        (30, "grant M", 50, 30, 0, 30, 0),
    ]


def test_a_line_says_what_became_of_its_operation_by_event_time() -> None:
    entries = [
        at(10, grant("L", 100, starts=10), seq=1),
        at(20, hold("c", 30, lease=100), seq=2),
        at(200, lapse("c", 200), seq=3),
        at(210, capture("c", 10, at=205), seq=4),
        at(220, capture("c", 5, at=50), seq=5),
    ]
    _, found = told(15, 900, *entries)
    assert [(line.order.at, line.outcome) for line in found] == [
        (20, Outcome.APPLIED), (50, Outcome.APPLIED), (200, Outcome.LAPSED), (205, Outcome.OVERRUN),
    ]  # fmt: skip


def test_a_void_hold_has_no_line() -> None:
    entries = [
        at(10, grant("L", 10, starts=10), seq=1),
        at(20, debit("d", 30, at=20), seq=2),
        at(30, grant("M", 50, starts=30), seq=3),
    ]
    order = in_event_order(*entries)
    order.add(at(40, hold("c", 30), seq=4), is_void=True)
    statement = Statement(EventFold(order, Rules()), 35, 50)
    assert not any([*statement.begin(), *statement.lines()])
    assert statement.closing == statement.opening == Standing(30, 0, 30, 0)


def test_a_lot_that_ends_before_it_starts_was_never_there() -> None:
    """No node grants one, and any peer can forge one."""
    assert lines(0, FOR_EVER, at(10, grant("L", 10, starts=20, until=20), seq=1)) == []


class TestEscrow:
    ENTRIES = (
        Written(place(1, 1), Policy(admission=Admission.ESCROW)),
        Written(place(2, 2), Grant(LotId("L"), 100, 2, 50, 0, (("eu", 60), ("us", 40)))),
        Written(place(3, 3), Move(LotId("L@eu"), "ap", 10)),
        Written(place(4, 1, "us"), debit("d", 15, at=4)),
    )

    def test_all_shares_of_a_grant_expire_in_one_line_and_one_that_came_by_a_move_in_its_own(self) -> None:
        assert lines(0, FOR_EVER, *self.ENTRIES) == [
            (2, "grant L", 100, 100, 0, 0, 0),
            (4, "debit d", -15, 85, 0, 15, 0),
            (50, "expiry L", -75, 10, 0, 15, 0),
            (50, "expiry L@ap", -10, 0, 0, 15, 0),
        ]

    def test_what_moves_into_a_share_expires_with_it(self) -> None:
        back = Written(place(5, 1, "ap"), Move(LotId("L@ap"), "eu", 10))
        assert lines(40, FOR_EVER, *self.ENTRIES, back) == [(50, "expiry L", -85, 0, 0, 15, 0)]
