"""What schemathesis has to be told to try the node's interface in earnest, loaded as ``SCHEMATHESIS_HOOKS``.

Left to itself it would only ever ask unknown tenants for credit that they do not have: most of its valid requests are
led to a tenant that `seed` has given credit, with amounts and times that fit (`tests.fuzz.http_steering`). And some
rules are about meaning, so that no schema can hold them: a valid request may be refused for those, and for nothing
else. Of a request of many each item is judged by itself (`tests.fuzz.http_many`).

What became of the valid requests is counted, and written to `ANSWERS` in the working directory at the end.
"""

import atexit
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgpack
import msgspec
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, DeserializationContext, HookContext, Response, SerializationContext
from schemathesis.specs.openapi.checks import negative_data_rejection

from creditmesh import wire
from creditmesh.wire import MAX_TIME_MS, PROBLEM_JSON, TYPE_PREFIX, ProblemKind
from node.api.description import EVENT_STREAM
from node.api.problems import FIELDS
from node.api.requests import JSON, MSGPACK
from replication.clock import encode_token
from tests.fuzz.http_many import BATCH, EVENTS, Judge
from tests.fuzz.http_steering import REGION, Steering

ANSWERS: Final = "answers.json"

RULES_OF_MEANING: Final = re.compile(
    r"must be (?:before expires_at|before to|after starts_at|in the future|another tenant)"
    r"|lies \d+ ms in the (?:future|past); at most \d+ are taken"
    r"|would bring what the tenant (?:was given|has transferred) above \d+"
    r"|would bring the tenant's usage above \d+"
    r"|must not exceed what the claim has used and not been refunded, \d+"
    r"|must be left out: a statement in CSV comes whole"
    r"|would be one open lot more than the \d+ that a tenant may have"
    r"|must be null of a job that (?:is pending|has not finished)"
    r"|must not be before started_at"
    r"|lies in the future: at most \d+ is taken"
    r"|must not lie behind the time of the snapshot, \d+"
    r"|is the same job of the same tenant as jobs\[\d+\]"
    r"|would be one more than the \d+ that a node keeps"
    # Of tenants under escrow, and of those that are not.
    r"|are of use only for a tenant under escrow"
    r"|must be of regions of this cluster: [a-z, -]+"
    r"|must not all be 0"
    r"|revoke contradicts admission escrow: there regions cannot overspend each other"
    # What has no price, and what costs nothing.
    r"|must be one that has a (?:price|multiplier): .*"
    r"|costs nothing: there is nothing to reserve"
    # Of events, and of what stands inside a batch or a CloudEvent.
    r"|must (?:be after|not be before) start"
    r"|lies before 1970, where no time is taken from"
    r"|lies before the tenant had anything: before its first grant, and before any lot of it starts"
    r"|is (?:of no use|required) to [a-z]+"
    r"|must be 0: a batch waits for nobody",
    re.DOTALL,
)
_TAKEN: Final = frozenset((200, 201, 402, 404, 409, 422, 503))


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


_steering = Steering()


def _is_valid(case: Case[Any]) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def map_case(_: HookContext, case: Case[Any]) -> Case[Any]:
    """Lead most of the valid requests to where there is something to find."""
    if _is_valid(case):
        if isinstance(case.body, dict | list):
            case.body = _integral(case.body)
        _steering.steer(case.path, case.path_parameters or {}, case.query or {}, case.body)
    return case


