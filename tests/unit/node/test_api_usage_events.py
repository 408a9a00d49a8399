"""Usage events: what becomes of each, what is unusual about it, and CloudEvents in all their modes."""

from typing import Any

import msgspec
import pytest

from creditmesh import wire
from creditmesh.wire import EventFlag, EventStatus, ProblemKind
from ledger import reporting
from tests.unit.node.in_process import HOUR, NOON, Answer, Browser, InProcessNode, browsing, config, refused

MINUTE = 60_000
JSON = {"Content_Type": "application/json"}


def event(kind: str, name: str, job: str = "train", **more: Any) -> dict[str, Any]:
    return {"type": kind, "id": name, "tenant": "acme", "job": job, **more}


def usage(name: str, start: int, end: int, job: str = "train", **more: Any) -> dict[str, Any]:
    """Minutes since noon; two A100s cost 2 a minute."""
    price = more or {"gpu_type": "A100", "gpus": 2}
    return event("usage", name, job, start=NOON + start * MINUTE, end=NOON + end * MINUTE, **price)


async def sent(browser: Browser, body: Any, **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return await browser.send("POST", "/v1/usage-events", content, **{**JSON, **headers})


async def told(browser: Browser, *events: Any, **headers: str) -> list[wire.EventResult]:
    answer = await sent(browser, list(events), **headers)
    assert answer.status == 200, answer.body
    return answer.read(wire.UsageEventsReply).results


async def prepared(node: InProcessNode, browser: Browser) -> None:
    """A tenant with 1,000 credits, a reservation of 20 for the job, and an hour gone by."""
    await browser.granted(1000, lasting_ms=100 * HOUR)
    await browser.post(
        "/v1/tenants/acme/reservations", {"amount": 20, "lease_ms": 2 * HOUR, "reservation": "r1", "job": "train"}
    )
    node.clock_ms = NOON + HOUR


async def test_a_job_is_charged_for_the_union_of_what_is_reported_in_any_order() -> None:
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        await prepared(node, browser)
        results = await told(
            browser,
            usage("e2", 2, 5),
            usage("e1", 0, 3),
            usage("e3", 1, 4),
            event("job_finished", "e4", start=NOON, end=NOON + 6 * MINUTE, gpu_type="A100", gpus=2),
            event("job_started", "e0", at=NOON),
            usage("e2", 2, 5),
        )
        balance = (await browser.get("/v1/tenants/acme/balance")).read(wire.BalanceReply)
    assert [result.charged for result in results] == [2, 6, 2, 2, None, 2]
    assert [result.status for result in results] == [EventStatus.ACCEPTED] * 5 + [EventStatus.DUPLICATE]
    assert [result.flags for result in results[:5]] == [
        [EventFlag.PARTLY_COVERED], [], [EventFlag.PARTLY_COVERED], [EventFlag.PARTLY_COVERED], [],
    ]  # fmt: skip
    assert (results[3].state, results[3].held) == ("closed", 0)
    assert (balance.used, balance.held, balance.available) == (12, 0, 988)


async def test_usage_without_a_reservation_is_charged_and_flagged() -> None:
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        await prepared(node, browser)
        first, again = await told(
            browser, usage("e1", 0, 3, job="stray"), usage("e2", 3, 4, job="stray", amount=7, reservation="nobodys")
        )
        balance = (await browser.get("/v1/tenants/acme/balance")).read(wire.BalanceReply)
    assert (first.charged, first.flags) == (6, [EventFlag.UNRESERVED])
    assert (again.charged, again.flags) == (7, [EventFlag.UNRESERVED])
    assert (balance.used, balance.held) == (13, 20)


async def test_usage_beyond_credit_becomes_debt() -> None:
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        await prepared(node, browser)
        (result,) = await told(browser, usage("e1", 0, 1, amount=1_005))
    assert (result.charged, result.held, result.debt, result.flags) == (1_005, 0, 5, [EventFlag.OVERRUN])


async def test_a_heartbeat_renews_the_lease_from_its_own_time_on() -> None:
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        await prepared(node, browser)
        beat = event("heartbeat", "b1", at=NOON + 59 * MINUTE, lease_ms=5 * HOUR)
        (extended,) = await told(browser, beat)
        older, plain = await told(
            browser, event("heartbeat", "b2", at=NOON + 3 * MINUTE), event("heartbeat", "b3", job="stray")
        )
    assert extended.lease_until == older.lease_until == NOON + 59 * MINUTE + 5 * HOUR
    assert (plain.lease_until, plain.flags) == (None, [EventFlag.UNRESERVED])


async def test_a_job_that_finishes_without_a_price_only_ends() -> None:
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        await prepared(node, browser)
        (result,) = await told(browser, event("job_finished", "f1"))
        balance = (await browser.get("/v1/tenants/acme/balance")).read(wire.BalanceReply)
    assert (result.charged, result.held, result.state, result.flags) == (0, 0, "closed", [])
    assert (balance.used, balance.held, balance.available) == (0, 0, 1000)


async def test_a_job_that_finishes_is_charged_since_it_was_reported_to_have_started() -> None:
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        await prepared(node, browser)
        finished = event("job_finished", "f1", end=NOON + 10 * MINUTE, gpu_type="A100", gpus=1)
        early = await sent(browser, finished)
        refused(early, ProblemKind.START_UNKNOWN)
        result, _ = await told(browser, finished, event("job_started", "s1", at=NOON + 4 * MINUTE))
    assert early.json["job"] == "train"
    assert (result.charged, result.held) == (6, 0)


async def test_reports_of_one_request_are_taken_in_the_order_of_time_however_they_are_shuffled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reporting, "MAX_PIECES", 3)
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        await prepared(node, browser)
        minutes = [usage(f"e{start}", start, start + 1) for start in range(0, 60, 7)]
        minutes += [usage(f"e{start}", start, start + 1) for start in range(60) if start % 7]
        results = await told(browser, *minutes)
    assert {result.status for result in results} == {EventStatus.ACCEPTED}
    assert sum(result.charged or 0 for result in results) == 120


