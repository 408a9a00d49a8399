"""Usage events: what schedulers tell of jobs, as JSON, msgpack or CloudEvents 1.0, one or thousands.

Each event is one operation of its own, under a key made from its id (and, of a CloudEvent, its source), so that it
counts once however often and wherever it is sent. One bad event spoils none of the others.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from time import perf_counter
from typing import Any, Final, get_args
from urllib.parse import unquote

import msgspec
from aiohttp import web
from msgspec import Struct, structs

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.claim import ClaimState
from ledger.command import Command, ReportHeartbeat, ReportUsage
from ledger.ids import ClaimId, JobId, Key, TenantId, derived
from ledger.operation import Heartbeat, Usage
from ledger.pricing import Work
from node.api.batch import REFUSALS, Answer, count_all, in_turns, many_answered, stands
from node.api.description import Description, Many, Route, told_by
from node.api.facade import Node
from node.api.problems import Refused, invalid, problem_document
from node.api.replies import event_result, voided_by
from node.api.requests import (
    JSON,
    MSGPACK,
    Headers,
    Item,
    Items,
    fault,
    is_msgpack,
    read_body,
    wait_for_clock,
    wants_msgpack,
)
from node.api.writes import may_stand, other_entry_refused, refuse_unless_ready
from replication.filed import Filed

_SPECVERSION: Final = "specversion"
_VERSION: Final = "1.0"
_CLOUDEVENTS: Final = (wire.CLOUDEVENTS_JSON, wire.CLOUDEVENTS_BATCH_JSON)
EVENTS: Final = Items(wire.MAX_EVENTS)
_EVENT: Final = Item(dict[str, Any], "event")
_READABLE: Final = re.compile(r"^[!-9;-~][!-~]{0,199}\Z").match
_ATTRIBUTES: Final = ("specversion", "id", "source", "type", "subject", "time")
_NAMES: Final = frozenset({"job_started", "heartbeat", "usage", "job_finished"})
_TAKES_TIME_AS: Final = {"job_started": "at", "heartbeat": "at", "usage": "end", "job_finished": "end"}
_RESERVED: Final = ("id", "tenant", "type")
_NOW: Final = 2**63
"""Behind all times that anybody says."""


class Event(Struct, frozen=True):
    """One event that makes sense by itself: whose, under which key, and what it says."""

    id: str
    tenant: TenantId
    key: Key
    command: Command


class BadEvent(Struct, frozen=True):
    """One event that does not make sense, and its id as far as it can be read."""

    id: str | None
    refused: Refused


class UsageEvents:
    """The route for usage events."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> Iterator[Route]:
        """It."""
        about = Description(
            summary=told_by(self.events),
            reply=wire.UsageEventsReply,
            media=(JSON, MSGPACK),
            body_media=(JSON, MSGPACK, *_CLOUDEVENTS),
            reply_headers=(wire.CREDIT_CLOCK,),
            body=Many((*get_args(wire.UsageEvent), wire.CloudEvent), wire.MAX_EVENTS),
            takes_clock=True,
            refusals=(
                *REFUSALS,
                ProblemKind.NOT_FOUND,
                ProblemKind.START_UNKNOWN,
                ProblemKind.IDEMPOTENCY_MISMATCH,
            ),
        )
        yield Route("POST", "/v1/usage-events", self.events, about)

    async def events(self, request: web.BaseRequest, _: tuple[str, ...], query: str) -> web.Response:
        """What schedulers tell of jobs: one event, or a list of them, each accepted or refused by itself.

        At least once, in any order, however late: an event counts once, by its id, and the time of a job is charged
        once. CloudEvents 1.0 are taken in structured, batched and binary mode. A single event that is refused is
        answered with its problem.
        """
        node, headers = self._node, request.headers
        if query:
            raise invalid("query", "must be empty: events are told in the body")
        content = await read_body(request, node.config.limits.batch_bytes)
        packed = is_msgpack(headers, _CLOUDEVENTS)
        attributes = _attributes(headers)
        items, alone = EVENTS.decode(content, packed=packed)
        if attributes and not alone:
            raise invalid("body", "must be the data of one event, whose attributes are in the headers")
        told = [each async for each in in_turns(items, lambda item: event_in(item, attributes, packed))]
        if alone and isinstance(told[0], BadEvent):
            raise told[0].refused
        await wait_for_clock(node, headers)
        reply = await self._submit(told, alone=alone)
        return many_answered(node, reply, packed=wants_msgpack(headers, packed))

    async def _submit(self, told: list[Event | BadEvent], *, alone: bool) -> wire.UsageEventsReply:
        node = self._node
        events = sorted((each for each in told if isinstance(each, Event)), key=_turn)
        started = perf_counter()
        refuse_unless_ready(node)
        with may_stand():
            answers = await node.submit_all([(each.tenant, each.command, each.key) for each in events])
        count_all(node, [each.command for each in events], answers, perf_counter() - started)
        answered = dict(zip(map(id, events), answers, strict=True))
        results = [
            self._refused(each)
            if isinstance(each, BadEvent)
            else await self._result(each, answered[id(each)], alone=alone)
            for each in told
        ]
        statuses = [result.status for result in results]
        return wire.UsageEventsReply(
            results=results,
            accepted=statuses.count(wire.EventStatus.ACCEPTED),
            duplicates=statuses.count(wire.EventStatus.DUPLICATE),
            refused=statuses.count(wire.EventStatus.REFUSED),
            region=node.name,
        )

    async def _result(self, event: Event, answer: Answer, *, alone: bool) -> wire.EventResult:
        try:
            accepted = stands(answer)
            with other_entry_refused(event.key):
                result = event_result(accepted.filed, event.id, replayed=accepted.replayed)
            if result.state == ClaimState.REVOKED.value:
                return structs.replace(result, conflict=await self._conflict(event.tenant, accepted.filed))
            return result
        except Refused as refused:
            if alone:
                raise
            return self._refused(BadEvent(event.id, refused))

    async def _conflict(self, tenant: TenantId, filed: Filed) -> str | None:
        """Which conflict made the reservation void that an event was about."""
        operation = filed.operation
        assert isinstance(operation, Usage | Heartbeat)
        name = operation.claim
        if name is None:
            return None
        with may_stand():
            return await self._node.read(tenant, lambda book: voided_by(book.account.claim(name)))

    def _refused(self, event: BadEvent) -> wire.EventResult:
        problem = problem_document(event.refused, self._node.name)
        return wire.EventResult(id=event.id, status=wire.EventStatus.REFUSED, problem=problem)


