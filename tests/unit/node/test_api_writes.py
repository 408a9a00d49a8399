"""The routes that change credit: what they make of a request, and what they answer, once and again."""

import asyncio
from typing import Any

import msgspec
import pytest

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    GrantCredit,
    RefundUsage,
    ReleaseHold,
    Reserve,
    RevokeLot,
    fingerprint,
)
from ledger.ids import ClaimId, Key, LotId, TenantId
from replication.clock import decode_token
from replication.entry import seal
from tests.unit.node.in_process import HOUR, NOON, Browser, refused
from tests.unit.replication.sites import make_entry

ACME = "/v1/tenants/acme"


def part(lot: str, amount: int) -> wire.FundingPart:
    return wire.FundingPart(lot=lot, amount=amount)


async def test_a_grant_makes_a_lot(east: Browser) -> None:
    answer = await east.post(f"{ACME}/grants", {"amount": 100, "expires_at": NOON + HOUR, "priority": -2, "lot": "l1"})
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.read(wire.GrantReply) == wire.GrantReply(
        lot="l1", amount=100, starts_at=NOON, expires_at=NOON + HOUR, priority=-2, shares=None, region="us-east"
    )


async def test_a_reservation_is_made_renewed_used_and_released(east: Browser) -> None:
    await east.granted(100)
    made = await east.post(f"{ACME}/reservations", {"amount": 60, "lease_ms": 1000, "reservation": "r1", "job": "j"})
    assert made.status == 201
    reservation = made.read(wire.ReservationReply)
    assert reservation == wire.ReservationReply(
        reservation="r1",
        tenant="acme",
        state=wire.ReservationState.OPEN,
        amount=60,
        held=60,
        captured=0,
        lease_until=NOON + 1000,
        funding=[part("l1", 60)],
        debt=0,
        region="us-east",
    )
    renewed = await east.post(f"{ACME}/reservations/r1/renew", {"lease_ms": 5000})
    assert (renewed.status, renewed.json["lease_until"]) == (200, NOON + 5000)
    used = await east.post(f"{ACME}/reservations/r1/capture", {"amount": 45})
    assert (used.status, used.json["held"], used.json["captured"]) == (200, 15, 45)
    released = await east.post(f"{ACME}/reservations/r1/release")
    assert (released.status, released.json["state"], released.json["held"]) == (200, "closed", 0)


async def test_a_final_capture_releases_the_rest(east: Browser) -> None:
    await east.granted(100)
    await east.reserved(60, "r1")
    east.node.clock_ms += 5
    used = await east.post(f"{ACME}/reservations/r1/capture", {"amount": 10, "final": True, "at": NOON})
    assert (used.json["state"], used.json["held"], used.json["captured"]) == ("closed", 0, 10)


async def test_a_final_capture_of_nothing_is_a_release(east: Browser) -> None:
    await east.granted(100)
    await east.reserved(60, "r1")
    seen: list[Command] = []
    east.node.on_submit = seen.append
    closed = await east.post(f"{ACME}/reservations/r1/capture", {"final": True}, Idempotency_Key="once")
    assert (closed.status, closed.json["state"], closed.json["captured"]) == (200, "closed", 0)
    again = await east.post(f"{ACME}/reservations/r1/release", Idempotency_Key="once")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert [type(command) for command in seen] == [ReleaseHold, ReleaseHold]


async def test_a_capture_of_something_is_one(east: Browser) -> None:
    await east.granted(100)
    await east.reserved(60, "r1")
    seen: list[Command] = []
    east.node.on_submit = seen.append
    await east.post(f"{ACME}/reservations/r1/capture", {"amount": 7, "at": NOON, "final": True})
    assert seen == [CaptureUsage(ClaimId("r1"), 7, NOON, final=True)]