async def test_a_heartbeat_of_a_void_reservation_is_told_of_the_conflict() -> None:
    east, west = InProcessNode(config("east", ("west",))), InProcessNode(config("west", ("east",)))
    async with browsing(east) as here, browsing(west) as there:
        await here.granted(100)
        policy = {"tenant": "acme", "key": "p1", "operation": "policy", "body": {"on_overspend": "revoke"}}
        await here.post("/v1/batch", {"operations": [policy]})
        west.hear(east)
        await here.post("/v1/tenants/acme/debits", {"amount": 60})
        west.clock_ms += 1
        body = {"amount": 70, "lease_ms": HOUR, "reservation": "r1", "job": "train"}
        await there.post("/v1/tenants/acme/reservations", body)
        west.hear(east)
        (beat,) = await told(there, event("heartbeat", "b1"))
        report = (await there.get(f"/v1/conflicts/{beat.conflict}")).read(wire.ConflictReply).conflict
    assert (beat.state, beat.flags) == ("revoked", [EventFlag.ENDED])
    assert (report.kind, report.loser.claim) == (wire.ConflictKind.REVOKED, "r1")


async def test_late_usage_of_a_job_that_has_finished_is_an_overrun() -> None:
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        await prepared(node, browser)
        await told(browser, event("job_finished", "f1"))
        (late,) = await told(browser, usage("e1", 0, 2))
    assert (late.charged, late.state, late.flags) == (4, "closed", [EventFlag.ENDED])


NONSENSE: list[tuple[Any, str | None, str]] = [
    (7, None, "event is not right: expected `object`, got `int`"),
    ({}, None, "type is required"),
    (event("job_paused", "e1"), "e1", "type is not right: invalid value 'job_paused'"),
    (event("heartbeat", "e1", at="now"), "e1", "at is not right: expected `int | null`, got `str`"),
    (event("heartbeat", "e1", colour="red"), "e1", "colour is not known"),
    ({"type": "heartbeat", "id": "e1", "job": "j"}, "e1", "tenant is required"),
    (usage("e1", 3, 2), "e1", "end must be after start"),
    (usage("e1", 3, 3), "e1", "end must be after start"),
    (usage("e1", 1, 2, gpu_type="A100"), "e1", "gpus is required beside the other of the two"),
    (usage("e1", 1, 2, priority="spot"), "e1", "priority is of use only beside gpu_type and gpus"),
    (
        usage("e1", 1, 2, amount=1, gpu_type="A100", gpus=1), "e1",
        "amount must stand in the place of gpu_type and gpus, not beside them",
    ),
    (
        event("usage", "e1", start=NOON, end=NOON + MINUTE), "e1", "amount is required, or gpu_type and gpus",
    ),
    (usage("e1", 1, 2, gpu_type="V100", gpus=1), "e1", "gpu_type must be one that has a price: A100, L4"),
    (
        usage("e1", 1, 2, gpu_type="A100", gpus=1, priority="vip"), "e1",
        "priority must be one that has a multiplier: spot",
    ),
    (
        event("usage", "e1", start=0, end=NOON, gpu_type="A100", gpus=1), "e1",
        f"start lies {NOON + HOUR} ms in the past; at most 3024000000 are taken",
    ),
    (
        usage("e1", -60, -59), "e1",
        "start lies before the tenant had anything: before its first grant, and before any lot of it starts",
    ),
    (usage("e1", 61, 62), "e1", "end lies 120000 ms in the future; at most 60000 are taken"),
    (event("heartbeat", "e1", at=NOON + 2 * HOUR), "e1", "at lies 3600000 ms in the future; at most 60000 are taken"),
    (event("heartbeat", "e1", lease_ms=32 * 24 * HOUR), "e1", "lease_ms is not right: expected `int` <= 2678400000"),
    (event("heartbeat", "e1", reservation="fee"), "e1", "no such reservation"),
    (event("heartbeat", "e1") | {"tenant": "nobody"}, "e1", "no such tenant; a tenant begins with its first grant"),
    (event("job_finished", "e1", start=NOON), "e1", "amount is required, or gpu_type and gpus, where there is a start"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "name", "detail"), NONSENSE)
