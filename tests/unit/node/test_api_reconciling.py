"""Snapshots, findings and settling them, over HTTP."""

from collections.abc import AsyncIterator
from fractions import Fraction
from io import BytesIO
from typing import Any

import msgspec
import pytest

from creditmesh import wire
from creditmesh.wire import FindingKind, ProblemKind
from ledger.pricing import RateCard, Rates
from ledger.refusal import Terms
from node.api.requests import MSGPACK
from tests.unit.node.in_process import HOUR, NOON, Answer, Browser, InProcessNode, browsing, config, refused

APPLY = "/v1/tenants/acme/reconciliation/apply"
GRACE = 900_000


@pytest.fixture
async def priced() -> AsyncIterator[Browser]:
    """A node of us-east with a rate card: a credit for a second of a GPU."""
    node = InProcessNode(config("us-east", ("eu-west",)))
    card = RateCard([Rates(0, {"h100": Fraction(3_600)})])
    node.region.settings = msgspec.structs.replace(
        node.region.settings, terms=Terms(node.region.settings.terms.limits, card)
    )
    async with browsing(node) as browser:
        yield browser


def job(name: str = "j", state: str = "running", tenant: str = "acme", **more: Any) -> dict[str, Any]:
    return {"tenant": tenant, "job": name, "state": state, **more}


async def put(browser: Browser, *jobs: dict[str, Any], source: str = "slurm", **more: Any) -> Answer:
    body = msgspec.json.encode({"source": source, "jobs": list(jobs), **more})
    return await browser.send("PUT", "/v1/jobs", BytesIO(body), Content_Type="application/json")


async def found(browser: Browser, query: str = "") -> wire.ReconciliationReply:
    answer = await browser.get(f"/v1/reconciliation{query}")
    assert answer.status == 200, answer.body
    return answer.read(wire.ReconciliationReply)


async def apply(browser: Browser, finding: str, path: str = APPLY, **headers: str) -> Answer:
    body = msgspec.json.encode({"finding": finding})
    return await browser.send("POST", path, body, Content_Type="application/json", **headers)


async def reserved_and_silent(browser: Browser) -> wire.Finding:
    """A reservation for a job of which nothing has been heard for longer than the grace time."""
    await browser.granted(100, lasting_ms=24 * HOUR)
    body = {"amount": 60, "lease_ms": 10 * HOUR, "reservation": "r1", "job": "j1"}
    assert (await browser.post("/v1/tenants/acme/reservations", body)).status == 201
    browser.node.clock_ms += GRACE + 1
    (finding,) = (await found(browser)).findings
    return finding


# -- what schedulers say -----------------------------------------------------------------------------------------


async def test_a_snapshot_is_taken_and_kept(east: Browser) -> None:
    await east.granted(100)
    answer = await put(east, job(), job("k", "pending"), at=NOON - 5)
    assert answer.status == 200
    assert answer.read(wire.JobsReply) == wire.JobsReply(
        source="slurm", at=NOON - 5, jobs=2, taken=True, unknown_tenants=[], unknown_tenant_count=0, region="us-east"
    )
    assert (await found(east)).sources == [wire.JobsSource(source="slurm", at=NOON - 5, jobs=2)]


async def test_without_a_time_it_is_of_now(east: Browser) -> None:
    assert (await put(east)).read(wire.JobsReply).at == NOON
    assert (await put(east, job(started_at=NOON + 50))).read(wire.JobsReply).at == NOON


async def test_one_that_comes_too_late_is_told_what_stands(east: Browser) -> None:
    await put(east, job(), at=NOON)
    late = (await put(east, job("k"), job("l"), at=NOON - 1)).read(wire.JobsReply)
    assert (late.taken, late.at, late.jobs) == (False, NOON, 1)


