"""What is reported of a job: signs of life extend its lease, and each millisecond that it ran is charged once."""

import pytest

from ledger.cells import Cell
from ledger.claim import ClaimState
from ledger.ids import ClaimId, JobId, usage_name
from ledger.job import Job
from ledger.posting import Outcome
from ledger.rules import Rules
from tests.properties.histories import Checkpoint
from tests.unit.ledger.story import (
    Story,
    capture,
    debit,
    expire,
    grant,
    heartbeat,
    hold,
    lapse,
    place,
    refund,
    release,
    transfer,
    usage,
)

OWN = usage_name(JobId("train"))
"""The claim of a job that nothing was reserved for."""


def reserved(amount: int = 60) -> Story:
    """100 credit, of which some are held for the job."""
    story = Story()
    story.do(10, grant("L", 100))
    story.do(11, hold("c", amount, lease=500, job="train"))
    return story


class TestUsageOfAReservation:
    def test_it_is_captured_from_what_is_held_for_the_job(self) -> None:
        story = reserved()
        effect = story.do(100, usage("train", 20, 30, 25))
        assert (effect.postings, effect.outcome) == ({"held/c": -25, "used": 25}, Outcome.APPLIED)
        assert effect.result == story.claim("c").view()
        assert (story.claim("c").state, story.claim("c").held_total) == (ClaimState.OPEN, 35)
        last = place(100, story.seq)
        assert story.job("train") == Job(JobId("train"), ClaimId("c"), None, 30, None, ((20, 30),), 25, 0, None, last)

    def test_the_reservation_made_last_is_the_jobs(self) -> None:
        story = reserved(30)
        story.do(12, hold("d", 30, job="train"))
        assert story.do(100, usage("train", 20, 30, 25)).postings == {"held/d": -25, "used": 25}

    def test_a_report_may_name_another(self) -> None:
        story = reserved(30)
        story.do(12, hold("d", 30))
        assert story.do(100, usage("train", 20, 30, 25, claim="d")).postings == {"held/d": -25, "used": 25}
        assert story.job("train").claim == "c"

    @pytest.mark.parametrize("named", ["nobody", "d", "~" + 24 * "a"])
    def test_a_report_that_names_no_reservation_falls_back_to_the_jobs(self, named: str) -> None:
        story = reserved()
        story.do(12, debit("d", 5, at=12))
        story.do(13, transfer("~" + 24 * "a", 5))
        assert story.do(100, usage("train", 20, 30, 25, claim=named)).postings == {"held/c": -25, "used": 25}

    def test_what_exceeds_the_hold_is_funded_at_the_time_when_it_began(self) -> None:
        story = Story()
        story.do(10, grant("old", 40, until=100))
        story.do(11, grant("new", 40, starts=100))
        story.do(12, hold("c", 10, job="train"))
        story.do(150, usage("train", 99, 110, 45))
        assert story.claim("c").used == (("old", 40), ("new", 5))

    def test_after_its_end_it_is_an_overrun(self) -> None:
        story = reserved()
        story.do(600, lapse("c", at=500))
        effect = story.do(601, usage("train", 20, 30, 25))
        assert (effect.postings, effect.outcome) == ({"lot/L": -25, "used": 25}, Outcome.OVERRUN)
        assert (story.claim("c").state, story.job("train").unreserved) == (ClaimState.LAPSED, 0)

    def test_the_final_report_releases_the_rest(self) -> None:
        story = reserved()
        effect = story.do(100, usage("train", 20, 30, 25, final=True))
        assert (effect.postings, effect.outcome) == ({"held/c": -60, "used": 25, "lot/L": 35}, Outcome.APPLIED)
        assert (story.claim("c").state, story.job("train").finished_at) == (ClaimState.CLOSED, 30)

    def test_a_final_report_that_costs_nothing_releases_all_the_same(self) -> None:
        for nothing in (usage("train", 30, 30, 0, final=True), usage("train", 20, 30, 0, final=True)):
            story = reserved()
            effect = story.do(100, nothing)
            assert (effect.postings, effect.outcome) == ({"held/c": -60, "lot/L": 60}, Outcome.APPLIED)
            assert effect.result == story.claim("c").view()
            assert story.claim("c").state is ClaimState.CLOSED

    def test_a_final_report_of_time_already_charged_releases_all_the_same(self) -> None:
        story = reserved()
        story.do(100, usage("train", 20, 30, 25))
        effect = story.do(101, usage("train", 20, 30, 25, final=True))
        assert (effect.postings, effect.outcome) == ({"held/c": -35, "lot/L": 35}, Outcome.APPLIED)

    def test_a_late_interval_after_the_final_one_is_charged_as_an_overrun(self) -> None:
        story = reserved()
        story.do(100, usage("train", 20, 30, 25, final=True))
        effect = story.do(101, usage("train", 10, 20, 5))
        assert (effect.postings, effect.outcome) == ({"lot/L": -5, "used": 5}, Outcome.OVERRUN)
        assert story.claim("c").used == (("L", 30),)
        assert (story.job("train").covered, story.job("train").finished_at) == (((10, 30),), 30)

    def test_a_second_final_report_has_nothing_to_release(self) -> None:
        story = reserved()
        story.do(100, usage("train", 20, 30, 25, final=True))
        again = story.do(101, usage("train", 30, 30, 0, final=True))
        assert (again.postings, again.outcome, again.result) == ({}, Outcome.CLOSED, story.claim("c").view())

    def test_work_that_costs_nothing_is_covered_all_the_same(self) -> None:
        story = reserved()
        effect = story.do(100, usage("train", 20, 30, 0))
        assert (effect.postings, effect.outcome, effect.result) == ({}, Outcome.APPLIED, story.claim("c").view())
        assert story.do(101, usage("train", 20, 30, 25)).outcome is Outcome.COVERED


