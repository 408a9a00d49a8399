"""Late arrivals take their places; what lies behind them is folded again, and what is stable leaves at the front."""

from dataclasses import dataclass

import pytest

from ledger.cells import NOTHING, Effect
from ledger.ids import ClaimId, Key, LotId, Position
from ledger.operation import Operation
from ledger.posting import Outcome
from ledger.rules import Rules
from ledger.timeline import BEGINNING, Timeline
from tests.properties.histories import Checkpoint
from tests.unit.ledger.story import debit, grant, hold, lapse, place, renew, revoke


@dataclass(frozen=True)
class Written:
    position: Position
    operation: Operation | None
    key: Key | None = None
    request: str | None = None


def at(ms: int, operation: Operation | None, key: str | None = None, region: str = "eu", seq: int = 1) -> Written:
    return Written(place(ms, seq, region), operation, None if key is None else Key(key))


def write(timeline: Timeline[Written], entry: Written) -> Effect:
    """Do what an origin does: apply first, then append."""
    effect = NOTHING
    if entry.operation is not None:
        effect = timeline.account.apply(entry.operation, entry.position, entry.key, entry.request)
    timeline.append(entry, effect)
    return effect


def told(*entries: Written) -> Timeline[Written]:
    """A timeline that was told of `entries` by others, in the order in which they stand here."""
    timeline: Timeline[Written] = Timeline(Rules())
    for entry in entries:
        timeline.insert(entry)
    return timeline


def outcomes(timeline: Timeline[Written]) -> list[Outcome]:
    return [effect.outcome for _, effect in timeline.effects()]


GRANT = at(10, grant("L", 100))


def test_an_empty_timeline_begins_before_every_entry() -> None:
    timeline = told()
    assert (len(timeline), timeline.last_place, timeline.begins_after) == (0, BEGINNING, BEGINNING)
    assert Position(0, "0", "0", 1) > BEGINNING


def test_of_two_regions_that_spend_the_same_credit_the_later_one_is_short() -> None:
    timeline = told(GRANT)
    own = at(30, hold("own", 80), region="us")
    assert write(timeline, own).postings == {"lot/L": -80, "held/own": 80}
    timeline.insert(at(20, hold("other", 80)))
    effects = dict(timeline.effects())
    assert effects[own].postings == {"lot/L": -20, "debt": -60, "held/own": 80}
    assert timeline.account.available(40) == -60


def test_the_same_key_in_two_regions_counts_once_and_for_the_earlier_one() -> None:
    timeline = told(GRANT)
    write(timeline, at(30, hold("c", 80), key="k", region="us"))
    timeline.insert(at(20, hold("c", 80), key="k"))
    assert outcomes(timeline) == [Outcome.APPLIED, Outcome.APPLIED, Outcome.DUPLICATE]
    assert timeline.account.held == 80


def test_a_renewal_that_arrives_after_the_sweep_still_beats_it() -> None:
    timeline = told(GRANT, at(20, hold("c", 80, lease=100)))
    assert write(timeline, at(130, lapse("c", at=101))).outcome is Outcome.LAPSED
    timeline.insert(at(99, renew("c", 300), region="us"))
    assert outcomes(timeline)[-1] is Outcome.RENEWED
    assert timeline.account.held == 80


def test_a_revocation_that_arrives_late_takes_the_credit_from_under_a_hold() -> None:
    timeline = told(GRANT, at(30, hold("c", 80)))
    assert timeline.account.claims[ClaimId("c")].debt == 0
    timeline.insert(at(20, revoke("L"), region="us"))
    assert timeline.account.claims[ClaimId("c")].debt == 80


def test_entries_stand_in_canonical_order_whatever_the_order_of_arrival() -> None:
    entries = [at(10, grant("L", 1)), at(10, grant("M", 1), seq=2), at(10, None, region="us"), at(11, grant("N", 1))]
    timeline = told(entries[2], entries[3], entries[1], entries[0])
    assert [entry for entry, _ in timeline.effects()] == entries


def test_a_compensation_stands_in_the_order_and_does_nothing() -> None:
    timeline = told(GRANT, at(20, None))
    assert outcomes(timeline) == [Outcome.APPLIED, Outcome.POSTED]
    assert timeline.account.available(30) == 100


def test_a_place_that_is_taken_is_refused() -> None:
    timeline = told(GRANT)
    with pytest.raises(AssertionError):
        timeline.insert(GRANT)


def test_what_is_written_here_must_be_later_than_all_that_is_known() -> None:
    timeline = told(GRANT)
    _ = timeline.account
    with pytest.raises(AssertionError):
        timeline.append(at(9, None), NOTHING)


