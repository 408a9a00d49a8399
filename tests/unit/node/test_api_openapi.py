"""What the node says of its own interface: all of it, and nothing that is not so."""

import re
from typing import Any

import msgspec
import pytest

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.ids import KEY_PATTERN
from node.api.description import Description, told_by
from node.api.openapi import KEY_PATTERN as TOLD_KEY_PATTERN
from node.api.openapi import document
from node.api.problems import FIELDS
from node.api.server import routes
from tests.unit.node.in_process import Browser, InProcessNode, browsing, config


@pytest.fixture
async def told(east: Browser) -> dict[str, Any]:
    answer = await east.get("/openapi.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    found: dict[str, Any] = answer.json
    return found


async def test_every_route_is_in_the_document_and_nothing_else(told: dict[str, Any], east: Browser) -> None:
    served = {(route.path, route.method.lower()) for route in routes(east.node)} | {("/openapi.json", "get")}
    heads = {(path, "head") for path, method in served if method == "get"}
    assert {(path, method) for path, of_path in told["paths"].items() for method in of_path} == served | heads


async def test_chaos_routes_are_told_of_where_they_are_served() -> None:
    async with browsing(InProcessNode(config("us-east", ("eu-west",), chaos=True))) as browser:
        assert "/v1/chaos/links" in (await browser.get("/openapi.json")).json["paths"]


async def test_every_operation_has_a_name_of_its_own_and_says_what_it_is_for(told: dict[str, Any]) -> None:
    operations = [operation for of_path in told["paths"].values() for operation in of_path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Z][^`]*(`[^`]+`[^`]*)*[.]", operation["summary"]) for operation in operations), [
        operation["summary"] for operation in operations
    ]


async def test_every_reference_leads_somewhere(told: dict[str, Any]) -> None:
    found = set(re.findall(r'"\$ref":"#/components/schemas/([^"]+)"', msgspec.json.encode(told).decode()))
    schemas = told["components"]["schemas"]
    assert found <= schemas.keys()
    assert schemas.keys() - found <= {"Problem"}, "a schema that nothing refers to"


async def test_writes_must_have_a_key_but_for_those_that_bring_their_own_and_reads_have_none(
    told: dict[str, Any],
) -> None:
    for path, of_path in told["paths"].items():
        for method, operation in of_path.items():
            keys = [each for each in operation["parameters"] if each["name"] == wire.IDEMPOTENCY_KEY]
            brings_its_own = path.endswith(("/quotes", "/apply"))
            is_write = (path.startswith("/v1/tenants/") and not brings_its_own) or path.endswith("/ack")
            is_write = is_write and method in ("post", "put")
            assert [key["required"] for key in keys] == ([True] if is_write else []), path


async def test_fields_are_told_with_their_docstrings(told: dict[str, Any]) -> None:
    schemas = told["components"]["schemas"]
    assert schemas["ReservationReply"]["properties"]["amount"]["description"] == "What was reserved at first."
    assert "clock token" in schemas["BalanceReply"]["properties"]["as_of"]["description"].lower()


async def test_patterns_are_in_the_dialect_of_json_schema(told: dict[str, Any]) -> None:
    assert r"\\Z" not in msgspec.json.encode(told).decode()


async def test_what_fields_have_to_be_together_is_told_with_them(told: dict[str, Any]) -> None:
    schemas = told["components"]["schemas"]
    by_amount, by_estimate = schemas["ReserveRequest"]["anyOf"]
    assert by_amount["required"] == ["amount"]
    assert by_amount["properties"] == {"amount": {"type": "integer"}, "estimate": {"type": "null"}}
    assert by_estimate["required"] == ["estimate"]
    assert schemas["QuoteRequest"]["anyOf"] == [by_amount, by_estimate]
    assert "anyOf" not in schemas["RenewRequest"]


async def test_what_a_single_event_may_be_refused_for_is_told(told: dict[str, Any]) -> None:
    assert "409" in told["paths"]["/v1/usage-events"]["post"]["responses"], "no report says when the job started"


async def test_a_body_that_may_be_empty_may_be_left_out_and_no_other(told: dict[str, Any]) -> None:
    required = {
        path.removeprefix("/v1/tenants/{tenant}/"): operation["requestBody"]["required"]
        for path, of_path in told["paths"].items()
        for operation in of_path.values()
        if "requestBody" in operation
    }
    may_be_left_out = {path for path, is_required in required.items() if not is_required}
    assert may_be_left_out == {"grants/{lot}/revoke", "reservations/{reservation}/release", "policy"}


@pytest.mark.parametrize("kind", ["heartbeat", "com.example.usage", ".job_started", "a..job_finished", "\n.usage"])
async def test_the_pattern_told_for_kinds_of_event_takes_what_the_node_takes(kind: str, told: dict[str, Any]) -> None:
    assert re.search(told["components"]["schemas"]["CloudEvent"]["properties"]["type"]["pattern"], kind)


@pytest.mark.parametrize("kind", ["", "heartbeats", "my-usage", "usage.", "com.example.other"])
async def test_the_pattern_told_for_kinds_of_event_refuses_what_the_node_refuses(
    kind: str, told: dict[str, Any]
) -> None:
    assert not re.search(told["components"]["schemas"]["CloudEvent"]["properties"]["type"]["pattern"], kind)


@pytest.mark.parametrize("key", ["k", "!", "a" * 255, '"quoted"', r'"a\"b"', '"!"'])
def test_the_pattern_told_for_keys_takes_what_the_node_takes(key: str) -> None:
    assert re.search(TOLD_KEY_PATTERN, key)
    assert re.search(KEY_PATTERN, re.sub(r"\\(.)", r"\1", key[1:-1]) if key[0] == '"' else key)


@pytest.mark.parametrize("key", ["", '"', '""', '"a b"', "a b", "a" * 256, '"a"b', "é"])
def test_the_pattern_told_for_keys_refuses_what_the_node_refuses(key: str) -> None:
    assert not re.search(TOLD_KEY_PATTERN, key)


def test_every_kind_of_problem_has_its_fields_told() -> None:
    assert FIELDS.keys() == set(ProblemKind)


def test_whatever_says_nothing_of_itself_cannot_be_described() -> None:
    def mute() -> None: ...

    with pytest.raises(AssertionError, match="says nothing"):
        told_by(mute)
    with pytest.raises(TypeError):
        Description()  # type: ignore[call-arg]


async def test_the_document_is_made_once(east: Browser) -> None:
    assert (await east.get("/openapi.json")).body == (await east.get("/openapi.json")).body
    one, other = document(routes(east.node)), document(routes(east.node))
    assert one == other
