"""What does not add up, and what looks like it and does."""

from fractions import Fraction
from typing import ClassVar

import pytest

from conflict.rivals import Rivals
from ledger.command import (
    Command,
    GrantCredit,
    OnShortage,
    ReleaseHold,
    ReportHeartbeat,
    ReportUsage,
    Reserve,
    SetPolicy,
)
from ledger.ids import ClaimId, JobId, TenantId
from ledger.operation import Compensation, Difference, OnOverspend
from ledger.pricing import HOUR_MS, RateCard, Rates
from ledger.refusal import Limits, Terms
from node.book import LedgerBook
from node.examine import MAX_ENTRIES
from node.finding import Finding, FindingKind
from node.reconcile import Reconciliation, reconcile, standing
from node.region import Accepted
from node.snapshots import JobState, ScheduledJob, Source
from replication.clock import Dot
from tests.regions import Regions, capture, clash, debit, grant, refund, release, renew, reserve
from tests.world import START_MS, TENANT

GRACE = 60_000
LATE = 10 * HOUR_MS
J = JobId("j")
C = ClaimId("c")


class Priced(Regions):
    """A world in which a GPU-hour costs 3,600 credits, a credit a second; twice that in a hurry."""

    terms: ClassVar[Terms] = Terms(
        Limits(10**9, 60_000, max_late_ms=LATE),
        RateCard([Rates(0, {"h100": Fraction(3_600)}, {"high": Fraction(2)})]),
    )

    def __init__(self, *names: str, **settings: int) -> None:
        super().__init__(*names, grace_ms=GRACE, **settings)


@pytest.fixture
def world() -> Priced:
    """One region, and for an hour by now a tenant with credit."""
    world = Priced("eu")
    world.do("eu", grant("L", 100_000, until=48 * HOUR_MS))
    world.pass_time(HOUR_MS)
    return world


def hold(claim: str = "c", job: str | None = "j", lease_ms: int = 10 * HOUR_MS, amount: int = 60) -> Reserve:
    return Reserve(amount, lease_ms, ClaimId(claim), None if job is None else JobId(job))


def beat(at: int | None = None, *, job: str = "j", started: bool = False, lease_ms: int = 1) -> ReportHeartbeat:
    """A sign of life, which extends the lease by next to nothing."""
    return ReportHeartbeat(JobId(job), at, lease_ms=lease_ms, started=started)


def told(
    world: Regions,
    state: JobState,
    started_at: int | None = None,
    ended_at: int | None = None,
    *,
    job: str = "j",
    at: int | None = None,
    reservation: str | None = None,
    gpu_type: str | None = "h100",
    gpus: int | None = 2,
    priority: str | None = None,
    source: str = "slurm",
    region: str = "eu",
    tenant: TenantId = TENANT,
) -> None:
    """A scheduler says what there is to say of one job."""
    named = None if reservation is None else ClaimId(reservation)
    said = ScheduledJob(JobId(job), state, started_at, ended_at, named, gpu_type, gpus, priority)
    world.region(region).take_snapshot(source, world.now if at is None else at, {tenant: [said]})


def run(world: Regions, name: str = "eu", tenant: TenantId | None = None) -> Reconciliation:
    result = Reconciliation(tenant, limit=100)
    for _ in reconcile(world.region(name), world.now, result):
        pass
    assert sum(result.counts.values()) == len(result.found)
    return result


def findings(world: Regions, name: str = "eu") -> list[Finding]:
    """All that a region finds; each stands when it is looked at by itself."""
    found = run(world, name).found
    for finding in found:
        assert standing(world.region(name), finding, world.now) == finding
    return found


def kinds(world: Regions, name: str = "eu") -> list[FindingKind]:
    return [finding.kind for finding in findings(world, name)]


def the_finding(world: Regions, name: str = "eu") -> Finding:
    (found,) = findings(world, name)
    return found


def made(world: Regions, claim: str = "c") -> Dot:
    """The entry that made a claim."""
    found = world.book("eu").account.claim(ClaimId(claim))
    assert found is not None
    return Dot(f"{found.made.region}/{found.made.boot}", found.made.seq)