async def test_a_debit_and_its_refund(east: Browser) -> None:
    await east.granted(50)
    body = {"amount": 70, "debit": "d1", "on_shortage": "debt"}
    debit = await east.post(f"{ACME}/debits", body)
    assert debit.status == 201
    assert debit.read(wire.DebitReply) == wire.DebitReply(
        debit="d1", amount=70, at=NOON, funding=[part("l1", 50)], debt=20, region="us-east"
    )
    refund = await east.post(f"{ACME}/refunds", {"claim": "d1", "amount": 30})
    assert refund.status == 201
    assert refund.read(wire.RefundReply) == wire.RefundReply(
        claim="d1", amount=30, at=NOON, funding=[part("l1", 40)], debt=0, region="us-east"
    )


async def test_a_revoked_lot_says_what_was_left_of_it(east: Browser) -> None:
    await east.granted(100)
    await east.reserved(60, "r1")
    revoked = await east.post(f"{ACME}/grants/l1/revoke", {})
    assert revoked.status == 200
    assert revoked.read(wire.RevokeReply) == wire.RevokeReply(lot="l1", revoked=40, region="us-east")
    refused(await east.post(f"{ACME}/grants/l1/revoke"), ProblemKind.LOT_CLOSED)


async def test_a_write_names_its_entry_and_the_clock_that_has_it(east: Browser) -> None:
    await east.granted(100)
    answer = await east.reserved(60, "r1")
    assert answer.headers["Credit-Entry"] == "us-east/0boot:2"
    assert decode_token(answer.headers["Credit-Clock"]) == {"us-east/0boot": 2}
    assert "Idempotent-Replayed" not in answer.headers


# -- once, and again ---------------------------------------------------------------------------------------------


async def test_a_retry_gets_the_first_reply_whatever_has_happened_since(east: Browser) -> None:
    await east.granted(100)
    body = {"amount": 60, "lease_ms": 1000}
    first = await east.post(f"{ACME}/reservations", body, Idempotency_Key='"once"')
    await east.post(f"{ACME}/reservations/{first.json['reservation']}/release")
    again = await east.post(f"{ACME}/reservations", body, Idempotency_Key="once")
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Credit-Entry"] == first.headers["Credit-Entry"]


async def test_a_retry_in_another_region_gets_the_same_reply_but_for_its_region(east: Browser, west: Browser) -> None:
    await east.granted(100)
    body = {"amount": 60, "lease_ms": 1000}
    first = await east.post(f"{ACME}/reservations", body, Idempotency_Key="once")
    west.node.hear(east.node)
    again = await west.post(f"{ACME}/reservations", body, Idempotency_Key="once")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Credit-Entry"] == first.headers["Credit-Entry"]
    assert again.json == {**first.json, "region": "eu-west"}


async def test_the_same_key_with_another_body_is_refused(east: Browser) -> None:
    await east.granted(100)
    await east.post(f"{ACME}/reservations", {"amount": 60, "lease_ms": 1000}, Idempotency_Key="once")
    other = await east.post(f"{ACME}/reservations", {"amount": 61, "lease_ms": 1000}, Idempotency_Key="once")
    refused(other, ProblemKind.IDEMPOTENCY_MISMATCH)


async def test_a_write_without_a_key_is_refused(east: Browser) -> None:
    answer = await east.send("POST", f"{ACME}/grants", b'{"amount": 5, "expires_at": 1800000000000}')
    assert refused(answer, ProblemKind.INVALID_REQUEST).field == "Idempotency-Key"
    refused(await east.get(f"{ACME}/balance"), ProblemKind.NOT_FOUND)


async def test_a_refusal_leaves_the_key_free(east: Browser) -> None:
    await east.granted(10)
    body = {"amount": 60, "lease_ms": 1000}
    problem = refused(
        await east.post(f"{ACME}/reservations", body, Idempotency_Key="once"), ProblemKind.INSUFFICIENT_CREDIT
    )
    assert (problem.requested, problem.available, problem.held, problem.debt) == (60, 10, 0, 0)
    await east.granted(50, lot="l2")
    assert (await east.post(f"{ACME}/reservations", body, Idempotency_Key="once")).status == 201


# -- refusals of the ledger --------------------------------------------------------------------------------------


