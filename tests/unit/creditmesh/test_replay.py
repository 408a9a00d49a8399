"""A regional scheduler in virtual time, against a client that answers as the test says."""

import asyncio
import heapq
from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec

from creditmesh import Accepted, AsyncClient, CreditmeshError, Dot, Unavailable, wire
from creditmesh.errors import ApiError, InsufficientCredit, NotFound, ReservationEnded
from creditmesh.history import Ending, History, Statistics, verdicts
from creditmesh.replay import Pace, Scheduler, TraceClock, give
from creditmesh.workload import Job, PlannedGrant, estimated_s
from tests.unit.creditmesh.misbehaving import reservation

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

STARTED_MS = 1_000_000
CLOCK = TraceClock(origin_s=500, started_ms=STARTED_MS, speed=10.0)
PACE = Pace(lease_ms=3000, captures=3, tries=3, pause_s=1.0, at_once=2)


class VirtualTime:
    """Time that goes on to the next sleeper's end when all tasks sleep."""

    def __init__(self) -> None:
        self.ms = STARTED_MS
        self._sleepers: list[tuple[int, int, asyncio.Event]] = []
        self._count = 0

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        awake = asyncio.Event()
        self._count += 1
        heapq.heappush(self._sleepers, (self.ms + round(seconds * 1000), self._count, awake))
        await awake.wait()

    async def run(self, work: Awaitable[T]) -> T:
        task = asyncio.ensure_future(work)
        while not task.done():
            for _ in range(30):  # enough turns of the loop for every task to come to its next sleep
                await asyncio.sleep(0)
            if self._sleepers:
                self.ms, _, awake = heapq.heappop(self._sleepers)
                awake.set()
        return await task


class ScriptedClient(AsyncClient):
    """Accepts everything, unless the script has an error for that step of the job: the first ones come first."""

    def __init__(self, time: VirtualTime, script: dict[str, list[CreditmeshError]] | None = None) -> None:
        super().__init__("http://unused")
        self._time = time
        self._script = script or {}
        self.log: list[tuple[int, str, dict[str, Any]]] = []
        """Milliseconds since the start, key, arguments."""
        self.under_way = 0
        self.most_under_way = 0

    async def _answer(self, key: str | None, reply: R, **arguments: Any) -> Accepted[R]:
        assert key is not None
        self.log.append((self._time.ms - STARTED_MS, key, arguments))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if errors := self._script.get(key):
            raise errors.pop(0)
        dot = Dot("us-east/01b", len(self.log))
        return Accepted(reply, key, dot, replayed=False, clock=None, endpoint="", attempts=1)

    async def grant(self, tenant: str, amount: int, **rest: Any) -> Accepted[wire.GrantReply]:
        reply = wire.GrantReply(
            lot=rest["lot"],
            amount=amount,
            starts_at=0,
            expires_at=rest["expires_at"],
            priority=0,
            shares=None,
            region="us-east",
        )
        return await self._answer(rest.pop("key"), reply, tenant=tenant, amount=amount, **rest)

    async def reserve(self, tenant: str, amount: int | wire.Estimate, **rest: Any) -> Accepted[wire.ReservationReply]:
        held = reservation(reservation=f"r-{rest['job']}", tenant=tenant)
        return await self._answer(rest.pop("key"), held, amount=amount, **rest)

    async def renew(self, tenant: str, reservation: str, **rest: Any) -> Accepted[wire.ReservationReply]:
        return await self._usage(tenant, reservation, **rest)

    async def capture(
        self, tenant: str, reservation: str, amount: int = 0, **rest: Any
    ) -> Accepted[wire.ReservationReply]:
        return await self._usage(tenant, reservation, amount=amount, **rest)

    async def release(self, tenant: str, reservation: str, **rest: Any) -> Accepted[wire.ReservationReply]:
        return await self._usage(tenant, reservation, **rest)

    async def _usage(self, tenant: str, claim: str, **rest: Any) -> Accepted[wire.ReservationReply]:
        return await self._answer(rest.pop("key"), reservation(reservation=claim, tenant=tenant), **rest)


def refusal(error: type[ApiError], kind: wire.ProblemKind) -> ApiError:
    return error(wire.Problem(type=wire.problem_type(kind), title="no", status=wire.STATUS[kind]), {})


def short() -> ApiError:
    return refusal(InsufficientCredit, wire.ProblemKind.INSUFFICIENT_CREDIT)


def ended() -> ApiError:
    return refusal(ReservationEnded, wire.ProblemKind.RESERVATION_ENDED)


