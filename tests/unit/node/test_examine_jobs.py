"""Jobs against reservations and reports: what is found of them, and that doing what a finding says settles it."""

import pytest

from ledger.command import (
    Command,
    ReleaseHold,
    ReportUsage,
)
from ledger.ids import TenantId
from ledger.pricing import HOUR_MS
from node.finding import FindingKind
from node.snapshots import JobState
from tests.regions import capture, release, renew
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


def test_where_all_is_well_nothing_is_found(world: Priced) -> None:
    world.do("eu", hold())
    world.do("eu", beat(started=True))
    assert findings(world) == []


class TestNeverStarted:
    @pytest.fixture
    def silent(self, world: Priced) -> Priced:
        """A reservation of which nothing has been heard for a little more than the grace time."""
        world.do("eu", hold())
        world.pass_time(GRACE + 1)
        return world

    def test_a_reservation_of_which_nothing_is_heard(self, silent: Priced) -> None:
        finding = the_finding(silent)
        assert (finding.kind, finding.subject) == (FindingKind.NEVER_STARTED, "c")
        assert finding.since == silent.now - GRACE - 1
        assert finding.entries == (made(silent),)
        assert finding.remedy == ReleaseHold(C)
        assert "j" in finding.detail
        assert "60" in finding.detail

    def test_settled_it_is_gone_and_the_credit_is_back(self, silent: Priced) -> None:
        settle(silent, the_finding(silent))
        assert findings(silent) == []
        assert silent.book("eu").account.held == 0

    def test_it_is_found_in_rows_as_well_as_in_memory(self, silent: Priced) -> None:
        before = the_finding(silent)
        silent.crash("eu")
        silent.exchange(3_000)
        assert silent.book("eu").is_idle
        assert the_finding(silent).id == before.id

    def test_within_the_grace_time_it_is_none(self, world: Priced) -> None:
        world.do("eu", hold())
        world.pass_time(GRACE)
        assert findings(world) == []

    @pytest.mark.parametrize(
        "sign",
        [
            beat(),
            beat(started=True),
            ReportUsage(J, START_MS + 1_000, START_MS + 500, 5),
            renew("c", 11 * HOUR_MS),
            capture("c", 1),
        ],
        ids=["heartbeat", "start", "usage", "renewal", "capture"],
    )
    def test_any_sign_of_life_makes_it_none(self, world: Priced, sign: Command) -> None:
        world.do("eu", hold())
        world.do("eu", sign)
        world.pass_time(GRACE + 1)
        assert FindingKind.NEVER_STARTED not in kinds(world)

    def test_what_the_scheduler_says_is_running_is_none(self, silent: Priced) -> None:
        told(silent, JobState.RUNNING, START_MS)
        assert findings(silent) == []

    def test_what_was_said_to_run_long_ago_has_started_all_the_same(self, silent: Priced) -> None:
        told(silent, JobState.RUNNING, START_MS)
        silent.pass_time(GRACE + 1)
        assert FindingKind.NEVER_STARTED not in kinds(silent)

    def test_a_reservation_that_a_running_job_of_another_name_names_is_none(self, silent: Priced) -> None:
        told(silent, JobState.RUNNING, START_MS, job="j-after-a-restart", reservation="c")
        assert findings(silent) == []

    @pytest.mark.parametrize("state", [JobState.PENDING, JobState.FINISHED])
    def test_a_scheduler_that_knows_of_no_start_does_not_excuse_it(self, silent: Priced, state: JobState) -> None:
        told(silent, state)
        finding = the_finding(silent)
        assert finding.kind is FindingKind.NEVER_STARTED
        assert finding.detail.endswith(f"slurm says that it is {state}")

    def test_a_reservation_for_no_job_is_none(self, world: Priced) -> None:
        world.do("eu", hold(job=None))
        world.pass_time(GRACE + 1)
        assert findings(world) == []

    @pytest.mark.parametrize("end", [release("c"), capture("c", 5, final=True)], ids=["released", "captured"])
    def test_one_that_has_ended_is_none(self, silent: Priced, end: Command) -> None:
        silent.do("eu", end)
        assert findings(silent) == []

    def test_an_earlier_run_of_the_job_is_no_sign_of_this_one(self, world: Priced) -> None:
        world.do("eu", hold("first"))
        world.do("eu", ReportUsage(J, world.now, world.now - 1, 5, final=True))
        world.do("eu", hold("second"))
        world.pass_time(GRACE + 1)
        assert (the_finding(world).kind, the_finding(world).subject) == (FindingKind.NEVER_STARTED, "second")

    def test_a_reservation_for_a_job_that_runs_already_is_none(self, world: Priced) -> None:
        world.do("eu", hold("first"))
        world.do("eu", beat(started=True))
        world.do("eu", hold("second"))
        world.pass_time(GRACE + 2)
        assert kinds(world) == [FindingKind.UNFINISHED_USAGE]