async def test_a_refusal_for_lack_of_credit_says_when_more_begins(east: Browser) -> None:
    await east.granted(10)
    later = {"amount": 90, "starts_at": NOON + 5000, "expires_at": NOON + HOUR}
    await east.post(f"{ACME}/grants", later)
    problem = refused(await east.post(f"{ACME}/debits", {"amount": 11}), ProblemKind.INSUFFICIENT_CREDIT)
    assert problem.next_start == NOON + 5000


async def test_what_has_ended_says_how(east: Browser) -> None:
    await east.granted(100)
    await east.reserved(60, "r1")
    await east.post(f"{ACME}/reservations/r1/release")
    for verb, body in (("renew", {"lease_ms": 5}), ("release", None)):
        problem = refused(await east.post(f"{ACME}/reservations/r1/{verb}", body), ProblemKind.RESERVATION_ENDED)
        assert problem.state == "closed"


async def test_a_lapsed_reservation_has_ended(east: Browser) -> None:
    await east.granted(100)
    await east.reserved(60, "r1")
    east.node.tick(61_000)
    problem = refused(await east.post(f"{ACME}/reservations/r1/renew", {"lease_ms": 5}), ProblemKind.RESERVATION_ENDED)
    assert problem.state == "lapsed"


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/tenants/nobody/reservations", {"amount": 1, "lease_ms": 1}, ProblemKind.NOT_FOUND),
        (f"{ACME}/reservations/r9/renew", {"lease_ms": 1}, ProblemKind.NOT_FOUND),
        (f"{ACME}/refunds", {"claim": "r9", "amount": 1}, ProblemKind.NOT_FOUND),
        (f"{ACME}/grants/l9/revoke", {}, ProblemKind.NOT_FOUND),
        (f"{ACME}/reservations", {"amount": 1, "lease_ms": 1, "reservation": "r1"}, ProblemKind.ALREADY_EXISTS),
        (f"{ACME}/grants", {"amount": 1, "expires_at": NOON + 1, "lot": "l1"}, ProblemKind.ALREADY_EXISTS),
        (f"{ACME}/grants", {"amount": 1, "expires_at": NOON - 1}, ProblemKind.INVALID_REQUEST),
        (f"{ACME}/debits", {"amount": 1, "at": NOON + HOUR}, ProblemKind.INVALID_REQUEST),
        (f"{ACME}/refunds", {"claim": "r1", "amount": 1}, ProblemKind.INVALID_REQUEST),
        (f"{ACME}/reservations/r1/release", {"final": True}, ProblemKind.INVALID_REQUEST),
        (f"{ACME}/reservations/r1/capture", {"amount": 0}, ProblemKind.INVALID_REQUEST),
        (f"{ACME}/reservations/r1/capture", None, ProblemKind.INVALID_REQUEST),
        (f"{ACME}/reservations?amount=5", {"amount": 1, "lease_ms": 1}, ProblemKind.INVALID_REQUEST),
    ],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(
    east: Browser, path: str, body: Any, kind: ProblemKind
) -> None:
    await east.granted(100)
    await east.reserved(60, "r1")
    before = east.node.region.books.digest()
    refused(await east.post(path, body), kind)
    assert east.node.region.books.digest() == before


# -- clocks ------------------------------------------------------------------------------------------------------


async def test_a_write_waits_until_the_node_has_seen_what_its_client_has(east: Browser, west: Browser) -> None:
    granted = await east.granted(100)
    token = granted.headers["Credit-Clock"]
    body = {"amount": 60, "lease_ms": 1000}
    waiting = asyncio.create_task(west.post(f"{ACME}/reservations", body, Credit_Clock=token))
    await west.node.somebody_waits()
    west.node.hear(east.node)
    assert (await waiting).status == 201


