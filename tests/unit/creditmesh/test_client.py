"""The client against nodes that misbehave: what is asked again, where, under which key, and what the caller is told."""

import asyncio
import random
from typing import Any

import msgspec
import pytest
from aiohttp import web

from creditmesh import (
    ApiError,
    AsyncClient,
    Dot,
    FindingGone,
    IdempotencyMismatch,
    InsufficientCredit,
    Invalid,
    NotFound,
    ProtocolError,
    ReservationEnded,
    Retry,
    StartUnknown,
    Unavailable,
    wire,
)
from tests.unit.creditmesh.misbehaving import (
    MisbehavingNode,
    drop,
    refuse,
    reply,
    reservation,
    stall,
    unused_address,
)

AUDITED = wire.AuditReply(
    ok=True,
    entries=0,
    replicas=[],
    tenants=0,
    books_equal=True,
    findings=[],
    digest="",
    region="r",
    as_of="",
    behind={},
)
NOT_READY = refuse(wire.ProblemKind.NOT_READY)


class Naps:
    """Stands in for sleep: notes how long, and lets the clock go on by as much."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.now = 1000.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


def client_of(*endpoints: str, naps: Naps | None = None, attempts: int = 4, timeout_s: float = 5.0) -> AsyncClient:
    naps = naps or Naps()
    return AsyncClient(
        endpoints,
        retry=Retry(attempts=attempts, attempt_timeout_s=timeout_s),
        rng=random.Random(1),
        sleep=naps.sleep,
        monotonic=naps.monotonic,
    )


async def test_a_write_goes_out_with_a_key_and_names_its_entry() -> None:
    accept = reply(reservation(), 201, {wire.CREDIT_ENTRY: "us-east/01b:7", wire.CREDIT_CLOCK: "token"})
    async with MisbehavingNode(accept) as node, client_of(node.url) as client:
        accepted = await client.reserve("acme", 60, lease_ms=1000, job="j1")
    assert accepted.reply == reservation()
    assert accepted.dot == Dot("us-east/01b", 7)
    assert accepted.clock == "token"
    assert not accepted.replayed
    assert accepted.attempts == 1
    assert node.requests == [
        (
            "POST",
            "/v1/tenants/acme/reservations",
            accepted.key,
            {"amount": 60, "estimate": None, "lease_ms": 1000, "reservation": None, "job": "j1", "wait_ms": 0},
        )
    ]


async def test_each_write_has_a_key_of_its_own_unless_the_caller_gives_one() -> None:
    async with MisbehavingNode(reply(reservation())) as node, client_of(node.url) as client:
        await client.release("acme", "r1")
        await client.release("acme", "r1")
        await client.release("acme", "r1", key="mine")
    first, second, third = node.keys
    assert first != second
    assert third == "mine"


@pytest.mark.parametrize("behaviour", [NOT_READY, drop])
async def test_a_write_is_repeated_under_the_same_key_until_it_is_answered(behaviour: Any) -> None:
    naps = Naps()
    replayed = reply(reservation(), headers={wire.IDEMPOTENT_REPLAYED: "true"})
    async with (
        MisbehavingNode(behaviour, behaviour, replayed) as node,
        client_of(node.url, naps=naps) as client,
    ):
        accepted = await client.reserve("acme", 60, lease_ms=1000)
    assert accepted.replayed
    assert accepted.attempts == 3
    assert node.keys == [accepted.key] * 3
    assert len(naps.slept) == 2


async def test_a_node_that_does_not_answer_in_time_is_asked_again() -> None:
    async with MisbehavingNode(stall, reply(reservation())) as node, client_of(node.url, timeout_s=0.02) as client:
        accepted = await client.reserve("acme", 60, lease_ms=1000)
    assert node.keys == [accepted.key] * 2


async def test_what_reads_everything_is_waited_for_and_not_begun_again() -> None:
    done = asyncio.Event()

    async def after_a_while(_: web.Request) -> web.StreamResponse:
        await done.wait()
        return web.Response(body=msgspec.json.encode(AUDITED))

    async with MisbehavingNode(after_a_while) as node, client_of(node.url, attempts=1, timeout_s=0.02) as client:
        audit = asyncio.create_task(client.audit())
        while not node.requests:
            await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await client.debts()  # begun later, given up already
        done.set()
        assert await audit == AUDITED
        assert [path for _, path, _, _ in node.requests] == ["/v1/audit", "/v1/debts"]


async def test_the_next_region_is_asked_under_the_same_key() -> None:
    async with (
        MisbehavingNode(drop) as near,
        MisbehavingNode(reply(reservation(region="eu-west"))) as far,
        client_of(near.url, far.url) as client,
    ):
        accepted = await client.reserve("acme", 60, lease_ms=1000)
        assert accepted.endpoint == far.url
        assert near.keys == far.keys == [accepted.key]


async def test_a_failed_endpoint_is_passed_over_for_a_while_and_then_asked_again() -> None:
    naps = Naps()
    async with (
        MisbehavingNode(drop, reply(reservation())) as near,
        MisbehavingNode(reply(reservation(region="eu-west"))) as far,
        client_of(near.url, far.url, naps=naps) as client,
    ):
        answered = [(await client.release("acme", "r1")).reply.region for _ in range(3)]
        naps.now += 10
        answered.append((await client.release("acme", "r1")).reply.region)
    assert answered == ["eu-west", "eu-west", "eu-west", "us-east"]


async def test_pauses_grow_and_are_jittered() -> None:
    rng = random.Random(7)
    retry = Retry(first_pause_s=0.1, longest_pause_s=1.0)
    longest = [max(retry.pause_s(failures, rng) for _ in range(300)) for failures in (1, 2, 3, 4, 5, 60)]
    assert longest == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0], rel=0.05)
    assert min(retry.pause_s(9, rng) for _ in range(300)) < 0.05


async def test_retry_after_is_honoured() -> None:
    naps = Naps()
    busy = refuse(wire.ProblemKind.NOT_READY, headers={"Retry-After": "7"})
    async with MisbehavingNode(busy, reply(reservation())) as node, client_of(node.url, naps=naps) as client:
        await client.release("acme", "r1")
    assert naps.slept == [7.0]


async def test_another_region_need_not_wait_for_the_retry_after_of_the_first() -> None:
    naps = Naps()
    busy = refuse(wire.ProblemKind.NOT_READY, headers={"Retry-After": "7"})
    async with (
        MisbehavingNode(busy) as near,
        MisbehavingNode(reply(reservation())) as far,
        client_of(near.url, far.url, naps=naps) as client,
    ):
        await client.release("acme", "r1")
    assert sum(naps.slept) < 1


async def test_a_refusal_is_final_and_typed() -> None:
    short = refuse(
        wire.ProblemKind.INSUFFICIENT_CREDIT, available=-3, debt=3, held=40, next_start=99, hint="top up", detail="no"
    )
    async with MisbehavingNode(short) as node, client_of(node.url) as client:
        with pytest.raises(InsufficientCredit, match="402 insufficient-credit: no") as caught:
            await client.reserve("acme", 60, lease_ms=1000)
    problem = caught.value.problem
    assert (problem.available, problem.debt, problem.held, problem.next_start) == (-3, 3, 40, 99)
    assert caught.value.fields["hint"] == "top up"
    assert not caught.value.maybe_accepted
    assert len(node.requests) == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (wire.ProblemKind.INVALID_REQUEST, Invalid),
        (wire.ProblemKind.NOT_FOUND, NotFound),
        (wire.ProblemKind.RESERVATION_ENDED, ReservationEnded),
        (wire.ProblemKind.IDEMPOTENCY_MISMATCH, IdempotencyMismatch),
        (wire.ProblemKind.FINDING_GONE, FindingGone),
        (wire.ProblemKind.START_UNKNOWN, StartUnknown),
        (wire.ProblemKind.PAYLOAD_TOO_LARGE, ApiError),
    ],
)
async def test_each_kind_of_refusal_has_its_error(kind: wire.ProblemKind, error: type[ApiError]) -> None:
    async with MisbehavingNode(refuse(kind)) as node, client_of(node.url) as client:
        with pytest.raises(error) as caught:
            await client.renew("acme", "r1", lease_ms=5)
    assert type(caught.value) is error
    assert caught.value.status == wire.STATUS[kind]


async def test_a_refusal_after_a_lost_answer_says_that_it_may_have_been_accepted() -> None:
    async with (
        MisbehavingNode(drop) as near,
        MisbehavingNode(refuse(wire.ProblemKind.INSUFFICIENT_CREDIT)) as far,
        client_of(near.url, far.url) as client,
    ):
        with pytest.raises(InsufficientCredit) as caught:
            await client.reserve("acme", 60, lease_ms=1000)
    assert caught.value.maybe_accepted


async def test_giving_up_says_whether_anything_may_have_been_accepted() -> None:
    nobody = await unused_address()
    async with client_of(nobody, attempts=3) as client:
        with pytest.raises(Unavailable, match="after 3 attempts") as unheard:
            await client.release("acme", "r1")
    async with MisbehavingNode(NOT_READY) as node, client_of(node.url) as client:
        with pytest.raises(Unavailable, match="not-ready") as turned_away:
            await client.release("acme", "r1")
    async with MisbehavingNode(NOT_READY, drop, NOT_READY) as node, client_of(node.url) as client:
        with pytest.raises(Unavailable) as lost:
            await client.release("acme", "r1")
        with pytest.raises(Unavailable) as read:
            await client.balance("acme")
    answers = [error.value.maybe_accepted for error in (unheard, turned_away, lost, read)]
    assert answers == [False, False, True, False]


async def test_a_policy_whose_answer_was_lost_may_have_been_accepted_though_nobody_is_there_any_more() -> None:
    """HTTP takes a PUT for harmless to repeat, and so does the library below; it must not do so by itself."""

    async def leave(request: web.Request) -> web.StreamResponse:
        await node.leave()
        return await drop(request)

    async with MisbehavingNode(NOT_READY, leave) as node, client_of(node.url, attempts=1) as client:
        with pytest.raises(Unavailable) as turned_away:
            await client.set_policy("acme", max_held=5)
        with pytest.raises(Unavailable) as lost:
            await client.set_policy("acme", max_held=5)
    assert [turned_away.value.maybe_accepted, lost.value.maybe_accepted] == [False, True]
    assert [method for method, *_ in node.requests] == ["PUT", "PUT"]


async def test_a_page_from_a_proxy_is_no_problem_document_but_still_an_error() -> None:
    async with MisbehavingNode(reply(b"<html>", 403)) as node, client_of(node.url) as client:
        with pytest.raises(ApiError, match="<html>") as caught:
            await client.debts()
    assert caught.value.status == 403


async def test_an_answer_that_is_not_in_the_schema_is_an_error_of_its_own() -> None:
    async with MisbehavingNode(reply(b'{"reservation": 5}')) as node, client_of(node.url) as client:
        with pytest.raises(ProtocolError, match="not a ReservationReply"):
            await client.release("acme", "r1")


async def test_names_and_filters_are_quoted() -> None:
    page = wire.ConflictsReply(region="us-east", as_of="t", behind={}, has_more=False, next=None, conflicts=[])
    async with MisbehavingNode(refuse(wire.ProblemKind.NOT_FOUND), reply(page)) as node, client_of(node.url) as client:
        with pytest.raises(NotFound):
            await client.lots("a/../b?c", clock="seen")
        await client.conflicts(tenant="acme", kind=wire.ConflictKind.OVERSPEND, since=5)
    assert [path for _, path, _, _ in node.requests] == [
        "/v1/tenants/a%2F..%2Fb%3Fc/lots",
        "/v1/conflicts?tenant=acme&kind=overspend&from=5&limit=100",
    ]
    assert node.clocks == ["seen", None]


STATEMENT = wire.StatementReply(
    tenant="acme",
    since=5,
    to=9,
    final=False,
    final_from=14,
    open_regions=[wire.OpenRegion(region="eu-west", promise=(13, 0))],
    opening=wire.Standing(available=0, held=0, used=0, debt=0),
    lines=[],
    closing=wire.Standing(available=0, held=0, used=0, debt=0),
    has_more=False,
    next=None,
    region="us-east",
    as_of="t",
    behind={},
)


async def test_what_is_asked_of_a_time() -> None:
    balance = wire.BalanceReply(
        tenant="acme", at=7, available=1, elsewhere=None, held=0, used=0, debt=0, lots=[],
        region="us-east", as_of="t", behind={},
    )  # fmt: skip
    expiring = wire.ExpiringReply(tenant="acme", total=0, lots=[], region="us-east", as_of="t", behind={})
    forecast = wire.ForecastReply(
        tenant="acme", at=7, window_ms=60, used=1, per_hour=60_000, available=1, runs_out_at=None,
        region="us-east", as_of="t", behind={},
    )  # fmt: skip
    script = [reply(each) for each in (balance, balance, STATEMENT, expiring, forecast)]
    async with MisbehavingNode(*script) as node, client_of(node.url) as client:
        assert await client.balance("acme", at=7) == balance
        await client.balance("acme")
        assert await client.statement("acme", since=5, to=9, after="7:2:1:eu/b:1", limit=3, clock="seen") == STATEMENT
        assert await client.expiring("acme", since=5, to=9) == expiring
        assert await client.forecast("acme", window_ms=60) == forecast
    assert [path for _, path, _, _ in node.requests] == [
        "/v1/tenants/acme/balance?at=7",
        "/v1/tenants/acme/balance",
        "/v1/tenants/acme/statement?from=5&to=9&format=json&after=7:2:1:eu/b:1&limit=3",
        "/v1/tenants/acme/expiring?from=5&to=9",
        "/v1/tenants/acme/forecast?window_ms=60",
    ]
    assert node.clocks[2] == "seen"


async def test_a_statement_as_csv_comes_as_the_node_writes_it() -> None:
    async with MisbehavingNode(reply(b"at,kind\r\n5,opening\r\n")) as node, client_of(node.url) as client:
        assert b"".join([piece async for piece in client.statement_csv("acme", since=5, to=9)]).count(b"\r\n") == 2
    assert node.requests[0][1] == "/v1/tenants/acme/statement?from=5&to=9&format=csv&limit=100"


async def test_a_csv_that_is_refused_or_breaks_off_is_not_taken_for_a_statement() -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"at,kind\r\n")
        assert request.transport is not None
        request.transport.close()
        return response

    script = (refuse(wire.ProblemKind.NOT_FOUND), half)
    async with MisbehavingNode(*script) as node, client_of(node.url) as client:
        with pytest.raises(NotFound):
            await anext(client.statement_csv("nobody", since=5, to=9))
        with pytest.raises(Unavailable):
            _ = [piece async for piece in client.statement_csv("acme", since=5, to=9)]


async def test_questions_about_one_node_are_never_answered_by_another() -> None:
    async with (
        MisbehavingNode(NOT_READY) as near,
        MisbehavingNode(reply(b"{}")) as far,
        client_of(near.url, far.url) as client,
    ):
        with pytest.raises(Unavailable):
            await client.cluster(digest=True)
        with pytest.raises(Unavailable):
            await client.set_link("eu-west", wire.LinkState.CUT)
        with pytest.raises(Unavailable):
            await client.put_jobs("slurm", [])
        with pytest.raises(Unavailable):
            await client.reconciliation()
        with pytest.raises(Unavailable):
            await client.apply_finding("acme", "x")
        with pytest.raises(Unavailable):
            await client.set_clock(offset_ms=-5, frozen=True)
        assert far.requests == []
        assert near.requests[0] == ("GET", "/v1/cluster?digest=true", None, None)
        assert ("POST", "/v1/chaos/links", None, {"peer": "eu-west", "state": "cut"}) in near.requests
        assert near.requests[-1] == ("PUT", "/v1/chaos/clock", None, {"offset_ms": -5, "frozen": True})


async def test_a_conflict_is_acknowledged_under_one_key() -> None:
    said = wire.Acknowledgement(by="ann", note="seen", at=5, region="us-east", entry="us-east/01b:7")
    answer = wire.AcknowledgeReply(
        region="us-east", conflict="e.b.3.lease", tenant="acme", acknowledgement=said, again=False
    )
    accept = reply(answer, 201, {wire.CREDIT_ENTRY: said.entry})
    async with MisbehavingNode(NOT_READY, accept) as node, client_of(node.url) as client:
        accepted = await client.acknowledge("e.b.3.lease", by="ann", note="seen", key="k")
    assert (accepted.reply, accepted.dot) == (answer, Dot("us-east/01b", 7))
    assert node.requests == 2 * [("POST", "/v1/conflicts/e.b.3.lease/ack", "k", {"by": "ann", "note": "seen"})]


async def test_a_finding_is_settled_without_a_key_of_its_own() -> None:
    entry = wire.ExportedEntry(
        replica="us-east/b1", seq=7, hlc=(5, 0), clock={}, tenant="acme", kind="release", key="reconciliation:x",
        request=None, body={}, postings={}, received=None, outcome="applied", result=None, prev="", hash="",
    )  # fmt: skip
    settled = wire.ApplyReply(finding="x", entry=entry, replayed=True, region="us-east")
    async with MisbehavingNode(NOT_READY, reply(settled)) as node, client_of(node.url) as client:
        assert await client.apply_finding("acme", "x") == settled
    assert node.requests == 2 * [("POST", "/v1/tenants/acme/reconciliation/apply", None, {"finding": "x"})]


async def test_findings_are_asked_for_by_tenant_and_kind() -> None:
    found = wire.ReconciliationReply(
        region="us-east", as_of="t", behind={}, has_more=False, next=None, at=5, counts={}, sources=[], findings=[]
    )
    async with MisbehavingNode(reply(found)) as node, client_of(node.url) as client:
        assert await client.reconciliation(tenant="acme", kind=wire.FindingKind.NEVER_STARTED, after="5:x") == found
    (asked,) = node.requests
    assert asked[1] == "/v1/reconciliation?tenant=acme&kind=never_started&after=5:x&limit=100"


async def test_a_long_snapshot_is_sent_whole_at_every_attempt() -> None:
    kept = wire.JobsReply(
        source="slurm", at=5, jobs=5_000, taken=True, unknown_tenants=[], unknown_tenant_count=0, region="us-east"
    )
    jobs = [
        wire.ScheduledJob(tenant="acme", job=f"{number:0200}", state=wire.JobState.RUNNING) for number in range(5_000)
    ]
    async with MisbehavingNode(NOT_READY, reply(kept)) as node, client_of(node.url) as client:
        assert await client.put_jobs("slurm", jobs, at=5) == kept
    first, second = node.requests
    assert first == second
    assert first[:3] == ("PUT", "/v1/jobs", None)
    assert len(first[3]["jobs"]) == 5_000


async def test_a_node_that_is_not_ready_says_why() -> None:
    unready = wire.ReadyReply(ready=False, region="us-east", reasons=["disk is full"])
    async with MisbehavingNode(reply(unready, 503)) as node, client_of(node.url) as client:
        assert await client.ready() == unready


def exported(seq: int) -> wire.ExportedEntry:
    return wire.ExportedEntry(
        replica="us-east/01b",
        seq=seq,
        hlc=(5, 0),
        clock={"us-east/01b": seq},
        tenant="acme",
        kind="settle",
        key=None,
        request=None,
        body={},
        postings={},
        received=None,
        outcome="applied",
        result=None,
        prev="00",
        hash="01",
    )


async def test_an_export_is_read_line_by_line() -> None:
    lines = b"".join(msgspec.json.encode(exported(seq)) + b"\n" for seq in range(1, 400))
    async with MisbehavingNode(reply(lines)) as node, client_of(node.url) as client:
        entries = [entry async for entry in client.export(after="t0")]
    assert entries == [exported(seq) for seq in range(1, 400)]
    assert node.requests[0][1] == "/v1/entries?after=t0"


async def test_an_export_that_breaks_off_in_a_line_is_not_taken_for_complete() -> None:
    lines = msgspec.json.encode(exported(1)) + b"\n" + msgspec.json.encode(exported(2))[:20]
    async with MisbehavingNode(reply(lines)) as node, client_of(node.url) as client:
        entries = client.export()
        assert await anext(entries) == exported(1)
        with pytest.raises(ProtocolError, match="middle of a line"):
            await anext(entries)


async def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await AsyncClient("http://127.0.0.1:1").debts()
    with pytest.raises(ValueError, match="at least one endpoint"):
        AsyncClient([])