# -- from what was sent to a command -----------------------------------------------------------------------------


def _attributes(headers: Headers) -> dict[str, Any]:
    """The attributes of a CloudEvent in binary mode, whose body is its data; empty if it is none."""
    if f"ce-{_SPECVERSION}" not in headers:
        return {}
    return {name: unquote(headers[f"ce-{name}"]) for name in _ATTRIBUTES if f"ce-{name}" in headers}


def event_in(item: msgspec.Raw, attributes: dict[str, Any], packed: bool) -> Event | BadEvent:
    """What an item tells, or why it makes no sense; `attributes` are those that stand in the headers."""
    said: dict[str, Any] = attributes
    try:
        said = _EVENT.decode(item, packed=packed)
        if attributes:
            said = {**attributes, "data": said}
        return _cloud_event(said) if _SPECVERSION in said else _own_event(said, source=None)
    except Refused as refused:
        name = said.get("id")
        return BadEvent(name if isinstance(name, str) else None, refused)


def _own_event(item: dict[str, Any], source: str | None) -> Event:
    try:
        event = msgspec.convert(item, wire.UsageEvent)
    except msgspec.ValidationError as error:
        raise fault(error, "event") from None
    return Event(event.id, TenantId(event.tenant), _key(event.id, source), _command(event))


def _cloud_event(item: dict[str, Any]) -> Event:
    try:
        event = msgspec.convert(item, wire.CloudEvent)
    except msgspec.ValidationError as error:
        raise fault(error, "event") from None
    if event.specversion != _VERSION:
        raise invalid(_SPECVERSION, f"must be {_VERSION}")
    kind = event.kind.rpartition(".")[2]
    if kind not in _NAMES:
        raise invalid("type", f"must end in one of {', '.join(sorted(_NAMES))}")
    for name in _RESERVED:
        if name in event.data:
            raise invalid(f"data.{name}", "is said by the event's attributes")
    own = {**event.data, "id": event.id, "tenant": event.subject, "type": kind}
    if event.time is not None:
        own.setdefault(_TAKES_TIME_AS[kind], _milliseconds(event.time))
    return _own_event(own, event.source)


def _milliseconds(time: str) -> int:
    try:
        moment = datetime.fromisoformat(time)
        if moment.tzinfo is None:
            raise ValueError
        at = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise invalid("time", "must be a time with its offset from UTC, as RFC 3339 writes it") from None
    if at < 0:
        raise invalid("time", "lies before 1970, where no time is taken from")
    return at


def _key(event: str, source: str | None) -> Key:
    """The idempotency key of an event: readable where that can be, and another for every id and source."""
    if source is not None:
        return Key(f"cloudevent:{derived(source, event)}")
    return Key(f"event:{event}" if _READABLE(event) else f"event::{derived(event)}")


def _turn(event: Event) -> tuple[int, int]:
    """When an event of a request is judged: starts come first, then all else in the order of time, and ends last.

    So that the end of a job finds its start, and reports of one job join instead of leaving gaps for others to fill.
    """
    match event.command:
        case ReportHeartbeat(at=at, started=started):
            return 0 if started else 1, _NOW if at is None else at
        case ReportUsage(start=start, end=end, final=final):
            told = end if start is None else start
            return 2 if final else 1, _NOW if told is None else told
        case _:
            raise AssertionError(event)


def _command(event: wire.UsageEvent) -> Command:
    job = JobId(event.job)
    reservation = None if event.reservation is None else ClaimId(event.reservation)
    match event:
        case wire.JobStarted() | wire.Heartbeat():
            return ReportHeartbeat(job, event.at, reservation, event.lease_ms, isinstance(event, wire.JobStarted))
        case wire.Interval() | wire.JobFinished():
            return ReportUsage(
                job, event.end, event.start, _cost(event), reservation, isinstance(event, wire.JobFinished)
            )


def _cost(event: wire.Priced) -> int | Work | None:
    if event.gpu_type is not None and event.gpus is not None:
        return Work(event.gpu_type, event.gpus, event.priority)
    return event.amount
