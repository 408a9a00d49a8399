"""One contested operation: what it was recorded as, what canonical order makes of it, and the amends made so far."""

from conflict.contest import Amends, Contest
from conflict.detect import Canonical
from conflict.rivals import Rivals
from ledger.ids import Position
from ledger.posting import Outcome, Postings
from replication.clock import Dot
from replication.filed import Filed
from tests.regions import Regions, grant, reserve

RECORDED = {"lot/L": -80, "held/b": 80}
SHORT = {"lot/L": -20, "debt": -60, "held/b": 80}


def hold() -> Filed:
    world = Regions("us")
    world.do("us", grant("L", 100))
    filed = world.do("us", reserve("b", 80))
    assert filed.entry.postings == RECORDED
    return filed


def contest(canonical: Postings, *amends: Postings, outcome: Outcome = Outcome.APPLIED) -> Contest:
    made = Contest(hold(), Canonical(canonical, outcome, None, 0), [])
    for seq, postings in enumerate(amends, 10):
        made.add(Amends(Position(seq, "us", "b1", seq), postings))
    return made


def test_what_canonical_order_takes_away_is_to_be_posted() -> None:
    open_contest = contest(SHORT)
    assert open_contest.open_difference == {"lot/L": 60, "debt": -60}
    assert (open_contest.is_settled, open_contest.is_void, open_contest.is_cleared) == (False, False, False)


def test_once_it_is_posted_nothing_more_is() -> None:
    settled = contest(SHORT, {"lot/L": 60, "debt": -60})
    assert settled.open_difference == {}
    assert (settled.is_settled, settled.is_void, settled.is_cleared) == (True, False, False)


def test_amends_add_up() -> None:
    settled = contest(SHORT, {"lot/L": 50, "debt": -50}, {"lot/L": 10, "debt": -10})
    assert settled.compensated == {"lot/L": 60, "debt": -60}
    assert settled.is_settled


def test_amends_for_nothing_are_to_be_taken_back() -> None:
    too_much = contest(RECORDED, {"lot/L": 60, "debt": -60})
    assert too_much.open_difference == {"lot/L": -60, "debt": 60}
    assert (too_much.is_settled, too_much.is_void, too_much.is_cleared) == (False, False, True)


def test_amends_taken_back_are_still_something_to_report() -> None:
    cleared = contest(RECORDED, {"lot/L": 60, "debt": -60}, {"lot/L": -60, "debt": 60})
    assert (cleared.is_settled, cleared.is_void, cleared.is_cleared) == (True, False, True)
    assert cleared.kind(Rivals((), 1, (), False)) == "overspend"


def test_as_recorded_and_without_amends_there_is_nothing_to_report() -> None:
    assert contest(RECORDED).is_void


def test_another_outcome_is_something_to_report_although_nothing_has_to_be_posted() -> None:
    other = contest(RECORDED, outcome=Outcome.DUPLICATE)
    assert (other.is_settled, other.is_void, other.is_cleared) == (True, False, False)


def test_a_compensation_counts_once_however_often_it_is_read() -> None:
    once = contest(SHORT)
    amends = Amends(Position(10, "us", "b1", 10), {"lot/L": 60, "debt": -60})
    once.add(amends)
    once.add(amends)
    assert once.amends == [amends]


def test_compensations_stand_in_canonical_order_in_whatever_order_they_come() -> None:
    made = contest(SHORT)
    later, earlier = (Amends(Position(hlc, "us", boot, 1), {"lot/L": 1}) for hlc, boot in ((20, "b2"), (10, "b1")))
    made.add(later)
    made.add(earlier)
    assert made.amends == [earlier, later]
    assert earlier.dot == Dot("us/b1", 1)