async def test_tenants_that_do_not_exist_are_named_and_refused_nothing(east: Browser) -> None:
    jobs = [job("j", tenant=f"t{number:03}") for number in range(150)]
    reply = (await put(east, *jobs)).read(wire.JobsReply)
    assert (reply.taken, reply.jobs, reply.unknown_tenant_count) == (True, 150, 150)
    assert reply.unknown_tenants == [f"t{number:03}" for number in range(100)]
    (finding,) = (await found(east, "?tenant=t007")).findings
    assert finding.operation is None
    assert finding.why_not is not None
    assert finding.why_not.startswith("there is no such tenant here")


async def test_it_is_read_and_answered_in_msgpack_too(east: Browser) -> None:
    body = msgspec.msgpack.encode({"source": "slurm", "jobs": [job()]})
    answer = await east.send("PUT", "/v1/jobs", body, Content_Type=MSGPACK)
    assert msgspec.msgpack.decode(answer.body, type=wire.JobsReply).jobs == 1


@pytest.mark.parametrize(
    ("jobs", "field", "rule"),
    [
        ([job(state="asleep")], "jobs[0].state", "is not right: invalid enum value 'asleep'"),
        ([job(), job("k", started_at=9, ended_at=8, state="finished")], "jobs[1].ended_at",
         "must not be before started_at"),
        ([job(state="pending", started_at=5)], "jobs[0].started_at", "must be null of a job that is pending"),
        ([job(state="running", ended_at=5)], "jobs[0].ended_at", "must be null of a job that has not finished"),
        ([job(started_at=NOON + 1)], "jobs[0].started_at", f"must not lie behind the time of the snapshot, {NOON}"),
        ([job(state="finished", ended_at=NOON + 1)], "jobs[0].ended_at",
         f"must not lie behind the time of the snapshot, {NOON}"),
        ([job(), job("k"), job()], "jobs[2]", "is the same job of the same tenant as jobs[0]"),
        ([job(tenant="no tenant")], "jobs[0].tenant", None),
        ([job(gpus=0)], "jobs[0].gpus", None),
        ([job(color="red")], "color", "is not known"),
        ([{"job": "j", "state": "running"}], "tenant", "is required"),
        ([job("")], "jobs[0].job", None),
    ],
)  # fmt: skip
async def test_a_snapshot_that_makes_no_sense_is_refused_by_field_and_rule(
    east: Browser, jobs: list[dict[str, Any]], field: str, rule: str | None
) -> None:
    problem = refused(await put(east, *jobs, at=NOON), ProblemKind.INVALID_REQUEST)
    assert problem.field == field
    assert rule in (None, problem.rule)
    assert (await found(east)).sources == []


async def test_a_snapshot_of_the_future_is_refused(east: Browser) -> None:
    ahead = east.node.config.limits.max_ahead_ms
    assert (await put(east, at=NOON + ahead)).status == 200
    problem = refused(await put(east, at=NOON + ahead + 1), ProblemKind.INVALID_REQUEST)
    assert problem.field == "at"
    problem = refused(await put(east, job(started_at=NOON + ahead + 1)), ProblemKind.INVALID_REQUEST)
    assert problem.field == "jobs[0].started_at"


async def test_a_field_that_stands_twice_in_a_job_is_refused(east: Browser) -> None:
    body = b'{"source":"s","jobs":[{"tenant":"acme","job":"j","job":"k","state":"running"}]}'
    answer = await east.send("PUT", "/v1/jobs", body, Content_Type="application/json")
    assert refused(answer, ProblemKind.INVALID_REQUEST).field == "job"


@pytest.mark.parametrize("source", ["", "a b", "ä", "x" * 65])
async def test_a_source_needs_a_name(east: Browser, source: str) -> None:
    assert refused(await put(east, source=source), ProblemKind.INVALID_REQUEST).field == "source"


