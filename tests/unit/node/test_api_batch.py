"""Many operations in one request: each as its route would have it, each answered by itself, all in one commit."""

from typing import Any

import msgspec
import pytest

from creditmesh import wire
from creditmesh.wire import ProblemKind
from tests.unit.node.in_process import HOUR, NOON, Answer, Browser, InProcessNode, browsing, config, refused

JSON = {"Content_Type": "application/json"}


def an(operation: str, key: str, body: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"tenant": "acme", "key": key, "operation": operation, "body": body or {}, **more}


async def sent(browser: Browser, *operations: Any) -> Answer:
    return await browser.send("POST", "/v1/batch", msgspec.json.encode({"operations": operations}), **JSON)


async def results(browser: Browser, *operations: Any) -> list[wire.BatchResult]:
    answer = await sent(browser, *operations)
    assert answer.status == 200, answer.body
    return answer.read(wire.BatchReply).results


GRANT = an("grant", "g1", {"amount": 100, "expires_at": NOON + HOUR, "lot": "l1"})
EVERY_OPERATION = [
    GRANT,
    {**an("grant", "g2", {"amount": 5, "expires_at": NOON + HOUR}), "tenant": "umbra"},
    an("reserve", "r1", {"amount": 60, "lease_ms": 60_000, "reservation": "job-1"}),
    an("renew", "r2", {"lease_ms": 120_000}, id="job-1"),
    an("capture", "r3", {"amount": 20}, id="job-1"),
    an("release", "r4", id="job-1"),
    an("debit", "d1", {"amount": 10, "debit": "fee"}),
    an("refund", "d2", {"claim": "fee", "amount": 4}),
    an("transfer", "t1", {"to": "umbra", "amount": 30}),
    an("policy", "p1", {"max_held": 50}),
    an("revoke", "g3", id="l1"),
]


async def test_each_operation_is_answered_as_its_route_would_have_answered() -> None:
    routes = {
        "grant": "/grants", "reserve": "/reservations", "renew": "/reservations/{}/renew",
        "capture": "/reservations/{}/capture", "release": "/reservations/{}/release", "debit": "/debits",
        "refund": "/refunds", "transfer": "/transfers", "policy": "/policy", "revoke": "/grants/{}/revoke",
    }  # fmt: skip
    together, alone = InProcessNode(config("r")), InProcessNode(config("r"))
    async with browsing(together) as browser, browsing(alone) as other:
        told = await results(browser, *EVERY_OPERATION)
        for operation, result in zip(EVERY_OPERATION, told, strict=True):
            path = f"/v1/tenants/{operation['tenant']}" + routes[operation["operation"]].format(operation.get("id"))
            method = "PUT" if operation["operation"] == "policy" else "POST"
            answer = await other.send(
                method, path, msgspec.json.encode(operation["body"]), Idempotency_Key=operation["key"], **JSON
            )
            assert (result.status, result.reply) == (answer.status, answer.json)
            assert result.entry == answer.headers[wire.CREDIT_ENTRY]
    assert together.region.books.digest() == alone.region.books.digest()


async def test_all_that_is_accepted_is_in_one_commit() -> None:
    node = InProcessNode(config("r"))
    async with browsing(node) as browser:
        first = node.region.journal.next_commit
        await results(browser, *EVERY_OPERATION)
        assert node.region.journal.next_commit == first + 1


async def test_a_bad_operation_spoils_none_of_the_others() -> None:
    async with browsing(InProcessNode(config("r"))) as browser:
        told = await results(
            browser,
            GRANT,
            7,
            an("reserve", "r1", {"amount": 500, "lease_ms": 1}),
            an("reserve", "r2", {"amount": -1, "lease_ms": 1}),
            an("conjure", "r3"),
            {"tenant": "acme", "operation": "debit", "body": {"amount": 1}},
            {**an("debit", "d9", {"amount": 1}), "colour": "red"},
            an("renew", "r4", {"lease_ms": 1}),
            an("debit", "d8", {"amount": 1}, id="l1"),
            an("debit", "d1", {"amount": 40}),
        )
    assert [result.status for result in told] == [201, 400, 402, 400, 400, 400, 400, 400, 400, 201]
    problems = [result.problem for result in told if result.problem is not None]
    assert [(problem.get("field"), problem["detail"]) for problem in problems] == [
        ("operation", "operation is not right: expected `object`, got `int`"),
        (None, "500 asked, 100 available"),
        ("amount", "amount is not right: expected `int` >= 1"),
        ("operation", "operation is not right: invalid enum value 'conjure'"),
        ("key", "key is required"),
        ("colour", "colour is not known"),
        ("id", "id is required to renew"),
        ("id", "id is of no use to debit"),
    ]