async def test_nonsense_is_refused_by_itself_and_named(bad: Any, name: str | None, detail: str) -> None:
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        await prepared(node, browser)
        await browser.post("/v1/tenants/acme/debits", {"amount": 1, "debit": "fee"})
        before, result, after = await told(browser, usage("e-1", 0, 1), bad, usage("e-2", 1, 2))
        assert before.status == after.status == EventStatus.ACCEPTED
        assert (result.id, result.status) == (name, EventStatus.REFUSED)
        assert result.problem is not None
        assert result.problem["detail"] == detail
        if isinstance(bad, dict):
            alone = await sent(browser, bad)
            assert alone.status == result.problem["status"]
            assert alone.json == result.problem


async def test_an_id_that_was_used_for_another_event_is_refused() -> None:
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        await prepared(node, browser)
        _, result = await told(browser, usage("e1", 0, 1), usage("e1", 1, 2))
    assert result.problem is not None
    assert result.problem["status"] == 422


def cloud(kind: str, name: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "type": kind, "id": name, "source": "/slurm/east", "subject": "acme",
        "data": {"job": "train", **data}, **more,
    }  # fmt: skip


class TestCloudEvents:
    async def test_structured_and_batched(self) -> None:
        node = InProcessNode(config("r"))
        async with browsing(node) as browser:
            await prepared(node, browser)
            first = cloud(
                "com.example.usage", "1", {"start": NOON, "amount": 9}, time="2023-11-14T22:18:20Z", color="red"
            )
            one = await sent(browser, first, Content_Type="application/cloudevents+json; charset=utf-8")
            many = await told(
                browser, cloud("heartbeat", "2", {}), first, Content_Type="application/cloudevents-batch+json"
            )
        (result,) = one.read(wire.UsageEventsReply).results
        assert (result.id, result.charged) == ("1", 9)
        assert [each.status for each in many] == [EventStatus.ACCEPTED, EventStatus.DUPLICATE]

    async def test_binary(self) -> None:
        node = InProcessNode(config("r"))
        async with browsing(node) as browser:
            await prepared(node, browser)
            attributes = {
                "ce_specversion": "1.0", "ce_id": "caf%C3%A9", "ce_source": "/slurm", "ce_type": "usage",
                "ce_subject": "acme",
            }  # fmt: skip
            data = {"job": "train", "start": NOON, "end": NOON + MINUTE, "amount": 9}
            answer = await sent(browser, data, **attributes)
            several = await sent(browser, [data], **attributes)
        (result,) = answer.read(wire.UsageEventsReply).results
        assert (result.id, result.charged) == ("café", 9)
        assert refused(several, ProblemKind.INVALID_REQUEST).field == "body"

    async def test_the_same_id_of_another_source_is_another_event(self) -> None:
        node = InProcessNode(config("r"))
        async with browsing(node) as browser:
            await prepared(node, browser)
            first = cloud("heartbeat", "1", {})
            results = await told(browser, first, {**first, "source": "/slurm/west"}, event("heartbeat", "1"), first)
        assert [each.status for each in results] == [EventStatus.ACCEPTED] * 3 + [EventStatus.DUPLICATE]

    @pytest.mark.parametrize(
        ("changes", "detail"),
        [
            ({"specversion": "0.3"}, "specversion must be 1.0"),
            ({"type": "com.example.lunch"}, "type must end in one of heartbeat, job_finished, job_started, usage"),
            ({"subject": None}, "subject is not right: expected `str`, got `null`"),
            ({"time": "yesterday"}, "time must be a time with its offset from UTC, as RFC 3339 writes it"),
            ({"time": "2023-11-14T22:18:20"}, "time must be a time with its offset from UTC, as RFC 3339 writes it"),
            ({"data": {"job": "j", "tenant": "acme"}}, "data.tenant is said by the event's attributes"),
            ({"data": [1]}, "data is not right: expected `object`, got `array`"),
            ({"data": {"job": ""}}, "job is not right: expected `str` of length >= 1"),
        ],
    )
    async def test_what_is_wrong_is_named(self, changes: dict[str, Any], detail: str) -> None:
        node = InProcessNode(config("r"))
        async with browsing(node) as browser:
            await prepared(node, browser)
            answer = await sent(browser, cloud("heartbeat", "1", {}) | changes)
        assert refused(answer, ProblemKind.INVALID_REQUEST).detail == detail


@pytest.mark.parametrize("body", [b"", b"[]", b'"e"', b"{", b"[1,", b"null"])
async def test_what_is_neither_an_event_nor_a_list_of_them_is_refused_as_a_whole(body: bytes) -> None:
    async with browsing(InProcessNode(config("r"))) as browser:
        assert refused(await sent(browser, body), ProblemKind.INVALID_REQUEST).field == "body"


async def test_events_are_in_one_commit() -> None:
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        await prepared(node, browser)
        first = node.region.journal.next_commit
        await told(browser, *(usage(f"e{minute}", minute, minute + 1) for minute in range(50)))
        assert node.region.journal.next_commit == first + 1
