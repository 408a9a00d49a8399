"""Transfers, policies and quotes over HTTP."""

from typing import Any

import msgspec
import pytest

from creditmesh import wire
from creditmesh.wire import ProblemKind
from tests.unit.node.in_process import HOUR, NOON, Browser, InProcessNode, browsing, config, refused

JSON = {"Content_Type": "application/json"}


async def put_policy(browser: Browser, body: dict[str, Any], key: str = "p1") -> Any:
    return await browser.send("PUT", "/v1/tenants/acme/policy", msgspec.json.encode(body), Idempotency_Key=key, **JSON)


async def quoted(browser: Browser, body: dict[str, Any]) -> wire.QuoteReply:
    answer = await browser.send("POST", "/v1/tenants/acme/quotes", msgspec.json.encode(body), **JSON)
    assert answer.status == 200, answer.body
    return answer.read(wire.QuoteReply)


class TestTransfers:
    async def test_one_tenant_has_less_and_the_other_a_lot_that_lasts_no_longer(self) -> None:
        async with browsing(InProcessNode(config("r"))) as browser:
            await browser.granted(100)
            await browser.granted(1, tenant="umbra")
            answer = await browser.post(
                "/v1/tenants/acme/transfers", {"to": "umbra", "amount": 30}, Idempotency_Key="t"
            )
            again = await browser.post("/v1/tenants/acme/transfers", {"to": "umbra", "amount": 30}, Idempotency_Key="t")
            reply = answer.read(wire.TransferReply)
            lots = (await browser.get("/v1/tenants/umbra/lots")).read(wire.LotsReply).lots
            balance = (await browser.get("/v1/tenants/acme/balance")).read(wire.BalanceReply)
            trail = (await browser.get("/v1/tenants/umbra/entries")).read(wire.EntriesReply).entries
        assert answer.status == 201
        assert (reply.to, reply.amount, reply.expires_at, reply.debt) == ("umbra", 30, NOON + HOUR, 0)
        assert again.json == answer.json
        assert again.headers[wire.IDEMPOTENT_REPLAYED] == "true"
        assert [(lot.lot, lot.remaining, lot.expires_at) for lot in lots] == [
            ("l1", 1, NOON + HOUR), (reply.transfer, 30, NOON + HOUR),
        ]  # fmt: skip
        assert balance.available == 70
        assert [(entry.kind, entry.tenant, entry.received) for entry in trail] == [
            ("grant", "umbra", None),
            ("transfer", "acme", {"issued": -30, f"lot/{reply.transfer}": 30}),
        ]

    @pytest.mark.parametrize(
        ("body", "kind", "detail"),
        [
            ({"to": "acme", "amount": 1}, ProblemKind.INVALID_REQUEST, "to must be another tenant"),
            ({"to": "nobody", "amount": 1}, ProblemKind.NOT_FOUND, None),
            ({"to": "umbra", "amount": 101}, ProblemKind.INSUFFICIENT_CREDIT, "101 asked, 100 available"),
            (
                {"to": "umbra", "amount": 1, "expires_at": NOON}, ProblemKind.INVALID_REQUEST,
                "expires_at must be in the future",
            ),
            (
                {"to": "umbra", "amount": 1, "expires_at": NOON + HOUR + 1}, ProblemKind.INSUFFICIENT_CREDIT,
                "1 asked, 0 available",
            ),
            ({"to": "umbra", "amount": 0}, ProblemKind.INVALID_REQUEST, None),
        ],
    )  # fmt: skip
    async def test_what_cannot_be_transferred(
        self, body: dict[str, Any], kind: ProblemKind, detail: str | None
    ) -> None:
        node = InProcessNode(config("r"))
        async with browsing(node) as browser:
            await browser.granted(100)
            await browser.granted(1, tenant="umbra")
            entries = dict(node.region.clock)
            problem = refused(await browser.post("/v1/tenants/acme/transfers", body), kind)
            assert detail is None or problem.detail == detail
            assert node.region.clock == entries

    async def test_a_transfer_is_no_claim_that_could_be_refunded_or_captured(self) -> None:
        async with browsing(InProcessNode(config("r"))) as browser:
            await browser.granted(100)
            await browser.granted(1, tenant="umbra")
            name = (await browser.post("/v1/tenants/acme/transfers", {"to": "umbra", "amount": 30})).json["transfer"]
            refund = await browser.post("/v1/tenants/acme/refunds", {"claim": name, "amount": 1})
            capture = await browser.post(f"/v1/tenants/acme/reservations/{name}/capture", {"amount": 1})
            assert refused(refund, ProblemKind.INVALID_REQUEST).field == "claim"
            refused(capture, ProblemKind.NOT_FOUND)

    async def test_nobody_can_take_such_a_name(self) -> None:
        async with browsing(InProcessNode(config("r"))) as browser:
            body = {"amount": 1, "expires_at": NOON + HOUR, "lot": "~" + "0" * 24}
            problem = refused(await browser.post("/v1/tenants/acme/grants", body), ProblemKind.INVALID_REQUEST)
            assert problem.field == "lot"