def lost() -> Unavailable:
    return Unavailable(8, "timeout", maybe_accepted=True)


def job(name: str, start_s: int = 500, duration_s: int = 60, gpus: int = 2, region: str = "us-east") -> Job:
    return Job(name, "acme", region, "us-east", start_s, duration_s, gpus)


def overestimated() -> Job:
    """One that ends before its estimate does, so that something is left to release."""
    return next(j for j in (job(f"j{n}") for n in range(100)) if estimated_s(j) > j.duration_s)


def underestimated() -> Job:
    return next(j for j in (job(f"j{n}") for n in range(100)) if estimated_s(j) < j.duration_s)


async def replayed(client: ScriptedClient, time: VirtualTime, *jobs: Job, pace: Pace = PACE) -> History:
    scheduler = Scheduler("us-east", client, jobs, CLOCK, run="run", pace=pace, now_ms=time.now_ms, sleep=time.sleep)
    return await time.run(scheduler.replay())


def steps(client: ScriptedClient, name: str) -> list[tuple[int, str]]:
    return [(at, key.removeprefix(f"run:{name}:")) for at, key, _ in client.log if key.startswith(f"run:{name}:")]


async def test_a_job_holds_renews_captures_and_releases_at_its_times() -> None:
    time, j = VirtualTime(), overestimated()
    client = ScriptedClient(time)
    history = await replayed(client, time, j)
    # 60 s at ten times the speed are 6 s; a third of the lease is 1 s, an interval 2 s
    assert steps(client, j.job) == [
        (0, "hold"),
        (1000, "renew-1"),
        (2000, "capture-1"),
        (3000, "renew-3"),
        (4000, "capture-2"),
        (5000, "renew-5"),
        (6000, "capture-3"),
        (6000, "release"),
    ]
    captures = [arguments for _, key, arguments in client.log if "capture" in key]
    assert [capture["amount"] for capture in captures] == [40, 40, 40]
    assert [capture["at"] - STARTED_MS for capture in captures] == [2000, 4000, 6000]
    assert not any(capture["final"] for capture in captures)
    assert client.log[0][2] == {"amount": 2 * estimated_s(j), "lease_ms": 3000, "job": j.job}
    statistics = history.statistics
    assert (statistics.jobs, statistics.started, statistics.finished, statistics.dropped) == (1, 1, 1, 0)
    assert set(verdicts(history.records).values()) == {Ending.ACCEPTED}
    assert all(record.dot is not None for record in history.records)


async def test_the_last_capture_of_a_job_that_outran_its_estimate_is_final() -> None:
    time, j = VirtualTime(), underestimated()
    client = ScriptedClient(time)
    await replayed(client, time, j)
    assert [arguments["final"] for _, key, arguments in client.log if "capture" in key] == [False, False, True]
    assert steps(client, j.job)[-1] == (6000, "capture-3")


async def test_jobs_start_when_they_are_due_and_only_those_of_the_region() -> None:
    time = VirtualTime()
    client = ScriptedClient(time)
    await replayed(client, time, job("late", 700), job("early", 520), job("far", 500, region="eu-west"))
    assert [(at, key) for at, key, _ in client.log if key.endswith("hold")] == [
        (2000, "run:early:hold"),
        (20_000, "run:late:hold"),
    ]


async def test_usage_adds_up_to_the_gpu_seconds_however_it_divides() -> None:
    time = VirtualTime()
    client = ScriptedClient(time)
    await replayed(client, time, job("a", duration_s=61, gpus=5), job("b", duration_s=1, gpus=1))
    captured: dict[str, int] = {}
    for _, key, arguments in client.log:
        if "capture" in key:
            captured[key.split(":")[1]] = captured.get(key.split(":")[1], 0) + arguments["amount"]
            assert arguments["amount"] > 0
    assert captured == {"a": 305, "b": 1}


async def test_a_refused_job_asks_again_under_its_key_and_starts_later() -> None:
    time, j = VirtualTime(), overestimated()
    client = ScriptedClient(time, {f"run:{j.job}:hold": [short()]})
    history = await replayed(client, time, j)
    assert steps(client, j.job)[:2] == [(0, "hold"), (1000, "hold")]
    assert steps(client, j.job)[-1] == (7000, "release")
    assert history.statistics.refusals == 1
    assert history.statistics.finished == 1
    assert verdicts(history.records)["acme", f"run:{j.job}:hold"] is Ending.ACCEPTED