async def test_too_many_jobs_are_refused() -> None:
    async with browsing(InProcessNode(config("us-east", batch_bytes=1 << 22))) as browser:
        jobs = [job(f"j{number}") for number in range(wire.MAX_JOBS + 1)]
        assert refused(await put(browser, *jobs), ProblemKind.INVALID_REQUEST).field == "jobs"


async def test_a_snapshot_may_be_longer_than_other_bodies_and_not_endless(east: Browser) -> None:
    jobs = [job(f"j{number:05}") for number in range(100)]
    assert east.node.config.limits.body_bytes < len(msgspec.json.encode(jobs)) < 16_384
    async with browsing(InProcessNode(config("us-east", batch_bytes=16_384))) as narrow:
        assert (await put(narrow, *jobs)).status == 200
        jobs = [job(f"j{number:05}", gpu_type="x" * 60) for number in range(200)]
        problem = refused(await put(narrow, *jobs), ProblemKind.PAYLOAD_TOO_LARGE)
    assert "16384" in problem.detail


async def test_what_is_applied_has_the_length_of_any_request(east: Browser) -> None:
    limits = east.node.config.limits
    too_long = await apply(east, "x" * limits.body_bytes)
    assert str(limits.body_bytes) in refused(too_long, ProblemKind.PAYLOAD_TOO_LARGE).detail


async def test_a_node_that_is_not_ready_takes_no_snapshot_and_settles_nothing(east: Browser) -> None:
    finding = await reserved_and_silent(east)
    east.node.unready = ["disk is nearly full"]
    refused(await put(east, job()), ProblemKind.NOT_READY)
    refused(await apply(east, finding.id), ProblemKind.NOT_READY)
    assert (await found(east)).findings == [finding]


async def test_writes_take_no_query(east: Browser) -> None:
    answer = await east.send("PUT", "/v1/jobs?source=slurm", b"{}", Content_Type="application/json")
    assert refused(answer, ProblemKind.INVALID_REQUEST).field == "query"
    assert refused(await apply(east, "x", APPLY + "?a=b"), ProblemKind.INVALID_REQUEST).field == "query"


# -- what does not add up ----------------------------------------------------------------------------------------


async def test_a_finding_says_all_there_is_to_know(east: Browser) -> None:
    finding = await reserved_and_silent(east)
    assert finding == wire.Finding(
        id=finding.id,
        kind=FindingKind.NEVER_STARTED,
        tenant="acme",
        subject="r1",
        since=NOON,
        detail="nothing was heard of the job j1, for which 60 is held",
        entries=["us-east/0boot:2"],
        operation=wire.FindingOperation(kind="release", body={"reservation": "r1"}),
        why_not=None,
        region=None,
    )


async def test_the_reply_says_when_and_how_many_of_each_kind(east: Browser) -> None:
    await reserved_and_silent(east)
    reply = await found(east, "?kind=negative_balance")
    assert reply.findings == []
    assert reply.at == east.node.clock_ms
    assert reply.counts == dict.fromkeys(FindingKind, 0) | {"never_started": 1}
    assert reply.region == "us-east"
    assert reply.as_of


@pytest.mark.parametrize(
    ("query", "count"),
    [("", 2), ("?tenant=acme", 2), ("?tenant=other", 0), ("?kind=never_started", 1), ("?kind=books_differ", 0)],
)
async def test_findings_pass_every_filter_that_is_set(east: Browser, query: str, count: int) -> None:
    await reserved_and_silent(east)
    await east.post("/v1/tenants/acme/debits", {"amount": 90, "on_shortage": "debt"})
    assert len((await found(east, query)).findings) == count