class TestRunningUnreserved:
    def test_a_job_that_nothing_was_reserved_for(self, world: Priced) -> None:
        started = world.now
        world.pass_time(10_000)
        told(world, JobState.RUNNING, started)
        finding = the_finding(world)
        assert (finding.kind, finding.subject, finding.since) == (FindingKind.RUNNING_UNRESERVED, "j", started)
        assert finding.entries == ()
        assert finding.remedy == ReportUsage(J, world.now, started, 20), "10 s on two GPUs"

    def test_its_price_is_that_of_its_class_of_work(self, world: Priced) -> None:
        told(world, JobState.RUNNING, world.now - 1_000, gpus=8, priority="high")
        remedy = the_finding(world).remedy
        assert isinstance(remedy, ReportUsage)
        assert remedy.cost == 16

    def test_its_name_stays_while_it_runs_on(self, world: Priced) -> None:
        started = world.now
        world.pass_time(10_000)
        told(world, JobState.RUNNING, started)
        first = the_finding(world)
        world.pass_time(10_000)
        told(world, JobState.RUNNING, started)
        assert the_finding(world).id == first.id
        assert the_finding(world).remedy == ReportUsage(J, world.now, started, 40)

    def test_settled_it_is_gone_until_the_job_is_seen_again_which_is_another_one(self, world: Priced) -> None:
        started = world.now
        world.pass_time(10_000)
        told(world, JobState.RUNNING, started)
        first, seen = the_finding(world), world.now
        settle(world, first)
        assert findings(world) == []
        world.pass_time(5_000)
        told(world, JobState.RUNNING, started)
        second = the_finding(world)
        assert second.id != first.id
        assert second.remedy == ReportUsage(J, world.now, seen, -(-2 * (world.now - seen) // 1_000))

    def test_an_open_reservation_makes_it_none(self, world: Priced) -> None:
        world.do("eu", hold())
        told(world, JobState.RUNNING, world.now)
        world.pass_time(1_000)
        assert findings(world) == []

    def test_so_does_one_that_the_scheduler_names(self, world: Priced) -> None:
        world.do("eu", hold(job=None))
        told(world, JobState.RUNNING, world.now - 10, reservation="c")
        assert findings(world) == []

    def test_so_does_an_earlier_one_that_is_still_open(self, world: Priced) -> None:
        world.do("eu", hold("first"))
        world.do("eu", hold("second"))
        world.do("eu", release("second"))
        told(world, JobState.RUNNING, world.now - 10)
        assert findings(world) == []

    def test_a_closed_reservation_is_named_and_its_job_charged(self, world: Priced) -> None:
        world.do("eu", hold())
        world.do("eu", release("c"))
        told(world, JobState.RUNNING, world.now - 1_000)
        finding = the_finding(world)
        assert finding.kind is FindingKind.RUNNING_UNRESERVED
        assert finding.entries == (made(world),)
        assert "c is closed" in finding.detail
        assert finding.remedy == ReportUsage(J, world.now, world.now - 1_000, 2)

    def test_what_was_captured_without_a_time_cannot_be_told_from_what_was_not(self, world: Priced) -> None:
        world.do("eu", hold())
        world.do("eu", capture("c", 50, final=True))
        told(world, JobState.RUNNING, world.now - 1_000)
        finding = the_finding(world)
        assert finding.remedy is None
        assert finding.why_not == "50 was captured from c, and nobody says for which time"

    def test_what_was_charged_already_is_not_charged_again(self, world: Priced) -> None:
        started = world.now
        world.pass_time(10_000)
        world.do("eu", ReportUsage(J, started + 4_000, started, 8))
        told(world, JobState.RUNNING, started)
        assert the_finding(world).remedy == ReportUsage(J, world.now, started + 4_000, 13)

    def test_a_pause_between_two_reports_is_left_alone(self, world: Priced) -> None:
        started = world.now
        world.pass_time(10_000)
        world.do("eu", ReportUsage(J, started + 2_000, started, 4))
        world.do("eu", ReportUsage(J, started + 8_000, started + 6_000, 4))
        told(world, JobState.RUNNING, started, at=started + 10_000)
        assert the_finding(world).remedy == ReportUsage(J, started + 10_000, started + 8_000, 4)

    def test_one_that_is_charged_up_to_the_snapshot_is_none(self, world: Priced) -> None:
        world.do("eu", ReportUsage(J, world.now, world.now - 1_000, 8))
        told(world, JobState.RUNNING, world.now - 1_000, at=world.now - 1)
        assert findings(world) == []

    def test_one_that_has_finished_since_the_snapshot_is_none(self, world: Priced) -> None:
        told(world, JobState.RUNNING, world.now - 1_000, at=world.now - 10)
        world.do("eu", ReportUsage(J, world.now, world.now - 500, 8, final=True))
        assert findings(world) == []

    def test_one_that_runs_after_it_was_said_to_have_finished_is_one(self, world: Priced) -> None:
        ended = world.now
        world.do("eu", ReportUsage(J, ended, ended - 500, 8, final=True))
        world.pass_time(1_000)
        told(world, JobState.RUNNING, ended - 1_000)
        assert the_finding(world).kind is FindingKind.RUNNING_UNRESERVED

    @pytest.mark.parametrize("state", [JobState.PENDING, JobState.FINISHED])
    def test_one_that_does_not_run_and_is_not_said_to_have_run_is_none(self, world: Priced, state: JobState) -> None:
        told(world, state)
        assert findings(world) == []

    def test_one_that_ran_between_two_snapshots_is_charged_and_finished(self, world: Priced) -> None:
        told(world, JobState.FINISHED, world.now - 3_000, world.now - 1_000)
        finding = the_finding(world)
        assert finding.kind is FindingKind.RUNNING_UNRESERVED
        assert finding.remedy == ReportUsage(J, world.now - 1_000, world.now - 3_000, 4, final=True)
        settle(world, finding)
        world.pass_time(GRACE + 1)
        assert findings(world) == []

    def test_one_that_was_reported_to_have_finished_a_little_earlier_is_none(self, world: Priced) -> None:
        world.do("eu", ReportUsage(J, world.now - 10, world.now - 1_000, 8, final=True))
        told(world, JobState.FINISHED, world.now - 1_000, world.now - 1)
        assert findings(world) == []

    @pytest.mark.parametrize("state", [JobState.PENDING, JobState.FINISHED])
    def test_one_that_was_seen_and_does_not_run_to_its_scheduler_is_none(self, world: Priced, state: JobState) -> None:
        world.do("eu", beat())
        told(world, state)
        assert findings(world) == []

    def test_one_that_had_a_reservation_and_has_finished_is_none(self, world: Priced) -> None:
        world.do("eu", hold())
        world.do("eu", capture("c", 50, final=True))
        told(world, JobState.FINISHED, world.now - 10, world.now - 1)
        assert findings(world) == []

    @pytest.mark.parametrize(
        ("said", "why_not"),
        [
            ({"gpu_type": None}, "no snapshot says gpu_type"),
            ({"gpus": None, "gpu_type": None}, "no snapshot says gpu_type, gpus"),
            ({"gpu_type": "abacus"}, "gpu_type must be one that has a price: h100"),
            ({"priority": "whenever"}, "priority must be one that has a multiplier: high"),
        ],
    )
    def test_without_a_price_there_is_no_operation_and_it_says_why(
        self, world: Priced, said: dict[str, str | None], why_not: str
    ) -> None:
        told(world, JobState.RUNNING, world.now - 10, **said)  # type: ignore[arg-type]
        finding = the_finding(world)
        assert (finding.remedy, finding.why_not) == (None, why_not)

    def test_without_a_start_there_is_none_either(self, world: Priced) -> None:
        told(world, JobState.RUNNING)
        assert the_finding(world).why_not == "no snapshot says started_at"
        world.do("eu", beat(world.now - 1_000, started=True))
        assert the_finding(world).remedy == ReportUsage(J, world.now - 1, world.now - 1_001, 2)

    def test_a_tenant_that_does_not_exist_cannot_be_charged(self, world: Priced) -> None:
        told(world, JobState.RUNNING, world.now - 10, tenant=TenantId("nobody"))
        finding = the_finding(world)
        assert (finding.kind, finding.tenant) == (FindingKind.RUNNING_UNRESERVED, "nobody")
        assert finding.why_not is not None
        assert "no such tenant" in finding.why_not

    def test_of_a_job_that_is_older_than_what_is_taken_the_rest_is_charged(self, world: Priced) -> None:
        started = world.now
        world.pass_time(LATE + 5_000)
        told(world, JobState.RUNNING, started)
        finding = the_finding(world)
        assert finding.since == started
        assert finding.remedy == ReportUsage(J, world.now, started + 5_000, 2 * LATE // 1_000)
        settle(world, finding)
        assert findings(world) == []

    def test_what_is_over_for_too_long_is_closed(self, world: Priced) -> None:
        told(world, JobState.FINISHED, world.now - 3_000, world.now - 1_000)
        world.pass_time(LATE)
        finding = the_finding(world)
        assert finding.remedy is None
        assert finding.why_not is not None
        assert "no longer taken" in finding.why_not


class TestReportedUnreserved:
    """By reports alone: no scheduler has said anything."""

    def test_a_job_that_is_reported_to_run_for_longer_than_the_grace_time(self, world: Priced) -> None:
        first = world.do("eu", beat(started=True))
        world.pass_time(GRACE)
        last = world.do("eu", beat())
        finding = the_finding(world)
        assert (finding.kind, finding.subject) == (FindingKind.RUNNING_UNRESERVED, "j")
        assert finding.since == first.position.now
        assert finding.entries == (first.dot, last.dot)
        assert finding.detail == "reports say that the job runs, and nothing is reserved for it"
        assert (finding.remedy, finding.why_not) == (None, "no snapshot says gpu_type, gpus")

    def test_its_name_stays_while_it_runs_on_and_after_a_restart(self, world: Priced) -> None:
        world.do("eu", beat(started=True))
        world.pass_time(GRACE)
        world.do("eu", beat())
        before = the_finding(world)
        world.pass_time(1_000)
        world.do("eu", beat())
        world.crash("eu")
        world.exchange(3_000)
        assert world.book("eu").is_idle
        assert the_finding(world).id == before.id

    def test_when_nobody_says_when_it_started_it_runs_since_it_was_first_heard_of(self, world: Priced) -> None:
        first = world.do("eu", beat())
        world.pass_time(GRACE - 1)
        world.do("eu", beat())
        assert findings(world) == []
        world.do("eu", beat())
        finding = the_finding(world)
        assert (finding.kind, finding.since) == (FindingKind.RUNNING_UNRESERVED, first.position.now)
        assert finding.why_not == "no snapshot says started_at, gpu_type, gpus"

    def test_one_whose_reservation_was_closed_is_one_when_it_runs_on_for_as_long(self, world: Priced) -> None:
        world.do("eu", hold())
        world.do("eu", beat(started=True))
        world.pass_time(2 * GRACE)
        world.do("eu", beat())
        world.do("eu", release("c"))
        first = world.do("eu", beat())
        assert findings(world) == []
        world.pass_time(GRACE)
        last = world.do("eu", beat())
        finding = the_finding(world)
        assert finding.kind is FindingKind.RUNNING_UNRESERVED
        assert finding.detail == "reports say that the job runs, and its reservation c is closed"
        assert finding.entries == (made(world), first.dot, last.dot)

    def test_one_that_is_reserved_for_after_all_is_none(self, world: Priced) -> None:
        world.do("eu", beat(started=True))
        world.pass_time(GRACE + 1)
        world.do("eu", beat())
        assert kinds(world) == [FindingKind.RUNNING_UNRESERVED]
        world.do("eu", hold())
        assert findings(world) == []

    def test_one_that_is_charged_for_as_it_goes_is_none(self, world: Priced) -> None:
        world.do("eu", beat(started=True))
        started = world.now
        world.pass_time(GRACE + 1)
        world.do("eu", beat())
        assert kinds(world) == [FindingKind.RUNNING_UNRESERVED]
        world.do("eu", ReportUsage(J, world.now, started, 5))
        assert findings(world) == []

    def test_one_that_was_seen_once_and_is_lost_is_unfinished(self, world: Priced) -> None:
        world.do("eu", beat(started=True))
        world.pass_time(2 * GRACE)
        assert kinds(world) == [FindingKind.UNFINISHED_USAGE]

    def test_with_a_scheduler_that_describes_it_it_can_be_settled(self, world: Priced) -> None:
        world.do("eu", beat(started=True))
        started = world.now
        world.pass_time(GRACE)
        world.do("eu", beat())
        told(world, JobState.RUNNING, at=world.now - 10)
        finding = the_finding(world)
        assert finding.remedy == ReportUsage(J, world.now, started, 121), "up to the latest sign of life"
        settle(world, finding)
        assert findings(world) == []

    def test_one_that_has_finished_and_was_free_is_one_after_the_grace_time(self, world: Priced) -> None:
        world.do("eu", beat(started=True))
        world.pass_time(10_000)
        final = world.do("eu", ReportUsage(J, final=True))
        world.pass_time(GRACE)
        assert findings(world) == []
        world.pass_time(1)
        finding = the_finding(world)
        assert finding.kind is FindingKind.RUNNING_UNRESERVED
        assert finding.detail == "reports say that the job has run, and nothing is reserved for it"
        assert final.dot in finding.entries
        world.crash("eu")
        world.exchange(3_000)
        assert world.book("eu").is_idle
        assert the_finding(world).id == finding.id

    @pytest.mark.parametrize("amount", [0, 7])
    def test_it_is_settled_by_saying_what_it_cost_if_only_nothing(self, world: Priced, amount: int) -> None:
        world.do("eu", beat(started=True))
        started = world.now
        world.pass_time(10_000)
        world.do("eu", ReportUsage(J, final=True))
        ended = world.now
        world.pass_time(GRACE + 1)
        world.do("eu", ReportUsage(J, ended, started, amount))
        assert findings(world) == []
        world.exchange(3_000)
        assert list(world.book("eu").open_jobs()) == []

    def test_one_that_was_free_and_can_no_longer_be_charged_is_none(self, world: Priced) -> None:
        world.do("eu", beat(started=True))
        world.pass_time(10_000)
        world.do("eu", ReportUsage(J, final=True))
        world.pass_time(LATE)
        assert findings(world) == []

    def test_one_that_finished_under_a_reservation_is_none_whatever_it_cost(self, world: Priced) -> None:
        world.do("eu", hold())
        world.do("eu", beat(started=True))
        world.pass_time(10_000)
        world.do("eu", ReportUsage(J, final=True))
        world.pass_time(GRACE + 1)
        assert findings(world) == []