async def test_a_job_that_is_refused_too_often_is_dropped() -> None:
    time, seen = VirtualTime(), list[int]()

    def note(statistics: Statistics) -> None:
        seen.append(statistics.dropped)

    client = ScriptedClient(time, {"run:a:hold": [short(), short(), short()]})
    scheduler = Scheduler(
        "us-east",
        client,
        [job("a")],
        CLOCK,
        run="run",
        pace=PACE,
        now_ms=time.now_ms,
        sleep=time.sleep,
        on_progress=note,
    )
    history = await time.run(scheduler.replay())
    assert steps(client, "a") == [(0, "hold"), (1000, "hold"), (2000, "hold")]
    assert (history.statistics.dropped, history.statistics.refusals, history.statistics.started) == (1, 3, 0)
    assert verdicts(history.records) == {("acme", "run:a:hold"): Ending.REFUSED}
    assert seen == [1]


async def test_a_job_whose_request_makes_no_sense_is_not_asked_for_again() -> None:
    time = VirtualTime()
    invalid = refusal(ApiError, wire.ProblemKind.INVALID_REQUEST)
    client = ScriptedClient(time, {"run:a:hold": [invalid]})
    history = await replayed(client, time, job("a"))
    assert steps(client, "a") == [(0, "hold")]
    assert history.statistics.dropped == 1


async def test_usage_is_reported_again_under_its_key_until_it_is_known() -> None:
    time, j = VirtualTime(), overestimated()
    client = ScriptedClient(time, {f"run:{j.job}:capture-1": [lost(), lost()]})
    history = await replayed(client, time, j)
    assert [at for at, step in steps(client, j.job) if step == "capture-1"] == [2000, 3000, 4000]
    assert history.statistics.requests["capture", Ending.UNKNOWN] == 2
    assert verdicts(history.records)["acme", f"run:{j.job}:capture-1"] is Ending.ACCEPTED


async def test_what_stays_unanswered_is_recorded_as_unknown_and_the_job_goes_on() -> None:
    time, j = VirtualTime(), overestimated()
    client = ScriptedClient(time, {f"run:{j.job}:capture-3": [lost(), lost(), lost()]})
    history = await replayed(client, time, j)
    assert verdicts(history.records)["acme", f"run:{j.job}:capture-3"] is Ending.UNKNOWN
    assert steps(client, j.job)[-1][1] == "release"


async def test_a_lost_lease_is_counted_and_usage_is_still_captured() -> None:
    time, j = VirtualTime(), overestimated()
    client = ScriptedClient(time, {f"run:{j.job}:renew-1": [ended()]})
    history = await replayed(client, time, j)
    assert [step for _, step in steps(client, j.job)] == ["hold", "renew-1", "capture-1", "capture-2", "capture-3"]
    assert history.statistics.lost_leases == 1
    assert history.statistics.finished == 1


async def test_a_failed_renewal_is_left_to_the_next_one() -> None:
    time, j = VirtualTime(), overestimated()
    missing = refusal(NotFound, wire.ProblemKind.NOT_FOUND)
    client = ScriptedClient(time, {f"run:{j.job}:renew-1": [lost()], f"run:{j.job}:renew-3": [missing]})
    history = await replayed(client, time, j)
    assert [step for _, step in steps(client, j.job) if "renew" in step] == ["renew-1", "renew-3", "renew-5"]
    assert history.statistics.lost_leases == 0


async def test_a_lease_that_turns_out_to_have_ended_at_the_release_is_counted() -> None:
    time, j = VirtualTime(), overestimated()
    client = ScriptedClient(time, {f"run:{j.job}:release": [ended()]})
    history = await replayed(client, time, j)
    assert history.statistics.lost_leases == 1


async def test_no_more_requests_are_under_way_than_allowed() -> None:
    time = VirtualTime()
    client = ScriptedClient(time)
    history = await replayed(client, time, *(job(f"j{n}") for n in range(20)))
    assert client.most_under_way == 2
    assert history.statistics.finished == 20


async def test_grants_are_given_under_the_runs_name_at_the_traces_pace() -> None:
    time = VirtualTime()
    client = ScriptedClient(time)
    plan = [PlannedGrant("acme", "us-east", "acme-1", 900, expires_s=1500)]
    history = await give(client, plan, CLOCK, run="run", now_ms=time.now_ms)
    expected = {"tenant": "acme", "amount": 900, "expires_at": STARTED_MS + 100_000, "lot": "run.acme-1"}
    assert client.log == [(0, "run:acme-1:grant", expected)]
    assert verdicts(history.records) == {("acme", "run:acme-1:grant"): Ending.ACCEPTED}
