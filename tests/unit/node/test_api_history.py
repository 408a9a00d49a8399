"""The routes that show a tenant over time: by event time, page by page, as CSV, and how final it is."""

import csv
import io
from typing import Any

import aiohttp
import msgspec
import pytest
from structlog.testing import capture_logs

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.command import DebitUsage, TransferCredit
from ledger.ids import JobId, Key, TenantId, usage_name
from node.api import replies
from replication.clock import hlc_at
from tests.unit.node.in_process import HOUR, NOON, Browser, refused

ACME = "/v1/tenants/acme"
DAY = 24 * HOUR
LATE = 35 * DAY
"""How late usage may be reported."""


async def a_day(east: Browser) -> None:
    """At noon 1,000 for an hour; then a hold, its usage, a backdated grant and a late debit, a second apart each."""
    await east.granted(1_000)
    east.node.clock_ms += 1_000
    await east.reserved(300, "r1")
    east.node.clock_ms += 1_000
    await east.post(f"{ACME}/reservations/r1/capture", {"amount": 100}, Idempotency_Key="used")
    east.node.clock_ms += 1_000
    body = {"amount": 50, "starts_at": NOON - 5_000, "expires_at": NOON + 9_000, "lot": "bonus"}
    await east.post(f"{ACME}/grants", body)
    east.node.clock_ms += 1_000
    await east.post(f"{ACME}/debits", {"amount": 40, "at": NOON - 1_000, "debit": "late"})


async def a_bill(east: Browser) -> None:
    """A job with a reservation, one without, of which a part is refunded, and a debit, all at noon."""
    await east.granted(100)
    await east.post(f"{ACME}/reservations", {"amount": 30, "lease_ms": HOUR, "job": "train"})
    usage = {"tenant": "acme", "type": "usage", "start": NOON, "end": NOON + 1, "amount": 10}
    events = [{**usage, "id": f"usage of {job}", "job": job} for job in ("train", "stray")]
    await east.post("/v1/usage-events", events)
    await east.post(f"{ACME}/refunds", {"claim": usage_name(JobId("stray")), "amount": 4})
    await east.post(f"{ACME}/debits", {"amount": 5})


async def balance(east: Browser, query: str = "") -> wire.BalanceReply:
    answer = await east.get(f"{ACME}/balance{query}")
    assert answer.status == 200, answer.body
    return answer.read(wire.BalanceReply)


async def statement(east: Browser, since: int, to: int, more: str = "") -> wire.StatementReply:
    answer = await east.get(f"{ACME}/statement?from={since}&to={to}{more}")
    assert answer.status == 200, answer.body
    return answer.read(wire.StatementReply)


def shown(line: wire.StatementLine) -> tuple[Any, ...]:
    """When, since noon; what; by how much; available, held, used."""
    assert line.debt == 0
    return line.at - NOON, line.kind, line.claim or line.lot, line.amount, line.available, line.held, line.used


class TestBalance:
    @pytest.mark.parametrize(
        ("at", "available", "held", "used", "lots"),
        [
            (NOON - 5_001, 0, 0, 0, []),
            (NOON - 5_000, 50, 0, 0, [("bonus", 50)]),
            (NOON - 1_000, 10, 0, 40, [("bonus", 10)]),
            (NOON, 1_010, 0, 40, [("bonus", 10), ("l1", 1_000)]),
            (NOON + 2_000, 710, 200, 140, [("l1", 710)]),
            (NOON + HOUR - 1, 710, 200, 140, [("l1", 710)]),
            (NOON + HOUR, 0, 200, 140, []),
        ],
    )
    async def test_of_any_time_by_event_time(
        self, east: Browser, at: int, available: int, held: int, used: int, lots: list[tuple[str, int]]
    ) -> None:
        await a_day(east)
        found = await balance(east, f"?at={at}")
        assert (found.at, found.available, found.held, found.used, found.debt) == (at, available, held, used, 0)
        assert [(lot.lot, lot.remaining) for lot in found.lots] == lots

    async def test_of_now_is_that_of_the_books(self, east: Browser) -> None:
        await a_day(east)
        found = await balance(east)
        # When the hold was made nobody knew of the bonus.
        assert (found.at, found.available) == (None, 710)
        assert [(lot.lot, lot.remaining) for lot in found.lots] == [("bonus", 10), ("l1", 700)]

    async def test_says_as_of_when_its_history_was_taken(self, east: Browser) -> None:
        await a_day(east)
        node = east.node
        before, in_slices = node.as_of(), node.in_slices

        def and_meanwhile(steps: Any) -> Any:
            node.region.submit(TenantId("acme"), DebitUsage(1), Key("meanwhile"), node.clock_ms)
            return in_slices(steps)

        node.in_slices = and_meanwhile  # type: ignore[method-assign]
        found = await balance(east, f"?at={NOON + 5_000}")
        assert found.as_of == before != node.as_of()
        assert found.used == 140