class TestUsageWithoutAReservation:
    def test_it_is_charged_to_a_claim_of_the_jobs_own(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        effect = story.do(11, usage("train", 0, 10, 25))
        assert (effect.postings, effect.outcome) == ({"lot/L": -25, "used": 25}, Outcome.OVERRUN)
        claim = story.claim(OWN)
        assert (claim.state, claim.amount, claim.used, claim.is_reservation) == (
            ClaimState.CLOSED, 0, (("L", 25),), False,
        )  # fmt: skip
        assert (story.job("train").charged, story.job("train").unreserved) == (25, 25)

    def test_all_of_it_joins_one_claim(self) -> None:
        story = Story()
        story.do(10, usage("train", 0, 10, 25))
        story.do(11, usage("train", 10, 20, 25, claim="nobody"))
        assert (story.claim(OWN).used_total, story.job("train").unreserved) == (50, 50)

    def test_what_no_lot_covers_is_owed(self) -> None:
        story = Story()
        story.do(10, usage("train", 0, 10, 25))
        assert (story.claim(OWN).debt, story.books) == (25, {"used": 25, "debt": -25})
        assert story.do(11, grant("L", 30)).postings == {"issued": -30, "lot/L": 5, "debt": 25}

    def test_it_can_be_refunded(self) -> None:
        story = Story()
        story.do(10, usage("train", 0, 10, 25))
        assert story.do(11, refund(OWN, 10)).postings == {"used": -10, "debt": 10}

    def test_a_reservation_made_later_pays_for_what_is_reported_later(self) -> None:
        story = Story()
        story.do(10, grant("L", 100))
        story.do(11, usage("train", 0, 10, 25))
        story.do(12, hold("c", 30, job="train"))
        assert story.do(13, usage("train", 10, 20, 25)).postings == {"held/c": -25, "used": 25}
        assert (story.job("train").charged, story.job("train").unreserved) == (50, 25)

    def test_final_or_not_makes_no_difference(self) -> None:
        story = Story()
        effect = story.do(10, usage("train", 0, 10, 25, final=True))
        assert effect.outcome is Outcome.OVERRUN
        nothing = story.do(11, usage("other", 10, 10, 0, final=True))
        assert (nothing.outcome, nothing.postings, nothing.result) == (Outcome.CLOSED, {}, None)


class TestTheUnion:
    def test_the_same_interval_again_costs_nothing(self) -> None:
        story = reserved()
        story.do(100, usage("train", 20, 30, 25))
        effect = story.do(101, usage("train", 20, 30, 25))
        assert (effect.postings, effect.outcome, effect.result) == ({}, Outcome.COVERED, story.claim("c").view())

    def test_an_interval_that_overlaps_pays_for_what_is_new(self) -> None:
        story = reserved()
        story.do(100, usage("train", 20, 30, 10))
        assert story.do(101, usage("train", 25, 45, 20)).postings == {"held/c": -15, "used": 15}
        assert story.do(102, usage("train", 10, 50, 40)).postings == {"held/c": -15, "used": 15}
        assert (story.job("train").covered, story.job("train").charged) == (((10, 50),), 40)

    def test_a_part_is_rounded_up(self) -> None:
        story = reserved()
        story.do(100, usage("train", 20, 30, 10))
        assert story.do(101, usage("train", 29, 32, 10)).postings == {"held/c": -7, "used": 7}

    def test_what_was_reported_dearer_stays_as_it_was_charged_first(self) -> None:
        story = reserved()
        story.do(100, usage("train", 20, 30, 10))
        assert story.do(101, usage("train", 20, 30, 50)).outcome is Outcome.COVERED
        assert story.job("train").charged == 10

    def test_it_is_one_union_whatever_reservation_paid(self) -> None:
        story = reserved(30)
        story.do(12, hold("d", 30))
        story.do(100, usage("train", 20, 30, 10, claim="c"))
        assert story.do(101, usage("train", 20, 30, 10, claim="d")).outcome is Outcome.COVERED

    def test_jobs_have_unions_of_their_own(self) -> None:
        story = reserved()
        story.do(100, usage("train", 20, 30, 10))
        assert story.do(101, usage("other", 20, 30, 10)).postings == {"lot/L": -10, "used": 10}

    def test_captures_take_no_part_in_it(self) -> None:
        story = reserved()
        story.do(100, capture("c", 10, at=25))
        assert story.do(101, usage("train", 20, 30, 10)).postings == {"held/c": -10, "used": 10}

    def test_what_a_duplicate_reports_is_not_covered_by_it(self) -> None:
        story = reserved()
        story.do(99, heartbeat("train", 99), key="k")
        assert story.do(100, usage("train", 20, 30, 10), key="k").outcome is Outcome.DUPLICATE
        assert story.do(101, usage("train", 20, 30, 10)).outcome is Outcome.APPLIED

    def test_a_report_whose_key_was_forgotten_is_covered_by_itself(self) -> None:
        story = Story(rules=Rules(key_lifetime_ms=100))
        story.do(10, usage("train", 0, 10, 25), key="k")
        assert story.do(200, usage("train", 0, 10, 25), key="k").outcome is Outcome.COVERED


class TestHeartbeats:
    def test_a_heartbeat_extends_the_lease_of_the_jobs_reservation(self) -> None:
        story = reserved()
        effect = story.do(100, heartbeat("train", 90, lease=700))
        assert (effect.outcome, effect.postings, effect.result) == (Outcome.APPLIED, {}, story.claim("c").view())
        assert story.claim("c").lease_until == 700
        assert story.job("train").seen_at == 90

    def test_it_never_shortens_one(self) -> None:
        story = reserved()
        assert story.do(100, heartbeat("train", 90, lease=400)).outcome is Outcome.APPLIED
        assert story.claim("c").lease_until == 500

    def test_it_may_name_the_reservation(self) -> None:
        story = reserved(30)
        story.do(12, hold("d", 30, lease=500))
        story.do(100, heartbeat("train", 90, lease=700, claim="d"))
        assert (story.claim("c").lease_until, story.claim("d").lease_until) == (500, 700)
        story.do(101, heartbeat("train", 90, lease=800, claim="nobody"))
        assert (story.claim("c").lease_until, story.claim("d").lease_until) == (800, 700)

    def test_it_saves_a_reservation_from_the_sweep(self) -> None:
        story = reserved()
        story.do(100, heartbeat("train", 90, lease=700))
        assert story.do(600, lapse("c", at=600)).outcome is Outcome.RENEWED

    @pytest.mark.parametrize("end", [release("c"), lapse("c", at=500), usage("train", 20, 30, 5, final=True)])
    def test_on_a_reservation_that_has_ended_it_wakes_nothing(self, end: object) -> None:
        story = reserved()
        story.do(600, end)  # type: ignore[arg-type]
        effect = story.do(601, heartbeat("train", 601, lease=900))
        assert (effect.outcome, effect.postings, effect.result) == (Outcome.CLOSED, {}, story.claim("c").view())
        assert (story.claim("c").lease_until, story.job("train").seen_at) == (500, 601)

    def test_of_a_job_without_a_reservation_it_is_remembered(self) -> None:
        story = Story()
        effect = story.do(100, heartbeat("train", 90, started=True))
        assert (effect.outcome, effect.result) == (Outcome.CLOSED, None)
        last = place(100, story.seq)
        assert story.job("train") == Job(JobId("train"), None, 90, 90, unheld=last, last=last)

    def test_the_earliest_start_is_the_start_whatever_comes_first(self) -> None:
        story = Story()
        story.do(100, heartbeat("train", 90, started=True))
        story.do(101, heartbeat("train", 40, started=True))
        story.do(102, heartbeat("train", 60))
        assert (story.job("train").started_at, story.job("train").seen_at) == (40, 90)


class TestWhichClaim:
    def test_a_report_is_about_the_reservation_that_it_names_or_the_jobs_own(self) -> None:
        story = reserved()
        story.do(12, hold("d", 5))
        concerned = story.account.concerned
        assert concerned(usage("train", 0, 1, 1)) == concerned(heartbeat("train", 1)) == "c"
        assert concerned(usage("train", 0, 1, 1, claim="d")) == concerned(heartbeat("train", 1, claim="d")) == "d"
        assert concerned(usage("train", 0, 1, 1, claim="nobody")) == "c"

    def test_without_one_usage_makes_a_claim_and_a_heartbeat_is_about_none(self) -> None:
        story = Story()
        assert story.account.concerned(usage("train", 0, 1, 1)) == OWN
        assert story.account.concerned(heartbeat("train", 1)) is None

    def test_an_effect_names_it(self) -> None:
        story = reserved()
        assert story.do(100, usage("train", 20, 30, 1)).claim == "c"
        assert story.do(101, heartbeat("train", 90)).claim == "c"
        assert story.do(102, usage("other", 20, 30, 1)).claim == usage_name(JobId("other"))
        assert story.do(103, heartbeat("bare", 90)).claim is None
        assert story.do(104, usage("train", 20, 30, 1, claim="nobody")).claim == "c"


class TestTheJobItself:
    def test_undo_takes_back_what_was_said_of_it(self) -> None:
        story = reserved()
        before = story.job("train")
        for operation in (heartbeat("train", 90, 700), usage("train", 20, 30, 25), hold("d", 5, job="train")):
            effect = story.do(100, operation)
            assert [change.old for change in effect.changes if change.cell is Cell.JOB] == [before]
            story.account.undo(effect)
            assert story.job("train") is before
        story.account.undo(story.do(100, usage("other", 20, 30, 25)))
        assert story.account.jobs.keys() == {"train"}

    def test_the_past_knows_what_memory_has_let_go_of(self) -> None:
        past = Checkpoint()
        story = Story(past)
        effects = [story.do(10, grant("L", 100)), story.do(11, hold("c", 60, job="train"))]
        effects += [story.do(12, usage("train", 0, 10, 10)), story.do(13, expire("nothing"))]
        past.take(effects)
        for effect in effects[:3]:
            story.account.forget(effect)
        assert story.account.jobs == {}
        assert story.do(20, usage("train", 5, 15, 10)).postings == {"held/c": -5, "used": 5}
        assert story.job("train").charged == 15

    def test_what_something_later_has_changed_stays_in_memory(self) -> None:
        story = reserved()
        first = story.do(100, usage("train", 20, 30, 5))
        story.do(101, usage("train", 30, 40, 5))
        story.account.forget(first)
        assert story.account.jobs[JobId("train")].charged == 10
