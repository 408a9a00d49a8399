"""A regional scheduler that replays jobs against its node in compressed time.

What it does for one job:

1. at the start it **holds** gpus × estimated seconds; refused for lack of credit, it asks again under the same key a
   bounded number of times and then drops the job;
2. while the job runs it **renews** the lease at every third of it (in real time), and **captures** usage at even
   intervals (of the trace's time);
3. at the end it captures the last interval and **releases** the rest; a job that outran its estimate has no rest, and
   its last capture is final.

A lost lease does not stop the job: its usage is captured all the same and becomes an overrun. Usage and release are
asked for again, under their key, while it is unknown what became of them; a renewal is not, the next one does as well.
Keys are ``<run>:<job>:<step>``, so a run that is repeated under its name is recognised. Every request is on record in
a `History`, for a checker.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from creditmesh.calls import Accepted
from creditmesh.client import AsyncClient
from creditmesh.errors import ApiError, CreditmeshError, InsufficientCredit, ReservationEnded
from creditmesh.history import History, Statistics
from creditmesh.lease import RENEWALS_PER_LEASE
from creditmesh.transport import Sleep
from creditmesh.wire.credit import ReservationReply
from creditmesh.workload import Job, PlannedGrant, estimated_s

GRANT: Final = "grant"
HOLD: Final = "hold"
RENEW: Final = "renew"
CAPTURE: Final = "capture"
RELEASE: Final = "release"


def wall_ms() -> int:
    """The wall clock: milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class TraceClock:
    """How the trace's time runs: at `started_ms` it was `origin_s`, and it passes `speed` times as fast as real time.

    The schedulers of all regions of a replay share one.
    """

    origin_s: int
    started_ms: int
    speed: float

    def lasts_ms(self, trace_s: float) -> int:
        """How long so many seconds of the trace take, in real milliseconds."""
        return math.ceil(trace_s * 1000 / self.speed)

    def at_ms(self, trace_s: float) -> int:
        """The real time of a moment of the trace, in milliseconds since the epoch."""
        return self.started_ms + self.lasts_ms(trace_s - self.origin_s)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a scheduler goes about it. Times are real."""

    lease_ms: int = 10_000
    captures: int = 3
    """Usage reports per job, the last one at its end."""
    tries: int = 5
    """How often a request is made under its key, where asking again makes sense."""
    pause_s: float = 1.0
    """Between two tries."""
    at_once: int = 64
    """Requests under way at the same time."""


class Scheduler:
    """Replays the jobs that run in one region. `history` has every request, and the statistics."""

    def __init__(
        self,
        region: str,
        client: AsyncClient,
        jobs: Iterable[Job],
        clock: TraceClock,
        *,
        run: str,
        pace: Pace | None = None,
        now_ms: Callable[[], int] = wall_ms,
        sleep: Sleep = asyncio.sleep,
        on_progress: Callable[[Statistics], None] | None = None,
    ) -> None:
        self._client = client
        self._jobs = sorted((job for job in jobs if job.region == region), key=lambda job: (job.start_s, job.job))
        self._clock = clock
        self._run_name = run
        self._pace = pace or Pace()
        self._now_ms = now_ms
        self._sleep = sleep
        self._on_progress = on_progress
        self.history = History(at_once=self._pace.at_once, now_ms=now_ms)
        self.history.statistics.jobs = len(self._jobs)

    async def replay(self) -> History:
        """Starts every job when it is due, and returns when the last one has ended."""
        async with asyncio.TaskGroup() as running:
            for job in self._jobs:
                await self._until(self._clock.at_ms(job.start_s))
                running.create_task(self._run(job), name=job.job)
        return self.history

    async def _run(self, job: Job) -> None:
        statistics = self.history.statistics
        reservation = await self._hold(job)
        if reservation is None:
            statistics.dropped += 1
        else:
            statistics.started += 1
            await self._work(job, reservation)
            statistics.finished += 1
        if self._on_progress is not None:
            self._on_progress(statistics)

    async def _hold(self, job: Job) -> str | None:
        """The reservation's id, or None if there was none to be had."""
        amount, key = _estimate(job), self._key(job, HOLD)
        request = partial(self._client.reserve, job.tenant, amount, lease_ms=self._pace.lease_ms, job=job.job, key=key)
        for _ in range(self._pace.tries):
            answer = await self.history.send(HOLD, job.tenant, key, amount, request)
            if isinstance(answer, Accepted):
                return answer.reply.reservation
            if isinstance(answer, InsufficientCredit):
                self.history.statistics.refusals += 1
            elif isinstance(answer, ApiError) and not answer.maybe_accepted:
                return None
            await self._sleep(self._pace.pause_s)
        return None

    async def _work(self, job: Job, reservation: str) -> None:
        begun_ms, lasts_ms = self._now_ms(), self._clock.lasts_ms(job.duration_s)
        outran = job.gpu_seconds >= _estimate(job)
        steps, leased = self._pace.captures, True
        for step in range(1, steps + 1):
            due_ms = begun_ms + lasts_ms * step // steps
            leased = await self._renew_until(due_ms, job, reservation, begun_ms) if leased else leased
            await self._until(due_ms)
            amount = job.gpu_seconds * step // steps - job.gpu_seconds * (step - 1) // steps
            final = step == steps and outran
            if amount:
                await self._capture(job, reservation, step, amount, at=due_ms, final=final)
        if leased and not outran:
            await self._release(job, reservation)

    async def _renew_until(self, due_ms: int, job: Job, reservation: str, begun_ms: int) -> bool:
        """Renews at every third of a lease, counted from when the job began; False if the lease is lost."""
        every_ms = max(1, self._pace.lease_ms // RENEWALS_PER_LEASE)
        while True:
            number = (self._now_ms() - begun_ms) // every_ms + 1
            if begun_ms + number * every_ms >= due_ms:
                return True
            await self._until(begun_ms + number * every_ms)
            key = self._key(job, f"{RENEW}-{number}")
            request = partial(self._client.renew, job.tenant, reservation, lease_ms=self._pace.lease_ms, key=key)
            answer = await self.history.send(RENEW, job.tenant, key, 0, request)
            if isinstance(answer, ReservationEnded):
                self.history.statistics.lost_leases += 1
                return False

    async def _capture(self, job: Job, reservation: str, step: int, amount: int, *, at: int, final: bool) -> None:
        key = self._key(job, f"{CAPTURE}-{step}")
        request = partial(self._client.capture, job.tenant, reservation, amount, at=at, final=final, key=key)
        await self._insist(CAPTURE, job.tenant, key, amount, request)

    async def _release(self, job: Job, reservation: str) -> None:
        key = self._key(job, RELEASE)
        request = partial(self._client.release, job.tenant, reservation, key=key)
        answer = await self._insist(RELEASE, job.tenant, key, 0, request)
        if isinstance(answer, ReservationEnded):
            self.history.statistics.lost_leases += 1

    async def _insist(
        self,
        kind: str,
        tenant: str,
        key: str,
        amount: int,
        request: Callable[[], Awaitable[Accepted[ReservationReply]]],
    ) -> Accepted[ReservationReply] | CreditmeshError:
        """The answer, asked for again while it is unknown what became of the request."""
        answer = await self.history.send(kind, tenant, key, amount, request)
        for _ in range(self._pace.tries - 1):
            if isinstance(answer, Accepted) or (isinstance(answer, ApiError) and not answer.maybe_accepted):
                break
            await self._sleep(self._pace.pause_s)
            answer = await self.history.send(kind, tenant, key, amount, request)
        return answer

    async def _until(self, at_ms: int) -> None:
        missing_ms = at_ms - self._now_ms()
        if missing_ms > 0:
            await self._sleep(missing_ms / 1000)

    def _key(self, job: Job, step: str) -> str:
        return f"{self._run_name}:{job.job}:{step}"


def _estimate(job: Job) -> int:
    return job.gpus * estimated_s(job)


async def give(
    client: AsyncClient,
    grants: Iterable[PlannedGrant],
    clock: TraceClock,
    *,
    run: str,
    now_ms: Callable[[], int] = wall_ms,
) -> History:
    """Gives tenants their lots, live at once, through the client's region. Lots are named ``<run>.<lot>``."""
    history = History(at_once=16, now_ms=now_ms)
    requests = []
    for grant in grants:
        key = f"{run}:{grant.lot}:{GRANT}"
        request = partial(
            client.grant,
            grant.tenant,
            grant.amount,
            expires_at=clock.at_ms(grant.expires_s),
            lot=f"{run}.{grant.lot}",
            key=key,
        )
        requests.append(history.send(GRANT, grant.tenant, key, grant.amount, request))
    await asyncio.gather(*requests)
    return history