class TestStatement:
    async def test_opening_lines_closing(self, east: Browser) -> None:
        await a_day(east)
        found = await statement(east, NOON - DAY, NOON + DAY)
        assert (found.since, found.to, found.has_more, found.next) == (NOON - DAY, NOON + DAY, False, None)
        assert found.opening == wire.Standing(available=0, held=0, used=0, debt=0)
        assert list(map(shown, found.lines)) == [
            (-5_000, "grant", "bonus", 50, 50, 0, 0),
            (-1_000, "debit", "late", -40, 10, 0, 40),
            (0, "grant", "l1", 1_000, 1_010, 0, 40),
            (1_000, "hold", "r1", -300, 710, 300, 40),
            (2_000, "capture", "r1", 0, 710, 200, 140),
            (HOUR, "expiry", "l1", -710, 0, 200, 140),
        ]
        assert found.closing == wire.Standing(available=0, held=200, used=140, debt=0)
        used = found.lines[4]
        assert (used.entry, used.key, used.outcome) == ("us-east/0boot:3", "used", "applied")
        expired = found.lines[5]
        assert (expired.entry, expired.key, expired.outcome, expired.claim) == (None, None, None, None)

    async def test_a_page_starts_where_the_one_before_it_ended_and_has_the_figures_of_the_whole(
        self, east: Browser
    ) -> None:
        await a_day(east)
        whole = await statement(east, NOON - DAY, NOON + DAY)
        for limit in (1, 2, 5, 6):
            lines: list[wire.StatementLine] = []
            after = ""
            while True:
                page = await statement(east, NOON - DAY, NOON + DAY, f"&limit={limit}{after}")
                assert (page.opening, page.closing) == (whole.opening, whole.closing)
                assert len(page.lines) == limit or page.next is None
                lines += page.lines
                if page.next is None:
                    break
                after = f"&after={page.next}"
            assert lines == whole.lines

    async def test_credit_from_another_tenant_is_a_line_without_the_givers_key(self, east: Browser) -> None:
        await east.granted(100)
        await east.granted(5, tenant="umbra", lot="u")
        east.node.region.submit(TenantId("acme"), TransferCredit(TenantId("umbra"), 30), Key("the givers"), NOON)
        east.node.commit()
        given = (await statement(east, NOON, NOON + 1)).lines[-1]
        assert (given.kind, given.amount, given.key, given.lot) == ("transfer", -30, "the givers", None)
        answer = await east.get(f"/v1/tenants/umbra/statement?from={NOON}&to={NOON + 1}")
        received = answer.read(wire.StatementReply).lines[-1]
        assert (received.kind, received.amount, received.key, received.lot) == ("transfer", 30, None, given.claim)

    async def test_a_period_is_final_when_all_have_promised_its_end_and_as_long_as_usage_may_be_late(
        self, east: Browser
    ) -> None:
        await a_day(east)
        east.node.promised = {"eu-west": 0, "us-east": hlc_at(NOON + LATE) + 7}
        early = await statement(east, NOON - DAY, NOON)
        assert (early.final, early.final_from) == (False, NOON + LATE)
        assert early.open_regions == [wire.OpenRegion(region="eu-west", promise=None)]
        late = await statement(east, NOON - DAY, NOON + 1)
        assert late.open_regions == [
            wire.OpenRegion(region="eu-west", promise=None),
            wire.OpenRegion(region="us-east", promise=(NOON + LATE, 7)),
        ]
        east.node.promised["eu-west"] = hlc_at(NOON + LATE)
        final = await statement(east, NOON - DAY, NOON)
        assert (final.final, final.open_regions) == (True, [])

    async def test_names_the_job_of_what_was_reserved_used_and_refunded_and_says_what_nothing_was_reserved_for(
        self, east: Browser
    ) -> None:
        await a_bill(east)
        lines = (await statement(east, NOON, NOON + 1)).lines[1:]
        assert [(line.kind, line.job, line.flags) for line in lines] == [
            ("hold", "train", []), ("usage", "train", []), ("usage", "stray", [wire.EventFlag.UNRESERVED]),
            ("refund", "stray", [wire.EventFlag.UNRESERVED]), ("debit", None, []),
        ]  # fmt: skip

    async def test_in_msgpack(self, east: Browser) -> None:
        await a_day(east)
        answer = await east.get(f"{ACME}/statement?from={NOON}&to={NOON + DAY}", Accept="application/msgpack")
        assert answer.headers["Content-Type"] == "application/msgpack"
        found = msgspec.msgpack.decode(answer.body, type=wire.StatementReply)
        assert found == await statement(east, NOON, NOON + DAY)


