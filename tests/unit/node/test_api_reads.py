"""The routes that show a tenant, page by page and as of when."""

from itertools import pairwise

import msgspec
import pytest

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.ids import TenantId
from node.api import reads
from replication.clock import decode_token
from replication.entry import seal
from tests.unit.node.in_process import HOUR, NOON, Browser, LagState, refused
from tests.unit.replication.sites import make_entry

ACME = "/v1/tenants/acme"


async def test_a_balance_shows_what_can_be_spent_now(east: Browser) -> None:
    await east.granted(100)
    await east.post(f"{ACME}/grants", {"amount": 50, "starts_at": NOON + 1, "expires_at": NOON + 2, "lot": "later"})
    await east.post(f"{ACME}/grants", {"amount": 7, "expires_at": NOON + 2, "lot": "spent"})
    await east.reserved(30, "r1")
    await east.post(f"{ACME}/reservations/r1/capture", {"amount": 10})
    balance = (await east.get(f"{ACME}/balance")).read(wire.BalanceReply)
    assert (balance.available, balance.held, balance.used, balance.debt) == (77, 20, 10, 0)
    assert [(lot.lot, lot.remaining) for lot in balance.lots] == [("later", 50), ("l1", 77)]


async def test_a_balance_leaves_out_what_has_expired(east: Browser) -> None:
    await east.granted(100, lasting_ms=5)
    east.node.clock_ms += 5
    balance = (await east.get(f"{ACME}/balance")).read(wire.BalanceReply)
    assert (balance.available, balance.lots) == (0, [])


async def test_debt_is_shown_as_a_positive_number(east: Browser) -> None:
    await east.granted(100)
    await east.post(f"{ACME}/debits", {"amount": 130, "on_shortage": "debt"})
    balance = (await east.get(f"{ACME}/balance")).read(wire.BalanceReply)
    assert (balance.available, balance.debt) == (-30, 30)