def settle(world: Regions, finding: Finding, name: str = "eu") -> None:
    """Do what the finding says."""
    assert finding.remedy is not None
    assert not isinstance(finding.remedy, Compensation)
    answer = world.submit(name, finding.remedy, finding.id)
    assert isinstance(answer, Accepted), answer
    world.land(name)


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
        lapsed.do("eu", beat())
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
        assert finding.entries == (made(lapsed),)
        cost = -(-2 * (job.seen_at - job.started_at) // 1_000)
        assert finding.remedy == ReportUsage(J, job.seen_at, job.started_at, cost)

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
        assert finding.entries == (made(quiet),)
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


class TestNegativeBalance:
    def test_a_tenant_that_owes(self, world: Priced) -> None:
        entry = world.do("eu", debit("d", 100_050, OnShortage.DEBT))
        finding = the_finding(world)
        assert (finding.kind, finding.subject) == (FindingKind.NEGATIVE_BALANCE, "acme")
        assert finding.since == entry.position.now
        assert finding.entries == (entry.dot,)
        assert finding.detail == "the tenant owes 50: d"
        remedy = finding.remedy
        assert isinstance(remedy, GrantCredit)
        assert (remedy.amount, remedy.expires_at) == (50, world.now + 24 * HOUR_MS)
        assert remedy.lot is not None
        assert remedy.lot.startswith("write-off-")
        settle(world, finding)
        assert findings(world) == []

    def test_its_name_stays_while_it_owes_more_or_less(self, world: Priced) -> None:
        world.do("eu", debit("d", 100_050, OnShortage.DEBT))
        first = the_finding(world)
        world.do("eu", debit("e", 30, OnShortage.DEBT))
        assert the_finding(world).id == first.id
        assert isinstance(the_finding(world).remedy, GrantCredit)
        world.do("eu", grant("M", 10, until=2 * HOUR_MS))
        assert the_finding(world).id == first.id
        assert the_finding(world).detail == "the tenant owes 70: d, e"

    def test_owing_again_is_another_one(self, world: Priced) -> None:
        world.do("eu", debit("d", 100_050, OnShortage.DEBT))
        first = the_finding(world)
        settle(world, first)
        world.do("eu", debit("e", 30, OnShortage.DEBT))
        assert the_finding(world).id != first.id

    def test_many_debtors_are_counted_and_the_first_are_named(self, world: Priced) -> None:
        world.do("eu", debit("d", 100_000))
        for number in range(MAX_ENTRIES + 3):
            world.do("eu", debit(f"e{number}", 1, OnShortage.DEBT))
        finding = the_finding(world)
        assert len(finding.entries) == MAX_ENTRIES
        assert finding.detail.endswith("e15 and 3 more")

    @pytest.mark.parametrize("paid", [refund("d", 50), grant("M", 50, until=2 * HOUR_MS)], ids=["refunded", "repaid"])
    def test_what_was_paid_or_given_back_is_none(self, world: Priced, paid: Command) -> None:
        world.do("eu", debit("d", 100_050, OnShortage.DEBT))
        world.do("eu", paid)
        assert findings(world) == []

    def test_a_tenant_without_credit_that_owes_nothing_is_none(self, world: Priced) -> None:
        world.do("eu", debit("d", 100_000))
        assert findings(world) == []


class TestBooksDiffer:
    def test_a_compensation_that_is_due_is_found_in_every_region(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        found = [
            [each for each in run(world, name).found if each.kind is FindingKind.BOOKS_DIFFER] for name in world.names
        ]
        assert found[0] == found[1]
        (finding,) = found[0]
        loser = world.book("us").account.claims[ClaimId("b")].made
        assert (finding.subject, finding.region, finding.since) == ("b", "us", loser.now)
        assert finding.entries == (Dot("us/b2", 1),)
        rest = {"lot/L": 60, "debt": -60}
        assert finding.remedy == Compensation((Difference("us/b2", 1, rest),))
        assert finding.id == "books_differ.us.b2.1.0"

    def test_when_it_is_posted_it_is_gone(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.put_right()
        for name in world.names:
            assert kinds(world, name) == [FindingKind.NEGATIVE_BALANCE]

    def test_it_is_found_after_a_restart(self) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        world.crash("eu")
        assert FindingKind.BOOKS_DIFFER in kinds(world, "eu")

    def test_the_next_difference_of_the_same_entry_is_another_one(self) -> None:
        world = Regions("ap", "eu", "us")
        world.do("eu", grant("L", 100))
        world.meet()
        world.part()
        world.do("ap", reserve("x", 10))
        world.do("eu", reserve("a", 80))
        world.do("us", reserve("b", 80))
        world.set_cut("eu", "us", False)
        world.exchange(3_000)
        world.meet()
        assert [finding.id for finding in differences(world, "us")] == ["books_differ.us.b3.1.1"]

    def test_a_difference_that_nothing_explains_is_an_alarm_and_has_no_operation(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = clash([grant("L", 100)], [reserve("a", 80)], [reserve("b", 80)])
        monkeypatch.setattr(LedgerBook, "rivals", lambda *_: Rivals((), 0, (), False))
        (finding,) = differences(world, "us")
        assert finding.remedy is None
        assert finding.why_not is not None
        assert "alarm" in finding.why_not


class TestARun:
    def test_tenants_that_are_not_in_memory_are_looked_at_and_not_kept(self) -> None:
        world = Priced("eu", tenants_in_memory=0)
        tenants = [TenantId(f"t{number}") for number in range(5)]
        for tenant in tenants:
            world.do("eu", grant("L", 100, until=24 * HOUR_MS), tenant=tenant)
        for tenant in tenants[1:]:
            world.do("eu", hold(), tenant=tenant)
        world.pass_time(GRACE + 1)
        world.exchange(3_000)
        assert not world.region("eu").books
        result = run(world)
        assert sorted(finding.tenant for finding in result.found) == tenants[1:]
        assert not world.region("eu").books

    def test_a_tenant_of_which_nothing_is_open_is_not_looked_at(self, world: Priced) -> None:
        world.do("eu", debit("d", 10))
        assert list(world.region("eu").tenants_at_work()) == [TENANT], "its entries are recent"
        world.exchange(3_000)
        assert list(world.region("eu").tenants_at_work()) == []

    def test_a_job_that_is_only_reserved_for_does_not_run(self, world: Priced) -> None:
        world.do("eu", hold())
        world.exchange(3_000)
        assert list(world.book("eu").running_jobs()) == []
        world.do("eu", beat())
        assert [job.id for job in world.book("eu").running_jobs()] == [J]
        world.exchange(3_000)
        assert [job.id for job in world.book("eu").running_jobs()] == [J]
        world.do("eu", ReportUsage(J, world.now, final=True))
        assert list(world.book("eu").running_jobs()) == []
        world.exchange(3_000)
        assert list(world.book("eu").running_jobs()) == []

    def test_it_takes_breaks_in_the_middle_of_a_large_tenant(self, world: Priced) -> None:
        for number in range(250):
            world.do("eu", hold(f"c{number}", f"j{number}", amount=1))
        breaks = sum(1 for _ in reconcile(world.region("eu"), world.now, Reconciliation()))
        assert breaks == 2

    def test_it_takes_breaks_between_tenants_that_have_to_be_read(self) -> None:
        world = Priced("eu", tenants_in_memory=0)
        for tenant in [TenantId(f"t{number}") for number in range(10)]:
            for number in range(20):
                world.do("eu", grant(f"L{number}", 10, until=24 * HOUR_MS), tenant=tenant)
            world.do("eu", hold(amount=1), tenant=tenant)
        world.exchange(5_000)
        assert not world.region("eu").books
        breaks = sum(1 for _ in reconcile(world.region("eu"), world.now, Reconciliation()))
        assert breaks == 2, "10 tenants of 20 lots and a reservation"

    def test_what_happens_in_a_break_is_taken_into_account(self, world: Priced) -> None:
        for number in range(150):
            world.do("eu", hold(f"c{number}", f"j{number}", amount=1))
        world.pass_time(GRACE + 1)
        result = Reconciliation(limit=1_000)
        running = reconcile(world.region("eu"), world.now, result)
        next(running)
        for number in range(150):
            world.do("eu", release(f"c{number}"))
        for _ in running:
            pass
        assert 0 < len(result.found) <= 100

    def test_it_says_when_it_was_and_by_which_snapshots(self, world: Priced) -> None:
        told(world, JobState.PENDING)
        result = run(world)
        assert result.at == world.now
        assert result.sources == [Source("slurm", world.now, 1)]

    def test_pages_follow_each_other_the_longest_standing_first(self, world: Priced) -> None:
        for number in range(5):
            world.do("eu", hold(f"c{number}", f"j{number}", amount=1))
        world.do("eu", debit("d", 200_000, OnShortage.DEBT))
        world.pass_time(GRACE + 1)
        everything = run(world).found
        assert [finding.since for finding in everything] == sorted(finding.since for finding in everything)
        after, pages = None, []
        while True:
            result = Reconciliation(TENANT, after=after, limit=2)
            for _ in reconcile(world.region("eu"), world.now, result):
                pass
            assert result.counts[FindingKind.NEVER_STARTED] == 5
            assert result.counts[FindingKind.NEGATIVE_BALANCE] == 1
            pages.append(result.found[:2])
            if len(result.found) <= 2:
                break
            after = pages[-1][-1].place
        assert [len(page) for page in pages] == [2, 2, 2]
        assert [finding for page in pages for finding in page] == everything

    def test_a_finding_that_has_changed_is_found_as_it_is_and_one_that_is_gone_is_not(self, world: Priced) -> None:
        started = world.now
        told(world, JobState.RUNNING, started - 1_000)
        finding = the_finding(world)
        world.pass_time(1_000)
        told(world, JobState.RUNNING, started - 1_000)
        again = standing(world.region("eu"), finding, world.now)
        assert again is not None
        assert again.remedy == ReportUsage(J, world.now, started - 1_000, 4)
        world.do("eu", hold())
        assert standing(world.region("eu"), finding, world.now) is None

    def test_both_regions_find_the_same_under_the_same_names(self) -> None:
        world = Priced("eu", "us")
        world.do("eu", grant("L", 100, until=24 * HOUR_MS))
        world.meet()
        world.do("us", hold())
        world.do("eu", hold("d", "k"))
        world.do("eu", beat(job="k", started=True))
        world.do("eu", debit("e", 1_000, OnShortage.DEBT))
        world.put_right()
        world.pass_time(GRACE + 1)
        found = [run(world, name).found for name in world.names]
        assert found[0] == found[1]
        assert len(found[0]) == 3


def differences(world: Regions, name: str) -> list[Finding]:
    return [finding for finding in run(world, name).found if finding.kind is FindingKind.BOOKS_DIFFER]
