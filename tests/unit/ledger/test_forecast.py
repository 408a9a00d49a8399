"""When credit runs out: used up, or expired, whichever comes first."""

import pytest

from ledger.amount import MAX_TIME_MS
from ledger.forecast import HOUR_MS, Burn, runs_out_at
from ledger.ids import LotId
from ledger.lot import Lot
from tests.unit.ledger.story import place

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
