"""What schemathesis has to be told to try the node's interface in earnest, loaded as ``SCHEMATHESIS_HOOKS``.

Left to itself it would only ever ask unknown tenants for credit that they do not have: half of its valid requests are
led to a tenant that `seed` has given credit, with amounts that fit. And some rules are about meaning, so that no
schema can hold them: a valid request may be refused for those, and for nothing else.
"""

import re
from itertools import count
from typing import Any, Final
from zlib import crc32

import msgpack
import msgspec
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, DeserializationContext, HookContext, Response, SerializationContext

from creditmesh import AsyncClient, wire
from creditmesh.wire import MAX_TIME_MS, PROBLEM_JSON, TYPE_PREFIX, ProblemKind
from node.api.problems import FIELDS
from node.api.requests import JSON, MSGPACK
from replication.clock import encode_token

TENANT: Final = "acme"
NAMES: Final = ("0", "one", "two")
"""Lots and reservations of the tenant; the first is what schemathesis draws when it draws the least."""

FAR_FUTURE_MS: Final = 4_000_000_000_000
SOON_MS: Final = 1_700_000_000_000

RULES_OF_MEANING: Final = re.compile(
    r"must be (?:before expires_at|before to|after starts_at|in the future|at least 1 unless the capture is final)"
    r"|lies \d+ ms in the (?:future|past); at most \d+ are taken"
    r"|would bring (?:what the tenant was given|the tenant's usage) above \d+"
    r"|must not exceed what the claim has used and not been refunded, \d+"
    r"|must be left out: a statement in CSV comes whole"
    r"|would be one open lot more than the \d+ that a tenant may have"
    r"|must be null of a job that (?:is pending|has not finished)"
    r"|must not be before started_at"
    r"|lies in the future: at most \d+ is taken"
    r"|must not lie behind the time of the snapshot, \d+"
    r"|is the same job of the same tenant as jobs\[\d+\]"
    r"|would be one more than the \d+ that a node keeps"
)
_TAKEN: Final = frozenset((200, 201, 402, 404, 409, 422, 503))


async def seed(client: AsyncClient) -> None:
    """Give the tenants something to spend, and reservations to their names."""
    for tenant in (TENANT, NAMES[0]):
        for name in NAMES:
            await client.grant(tenant, amount=1_000_000, expires_at=FAR_FUTURE_MS, lot=name)
            await client.reserve(tenant, amount=1000, lease_ms=wire.MAX_LEASE_MS, reservation=name)
        await client.debit(tenant, amount=500, debit="work")


# -- what is sent ------------------------------------------------------------------------------------------------

_replicas = st.from_regex(r"\Aus-east/[0-9a-z]{1,8}\Z")
schemathesis.openapi.format(
    "clock-token", st.dictionaries(_replicas, st.integers(1, 1000), max_size=2).map(encode_token)
)
_places = st.builds("{}:{}:{}".format, st.integers(0, 2**63 - 1), _replicas, st.integers(0, 99))
schemathesis.openapi.format("page-token", _places)
schemathesis.openapi.format(
    "line-token", st.builds("{}:{}:{}".format, st.integers(0, MAX_TIME_MS), st.integers(0, 2), _places)
)


@schemathesis.serializer(MSGPACK)
def _as_msgpack(_: SerializationContext, value: Any) -> bytes:
    packed: bytes = value if isinstance(value, bytes) else msgpack.packb(value, default=str)
    return packed


@schemathesis.deserializer(MSGPACK)
def _from_msgpack(_: DeserializationContext, response: Response) -> Any:
    return msgpack.unpackb(response.content)


@schemathesis.hook
def map_case(_: HookContext, case: Case[Any]) -> Case[Any]:
    """Lead some of the valid requests to where there is something to find."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    if isinstance(case.body, dict):
        # JSON Schema takes 60.0 for an integer, and no client writes it so.
        case.body = {name: int(value) if isinstance(value, float) else value for name, value in case.body.items()}
    chance = crc32(repr((case.path_parameters, case.query, case.body)).encode())
    if chance % 2 and case.path_parameters:
        steered = {"tenant": TENANT, "lot": NAMES[chance % 3], "reservation": NAMES[chance % 3]}
        case.path_parameters.update({name: steered[name] for name in case.path_parameters.keys() & steered.keys()})
        if isinstance(case.body, dict) and chance % 5:
            _make_fit(case.body, chance)
    return case


@schemathesis.hook
def before_call(_: HookContext, case: Case[Any], __: dict[str, Any]) -> None:
    """Ask for msgpack now and then; and under a new key nearly always, for the least of keys would soon be used up."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    number = next(_numbers)
    if number % 3 == 0:
        case.headers["Accept"] = MSGPACK if number % 2 else JSON
    if number % 10 and wire.IDEMPOTENCY_KEY in case.headers:
        case.headers[wire.IDEMPOTENCY_KEY] = f"key-{number}"


_numbers = count()


def _make_fit(body: dict[str, Any], chance: int) -> None:
    if isinstance(body.get("amount"), int):
        body["amount"] = body["amount"] % 50 + 1
    if "expires_at" in body:
        body["expires_at"] = FAR_FUTURE_MS + chance
    for name in ("starts_at", "at"):
        if isinstance(body.get(name), int):
            body[name] %= SOON_MS
    if "claim" in body:
        body["claim"] = "work"


# -- what has to hold of the answer ------------------------------------------------------------------------------


@schemathesis.check
def valid_requests_are_refused_only_for_what_they_mean(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """A request that keeps to the document is carried out, or refused by a rule that no schema can hold."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code in _TAKEN:
        return
    assert response.status_code == 400, f"{response.status_code} for a valid request"
    if response.content:
        problem = msgspec.json.decode(response.content)
        assert RULES_OF_MEANING.fullmatch(problem["rule"]), problem


@schemathesis.check
def problems_say_what_their_kind_has_to_say(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """Every problem is one of the kinds, with the status and the fields of its kind, and names its region."""
    if response.status_code < 400 or case.method == "HEAD" or case.path == "/readyz":
        return
    assert response.headers["content-type"] == [PROBLEM_JSON]
    problem = msgspec.json.decode(response.content, type=dict[str, Any])
    kind = ProblemKind(problem["type"].removeprefix(TYPE_PREFIX))
    assert problem["status"] == response.status_code == wire.STATUS[kind]
    own = problem.keys() - {"type", "title", "status", "detail", "region"}
    fields = FIELDS[kind]
    assert fields.always.keys() <= own <= fields.always.keys() | fields.perhaps.keys(), problem
    assert problem["region"] == "us-east"
    assert all(0 <= problem.get(name, 0) <= MAX_TIME_MS for name in ("next_start",))


@schemathesis.check
def reads_say_as_of_when(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """A read that tells of credit tells how to see no less elsewhere."""
    if response.status_code == 200 and case.path.startswith("/v1/") and case.method in ("GET", "HEAD"):
        assert wire.CREDIT_CLOCK.lower() in response.headers
