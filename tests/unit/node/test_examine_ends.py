"""Jobs that went on too long, or of which nobody has said that they finished."""

import pytest

from ledger.command import (
    ReportUsage,
    SetPolicy,
)
from ledger.operation import OnOverspend
from ledger.pricing import HOUR_MS
from node.finding import FindingKind
from node.snapshots import JobState
from replication.clock import Dot
from tests.regions import grant, reserve
from tests.unit.node.priced import (
    GRACE,
    LATE,
    C,
    J,
    Priced,
    beat,
    findings,
    hold,
    kinds,
    made,
    settle,
    the_finding,
    told,
)
from tests.world import START_MS


class TestLapsedRunning:
    @pytest.fixture
    def lapsed(self, world: Priced) -> Priced:
        """A job that was started at once, and whose lease of a second has ended."""
        world.do("eu", hold(lease_ms=1_000))
        world.do("eu", beat(started=True))
        world.exchange(1_500)
        claim = world.book("eu").account.claim(C)
        assert claim is not None
        assert claim.state == "lapsed"
        return world

    def test_a_job_that_was_seen_after_its_lease_had_ended(self, lapsed: Priced) -> None:
        first = lapsed.do("eu", beat())
        last = lapsed.do("eu", beat())
        told(lapsed, JobState.RUNNING, None, at=lapsed.now - 50)
        finding = the_finding(lapsed)
        claim = lapsed.book("eu").account.claim(C)
        assert claim is not None
        job = lapsed.book("eu").account.job(J)
        assert job is not None
        assert job.started_at is not None
        assert job.seen_at is not None
        assert (finding.kind, finding.subject) == (FindingKind.LAPSED_RUNNING, "j")
        assert finding.since == claim.lease_until
        lapse = Dot(first.dot.replica, first.dot.seq - 1)
        assert finding.entries == (made(lapsed), lapse, first.dot, last.dot)
        cost = -(-2 * (job.seen_at - job.started_at) // 1_000)
        assert finding.remedy == ReportUsage(J, job.seen_at, job.started_at, cost)

    def test_its_entries_are_named_from_rows_as_well(self, lapsed: Priced) -> None:
        lapsed.do("eu", beat())
        before = the_finding(lapsed)
        lapsed.crash("eu")
        lapsed.exchange(3_000)
        assert lapsed.book("eu").is_idle
        assert the_finding(lapsed).entries == before.entries

    def test_a_job_that_the_scheduler_says_runs_after_that(self, lapsed: Priced) -> None:
        told(lapsed, JobState.RUNNING, lapsed.now - 1_400)
        finding = the_finding(lapsed)
        assert finding.kind is FindingKind.LAPSED_RUNNING
        assert finding.remedy == ReportUsage(J, lapsed.now, lapsed.now - 1_400, 3)
        settle(lapsed, finding)
        assert findings(lapsed) == []
        lapsed.pass_time(1_000)
        told(lapsed, JobState.RUNNING, lapsed.now - 2_400)
        assert the_finding(lapsed).id != finding.id

    def test_it_is_charged_from_the_end_of_what_was(self, lapsed: Priced) -> None:
        charged_until = lapsed.now - 500
        lapsed.do("eu", ReportUsage(J, charged_until, charged_until - 500, 1))
        told(lapsed, JobState.RUNNING, charged_until - 500)
        remedy = the_finding(lapsed).remedy
        assert isinstance(remedy, ReportUsage)
        assert (remedy.start, remedy.end) == (charged_until, lapsed.now)

    def test_of_a_job_that_has_finished_it_is_the_final_report(self, lapsed: Priced) -> None:
        told(lapsed, JobState.FINISHED, lapsed.now - 1_400, lapsed.now - 100)
        remedy = the_finding(lapsed).remedy
        assert isinstance(remedy, ReportUsage)
        assert (remedy.end, remedy.final) == (lapsed.now - 100, True)

    def test_a_job_of_which_nothing_was_ever_reported(self, world: Priced) -> None:
        world.do("eu", hold(lease_ms=1_000))
        world.exchange(1_500)
        told(world, JobState.RUNNING, world.now - 1_400)
        assert kinds(world) == [FindingKind.LAPSED_RUNNING]

    def test_a_job_that_nobody_describes_is_found_and_cannot_be_settled(self, lapsed: Priced) -> None:
        lapsed.do("eu", beat())
        finding = the_finding(lapsed)
        assert finding.kind is FindingKind.LAPSED_RUNNING
        assert finding.why_not == "no snapshot says gpu_type, gpus"

    def test_a_job_that_was_seen_before_that_only_is_none(self, lapsed: Priced) -> None:
        assert findings(lapsed) == []

    def test_a_snapshot_from_before_that_makes_it_none(self, lapsed: Priced) -> None:
        told(lapsed, JobState.RUNNING, lapsed.now - 1_500, at=lapsed.now - 600)
        assert findings(lapsed) == []

    def test_a_job_with_another_reservation_by_now_is_none(self, lapsed: Priced) -> None:
        lapsed.do("eu", hold("again"))
        lapsed.do("eu", beat())
        told(lapsed, JobState.RUNNING, lapsed.now - 1_400)
        assert findings(lapsed) == []

    def test_a_job_that_was_charged_for_all_of_it_is_none(self, lapsed: Priced) -> None:
        lapsed.do("eu", ReportUsage(J, lapsed.now, lapsed.now - 1_400, 3))
        told(lapsed, JobState.RUNNING, lapsed.now - 1_400, at=lapsed.now - 1)
        assert findings(lapsed) == []

    def test_a_reservation_that_was_found_void_counts_from_its_making(self) -> None:
        world = Priced("eu", "us")
        world.do("eu", grant("L", 100, until=24 * HOUR_MS))
        world.do("eu", SetPolicy(OnOverspend.REVOKE))
        world.meet()
        world.part()
        world.do("eu", reserve("first", 80))
        world.do("us", hold("c", amount=80))
        world.do("us", beat(started=True))
        world.pass_time(1_000)
        world.do("us", beat())
        world.put_right()
        told(world, JobState.RUNNING, None, at=world.now, region="us")
        (finding,) = [each for each in findings(world, "us") if each.kind is FindingKind.LAPSED_RUNNING]
        claim = world.book("us").account.claim(C)
        assert claim is not None
        assert claim.state == "revoked"
        assert finding.since == claim.made.now
        assert "void" in finding.detail
        assert isinstance(finding.remedy, ReportUsage)


class TestUnfinishedUsage:
    @pytest.fixture
    def quiet(self, world: Priced) -> Priced:
        """A job that has not been seen for a little more than the grace time."""
        world.do("eu", hold())
        world.do("eu", beat(started=True))
        world.pass_time(GRACE + 1)
        return world

    def test_a_job_that_is_not_seen_any_more(self, quiet: Priced) -> None:
        seen = quiet.now - GRACE - 1
        finding = the_finding(quiet)
        assert (finding.kind, finding.subject, finding.since) == (FindingKind.UNFINISHED_USAGE, "j", seen)
        assert finding.entries == (made(quiet), Dot("eu/b1", 3)), "the hold, and the last heartbeat"
        assert finding.remedy == ReportUsage(J, seen, final=True)
        assert "60 is still held" in finding.detail
        settle(quiet, finding)
        assert findings(quiet) == []
        assert quiet.book("eu").account.held == 0

    def test_it_is_found_in_rows_as_well_as_in_memory(self, quiet: Priced) -> None:
        before = the_finding(quiet)
        quiet.crash("eu")
        quiet.exchange(3_000)
        assert quiet.book("eu").is_idle
        assert the_finding(quiet).id == before.id

    def test_seen_again_and_lost_again_it_is_another_one(self, quiet: Priced) -> None:
        first = the_finding(quiet)
        quiet.do("eu", beat())
        assert findings(quiet) == []
        quiet.pass_time(GRACE + 1)
        assert the_finding(quiet).id != first.id

    def test_usage_without_a_reservation_rests_on_its_first_entry(self, world: Priced) -> None:
        entry = world.do("eu", ReportUsage(J, world.now, world.now - 1_000, 7))
        world.pass_time(GRACE + 1)
        finding = the_finding(world)
        assert finding.kind is FindingKind.UNFINISHED_USAGE
        assert finding.entries == (entry.dot,)
        assert "held" not in finding.detail

    def test_a_job_that_the_scheduler_saw_lately_is_none(self, quiet: Priced) -> None:
        told(quiet, JobState.RUNNING, quiet.now - GRACE, at=quiet.now - GRACE)
        assert findings(quiet) == []
        quiet.pass_time(1)
        assert kinds(quiet) == [FindingKind.UNFINISHED_USAGE], "and has not been heard of since"

    def test_one_that_the_scheduler_says_has_ended_ends_then(self, quiet: Priced) -> None:
        ended = quiet.now - GRACE + 10
        told(quiet, JobState.FINISHED, None, ended)
        assert the_finding(quiet).remedy == ReportUsage(J, ended, final=True)

    def test_one_that_ended_just_now_may_still_be_reported(self, quiet: Priced) -> None:
        told(quiet, JobState.FINISHED, quiet.now - GRACE, quiet.now - 10)
        assert findings(quiet) == []

    def test_one_that_ran_with_a_reservation_and_was_never_reported(self, world: Priced) -> None:
        world.do("eu", hold())
        ended = world.now
        told(world, JobState.FINISHED, ended - 1_000, ended)
        world.pass_time(GRACE + 1)
        finding = the_finding(world)
        assert (finding.kind, finding.remedy) == (FindingKind.UNFINISHED_USAGE, ReportUsage(J, ended, final=True))
        settle(world, finding)
        assert findings(world) == []

    @pytest.mark.parametrize("cost", [5, None])
    def test_one_that_has_finished_is_none(self, world: Priced, cost: int | None) -> None:
        world.do("eu", hold())
        world.do("eu", beat(started=True))
        world.do("eu", ReportUsage(J, world.now, world.now - 1 if cost else None, cost, final=True))
        world.pass_time(GRACE + 1)
        assert findings(world) == []

    def test_one_that_was_only_reserved_for_is_another_matter(self, world: Priced) -> None:
        world.do("eu", hold(lease_ms=1_000))
        world.exchange(1_500)
        world.pass_time(GRACE + 1)
        assert findings(world) == []

    def test_one_that_was_last_seen_too_long_ago_ends_as_early_as_is_taken(self, quiet: Priced) -> None:
        quiet.pass_time(LATE)
        finding = the_finding(quiet)
        assert finding.remedy == ReportUsage(J, quiet.now - LATE, final=True)
        settle(quiet, finding)
        assert findings(quiet) == []

    def test_the_reservation_that_the_scheduler_names_is_released(self, world: Priced) -> None:
        world.do("eu", hold(job=None))
        world.do("eu", beat(started=True))
        world.pass_time(GRACE + 1)
        told(world, JobState.FINISHED, START_MS, world.now - GRACE - 1, reservation="c")
        finding = the_finding(world)
        assert isinstance(finding.remedy, ReportUsage)
        assert finding.remedy.reservation == C
        settle(world, finding)
        assert world.book("eu").account.held == 0