async def test_what_was_accepted_before_is_answered_as_before() -> None:
    async with browsing(InProcessNode(config("r"))) as browser:
        first = await results(browser, GRANT, an("debit", "d1", {"amount": 40}))
        again = await results(browser, GRANT, an("debit", "d1", {"amount": 40}), an("debit", "d1", {"amount": 41}))
    assert [result.reply for result in again[:2]] == [result.reply for result in first]
    assert [result.replayed for result in again] == [True, True, False]
    assert again[2].problem is not None
    assert again[2].status == 422


async def test_later_operations_see_what_earlier_ones_did() -> None:
    async with browsing(InProcessNode(config("r"))) as browser:
        told = await results(browser, GRANT, an("debit", "d1", {"amount": 60}), an("debit", "d2", {"amount": 60}))
    assert [result.status for result in told] == [201, 201, 402]


async def test_msgpack_is_taken_and_given() -> None:
    async with browsing(InProcessNode(config("r"))) as browser:
        answer = await browser.send(
            "POST", "/v1/batch", msgspec.msgpack.encode({"operations": [GRANT]}), Content_Type="application/msgpack"
        )
        reply = msgspec.msgpack.decode(answer.body, type=wire.BatchReply)
    assert (reply.accepted, reply.refused, reply.results[0].status) == (1, 0, 201)


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        (b"", "body", "is not JSON: Input data was truncated"),
        (b"[]", "body", None),
        (b'{"operations": []}', "operations", "must be a list of 1 to 10000"),
        (b'{"operations": {}}', "operations", "is not right: expected `array`, got `object`"),
        (b'{"operation": []}', "operation", "is not known"),
        (b"{}", "operations", "is required"),
        (b'{"operations": [' + b"1," * 10_000 + b"1]}", "operations", "must be a list of 1 to 10000"),
    ],
)
async def test_a_request_that_is_no_batch_is_refused_as_a_whole(body: bytes, field: str, rule: str | None) -> None:
    async with browsing(InProcessNode(config("r"))) as browser:
        problem = refused(await browser.send("POST", "/v1/batch", body, **JSON), ProblemKind.INVALID_REQUEST)
    assert problem.field == field
    assert rule is None or problem.rule == rule


async def test_a_field_twice_is_refused_for_the_operation_that_has_it() -> None:
    body = b'{"operations": [{"tenant":"acme","key":"a","key":"b","operation":"debit","body":{"amount":1}}, 1]}'
    async with browsing(InProcessNode(config("r"))) as browser:
        answer = await browser.send("POST", "/v1/batch", body, **JSON)
    first, second = answer.read(wire.BatchReply).results
    assert first.problem is not None
    assert first.problem["detail"] == "key is given more than once"
    assert second.problem is not None


async def test_a_batch_may_be_longer_than_other_bodies_and_not_without_bound() -> None:
    node = InProcessNode(config("r", body_bytes=2048, batch_bytes=64 * 1024))
    long = [an("grant", f"g{number}", {"amount": 1, "expires_at": NOON + HOUR}) for number in range(100)]
    async with browsing(node) as browser:
        assert (await sent(browser, *long)).status == 200
        answer = await browser.post("/v1/tenants/acme/grants", b" " * 2049)
        refused(answer, ProblemKind.PAYLOAD_TOO_LARGE)
        answer = await browser.send("POST", "/v1/batch", b" " * (64 * 1024 + 1), **JSON)
        refused(answer, ProblemKind.PAYLOAD_TOO_LARGE)


async def test_a_node_that_takes_no_writes_refuses_a_batch_as_a_whole() -> None:
    node = InProcessNode(config("r"))
    node.unready = ["no room"]
    async with browsing(node) as browser:
        refused(await sent(browser, GRANT), ProblemKind.NOT_READY)
        assert not node.region.books.in_memory
