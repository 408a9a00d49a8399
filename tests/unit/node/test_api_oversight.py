"""What operators, auditors and probes read."""

from typing import NamedTuple

import aiohttp
import msgspec
import pytest
from structlog.testing import capture_logs

from conflict.detect import Kind
from conflict.report import State
from creditmesh import wire
from creditmesh.wire import ConflictKind, ConflictState, ProblemKind
from ledger.command import TransferCredit
from ledger.ids import Key, TenantId
from node.alarms import AlarmKind
from node.api import oversight, stream
from node.region import Accepted
from replication.clock import decode_token
from tests.unit.node.in_process import HOUR, NOON, Browser, refused

ACME = "/v1/tenants/acme"


class Overspent(NamedTuple):
    """Two regions that spent the same credit, and have put the books right."""

    east: Browser
    west: Browser
    loser: str


@pytest.fixture
async def overspent(east: Browser, west: Browser) -> Overspent:
    """60 of 100 reserved in each region; the later reservation lost 20, and its region said so."""
    await east.granted(100)
    west.node.hear(east.node)
    east.node.clock_ms += 10
    await west.reserved(60, "r-west")
    await east.reserved(60, "r-east")
    east.node.hear(west.node)
    west.node.hear(east.node)
    east.node.tick(1_000)
    west.node.hear(east.node)
    return Overspent(east, west, "r-east")


async def conflicts(browser: Browser, query: str = "") -> list[wire.Conflict]:
    return (await browser.get(f"/v1/conflicts{query}")).read(wire.ConflictsReply).conflicts


async def test_both_regions_tell_the_same_conflict(overspent: Overspent) -> None:
    (told,) = await conflicts(overspent.east)
    assert await conflicts(overspent.west) == [told]
    assert (told.kind, told.state, told.tenant) == (ConflictKind.OVERSPEND, ConflictState.COMPENSATED, "acme")
    assert (told.amount, told.debt) == (20, 20)
    assert told.loser.claim == overspent.loser
    assert told.loser.region == "us-east"
    assert told.loser.hlc[0] == NOON + 10
    assert [rival.claim for rival in told.rivals] == ["r-west"]
    assert told.rival_count == 1
    assert told.lots == [wire.LotDifference(lot="l1", recorded=-60, canonical=-40)]
    (compensation,) = told.compensations
    assert compensation.replica == "us-east/0boot"
    assert compensation.postings == {"lot/l1": 20, "debt": -20}
    assert told.detected_at == compensation.hlc[0]


async def test_a_conflict_is_found_by_its_id(overspent: Overspent) -> None:
    (told,) = await conflicts(overspent.east)
    answer = await overspent.west.get(f"/v1/conflicts/{told.id}")
    assert answer.read(wire.ConflictReply).conflict == told
    refused(await overspent.west.get("/v1/conflicts/us-east.0boot.1.overspend"), ProblemKind.NOT_FOUND)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("?tenant=acme", 1), ("?tenant=other", 0), ("?kind=overspend", 1), ("?kind=lease", 0),
        ("?state=compensated", 1), ("?state=repaid", 0), ("?region=us-east", 1), ("?region=eu-west", 0),
        (f"?from={NOON + 10}", 1), (f"?from={NOON + HOUR}", 0), ("?kind=overspend&region=eu-west", 0),
    ],
)  # fmt: skip
async def test_conflicts_pass_every_filter_that_is_set(overspent: Overspent, query: str, count: int) -> None:
    assert len(await conflicts(overspent.west, query)) == count


async def test_a_conflict_that_is_not_detected_yet_is_found_by_the_time_of_its_loser(
    east: Browser, west: Browser
) -> None:
    await east.granted(100)
    west.node.hear(east.node)
    east.node.clock_ms += 10
    await west.reserved(60, "r-west")
    await east.reserved(60, "r-east")
    west.node.hear(east.node)
    (told,) = await conflicts(west)
    assert (told.state, told.detected_at) == (ConflictState.DETECTED, None)
    at_ms = told.loser.hlc[0]
    assert await conflicts(west, f"?from={at_ms}") == [told]
    assert await conflicts(west, f"?from={at_ms + 1}") == []