class TestCsv:
    async def test_has_what_the_pages_have(self, east: Browser) -> None:
        await a_day(east)
        whole = await statement(east, NOON - DAY, NOON + DAY)
        answer = await east.get(f"{ACME}/statement?from={NOON - DAY}&to={NOON + DAY}&format=csv")
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Credit-Clock"] == whole.as_of
        text = answer.body.decode()
        assert text.count("\r\n") == text.count("\n") == len(whole.lines) + 3
        first, opening, *rows, closing = csv.reader(io.StringIO(text))
        assert first == [
            "at", "kind", "entry", "claim", "job", "lot", "key", "outcome", "flags", "amount",
            "available", "held", "used", "debt",
        ]  # fmt: skip
        assert opening == [str(NOON - DAY), "opening", *[""] * 8, "0", "0", "0", "0"]
        assert rows == [
            ["" if value in (None, []) else str(value) for value in msgspec.structs.astuple(line)]
            for line in whole.lines
        ]
        assert closing == [str(NOON + DAY), "closing", *[""] * 5, "open", "", "", "0", "200", "140", "0"]

    async def test_says_what_nothing_was_reserved_for(self, east: Browser) -> None:
        await a_bill(east)
        answer = await east.get(f"{ACME}/statement?from={NOON}&to={NOON + 1}&format=csv")
        rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
        assert [row["job"] for row in rows if row["flags"] == "unreserved"] == ["stray", "stray"]

    async def test_says_whether_it_is_final(self, east: Browser) -> None:
        await a_day(east)
        east.node.promised = dict.fromkeys(east.node.promised, hlc_at(NOON + LATE))
        answer = await east.get(f"{ACME}/statement?from=0&to={NOON}&format=csv")
        assert answer.body.decode().splitlines()[-1] == f"{NOON},closing,,,,,,final,,,10,0,40,0"

    async def test_quotes_what_must_be_quoted(self, east: Browser) -> None:
        body = {"amount": 5, "expires_at": NOON + HOUR, "lot": "l"}
        await east.post(f"{ACME}/grants", body, Idempotency_Key='a,"b"')
        answer = await east.get(f"{ACME}/statement?from={NOON}&to={NOON + 1}&format=csv")
        assert answer.body.splitlines()[2] == b'%d,grant,us-east/0boot:1,,,l,"a,""b""",applied,,5,5,0,0,0' % NOON

    async def test_head_is_get_without_the_body(self, east: Browser) -> None:
        await a_day(east)
        head = await east.send("HEAD", f"{ACME}/statement?from=0&to={NOON}&format=csv")
        assert (head.status, head.body, head.headers["Content-Type"]) == (200, b"", "text/csv; charset=utf-8")

    async def test_that_breaks_off_is_seen_to_break_off(self, east: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
        await a_day(east)

        def broken(_: object) -> bytes:
            raise RuntimeError

        monkeypatch.setattr(replies, "statement_line", broken)
        with capture_logs() as logs, pytest.raises((aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)):
            await east.get(f"{ACME}/statement?from=0&to={NOON}&format=csv")
        assert [log["event"] for log in logs] == ["a stream broke off"]


class TestExpiring:
    async def test_what_has_something_left_and_expires_in_the_period(self, east: Browser) -> None:
        await a_day(east)
        await east.post(f"{ACME}/grants", {"amount": 9, "expires_at": NOON + HOUR // 2, "lot": "revoked"})
        await east.post(f"{ACME}/grants/revoked/revoke")
        body = {"amount": 7, "starts_at": NOON + HOUR, "expires_at": NOON + 2 * HOUR, "lot": "to-come"}
        await east.post(f"{ACME}/grants", body)

        async def expiring(since: int, to: int) -> tuple[int, list[tuple[str, int]]]:
            answer = await east.get(f"{ACME}/expiring?from={since}&to={to}")
            found = answer.read(wire.ExpiringReply)
            return found.total, [(lot.lot, lot.remaining) for lot in found.lots]

        assert await expiring(0, NOON + DAY) == (717, [("bonus", 10), ("l1", 700), ("to-come", 7)])
        assert await expiring(NOON + HOUR, NOON + 2 * HOUR) == (700, [("l1", 700)])
        assert await expiring(NOON + HOUR + 1, NOON + 2 * HOUR) == (0, [])


class TestForecast:
    async def test_looks_back_by_event_time_and_ahead_from_what_is_available(self, east: Browser) -> None:
        await a_day(east)
        found = (await east.get(f"{ACME}/forecast")).read(wire.ForecastReply)
        now = NOON + 4_000
        assert (found.at, found.window_ms, found.used, found.per_hour) == (now, HOUR, 140, 140)
        assert (found.available, found.runs_out_at) == (710, NOON + HOUR)
        # Of the last four seconds only the capture: the debit was told of in them, and happened before.
        soon = (await east.get(f"{ACME}/forecast?window_ms=4000")).read(wire.ForecastReply)
        assert (soon.used, soon.per_hour) == (100, 90_000)
        # Of what is left 10 expire before they are used.
        assert soon.runs_out_at == now + 710 * 40

    async def test_the_window_is_half_open(self, east: Browser) -> None:
        await a_day(east)
        for window_ms, used in ((2_000, 100), (1_999, 0), (5_000, 140), (4_999, 100)):
            found = (await east.get(f"{ACME}/forecast?window_ms={window_ms}")).read(wire.ForecastReply)
            assert found.used == used
        east.node.clock_ms = NOON + 2_000
        assert (await east.get(f"{ACME}/forecast")).read(wire.ForecastReply).used == 40

    async def test_of_a_long_job_that_was_reported_at_its_end_the_last_hour_counts(self, east: Browser) -> None:
        body = {"amount": 900, "starts_at": NOON - DAY, "expires_at": NOON + DAY}
        await east.post(f"{ACME}/grants", body)
        event = {
            "id": "e", "tenant": "acme", "type": "job_finished", "job": "train", "start": NOON - 3 * HOUR, "end": NOON,
            "amount": 300,
        }  # fmt: skip
        await east.post("/v1/usage-events", [event])
        found = (await east.get(f"{ACME}/forecast")).read(wire.ForecastReply)
        assert (found.used, found.per_hour, found.runs_out_at) == (100, 100, NOON + 6 * HOUR)

    async def test_more_refunded_than_used_burns_nothing(self, east: Browser) -> None:
        await a_day(east)
        east.node.clock_ms += 10_000
        await east.post(f"{ACME}/refunds", {"claim": "late", "amount": 30})
        east.node.clock_ms += 1
        found = (await east.get(f"{ACME}/forecast?window_ms=5000")).read(wire.ForecastReply)
        assert (found.used, found.per_hour, found.runs_out_at) == (-30, 0, NOON + HOUR)

    async def test_who_owes_has_run_out(self, east: Browser) -> None:
        await east.granted(100)
        await east.post(f"{ACME}/debits", {"amount": 130, "on_shortage": "debt"})
        found = (await east.get(f"{ACME}/forecast")).read(wire.ForecastReply)
        assert (found.available, found.runs_out_at) == (-30, found.at)

    async def test_credit_without_an_end_that_nobody_uses_never_runs_out(self, east: Browser) -> None:
        await east.granted(100, lasting_ms=wire.MAX_TIME_MS - NOON)
        assert (await east.get(f"{ACME}/forecast")).read(wire.ForecastReply).runs_out_at is None


@pytest.mark.parametrize("what", ["balance?at=5", "statement?from=0&to=1", "statement?from=0&to=1&format=csv",
                                  "expiring?from=0&to=1", "forecast"])  # fmt: skip
async def test_a_tenant_without_entries_is_not_found(east: Browser, what: str) -> None:
    refused(await east.get(f"/v1/tenants/nobody/{what}"), ProblemKind.NOT_FOUND)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("balance?at=-1", "at"), (f"balance?at={2**48}", "at"), ("balance?at=noon", "at"), ("balance?at=", "at"),
        ("statement?to=5", "from"), ("statement?from=5", "to"), ("statement?from=5&to=5", "from"),
        ("statement?from=6&to=5", "from"), ("statement?from=-1&to=5", "from"), (f"statement?from=1&to={2**48}", "to"),
        ("statement?since=1&to=5", "since"), ("statement?from=1&to=5&format=xml", "format"),
        ("statement?from=1&to=5&limit=0", "limit"), ("statement?from=1&to=5&limit=1001", "limit"),
        ("statement?from=1&to=5&after=5", "after"), ("statement?from=1&to=5&after=5:3:1:eu/b:1", "after"),
        ("statement?from=1&to=5&after=5:2:1:EU/b:1", "after"), ("statement?from=1&to=5&after=5:2:1:eu/b:1%0A", "after"),
        ("statement?from=1&to=5&format=csv&after=5:2:1:eu/b:1", "after"),
        ("statement?from=1&to=5&format=csv&limit=5", "limit"),
        ("expiring?from=5&to=5", "from"), ("expiring?to=5", "from"), ("expiring?from=5", "to"),
        ("expiring?from=1&to=5&limit=5", "limit"),
        ("forecast?window_ms=0", "window_ms"), (f"forecast?window_ms={31 * DAY + 1}", "window_ms"),
        ("forecast?window=1", "window"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused_by_its_name(east: Browser, query: str, field: str) -> None:
    await east.granted(100)
    assert refused(await east.get(f"{ACME}/{query}"), ProblemKind.INVALID_REQUEST).field == field


@pytest.mark.parametrize("what", [f"balance?at={NOON}", "statement?from=0&to=1", "statement?from=0&to=1&format=csv",
                                  "expiring?from=0&to=1", "forecast"])  # fmt: skip
async def test_they_wait_for_the_clock_of_an_earlier_reply(east: Browser, west: Browser, what: str) -> None:
    token = (await east.granted(100)).headers["Credit-Clock"]
    west.node.patience = 0
    refused(await west.get(f"{ACME}/{what}", Credit_Clock=token), ProblemKind.NOT_READY)
    west.node.hear(east.node)
    assert (await west.get(f"{ACME}/{what}", Credit_Clock=token)).status == 200