class TestPolicies:
    async def test_the_rules_count_from_then_on_and_their_history_is_kept(self) -> None:
        node = InProcessNode(config("r"))
        async with browsing(node) as browser:
            await browser.granted(100)
            before = (await browser.get("/v1/tenants/acme/policy")).read(wire.PolicyView)
            first = await put_policy(browser, {"max_held": 50, "on_overspend": "revoke"})
            node.clock_ms += 1000
            await put_policy(browser, {"debt_limit": 0}, "p2")
            after = (await browser.get("/v1/tenants/acme/policy")).read(wire.PolicyView)
        debt, revoke = wire.OnOverspend.DEBT, wire.OnOverspend.REVOKE
        optimistic = wire.Admission.OPTIMISTIC
        unlimited = wire.Policy(on_overspend=debt, admission=optimistic, max_held=None, debt_limit=None)
        assert (before.policy, before.history) == (unlimited, [])
        assert first.status == 200
        assert first.json == {
            "on_overspend": "revoke", "admission": "optimistic", "max_held": 50, "debt_limit": None, "since": NOON,
            "region": "r",
        }  # fmt: skip
        assert after.policy == wire.Policy(on_overspend=debt, admission=optimistic, max_held=None, debt_limit=0)
        assert [(change.since - NOON, change.on_overspend, change.max_held) for change in after.history] == [
            (1000, debt, None), (0, revoke, 50),
        ]  # fmt: skip

    async def test_no_more_is_held_and_no_more_is_owed_than_the_policy_allows(self) -> None:
        async with browsing(InProcessNode(config("r"))) as browser:
            await browser.granted(100)
            await put_policy(browser, {"max_held": 50, "debt_limit": 7})
            await browser.reserved(50, "r1")
            held = await browser.post("/v1/tenants/acme/reservations", {"amount": 1, "lease_ms": 1})
            debit = {"amount": 58, "on_shortage": "debt"}
            owed = await browser.post("/v1/tenants/acme/debits", debit)
            most = await browser.post("/v1/tenants/acme/debits", {**debit, "amount": 57})
            refused(held, ProblemKind.HELD_LIMIT)
            assert (held.json["requested"], held.json["held"], held.json["max_held"]) == (1, 50, 50)
            refused(owed, ProblemKind.DEBT_LIMIT)
            assert (owed.json["requested"], owed.json["available"], owed.json["debt_limit"]) == (58, 50, 7)
            assert (most.status, most.json["debt"]) == (201, 7)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"on_overspend": "forgive"}, "on_overspend"),
            ({"max_held": -1}, "max_held"),
            ({"debt_limit": 2**53}, "debt_limit"),
            ({"max_held": 1.5}, "max_held"),
            ({"admission": "closed"}, "admission"),
            ({"admission": "escrow", "on_overspend": "revoke"}, "on_overspend"),
        ],
    )
    async def test_rules_that_make_no_sense_are_refused(self, body: dict[str, Any], field: str) -> None:
        async with browsing(InProcessNode(config("r"))) as browser:
            await browser.granted(100)
            assert refused(await put_policy(browser, body), ProblemKind.INVALID_REQUEST).field == field