def _integral(value: Any) -> Any:
    """A value as clients write it: JSON Schema takes 60.0 for an integer, and no client writes it so."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _integral(part) for name, part in value.items()}
        case list():
            return [_integral(part) for part in value]
        case _:
            return value


@schemathesis.hook
def before_call(_: HookContext, case: Case[Any], __: dict[str, Any]) -> None:
    """Ask for msgpack now and then; and under a new key nearly always, for the least of keys would soon be used up."""
    if not _is_valid(case):
        return
    number = next(_steering.numbers)
    if number % 3 == 0:
        case.headers["Accept"] = MSGPACK if number % 2 else JSON
    if number % 10 and wire.IDEMPOTENCY_KEY in case.headers:
        case.headers[wire.IDEMPOTENCY_KEY] = f"key-{number}"
    if wire.LAST_EVENT_ID in case.headers:
        # Whatever is called an ID schemathesis takes for a number.
        case.headers[wire.LAST_EVENT_ID] = f"{REGION}/b1:{number}"


@schemathesis.hook
def after_call(_: HookContext, case: Case[Any], response: Response) -> None:
    """Count the answers to valid requests."""
    if _is_valid(case):
        _answers.setdefault(f"{case.method} {case.path}", Counter())[response.status_code] += 1


_answers: Final[dict[str, Counter[int]]] = {}


@atexit.register
def _tell_answers() -> None:
    Path(ANSWERS).write_bytes(msgspec.json.encode(_answers))


# -- what has to hold of the answer ------------------------------------------------------------------------------


@schemathesis.check
def valid_requests_are_refused_only_for_what_they_mean(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """A request that keeps to the document is carried out, or refused by a rule that no schema can hold."""
    if not _is_valid(case) or response.status_code in _TAKEN:
        return
    assert response.status_code == 400, f"{response.status_code} for a valid request"
    if case.path == EVENTS and not _judge_of(case).is_right(EVENTS, _sent(response)):
        return
    if response.content:
        _check_rule(msgspec.json.decode(response.content))


def _check_rule(problem: dict[str, Any]) -> None:
    assert RULES_OF_MEANING.fullmatch(problem["rule"]), problem


@schemathesis.check
def of_many_those_are_refused_that_are_wrong(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """An item that does not keep to the document is refused, by itself; one that does, only for what it means.

    So a request of many that is wrong may be answered with 200: if what is wrong are its items.
    """
    if case.path not in (BATCH, EVENTS) or response.status_code != 200:
        return
    right = _judge_of(case).which_are_right(case.path, _sent(response))
    if right is None or all(right):
        negative_data_rejection(context, response, case)
    results = _content(response)["results"]
    if right is None:
        return
    assert len(results) == len(right)
    for is_right, result in zip(right, results, strict=True):
        problem = result.get("problem")
        if not is_right:
            assert problem is not None, f"accepted, but wrong: {result}"
        elif problem is not None and problem["status"] not in _TAKEN:
            _check_rule(problem)


_judges: Final[dict[str, Judge]] = {}


def _judge_of(case: Case[Any]) -> Judge:
    served = case.operation.schema
    return _judges.setdefault(str(served.location), Judge(served.raw_schema))


def _sent(response: Response) -> Any:
    request = response.request
    packed = MSGPACK in str(request.headers["Content-Type"])
    return (msgspec.msgpack if packed else msgspec.json).decode(request.body or b"null")


def _content(response: Response) -> Any:
    packed = response.headers["content-type"] == [MSGPACK]
    return (msgspec.msgpack if packed else msgspec.json).decode(response.content)


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
    assert problem["region"] == REGION
    assert all(0 <= problem.get(name, 0) <= MAX_TIME_MS for name in ("next_start",))


@schemathesis.check
def reads_say_as_of_when(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """A read that tells of credit tells how to see no less elsewhere; but for a stream, which goes on."""
    if response.status_code != 200 or not case.path.startswith("/v1/") or case.method not in ("GET", "HEAD"):
        return
    if response.headers["content-type"] != [EVENT_STREAM]:
        assert wire.CREDIT_CLOCK.lower() in response.headers


@schemathesis.check
def events_of_a_stream_are_what_they_say(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """The data of every event is one of the events that the document tells of, under its name."""
    if case.method != "GET" or response.headers.get("content-type") != [EVENT_STREAM]:
        return
    for event in response.content.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.splitlines() if ": " in line)
        if "data" in fields:
            told = msgspec.json.decode(fields["data"], type=wire.ConflictEvent)
            assert told.event.value == fields["event"]
            assert told.region == REGION