def test_nothing_is_appended_to_an_account_that_is_behind() -> None:
    timeline = told(GRANT)
    with pytest.raises(AssertionError):
        timeline.append(at(20, None), NOTHING)


def test_nothing_may_arrive_before_what_was_checkpointed() -> None:
    timeline = told(GRANT, at(20, hold("c", 80)))
    timeline.drop(2)
    assert (len(timeline), timeline.begins_after, timeline.last_place) == (0, place(20), place(20))
    with pytest.raises(AssertionError):
        timeline.insert(at(15, debit("d", 1, at=15)))
    with pytest.raises(AssertionError):
        timeline.insert(at(20, debit("d", 1, at=15)))


def test_a_timeline_can_begin_at_a_checkpoint() -> None:
    timeline: Timeline[Written] = Timeline(Rules(), begins_after=place(20))
    assert timeline.last_place == place(20)
    with pytest.raises(AssertionError):
        timeline.insert(at(20, None))


def test_dropping_nothing_changes_nothing() -> None:
    timeline = told(GRANT)
    timeline.drop(0)
    assert (len(timeline), timeline.begins_after) == (1, BEGINNING)


def test_what_was_dropped_is_still_known_through_the_past() -> None:
    past = Checkpoint()
    timeline: Timeline[Written] = Timeline(Rules(), past)
    for entry in (GRANT, at(20, debit("d", 30, at=20), key="k")):
        timeline.insert(entry)
    past.take(effect for _, _, effect in timeline.first(2))
    timeline.drop(2)
    assert timeline.account.claims == {}
    assert write(timeline, at(30, hold("c", 1), key="k")).outcome is Outcome.DUPLICATE
    assert timeline.account.lots[LotId("L")].remaining == 70


def test_what_was_written_here_needs_no_second_look() -> None:
    timeline = told()
    write(timeline, GRANT)
    write(timeline, at(20, hold("c", 80)))
    assert list(timeline.take_refolded()) == []


def test_a_late_arrival_and_all_behind_it_need_a_look_once() -> None:
    timeline = told()
    write(timeline, GRANT)
    own = at(30, hold("own", 80))
    write(timeline, own)
    late = at(20, hold("other", 80), region="us")
    timeline.insert(late)
    assert [entry for entry, _ in timeline.take_refolded()] == [late, own]
    assert list(timeline.take_refolded()) == []


def test_what_is_written_while_others_wait_for_a_look_is_looked_at_with_them() -> None:
    timeline = told(GRANT)
    own = at(30, hold("own", 80))
    write(timeline, own)
    assert [entry for entry, _ in timeline.take_refolded()] == [GRANT, own]


def test_what_waits_for_a_look_still_does_after_others_were_dropped() -> None:
    timeline = told()
    write(timeline, GRANT)
    late = at(20, hold("c", 80))
    timeline.insert(late)
    timeline.drop(1)
    assert [entry for entry, _ in timeline.take_refolded()] == [late]


def test_what_had_its_look_needs_none_after_a_drop() -> None:
    timeline = told(GRANT, at(20, hold("c", 80)), at(30, hold("d", 80)))
    assert len(list(timeline.take_refolded())) == 3
    timeline.drop(1)
    assert list(timeline.take_refolded()) == []


def test_the_first_entries_come_with_their_places_and_effects() -> None:
    timeline = told(at(20, hold("c", 80)), GRANT)
    ((first_place, entry, effect),) = timeline.first(1)
    assert (first_place, entry, effect.postings) == (place(10), GRANT, {"issued": -100, "lot/L": 100})
    assert len(timeline.first(9)) == 2


def test_entries_are_counted_up_to_and_including_a_clock_reading() -> None:
    timeline = told(GRANT, at(20, None), at(20, None, region="z" * 32), at(21, None))
    readings = [(9 << 16) | 0xFFFF, 10 << 16, (20 << 16) - 1, 20 << 16, 99 << 16]
    assert [timeline.count_until(hlc) for hlc in readings] == [0, 1, 1, 3, 4]


def test_entries_are_paged_by_the_place_after_which_they_stand() -> None:
    entries = [at(ms, None) for ms in (10, 20, 30)]
    timeline = told(*entries)
    assert timeline.entries_between(BEGINNING, 2) == entries[:2]
    assert timeline.entries_between(place(20), 2) == entries[2:]
    assert timeline.entries_between(place(15), 9) == entries[1:]
    assert timeline.entries_between(place(30), 9) == []