class TestQuotes:
    async def test_a_quote_says_what_would_be_left_and_holds_nothing(self) -> None:
        node = InProcessNode(config("r"))
        async with browsing(node) as browser:
            await browser.granted(100)
            await browser.reserved(30, "r1")
            estimate = {"gpu_type": "A100", "gpus": 4, "seconds": 601, "priority": "spot"}
            entries = dict(node.region.clock)
            quote = await quoted(browser, {"estimate": estimate})
            too_much = await quoted(browser, {"amount": 71})
            assert node.region.clock == entries
            reserved = await browser.post("/v1/tenants/acme/reservations", {"estimate": estimate, "lease_ms": 9})
        assert (quote.amount, quote.available, quote.available_after) == (21, 70, 49)  # 20 credits and a second
        assert (quote.held, quote.held_after, quote.accepted, quote.refusal) == (30, 51, True, None)
        assert (too_much.available_after, too_much.accepted, too_much.refusal) == (-1, False, "insufficient-credit")
        assert reserved.json["amount"] == quote.amount

    async def test_a_quote_knows_the_policy(self) -> None:
        async with browsing(InProcessNode(config("r"))) as browser:
            await browser.granted(100)
            await put_policy(browser, {"max_held": 10})
            quote = await quoted(browser, {"amount": 11})
        assert (quote.accepted, quote.refusal) == (False, "held-limit")

    @pytest.mark.parametrize(
        ("body", "field", "rule"),
        [
            ({}, "amount", "is required unless there is an estimate"),
            (
                {"amount": 1, "estimate": {"gpu_type": "A100", "gpus": 1, "seconds": 1}}, "estimate",
                "must stand in the place of an amount, not beside one",
            ),
            (
                {"estimate": {"gpu_type": "V100", "gpus": 1, "seconds": 1}}, "gpu_type",
                "must be one that has a price: A100, L4",
            ),
            (
                {"estimate": {"gpu_type": "A100", "gpus": 1, "seconds": 1, "priority": "vip"}}, "priority",
                "must be one that has a multiplier: spot",
            ),
            ({"estimate": {"gpu_type": "A100", "gpus": 0, "seconds": 1}}, "estimate.gpus", None),
            ({"estimate": {"gpu_type": "A100", "gpus": 1, "seconds": 10**10}}, "estimate.seconds", None),
            ({"estimate": {"gpus": 1, "seconds": 1}}, "gpu_type", "is required"),
        ],
    )  # fmt: skip
    async def test_estimates_that_make_no_sense_are_refused(
        self, body: dict[str, Any], field: str, rule: str | None
    ) -> None:
        async with browsing(InProcessNode(config("r"))) as browser:
            await browser.granted(100)
            answer = await browser.send("POST", "/v1/tenants/acme/quotes", msgspec.json.encode(body), **JSON)
        problem = refused(answer, ProblemKind.INVALID_REQUEST)
        assert problem.field == field
        assert rule is None or problem.rule == rule

    async def test_an_estimate_beyond_all_bounds_is_refused(self) -> None:
        async with browsing(InProcessNode(config("r"))) as browser:
            await browser.granted(100)
            estimate = {"gpu_type": "A100", "gpus": 1_000_000, "seconds": 316_224_000}
            quote = await quoted(browser, {"estimate": estimate})
        assert quote.amount == 5_270_400_000_000
        assert not quote.accepted

    async def test_an_unknown_tenant(self) -> None:
        async with browsing(InProcessNode(config("r"))) as browser:
            answer = await browser.send("POST", "/v1/tenants/nobody/quotes", b'{"amount": 1}', **JSON)
            refused(answer, ProblemKind.NOT_FOUND)
