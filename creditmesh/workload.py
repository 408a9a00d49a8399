"""Jobs to replay: read from a trace, or made up in the shape of one; which of them, where, and what credit they get.

`generate` has the shape of the Philly trace (Jeon et al., "Analysis of Large-Scale Multi-Tenant GPU Clusters for DNN
Training Workloads", USENIX ATC 2019), fitted to its 82,247 jobs:

- 93 % of the jobs have one GPU; the others are powers of two up to 128;
- durations are log-normal with medians of minutes to hours and a tail of weeks, wider for jobs of several GPUs;
- tenants are skewed (Zipf, exponent 1.7: the largest of 15 has half of the jobs);
- jobs come in campaigns of one tenant, seconds apart and alike, so the busiest hour has some fifteen times the mean;
- a cosine over the day (peak at 06:00 UTC), and weekends at half of a working day. Second 0 is a Monday.

Everything here is a function of its arguments: the same seed gives the same jobs. Times are seconds since the start
of the trace; credit is counted in GPU-seconds.
"""

import csv
import gzip
import math
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Final

import msgspec

from creditmesh.wire.field import Id, Region, Tenant

HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S

SIZES: Final = {1: 0.9318, 2: 0.0221, 4: 0.0227, 8: 0.0200, 16: 0.0024, 32: 0.0008, 64: 0.0001, 128: 0.0001}
"""GPUs of a job, and the share of jobs that have so many."""

DURATION: Final = {1: (6.7, 2.0), 2: (5.0, 2.8)}
"""Mean and deviation of the logarithm of a job's seconds, by GPUs; `DURATION_OF_MANY` where there are more."""

DURATION_OF_MANY: Final = (9.3, 2.3)
LONGEST_S: Final = 60 * DAY_S

TENANT_SKEW: Final = 1.7
CAMPAIGN: Final = (0.6, 1.7)
"""Mean and deviation of the logarithm of a campaign's number of jobs."""

LARGEST_CAMPAIGN: Final = 1000
CAMPAIGN_GAP_S: Final = 8.0
LIKENESS: Final = 0.8
"""How much of the variance of durations lies between campaigns, not within one."""