async def test_a_node_that_does_not_catch_up_in_time_says_so_and_accepts_nothing(east: Browser, west: Browser) -> None:
    await west.granted(100)
    granted = await east.granted(100)
    west.node.patience = 0
    answer = await west.post(f"{ACME}/debits", {"amount": 1}, Credit_Clock=granted.headers["Credit-Clock"])
    problem = refused(answer, ProblemKind.NOT_READY)
    assert "eu-west has not caught up" in problem.detail
    assert answer.headers["Retry-After"] == "1"
    assert west.node.region.durable == {"eu-west/0boot": 1}


@pytest.mark.parametrize("token", ["", "zzz", "%%%", 7000 * "A"])
async def test_a_clock_that_is_no_token_is_refused(east: Browser, token: str) -> None:
    await east.granted(100)
    answer = await east.post(f"{ACME}/debits", {"amount": 1}, Credit_Clock=token)
    assert refused(answer, ProblemKind.INVALID_REQUEST).field == "Credit-Clock"


# -- msgpack, and counting ---------------------------------------------------------------------------------------


async def test_msgpack_in_and_out(east: Browser) -> None:
    await east.granted(100)
    body = msgspec.msgpack.encode({"amount": 60, "lease_ms": 1000, "reservation": "r1"})
    answer = await east.post(f"{ACME}/reservations", body, Content_Type="application/msgpack")
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/msgpack"
    assert msgspec.msgpack.decode(answer.body, type=wire.ReservationReply).held == 60
    renewed = await east.post(f"{ACME}/reservations/r1/renew", {"lease_ms": 5}, Accept="application/msgpack")
    assert msgspec.msgpack.decode(renewed.body, type=wire.ReservationReply).reservation == "r1"


async def test_writes_are_counted_by_what_became_of_them(east: Browser) -> None:
    await east.granted(100)
    await east.reserved(60, "r1")
    body = {"amount": 10, "lease_ms": 1000}
    for _ in range(2):
        await east.post(f"{ACME}/reservations", body, Idempotency_Key="once")
    await east.post(f"{ACME}/reservations", {"amount": 1000, "lease_ms": 1000})
    await east.post(f"{ACME}/debits", {"amount": 1000})
    exposition = (await east.get("/metrics")).body.decode()
    for line in (
        'creditmesh_reservation_attempts_total{outcome="accepted"} 2.0',
        'creditmesh_reservation_attempts_total{outcome="replayed"} 1.0',
        'creditmesh_reservation_attempts_total{outcome="insufficient-credit"} 1.0',
        "creditmesh_insufficient_credit_refusals_total 2.0",
        "creditmesh_admission_latency_seconds_count 4.0",
        "creditmesh_ledger_write_latency_seconds_count 3.0",
    ):
        assert line in exposition.splitlines()


@pytest.mark.parametrize(
    ("path", "body", "command"),
    [
        ("reservations", {"amount": 6, "lease_ms": 9, "reservation": "c"}, Reserve(6, 9, ClaimId("c"))),
        ("reservations/c/release", {}, ReleaseHold(ClaimId("c"))),
        ("debits", {"amount": 6, "debit": "c"}, DebitUsage(6, None, ClaimId("c"))),
        ("refunds", {"amount": 6, "claim": "c"}, RefundUsage(ClaimId("c"), 6)),
        ("grants", {"amount": 6, "expires_at": 2**40 * 2, "lot": "c"}, GrantCredit(6, 2**41, lot=LotId("c"))),
        ("grants/c/revoke", {}, RevokeLot(LotId("c"))),
    ],
)
async def test_an_entry_that_a_peer_made_up_under_the_key_is_no_reply(
    east: Browser, path: str, body: dict[str, Any], command: Command
) -> None:
    await east.granted(100)
    made_up = msgspec.structs.replace(
        make_entry("eu-west/b1", 1, ms=NOON), tenant=TenantId("acme"), key=Key("k"), request=fingerprint(command)
    )
    east.node.region.receive([seal(made_up)], NOON)
    east.node.commit()
    problem = refused(await east.post(f"{ACME}/{path}", body, Idempotency_Key="k"), ProblemKind.IDEMPOTENCY_MISMATCH)
    assert problem.detail == "the key is another entry's"