async def test_findings_are_paged_the_longest_standing_first(east: Browser) -> None:
    await east.granted(100, lasting_ms=24 * HOUR)
    for number in range(5):
        body = {"amount": 1, "lease_ms": 10 * HOUR, "reservation": f"r{number}", "job": f"j{number}"}
        await east.post("/v1/tenants/acme/reservations", body)
        east.node.clock_ms += 10
    east.node.clock_ms += GRACE + 1
    pages, query = [], "?limit=2"
    while True:
        page = await found(east, query)
        pages.append([finding.subject for finding in page.findings])
        assert page.has_more == (page.next is not None)
        if page.next is None:
            break
        query = f"?limit=2&after={page.next}"
    assert pages == [["r0", "r1"], ["r2", "r3"], ["r4"]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?kind=strange", "kind"), ("?limit=0", "limit"), ("?after=yesterday", "after"), ("?after=5", "after"),
        ("?after=-5:x", "after"), ("?color=red", "color"), ("?tenant=a%20b", "tenant"),
    ],
)  # fmt: skip
async def test_a_bad_question_is_refused(east: Browser, query: str, field: str) -> None:
    assert refused(await east.get(f"/v1/reconciliation{query}"), ProblemKind.INVALID_REQUEST).field == field


async def test_usage_is_told_as_it_would_be_reported(priced: Browser) -> None:
    await priced.granted(100)
    priced.node.clock_ms += 10_000
    await put(priced, job(started_at=NOON, gpu_type="h100", gpus=2))
    (finding,) = (await found(priced)).findings
    assert finding.operation is not None
    assert finding.operation.kind == "usage"
    assert finding.operation.body == {
        "job": "j", "start": NOON, "end": NOON + 10_000, "amount": 20, "final": False,
    }  # fmt: skip


# -- settling it -------------------------------------------------------------------------------------------------


async def test_what_is_applied_is_told_as_the_audit_trail_has_it(east: Browser) -> None:
    finding = await reserved_and_silent(east)
    answer = await apply(east, finding.id)
    assert answer.status == 200
    reply = answer.read(wire.ApplyReply)
    assert (reply.finding, reply.replayed, reply.region) == (finding.id, False, "us-east")
    assert (reply.entry.kind, reply.entry.body) == ("release", {"claim": "r1"})
    assert reply.entry.key == f"reconciliation:{finding.id}"
    assert reply.entry.postings == {"held/r1": -60, "lot/l1": 60}
    entries = (await east.get("/v1/tenants/acme/entries")).read(wire.EntriesReply).entries
    assert reply.entry in entries
    assert answer.headers[wire.CREDIT_ENTRY] == f"{reply.entry.replica}:{reply.entry.seq}"
    assert wire.CREDIT_CLOCK in answer.headers
    assert wire.IDEMPOTENT_REPLAYED not in answer.headers
    assert (await found(east)).findings == []


async def test_applied_again_it_answers_the_same_here_and_elsewhere(east: Browser, west: Browser) -> None:
    finding = await reserved_and_silent(east)
    first = (await apply(east, finding.id)).read(wire.ApplyReply)
    west.node.clock_ms = east.node.clock_ms
    west.node.hear(east.node)
    for browser in (east, west):
        answer = await apply(browser, finding.id)
        assert answer.headers[wire.IDEMPOTENT_REPLAYED] == "true"
        again = answer.read(wire.ApplyReply)
        assert (again.replayed, again.entry) == (True, first.entry)


async def test_one_that_has_gone_is_a_problem_of_its_own(east: Browser) -> None:
    finding = await reserved_and_silent(east)
    await east.post("/v1/tenants/acme/reservations/r1/release")
    problem = refused(await apply(east, finding.id), ProblemKind.FINDING_GONE)
    assert problem.status == 409


async def test_one_that_never_was_is_not_found(east: Browser) -> None:
    await east.granted(100)
    refused(await apply(east, "never_started.0123"), ProblemKind.NOT_FOUND)
    refused(await apply(east, "x", "/v1/tenants/nobody/reconciliation/apply"), ProblemKind.NOT_FOUND)