WEEKEND: Final = 0.5
DAY_SWING: Final = 0.4
PEAK_HOUR: Final = 6


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a trace: so many GPUs of one tenant for so long, run in `region`."""

    job: str
    tenant: str
    region: str
    home_region: str
    start_s: int
    duration_s: int
    gpus: int

    @property
    def end_s(self) -> int:
        """When it ends."""
        return self.start_s + self.duration_s

    @property
    def gpu_seconds(self) -> int:
        """The credit that it uses."""
        return self.gpus * self.duration_s


class TraceError(ValueError):
    """A trace that cannot be read; the message names file and line."""


class _Row(msgspec.Struct, frozen=True):
    job: Id
    start_s: Annotated[int, msgspec.Meta(ge=0)]
    duration_s: Annotated[int, msgspec.Meta(ge=1)]
    gpus: Annotated[int, msgspec.Meta(ge=1)]
    tenant: Tenant
    home_region: Region


def load_trace(path: str | Path) -> list[Job]:
    """The jobs of a trace file, by start; every job runs in its home region (see `spread`).

    The file is CSV (gzipped if it ends in ``.gz``) with the columns job, start_s, duration_s, gpus, tenant and
    home_region, in any order; others are passed over.

    Raises:
        TraceError: with file and line, for anything else.
    """
    path = Path(path)
    jobs: dict[str, Job] = {}
    try:
        for line, row in _rows(path):
            if row.job in jobs:
                raise TraceError(f"{path}:{line}: job {row.job} is there twice")
            jobs[row.job] = Job(
                job=row.job,
                tenant=row.tenant,
                region=row.home_region,
                home_region=row.home_region,
                start_s=row.start_s,
                duration_s=row.duration_s,
                gpus=row.gpus,
            )
    except (EOFError, zlib.error, OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: {error}") from error
    return sorted(jobs.values(), key=_by_start)


def _rows(path: Path) -> Iterator[tuple[int, _Row]]:
    columns = _Row.__struct_fields__
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise TraceError(f"{path}:1: column {missing[0]} is missing")
        for fields in reader:
            try:
                yield reader.line_num, msgspec.convert({c: fields[c] for c in columns}, _Row, strict=False)
            except msgspec.ValidationError as error:
                raise TraceError(f"{path}:{reader.line_num}: {error}") from error


def generate(seed: int, jobs: int, tenants: int, regions: Sequence[str], days: int = 7) -> list[Job]:
    """So many made-up jobs over so many days, by start; see the top of this module for their shape."""
    rng = random.Random(seed)
    names = [f"tenant-{number:02}" for number in range(1, tenants + 1)]
    homes = {name: regions[number % len(regions)] for number, name in enumerate(names)}
    by_tenant = list(accumulate(number**-TENANT_SKEW for number in range(1, tenants + 1)))
    by_hour = list(accumulate(_rhythm(hour) for hour in range(days * 24)))
    made: list[tuple[int, int, int, str]] = []
    while len(made) < jobs:
        tenant = rng.choices(names, cum_weights=by_tenant)[0]
        start = HOUR_S * (rng.choices(range(days * 24), cum_weights=by_hour)[0] + rng.random())
        made.extend((*job, tenant) for job in _campaign(rng, start, days * DAY_S))
    made[jobs:] = []
    made.sort()
    return [
        Job(
            job=f"job-{number:06}",
            tenant=tenant,
            region=homes[tenant],
            home_region=homes[tenant],
            start_s=start_s,
            duration_s=duration_s,
            gpus=gpus,
        )
        for number, (start_s, duration_s, gpus, tenant) in enumerate(made)
    ]


def _campaign(rng: random.Random, start: float, end_s: int) -> Iterator[tuple[int, int, int]]:
    """Start, duration and GPUs of jobs that somebody submits one after the other."""
    gpus = rng.choices(list(SIZES), weights=list(SIZES.values()))[0]
    mean, deviation = DURATION.get(gpus, DURATION_OF_MANY)
    centre = rng.gauss(mean, deviation * math.sqrt(LIKENESS))
    for _ in range(min(LARGEST_CAMPAIGN, math.ceil(rng.lognormvariate(*CAMPAIGN)))):
        duration = rng.lognormvariate(centre, deviation * math.sqrt(1 - LIKENESS))
        yield int(start) % end_s, max(1, min(LONGEST_S, int(duration))), gpus
        start += rng.expovariate(1 / CAMPAIGN_GAP_S)


def _rhythm(hour: int) -> float:
    """How busy an hour is, counted from Monday midnight."""
    day = WEEKEND if hour // 24 % 7 >= 5 else 1.0
    return day * (1 + DAY_SWING * math.cos(2 * math.pi * (hour - PEAK_HOUR) / 24))


def window(jobs: Sequence[Job], count: int) -> list[Job]:
    """The `count` jobs that start one after another in the shortest time: the densest stretch of the trace."""
    ordered = sorted(jobs, key=_by_start)
    if count >= len(ordered):
        return ordered
    last = count - 1
    begin = min(range(len(ordered) - last), key=lambda i: ordered[i + last].start_s - ordered[i].start_s)
    return ordered[begin : begin + count]


def capped(jobs: Sequence[Job], longest_s: int) -> list[Job]:
    """The same jobs, none longer than `longest_s`: a replay lasts as long as its longest job."""
    return [replace(job, duration_s=min(job.duration_s, longest_s)) for job in jobs]


def spread(jobs: Sequence[Job], share: float, regions: Sequence[str], seed: int) -> list[Job]:
    """The same jobs, with a `share` of each tenant's sent to regions other than its home."""
    by_tenant: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        by_tenant.setdefault(job.tenant, []).append(index)
    moved = list(jobs)
    for tenant, indexes in by_tenant.items():
        rng = random.Random(f"{seed}/{tenant}")
        for index in rng.sample(indexes, round(share * len(indexes))):
            elsewhere = [region for region in regions if region != jobs[index].home_region]
            moved[index] = replace(jobs[index], region=rng.choice(elsewhere))
    return moved


def estimated_s(job: Job) -> int:
    """What its owner says the job will take: mostly too much, sometimes too little. A function of the job's name."""
    return max(1, round(job.duration_s * random.Random(job.job).uniform(0.8, 1.5)))


@dataclass(frozen=True, slots=True)
class PlannedGrant:
    """A lot to give to a tenant before its jobs start. The times are the trace's."""

    tenant: str
    home_region: str
    lot: str
    amount: int
    expires_s: int


def grants_for(jobs: Sequence[Job], *, fraction: float = 0.9, lots: int = 3) -> list[PlannedGrant]:
    """Credit for `fraction` of each tenant's GPU-seconds, in equal lots that expire one after another.

    With a fraction below 1 a tenant runs short towards the end of its jobs, so that regions that do not see each other
    spend the same credit. The last lot outlives all jobs; the others expire at equal steps of the tenant's time.
    """
    by_tenant: dict[str, list[Job]] = {}
    for job in jobs:
        by_tenant.setdefault(job.tenant, []).append(job)
    return [grant for tenant in sorted(by_tenant) for grant in _grants_of(by_tenant[tenant], fraction, lots)]


def _grants_of(jobs: Sequence[Job], fraction: float, lots: int) -> Iterator[PlannedGrant]:
    tenant = jobs[0].tenant
    first_s = min(job.start_s for job in jobs)
    lasting_s = max(HOUR_S, max(job.end_s for job in jobs) - first_s)
    total = max(lots, round(fraction * sum(job.gpu_seconds for job in jobs)))
    for number in range(1, lots + 1):
        yield PlannedGrant(
            tenant=tenant,
            home_region=jobs[0].home_region,
            lot=f"{tenant}-{number}",
            amount=total // lots + (total % lots if number == lots else 0),
            expires_s=first_s + lasting_s * number // lots + (DAY_S if number == lots else 0),
        )


def _by_start(job: Job) -> tuple[int, str]:
    return job.start_s, job.job
