"""Made-up jobs look like real ones, traces are read strictly, and every choice is a function of its seed."""

import gzip
from collections import Counter
from pathlib import Path

import pytest

from creditmesh.workload import (
    DAY_S,
    HOUR_S,
    Job,
    TraceError,
    capped,
    estimated_s,
    generate,
    grants_for,
    load_trace,
    spread,
    window,
)

REGIONS = ["us-east", "eu-west", "ap-south"]
HEADER = "job,start_s,duration_s,gpus,tenant,home_region"


@pytest.fixture(scope="module")
def made() -> list[Job]:
    return generate(seed=7, jobs=20_000, tenants=15, regions=REGIONS, days=28)


def job(name: str, start_s: int, duration_s: int = 60, gpus: int = 1, tenant: str = "acme") -> Job:
    return Job(name, tenant, "us-east", "us-east", start_s, duration_s, gpus)


def trace(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_the_same_seed_makes_the_same_jobs_and_another_seed_others() -> None:
    first = generate(1, 300, 5, REGIONS, days=3)
    assert generate(1, 300, 5, REGIONS, days=3) == first
    assert generate(2, 300, 5, REGIONS, days=3) != first


def test_jobs_come_by_start_within_the_days_and_under_names_of_their_own(made: list[Job]) -> None:
    assert len(made) == len({job.job for job in made}) == 20_000
    assert made == sorted(made, key=lambda job: job.start_s)
    assert all(0 <= job.start_s < 28 * DAY_S for job in made)
    assert all(job.region == job.home_region for job in made)


def test_most_jobs_have_one_gpu_and_the_rest_powers_of_two(made: list[Job]) -> None:
    sizes = Counter(job.gpus for job in made)
    assert 0.88 < sizes[1] / len(made) < 0.97
    assert set(sizes) <= {1, 2, 4, 8, 16, 32, 64, 128}


def test_durations_have_a_heavy_tail(made: list[Job]) -> None:
    durations = sorted(job.duration_s for job in made)
    median, high = durations[len(durations) // 2], durations[len(durations) * 99 // 100]
    assert 400 < median < 2500
    assert high > 50 * median
    assert durations[0] >= 1


def test_few_tenants_have_most_of_the_jobs(made: list[Job]) -> None:
    (_, largest), (_, second), *_ = Counter(job.tenant for job in made).most_common()
    assert 0.4 < largest / len(made) < 0.65
    assert (largest + second) / len(made) > 0.6
    assert len({job.home_region for job in made}) == 3


def test_weekends_and_evenings_are_quieter_and_jobs_come_in_bursts(made: list[Job]) -> None:
    by_weekday = Counter(job.start_s // DAY_S % 7 for job in made)
    assert sum(by_weekday[day] for day in (5, 6)) / 2 < 0.7 * sum(by_weekday[day] for day in range(5)) / 5
    by_hour = Counter(job.start_s // HOUR_S % 24 for job in made)
    assert sum(by_hour[hour] for hour in range(3, 10)) > 1.3 * sum(by_hour[hour] for hour in range(15, 22))
    busiest = max(Counter(job.start_s // HOUR_S for job in made).values())
    assert busiest > 5 * len(made) / (28 * 24)


def test_a_trace_is_read_whether_gzipped_or_not(tmp_path: Path) -> None:
    plain = trace(tmp_path / "jobs.csv", "b,20,60,8,acme,us-east", "a,10,5,1,7f04ca,eu-west")
    packed = tmp_path / "jobs.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    expected = [
        Job("a", "7f04ca", "eu-west", "eu-west", start_s=10, duration_s=5, gpus=1),
        Job("b", "acme", "us-east", "us-east", start_s=20, duration_s=60, gpus=8),
    ]
    assert load_trace(plain) == load_trace(packed) == expected


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("b,ten,60,8,acme,us-east", r":3: Expected `int`, got `str` - at `\$.start_s`"),
        ("b,10,0,8,acme,us-east", r":3: Expected `int` >= 1 - at `\$.duration_s`"),
        ("b,10,60,-8,acme,us-east", r":3: Expected `int` >= 1 - at `\$.gpus`"),
        ("b,10,60,8,ac me,us-east", r":3: .*at `\$.tenant`"),
        ("b,10,60,8,acme,US", r":3: .*at `\$.home_region`"),
        ("b,10,60", r":3: .*at `\$"),
        ("a,10,60,8,acme,us-east", r":3: job a is there twice"),
    ],
)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path: Path, row: str, complaint: str) -> None:
    with pytest.raises(TraceError, match=r"jobs\.csv" + complaint):
        load_trace(trace(tmp_path / "jobs.csv", "a,10,60,8,acme,us-east", row))


def test_a_trace_without_a_column_or_without_anything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("job,start_s,duration_s,tenant,home_region\n")
    with pytest.raises(TraceError, match=r"jobs\.csv:1: column gpus is missing"):
        load_trace(tmp_path / "jobs.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(TraceError, match=r"empty\.csv:1: column job is missing"):
        load_trace(tmp_path / "empty.csv")


def test_a_file_that_is_missing_cut_short_or_no_gzip_is_refused_by_name(tmp_path: Path) -> None:
    packed = tmp_path / "jobs.csv.gz"
    with pytest.raises(TraceError, match=r"jobs\.csv\.gz: .*No such file"):
        load_trace(packed)
    packed.write_bytes(gzip.compress(b"x" * 5000)[:-4])
    with pytest.raises(TraceError, match=r"jobs\.csv\.gz: "):
        load_trace(packed)
    packed.write_bytes(b"job,start_s")
    with pytest.raises(TraceError, match=r"jobs\.csv\.gz: "):
        load_trace(packed)


def test_a_window_is_the_densest_stretch_of_so_many_jobs() -> None:
    jobs = [job(str(start), start) for start in (0, 50, 100, 101, 103, 200)]
    assert [j.start_s for j in window(jobs, 3)] == [100, 101, 103]
    assert window(jobs, 6) == window(jobs, 99) == jobs


def test_capped_jobs_are_no_longer_than_the_cap() -> None:
    assert [j.duration_s for j in capped([job("a", 0, 90), job("b", 0, 30)], 60)] == [60, 30]


def test_the_same_share_of_every_tenants_jobs_goes_elsewhere() -> None:
    jobs = [job(f"{tenant}{n}", n, tenant=tenant) for tenant in ("acme", "blue") for n in range(40)]
    moved = spread(jobs, 0.25, REGIONS, seed=3)
    assert Counter(j.tenant for j in moved if j.region != j.home_region) == {"acme": 10, "blue": 10}
    assert {j.region for j in moved} == set(REGIONS)
    assert [j.job for j in moved] == [j.job for j in jobs]
    assert spread(jobs, 0.25, REGIONS, seed=3) == moved
    assert spread(jobs, 0.25, REGIONS, seed=4) != moved


def test_an_estimate_is_mostly_too_long_and_always_the_same() -> None:
    jobs = [job(f"j{n}", 0, duration_s=1000) for n in range(300)]
    estimates = [estimated_s(j) for j in jobs]
    assert estimates == [estimated_s(j) for j in jobs]
    assert 150 < sum(estimate > 1000 for estimate in estimates) < 290
    assert all(800 <= estimate <= 1500 for estimate in estimates)


def test_grants_cover_the_given_fraction_of_the_demand_in_lots_that_expire_in_turn() -> None:
    jobs = [job("a", 1000, 7000, gpus=2), job("b", 5000, 2501), job("c", 0, 1, tenant="tiny")]
    grants = grants_for(jobs, fraction=0.5, lots=3)
    acme = [grant for grant in grants if grant.tenant == "acme"]
    assert sum(grant.amount for grant in acme) == round(0.5 * (14_000 + 2501))
    assert [grant.expires_s for grant in acme] == [1000 + 7000 // 3, 1000 + 14_000 // 3, 8000 + DAY_S]
    assert [grant.lot for grant in acme] == ["acme-1", "acme-2", "acme-3"]
    tiny = [grant for grant in grants if grant.tenant == "tiny"]
    assert [grant.amount for grant in tiny] == [1, 1, 1]
    assert [grant.expires_s for grant in tiny] == [HOUR_S // 3, 2 * HOUR_S // 3, HOUR_S + DAY_S]