async def test_one_without_an_operation_says_why(east: Browser) -> None:
    await east.granted(100)
    await put(east, job(started_at=NOON - 10))
    (finding,) = (await found(east)).findings
    problem = refused(await apply(east, finding.id), ProblemKind.INVALID_REQUEST)
    assert problem.field == "finding"
    assert "no snapshot says gpu_type, gpus" in problem.detail


async def test_a_refused_operation_is_the_answer(priced: Browser) -> None:
    """The job began before the tenant had anything."""
    await priced.granted(100)
    priced.node.clock_ms += 1_000
    await put(priced, job(started_at=NOON - 10_000, gpu_type="h100", gpus=1))
    (finding,) = (await found(priced)).findings
    problem = refused(await apply(priced, finding.id), ProblemKind.INVALID_REQUEST)
    assert problem.field == "start"
    assert (await found(priced)).findings == [finding]


async def test_a_tenant_that_owes_is_forgiven(east: Browser) -> None:
    await east.granted(100)
    await east.post("/v1/tenants/acme/debits", {"amount": 150, "on_shortage": "debt"})
    (finding,) = (await found(east)).findings
    assert finding.operation is not None
    assert finding.operation.kind == "grant"
    reply = (await apply(east, finding.id)).read(wire.ApplyReply)
    assert reply.entry.postings == {"issued": -50, "debt": 50}
    balance = (await east.get("/v1/tenants/acme/balance")).read(wire.BalanceReply)
    assert (balance.debt, balance.available) == (0, 0)


async def test_a_compensation_is_posted_where_it_is_owed(east: Browser, west: Browser) -> None:
    await east.granted(100)
    west.node.hear(east.node)
    east.node.clock_ms += 10
    await west.reserved(60, "r-west")
    await east.reserved(60, "r-east")
    east.node.hear(west.node)
    west.node.hear(east.node)
    for browser in (west, east):
        (finding,) = (await found(browser, "?kind=books_differ")).findings
        assert (finding.region, finding.subject) == ("us-east", "r-east")
        assert finding.operation is not None
        assert finding.operation.body == {"of": [["us-east/0boot", 2, {"lot/l1": 20, "debt": -20}]]}
    problem = refused(await apply(west, finding.id), ProblemKind.INVALID_REQUEST)
    assert "us-east" in problem.detail
    reply = (await apply(east, finding.id)).read(wire.ApplyReply)
    assert (reply.entry.kind, reply.entry.postings) == ("compensation", {"lot/l1": 20, "debt": -20})
    west.node.hear(east.node)
    assert (await apply(west, finding.id)).read(wire.ApplyReply).entry == reply.entry
    assert (await found(west, "?kind=books_differ")).findings == []


async def test_it_waits_for_the_clock_of_the_request(east: Browser, west: Browser) -> None:
    finding = await reserved_and_silent(east)
    west.node.clock_ms = east.node.clock_ms
    token = (await east.get("/v1/tenants/acme/balance")).headers[wire.CREDIT_CLOCK]
    west.node.patience = 0
    refused(await apply(west, finding.id, Credit_Clock=token), ProblemKind.NOT_READY)
    west.node.hear(east.node)
    assert (await apply(west, finding.id, Credit_Clock=token)).status == 200


async def test_it_is_answered_in_msgpack_too(east: Browser) -> None:
    finding = await reserved_and_silent(east)
    answer = await apply(east, finding.id, Accept=MSGPACK)
    assert msgspec.msgpack.decode(answer.body, type=wire.ApplyReply).entry.kind == "release"


@pytest.mark.parametrize("name", ["", "a b", "never_started.ä", "x" * 129])
async def test_what_cannot_be_the_name_of_a_finding_is_refused(east: Browser, name: str) -> None:
    await east.granted(100)
    assert refused(await apply(east, name), ProblemKind.INVALID_REQUEST).field == "finding"


async def test_status_tells_what_the_node_found_by_itself(east: Browser) -> None:
    assert (await east.get("/v1/cluster")).read(wire.ClusterReply).findings == {"never_started": 2}