async def test_what_was_only_paid_from_another_lot_is_listed_when_asked_for(east: Browser, west: Browser) -> None:
    await east.granted(100, lot="a", lasting_ms=HOUR // 2)
    await east.granted(100, lot="b", lasting_ms=HOUR)
    west.node.hear(east.node)
    east.node.clock_ms += 10
    await west.reserved(60, "r-west")
    await east.reserved(60, "r-east")
    east.node.hear(west.node)
    east.node.tick(1_000)
    assert await conflicts(east) == []
    (told,) = await conflicts(east, "?kind=reallocated")
    assert (told.loser.claim, told.debt) == ("r-east", 0)


async def test_conflicts_are_paged_the_latest_loser_first(
    east: Browser, west: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await east.granted(100)
    west.node.hear(east.node)
    east.node.clock_ms += 10
    await west.reserved(100, "all-of-it")
    for number in range(5):
        await east.reserved(10, f"r{number}")
    east.node.hear(west.node)
    east.node.tick(1_000)

    async def pages(query: str) -> list[list[str | None]]:
        found, after = [], ""
        while True:
            page = (await east.get(f"/v1/conflicts?{query}{after}")).read(wire.ConflictsReply)
            found.append([conflict.loser.claim for conflict in page.conflicts])
            if page.next is None:
                assert not page.has_more
                return found
            after = f"&after={page.next}"

    assert await pages("limit=2") == [["r4", "r3"], ["r2", "r1"], ["r0"]]
    monkeypatch.setattr(oversight, "MAX_REPORTS_LOOKED_AT", 2)
    assert await pages("kind=lease") == [[], [], []]


async def test_a_page_never_ends_between_the_two_conflicts_of_one_transfer(
    east: Browser, west: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tenant in ("acme", "umbra"):
        await east.granted(100, tenant=tenant)
    west.node.hear(east.node)
    east.node.clock_ms += 10
    for node in (west.node, east.node):
        for key in ("t1", "t2"):
            gift = TransferCredit(TenantId("umbra"), 10)
            assert isinstance(await node.submit(TenantId("acme"), gift, Key(key), 0), Accepted)
    east.node.hear(west.node)

    async def pages(query: str) -> list[list[str]]:
        found, after = [], ""
        while True:
            page = (await east.get(f"/v1/conflicts?{query}{after}")).read(wire.ConflictsReply)
            found.append([f"{conflict.loser.key} {conflict.tenant}" for conflict in page.conflicts])
            if page.next is None:
                return found
            after = f"&after={page.next}"

    second, first = ["t2 umbra", "t2 acme"], ["t1 umbra", "t1 acme"]
    assert await pages("limit=1") == [second, first]
    assert await pages("limit=2") == [second, first]
    assert await pages("limit=3") == [second + first]
    assert await pages("limit=1&tenant=umbra") == [["t2 umbra"], ["t1 umbra"]]
    monkeypatch.setattr(oversight, "MAX_REPORTS_LOOKED_AT", 1)
    assert await pages("limit=9") == [second, first]
    assert await pages("kind=lease") == [[], []]


def test_every_kind_and_state_of_a_conflict_has_its_word_in_the_schema() -> None:
    assert [kind.value for kind in ConflictKind] == [kind.value for kind in Kind]
    assert [state.value for state in ConflictState] == [state.value for state in State]


async def test_debts_name_the_job_and_say_when_nothing_was_reserved_for_it(overspent: Overspent) -> None:
    east, now = overspent.east, overspent.east.node.clock_ms
    event = {"id": "e", "tenant": "umbra", "job": "stray", "type": "usage", "start": now, "end": now + 1}
    await east.granted(1, tenant="umbra", lot="u")
    await east.post("/v1/usage-events", [{**event, "amount": 8}])
    (owed,) = [debt for debt in (await east.get("/v1/debts")).read(wire.DebtsReply).debts if debt.tenant == "umbra"]
    (claim,) = owed.claims
    assert (claim.job, claim.flags, claim.debt) == ("stray", [wire.EventFlag.UNRESERVED], 7)


async def test_debts_name_who_owes_what_for_which_claim(overspent: Overspent) -> None:
    owed = [
        wire.TenantDebt(tenant="acme", debt=20, claims=[wire.ClaimDebt(claim="r-east", job=None, flags=[], debt=20)])
    ]
    for browser in (overspent.east, overspent.west):
        assert (await browser.get("/v1/debts")).read(wire.DebtsReply).debts == owed
    await overspent.east.granted(20, lot="l2")
    assert (await overspent.east.get("/v1/debts")).read(wire.DebtsReply).debts == []


async def test_a_compensation_stands_in_the_trail_with_the_entries_it_is_about(overspent: Overspent) -> None:
    trail = (await overspent.west.get(f"{ACME}/entries")).read(wire.EntriesReply).entries
    compensation = trail[-1]
    assert compensation.kind == "compensation"
    assert compensation.body == {"of": [["us-east/0boot", 2, {"lot/l1": 20, "debt": -20}]]}
    assert compensation.key is None
    assert compensation.clock == {"eu-west/0boot": 1, "us-east/0boot": 3}


# -- the cluster -------------------------------------------------------------------------------------------------


async def test_the_cluster_as_one_node_sees_it(east: Browser) -> None:
    await east.granted(100)
    east.node.region.alarms.raise_(AlarmKind.FORK, "eu-west/0boot", "two entries", NOON)
    east.node.region.alarms.raise_(AlarmKind.FORK, "eu-west/0boot", "two entries", NOON + 1)
    cluster = (await east.get("/v1/cluster")).read(wire.ClusterReply)
    assert (cluster.cluster, cluster.region, cluster.replica) == ("c", "us-east", "us-east/0boot")
    assert cluster.clock == decode_token(cluster.as_of) == {"us-east/0boot": 1}
    assert cluster.digest is None
    assert cluster.regions == [
        wire.RegionLink(
            region="eu-west",
            linked=True,
            cut=False,
            heard_ms_ago=None,
            missing_here=3,
            missing_there=0,
            promise=(NOON, 7),
        )
    ]
    assert cluster.frontier == wire.Frontier(hlc=(NOON, 0), held_back_by="us-east")
    assert cluster.alarms == [
        wire.Alarm(kind="fork", subject="eu-west/0boot", detail="two entries", raised_at=NOON, count=2)
    ]


async def test_equal_clocks_have_equal_digests_when_asked_for(overspent: Overspent) -> None:
    told = [(await browser.get("/v1/cluster?digest=true")).read(wire.ClusterReply) for browser in overspent[:2]]
    assert told[0].clock == told[1].clock
    assert told[0].digest == told[1].digest is not None


async def test_an_audit_covers_every_log_and_every_book(overspent: Overspent) -> None:
    found = (await overspent.east.get("/v1/audit")).read(wire.AuditReply)
    assert found.ok
    assert found.books_equal
    assert (found.entries, found.tenants, found.findings) == (4, 1, [])
    assert found.replicas == [
        wire.ReplicaAudit(replica="eu-west/0boot", entries=1, ok=True),
        wire.ReplicaAudit(replica="us-east/0boot", entries=3, ok=True),
    ]
    assert found.digest == (await overspent.west.get("/v1/audit")).read(wire.AuditReply).digest


# -- the export --------------------------------------------------------------------------------------------------


def lines(body: bytes) -> list[wire.ExportedEntry]:
    assert body.endswith(b"\n") or not body
    return [msgspec.json.decode(line, type=wire.ExportedEntry) for line in body.splitlines()]


async def test_an_export_has_every_entry_and_where_the_next_one_starts(east: Browser) -> None:
    await east.granted(100)
    await east.reserved(60, "r1")
    answer = await east.get("/v1/entries")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert [entry.kind for entry in lines(answer.body)] == ["grant", "hold"]
    await east.post(f"{ACME}/reservations/r1/release")
    rest = await east.get(f"/v1/entries?after={answer.headers['Credit-Clock']}")
    assert [entry.kind for entry in lines(rest.body)] == ["release"]
    nothing = await east.get(f"/v1/entries?after={rest.headers['Credit-Clock']}")
    assert (nothing.status, nothing.body) == (200, b"")


async def test_a_long_export_goes_out_in_pieces_and_whole(east: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_CHUNK_BYTES", 500)
    await east.granted(100)
    for number in range(20):
        await east.reserved(1, f"r{number}")
    assert [entry.seq for entry in lines((await east.get("/v1/entries")).body)] == list(range(1, 22))


async def test_an_export_that_breaks_off_is_seen_to_break_off(east: Browser) -> None:
    await east.granted(100)
    await east.reserved(60, "r1")
    east.node.break_export_after = 1
    with capture_logs() as logs, pytest.raises((aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)):
        await east.get("/v1/entries")
    assert [log["event"] for log in logs] == ["a stream broke off"]


async def test_head_of_an_export_has_no_entries(east: Browser) -> None:
    await east.granted(100)
    head = await east.send("HEAD", "/v1/entries")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == "application/x-ndjson"


@pytest.mark.parametrize(("query", "field"), [("after=zzz", "after"), ("limit=5", "limit")])
async def test_an_export_from_nowhere_is_refused(east: Browser, query: str, field: str) -> None:
    assert refused(await east.get(f"/v1/entries?{query}"), ProblemKind.INVALID_REQUEST).field == field


# -- probes ------------------------------------------------------------------------------------------------------


async def test_the_process_answers_and_says_whether_it_takes_writes(east: Browser) -> None:
    assert (await east.get("/healthz")).read(wire.HealthReply) == wire.HealthReply(status="ok", region="us-east")
    ready = await east.get("/readyz")
    assert (ready.status, ready.read(wire.ReadyReply).ready) == (200, True)
    east.node.unready = ["disk is nearly full"]
    unready = await east.get("/readyz")
    assert unready.status == 503
    assert unready.read(wire.ReadyReply) == wire.ReadyReply(
        ready=False, region="us-east", reasons=["disk is nearly full"]
    )
    assert (await east.get("/healthz")).status == 200


async def test_metrics_are_prometheus_text(east: Browser) -> None:
    answer = await east.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"creditmesh_reservation_attempts" in answer.body
