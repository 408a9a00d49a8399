"""A tenant in a world of prices, and what is found of it."""

from fractions import Fraction
from typing import ClassVar

from ledger.command import (
    ReportHeartbeat,
    Reserve,
)
from ledger.ids import ClaimId, JobId, TenantId
from ledger.operation import Compensation
from ledger.pricing import HOUR_MS, RateCard, Rates
from ledger.refusal import Limits, Terms
from node.finding import Finding, FindingKind
from node.reconcile import Reconciliation, reconcile, standing
from node.region import Accepted
from node.snapshots import JobState, ScheduledJob
from replication.clock import Dot
from tests.regions import Regions
from tests.world import TENANT

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
