"""When credit runs out: used up, or expired, whichever comes first."""

import pytest

from ledger.amount import MAX_TIME_MS
from ledger.event_time import EventFold
from ledger.forecast import HOUR_MS, Burn, runs_out_at, used_in
from ledger.ids import LotId
from ledger.lot import Lot
from ledger.rules import Rules
from tests.unit.ledger.story import capture, debit, grant, hold, place, refund
from tests.unit.ledger.test_event_time import in_event_order, usage
from tests.unit.ledger.test_timeline import Written, at

NOW = 100


def lot(name: str, remaining: int, starts: int = 0, until: int = 1_000, priority: int = 0) -> Lot:
    return Lot(LotId(name), 10**6, remaining, starts, until, priority, place(1))


@pytest.mark.parametrize(
    ("used", "window_ms", "per_hour"),
    [(0, HOUR_MS, 0), (7, HOUR_MS, 7), (1, 2 * HOUR_MS, 1), (3, 2 * HOUR_MS, 2), (1, 1, HOUR_MS), (5, 7, 2_571_429)],
)
def test_a_rate_per_hour_is_rounded_up(used: int, window_ms: int, per_hour: int) -> None:
    assert Burn(used, window_ms).per_hour == per_hour


@pytest.mark.parametrize(
    ("lots", "debt", "burn", "at"),
    [
        ([lot("L", 50)], 0, Burn(10, 100), NOW + 500),
        ([lot("L", 50)], 0, Burn(3, 100), 1_000),  # it expires first
        ([lot("L", 1)], 0, Burn(3, 100), NOW + 34),  # rounded up
        ([lot("L", 50)], 20, Burn(10, 100), NOW + 300),
        ([lot("L", 50)], 50, Burn(10, 100), NOW),
        ([], 0, Burn(10, 100), NOW),
        ([lot("L", 50, until=NOW)], 0, Burn(0, 100), NOW),
        ([lot("F", 50, starts=NOW + 1)], 0, Burn(0, 100), NOW),
        ([lot("L", 50)], 0, Burn(0, 100), 1_000),
        # F joins in before L is used up; or too late; or in the very millisecond.
        ([lot("L", 50), lot("F", 20, starts=400)], 0, Burn(10, 100), NOW + 700),
        ([lot("L", 50), lot("F", 20, starts=601)], 0, Burn(10, 100), NOW + 500),
        ([lot("L", 50), lot("F", 20, starts=600)], 0, Burn(10, 100), NOW + 700),
        # L expires with 30 left, and M has to do for the rest.
        ([lot("L", 40, until=200), lot("M", 50)], 0, Burn(10, 100), NOW + 600),
        # M pays first, though it lasts longer.
        ([lot("L", 40, until=200), lot("M", 50, priority=-1)], 0, Burn(10, 100), NOW + 500),
    ],
)
def test_credit_runs_out(lots: list[Lot], debt: int, burn: Burn, at: int) -> None:
    assert runs_out_at(lots, debt, NOW, burn) == at


def test_a_lot_until_the_end_of_time_does_not_expire() -> None:
    assert runs_out_at([lot("L", 50, until=MAX_TIME_MS)], 0, NOW, Burn(0, 100)) is None
    assert runs_out_at([lot("L", 50, until=MAX_TIME_MS - 1)], 0, NOW, Burn(0, 100)) == MAX_TIME_MS - 1
    assert runs_out_at([lot("L", 50, until=MAX_TIME_MS)], 0, NOW, Burn(1, 2**50)) is None


GRANT = at(10, grant("L", 9_000, starts=0), seq=1)


def used(since: int, to: int, *entries: Written) -> int:
    return sum(used_in(EventFold(in_event_order(GRANT, *entries), Rules()), since, to))


@pytest.mark.parametrize(
    ("since", "to", "part"),
    [(100, 400, 60), (0, 900, 60), (100, 200, 20), (300, 400, 20), (399, 900, 1), (400, 900, 0), (0, 100, 0),
     (0, 101, 0), (0, 105, 1), (150, 155, 1)],
)  # fmt: skip
def test_a_report_counts_in_the_time_that_it_is_about(since: int, to: int, part: int) -> None:
    """60 for 300 ms: one for each 5 of them, however late that was told."""
    assert used(since, to, at(900, usage(60, 100, 400), seq=2)) == part


def test_the_last_hour_of_a_job_that_was_reported_at_its_end_counts() -> None:
    entries = [at(20, hold("c", 500, job="job"), seq=2), at(900, usage(300, 100, 400, final=True), seq=3)]
    assert used(300, 900, *entries) == 100


def test_a_report_of_all_that_ran_so_far_counts_where_it_adds_something() -> None:
    """The second says again what the first has said, and pays for nothing but its last 50 ms."""
    entries = [at(200, usage(100, 100, 200), seq=2), at(250, usage(150, 100, 250), seq=3)]
    assert [used(*window, *entries) for window in ((100, 200), (200, 250), (225, 250))] == [100, 50, 25]


def test_a_report_of_before_its_reservation_counts_when_the_job_ran() -> None:
    entries = [at(20, hold("c", 50, job="job"), seq=2), at(30, usage(10, 5, 15), seq=3)]
    assert [used(*window, *entries) for window in ((0, 10), (10, 15), (15, 90))] == [5, 5, 0]


def test_what_else_is_used_counts_at_its_moment_and_a_refund_against_it() -> None:
    entries = [
        at(20, hold("c", 50), seq=2), at(60, capture("c", 30, at=60), seq=3), at(90, debit("d", 20, at=40), seq=4),
        at(95, refund("d", 5, at=95), seq=5),
    ]  # fmt: skip
    assert [used(*window, *entries) for window in ((40, 60), (40, 61), (61, 96))] == [20, 50, -5]