async def test_every_lot_is_listed_in_spending_order_also_closed_ones(east: Browser) -> None:
    await east.granted(100, lot="long", lasting_ms=HOUR)
    await east.granted(100, lot="short", lasting_ms=HOUR // 2)
    await east.granted(100, lot="gone", lasting_ms=HOUR // 4)
    await east.post(f"{ACME}/grants/gone/revoke")
    lots = (await east.get(f"{ACME}/lots")).read(wire.LotsReply).lots
    assert [(lot.lot, lot.closed, lot.remaining) for lot in lots] == [
        ("gone", True, 0),
        ("short", False, 100),
        ("long", False, 100),
    ]


async def test_one_reservation_with_its_job(east: Browser) -> None:
    await east.granted(100)
    body = {"amount": 60, "lease_ms": 1000, "reservation": "r1", "job": "train-7"}
    await east.post(f"{ACME}/reservations", body)
    view = (await east.get(f"{ACME}/reservations/r1")).read(wire.ReservationView)
    assert (view.reservation, view.job, view.held, view.lease_until) == ("r1", "train-7", 60, NOON + 1000)


@pytest.mark.parametrize("what", ["balance", "lots", "reservations", "reservations/r1", "entries"])
async def test_a_tenant_without_entries_is_not_found(east: Browser, what: str) -> None:
    refused(await east.get(f"/v1/tenants/nobody/{what}"), ProblemKind.NOT_FOUND)


async def test_a_debit_is_no_reservation(east: Browser) -> None:
    await east.granted(100)
    await east.post(f"{ACME}/debits", {"amount": 1, "debit": "d1"})
    refused(await east.get(f"{ACME}/reservations/d1"), ProblemKind.NOT_FOUND)
    assert (await east.get(f"{ACME}/reservations")).read(wire.ReservationsReply).reservations == []


async def all_reservations(browser: Browser, query: str) -> list[list[str]]:
    """The ids on each page."""
    pages: list[list[str]] = []
    after = ""
    while True:
        page = (await browser.get(f"{ACME}/reservations?{query}{after}")).read(wire.ReservationsReply)
        pages.append([reservation.reservation for reservation in page.reservations])
        assert (page.next is not None) is page.has_more
        if not page.has_more:
            return pages
        after = f"&after={page.next}"


async def seven_reservations(browser: Browser) -> None:
    """r1 to r7, with debits between; r2 and r5 closed, and nothing of that in memory any more."""
    await browser.granted(100)
    for number in range(1, 8):
        await browser.reserved(1, f"r{number}")
        await browser.post(f"{ACME}/debits", {"amount": 1, "debit": f"r{number}-debit"})
    for number in (2, 5):
        await browser.post(f"{ACME}/reservations/r{number}/release")


@pytest.mark.parametrize("is_on_disk", [False, True])
async def test_reservations_are_listed_by_id_page_by_page(east: Browser, is_on_disk: bool) -> None:
    await seven_reservations(east)
    if is_on_disk:
        east.node.region.frontier = (NOON + HOUR) << 16
        east.node.tick(20_000)
        book = east.node.region.books.existing(TenantId("acme"), NOON)
        assert book is not None
        assert {claim.id for claim in book.ended_claims(None, 100)} >= {"r2", "r5"}
        assert "r2" not in book.account.claims
    assert await all_reservations(east, "limit=3") == [["r1", "r2", "r3"], ["r4", "r5", "r6"], ["r7"]]
    assert await all_reservations(east, "limit=7") == [[f"r{number}" for number in range(1, 8)]]
    assert await all_reservations(east, "state=closed&limit=1") == [["r2"], ["r5"]]
    assert await all_reservations(east, "state=open&limit=100") == [["r1", "r3", "r4", "r6", "r7"]]
    assert await all_reservations(east, "state=lapsed") == [[]]


async def test_a_reservation_refunded_after_its_checkpoint_is_listed_once_as_it_is_now(east: Browser) -> None:
    await east.granted(100)
    await east.reserved(10, "r1")
    await east.post(f"{ACME}/reservations/r1/capture", {"amount": 10, "final": True})
    east.node.region.frontier = (NOON + HOUR) << 16
    east.node.tick(20_000)
    await east.post(f"{ACME}/refunds", {"claim": "r1", "amount": 4})
    listed = (await east.get(f"{ACME}/reservations")).read(wire.ReservationsReply).reservations
    assert [(reservation.reservation, reservation.captured) for reservation in listed] == [("r1", 6)]


async def test_a_filter_that_finds_little_gives_short_pages_and_goes_on(
    east: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "MAX_LOOKED_AT", 4)
    await seven_reservations(east)
    pages = await all_reservations(east, "state=closed&limit=100")
    assert len(pages) > 2
    assert [] in pages
    assert [name for page in pages for name in page] == ["r2", "r5"]


async def test_the_trail_is_paged_and_its_entries_hang_together(east: Browser) -> None:
    await east.granted(100)
    await east.reserved(60, "r1")
    await east.post(f"{ACME}/reservations/r1/release", Idempotency_Key="bye")
    entries: list[wire.ExportedEntry] = []
    after = ""
    while True:
        page = (await east.get(f"{ACME}/entries?limit=2{after}")).read(wire.EntriesReply)
        entries += page.entries
        if page.next is None:
            break
        after = f"&after={page.next}"
    assert [(entry.seq, entry.kind, entry.outcome) for entry in entries] == [
        (1, "grant", "applied"),
        (2, "hold", "applied"),
        (3, "release", "applied"),
    ]
    assert all(then.prev == before.hash for before, then in pairwise(entries))
    released = entries[2]
    assert released.key == "bye"
    assert released.body == {"claim": "r1"}
    assert released.postings == {"held/r1": -60, "lot/l1": 60}
    assert released.hlc == (NOON, 2)
    assert released.clock == {"us-east/0boot": 3}
    assert released.result is not None
    assert released.result["state"] == "closed"
    assert released.result["funding"] == []


async def test_every_read_says_who_answers_as_of_when_and_what_it_may_lack(east: Browser) -> None:
    await east.granted(100)
    for path in (f"{ACME}/balance", f"{ACME}/lots", f"{ACME}/reservations", f"{ACME}/entries", "/v1/debts"):
        answer = await east.get(path)
        said = answer.read(wire.ReadReply)
        assert said.region == "us-east"
        assert decode_token(said.as_of) == {"us-east/0boot": 1}
        assert answer.headers["Credit-Clock"] == said.as_of
        assert said.behind == {"eu-west": wire.Behind(entries=3, heard_ms_ago=250)}


async def test_a_read_waits_for_the_clock_of_an_earlier_reply(east: Browser, west: Browser) -> None:
    granted = await east.granted(100)
    token = granted.headers["Credit-Clock"]
    west.node.patience = 0
    refused(await west.get(f"{ACME}/balance", Credit_Clock=token), ProblemKind.NOT_READY)
    west.node.hear(east.node)
    answer = await west.get(f"{ACME}/balance", Credit_Clock=token)
    assert answer.json["available"] == 100


@pytest.mark.parametrize(
    ("query", "field"),
    [("reservations?limit=0", "limit"), ("reservations?state=lost", "state"), ("reservations?after=a%20b", "after"),
     ("entries?after=nowhere", "after"), ("balance?when=5", "when"), ("lots?limit=5", "limit")],
)  # fmt: skip
async def test_a_parameter_that_is_wrong_or_not_known_is_named(east: Browser, query: str, field: str) -> None:
    await east.granted(100)
    assert refused(await east.get(f"{ACME}/{query}"), ProblemKind.INVALID_REQUEST).field == field


async def test_head_is_get_without_the_body(east: Browser) -> None:
    await east.granted(100)
    got = await east.get(f"{ACME}/balance")
    head = await east.send("HEAD", f"{ACME}/balance")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(got.body))
    assert head.headers["Credit-Clock"] == got.headers["Credit-Clock"]


async def test_a_read_in_msgpack(east: Browser) -> None:
    await east.granted(100)
    answer = await east.get(f"{ACME}/balance", Accept="application/msgpack")
    assert answer.headers["Content-Type"] == "application/msgpack"
    assert msgspec.msgpack.decode(answer.body, type=wire.BalanceReply).available == 100


async def test_a_clock_that_fits_no_token_is_no_failure(east: Browser) -> None:
    await east.granted(100)
    region = east.node.region
    region.receive([seal(make_entry(f"eu-west/b{number}", 1, ms=NOON)) for number in range(400)], NOON)
    east.node.commit()
    problem = refused(await east.get(f"{ACME}/balance"), ProblemKind.NOT_READY)
    assert problem.detail == "a clock of 401 replicas does not fit a token"
    assert (await east.get("/v1/entries")).status == 503


async def test_a_peer_that_claims_to_have_more_than_there_can_be_is_quoted_as_far_as_numbers_go(east: Browser) -> None:
    await east.granted(100)
    east.node.behind = lambda: {"eu-west": LagState(2**65, 250)}  # type: ignore[method-assign]
    for accept, decode in (("application/json", msgspec.json.decode), ("application/msgpack", msgspec.msgpack.decode)):
        answer = await east.get(f"{ACME}/balance", Accept=accept)
        assert decode(answer.body, type=wire.BalanceReply).behind["eu-west"].entries == 2**53 - 1
