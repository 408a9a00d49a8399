"""What a demo or a replay runs: which jobs, how fast, with how much credit, and when the link is cut.

The jobs are the densest stretch of a trace, or of made-up jobs in the shape of one, with a quarter of each tenant's
sent to regions other than its home, so that tenants spend in several regions. Their starts are spread over `STARTS_S`
seconds of real time, and a job that would last longer than `LONGEST_S` of them is cut to that.

For the demo, each tenant gets as much as its jobs use that start before the credit is to run out, in the middle of the
cut. From then on every region that does not hear of the others spends credit that they spend too. After the link has
healed, every second tenant gets more; the others are left with their debt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from creditmesh.replay import Pace, TraceClock
from creditmesh.workload import DAY_S, Job, PlannedGrant, capped, generate, load_trace, spread, window

STARTS_S: Final = 28
LONGEST_S: Final = 7
CUT_AT_S: Final = 9
SHORT_AT_S: Final = 14
HEAL_AT_S: Final = 21
TOP_UP_AT_S: Final = 22

OFF_HOME: Final = 0.25
TENANTS: Final = 12
DENSITY: Final = 10
"""So many times the jobs are made up, and the densest stretch taken."""

SOON_SHARE: Final = 10
"""One part in so many of a tenant's credit is a lot that expires when the rest runs short."""

PACE: Final = Pace(lease_ms=6_000, captures=2, tries=3, pause_s=1.5)


@dataclass(frozen=True, slots=True)
class Plan:
    """Jobs in the order of their starts, and how fast the trace's time passes."""

    jobs: list[Job]
    speed: float
    told: str
    """What the jobs are and what was done to them, for people."""

    @property
    def origin_s(self) -> int:
        """When the first job starts, in the trace's time."""
        return self.jobs[0].start_s

    @property
    def busiest_region(self) -> str:
        """The home of the tenant with the most jobs."""
        by_home = self._counts()
        largest = max(by_home, key=lambda tenant: (by_home[tenant], tenant))
        return next(job.home_region for job in self.jobs if job.tenant == largest)

    @classmethod
    def make(cls, trace: Path | None, seed: int, count: int, regions: Sequence[str]) -> Self:
        """Of a trace file, or made up. Raises `creditmesh.workload.TraceError`."""
        if trace is None:
            days = 7
            chosen = window(generate(seed, count * DENSITY, TENANTS, regions, days), count)
            source = f"{len(chosen):,} made-up jobs in the shape of the Philly trace (seed {seed})"
        else:
            chosen = window(load_trace(trace), count)
            source = f"{len(chosen):,} jobs of {trace.name}, its densest stretch"
        lasting_s = max(1, chosen[-1].start_s - chosen[0].start_s)
        speed = lasting_s / STARTS_S
        longest_s = max(1, round(LONGEST_S * speed))
        cut = sum(job.duration_s > longest_s for job in chosen)
        told = (
            f"{source}: {lasting_s / 3600:.1f} hours in {STARTS_S} s ({speed:,.0f} times as fast); "
            f"{cut:,} jobs cut to {longest_s / 3600:.1f} hours; "
            f"{OFF_HOME:.0%} of each tenant's jobs sent away from its home region, drawn by the seed"
        )
        return cls(spread(capped(chosen, longest_s), OFF_HOME, regions, seed), speed, told)

    def clock(self, started_ms: int) -> TraceClock:
        """The trace's time, with the first job at `started_ms` of real time."""
        return TraceClock(self.origin_s, started_ms, self.speed)

    def trace_s(self, real_s: float) -> int:
        """What time it is in the trace so long after the start."""
        return self.origin_s + round(real_s * self.speed)

    def scarce_grants(self) -> list[PlannedGrant]:
        """Credit for what starts before `SHORT_AT_S`; for tenants that only start later, for all they do."""
        short_s = self.trace_s(SHORT_AT_S)
        grants = []
        for tenant, jobs in self._by_tenant().items():
            before = [job for job in jobs if job.start_s < short_s] or jobs
            need = max(SOON_SHARE, sum(job.gpu_seconds for job in before))
            soon = need // SOON_SHARE
            home = jobs[0].home_region
            grants.append(PlannedGrant(tenant, home, f"{tenant}-soon", soon, short_s))
            grants.append(PlannedGrant(tenant, home, f"{tenant}-main", need - soon, self._far_s))
        return grants

    def top_ups(self) -> list[PlannedGrant]:
        """More for every second tenant, by number of jobs: enough for what is left, and to repay what it owes."""
        counts = self._counts()
        ranked = sorted(counts, key=lambda tenant: (-counts[tenant], tenant))
        by_tenant = self._by_tenant()
        return [
            PlannedGrant(
                tenant,
                by_tenant[tenant][0].home_region,
                f"{tenant}-top-up",
                2 * sum(job.gpu_seconds for job in by_tenant[tenant]),
                self._far_s,
            )
            for tenant in ranked[::2]
        ]

    @property
    def _far_s(self) -> int:
        return max(job.end_s for job in self.jobs) + 30 * DAY_S

    def _by_tenant(self) -> dict[str, list[Job]]:
        by_tenant: dict[str, list[Job]] = {}
        for job in self.jobs:
            by_tenant.setdefault(job.tenant, []).append(job)
        return dict(sorted(by_tenant.items()))

    def _counts(self) -> dict[str, int]:
        return {tenant: len(jobs) for tenant, jobs in self._by_tenant().items()}
