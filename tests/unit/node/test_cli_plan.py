"""What the demo runs: enough credit until the cut is half over, spending in several regions, and then too little."""

from pathlib import Path

import pytest

from creditmesh.workload import Job
from node.cli.plan import CUT_AT_S, HEAL_AT_S, LONGEST_S, SHORT_AT_S, STARTS_S, TOP_UP_AT_S, Plan
from node.cli.testbed import REGIONS, write_config
from node.config import load


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan.make(None, 1, 400, REGIONS)


def test_the_same_seed_gives_the_same_plan(plan: Plan) -> None:
    assert Plan.make(None, 1, 400, REGIONS) == plan
    assert Plan.make(None, 2, 400, REGIONS).jobs != plan.jobs


def test_starts_are_spread_over_the_time_given_and_no_job_outlasts_its_own(plan: Plan) -> None:
    clock = plan.clock(0)
    assert clock.at_ms(plan.jobs[0].start_s) == 0
    assert clock.at_ms(plan.jobs[-1].start_s) == pytest.approx(STARTS_S * 1000, abs=50)
    assert max(clock.lasts_ms(job.duration_s) for job in plan.jobs) <= LONGEST_S * 1000 + 50


def test_a_quarter_of_the_jobs_runs_away_from_home(plan: Plan) -> None:
    away = sum(job.region != job.home_region for job in plan.jobs)
    assert away == pytest.approx(len(plan.jobs) / 4, rel=0.1)


def test_credit_is_what_starts_before_the_middle_of_the_cut(plan: Plan) -> None:
    assert CUT_AT_S < SHORT_AT_S < HEAL_AT_S < TOP_UP_AT_S
    short_s = plan.trace_s(SHORT_AT_S)
    for tenant in {job.tenant for job in plan.jobs if job.start_s < short_s}:
        before = sum(job.gpu_seconds for job in plan.jobs if job.tenant == tenant and job.start_s < short_s)
        given = sum(grant.amount for grant in plan.scarce_grants() if grant.tenant == tenant)
        assert given == max(10, before)


def test_every_second_tenant_gets_more(plan: Plan) -> None:
    tenants = {job.tenant for job in plan.jobs}
    topped_up = {grant.tenant for grant in plan.top_ups()}
    assert len(topped_up) == (len(tenants) + 1) // 2
    assert topped_up < tenants


def test_lots_are_named_once(plan: Plan) -> None:
    lots = [grant.lot for grant in (*plan.scarce_grants(), *plan.top_ups())]
    assert len(lots) == len(set(lots))


def test_the_busiest_region_is_the_home_of_the_largest_tenant() -> None:
    jobs = [Job(f"j{n}", tenant, "us-east", home, n, 10, 1) for n, (tenant, home) in enumerate(OWNERS)]
    assert Plan(jobs, 1.0, "").busiest_region == "eu-west"


OWNERS = [("small", "us-east"), ("large", "eu-west"), ("large", "eu-west")]


def test_a_trace_is_named_and_what_was_done_to_it(tmp_path: Path) -> None:
    rows = [f"j{n},{n * 100},{50 if n else 10**6},1,acme,us-east" for n in range(20)]
    trace = tmp_path / "jobs.csv"
    trace.write_text("\n".join(["job,start_s,duration_s,gpus,tenant,home_region", *rows]))
    made = Plan.make(trace, 1, 10, REGIONS)
    assert len(made.jobs) == 10
    assert made.told.startswith("10 jobs of jobs.csv, its densest stretch: ")
    assert "25% of each tenant's jobs sent away" in made.told


def test_the_cluster_of_the_demo_is_a_valid_one(tmp_path: Path) -> None:
    cluster = load(write_config(tmp_path))
    assert [region.name for region in cluster.regions] == list(REGIONS)
    assert cluster.file.chaos.enabled
    assert all(region.data.parent == tmp_path.resolve() for region in cluster.regions)
