"""The routes that change credit: request to command, command to entry, entry to reply.

All of them are one function with different parts, so that every write has the same order of checks: key, body, clock
token, whether the node takes writes, and last the ledger, the only one of them that leaves anything behind.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, Generic, TypeVar

import msgspec
from aiohttp import web

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.command import (
    CaptureUsage,
    Command,
    DebitUsage,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    Reserve,
    RevokeLot,
)
from ledger.ids import ClaimId, JobId, LotId, TenantId
from ledger.refusal import Reason, Refusal
from node.api.description import Description, Route, replied_by, told_by
from node.api.facade import Node, NothingDone, Unavailable
from node.api.problems import Refused, invalid, not_ready, refused_by_ledger
from node.api.replies import (
    EntryReply,
    OtherEntry,
    debit_reply,
    grant_reply,
    refund_reply,
    reservation_reply,
    revoke_reply,
)
from node.api.requests import (
    JSON,
    MSGPACK,
    Body,
    idempotency_key,
    is_msgpack,
    read_body,
    wait_for_clock,
    wants_msgpack,
)
from node.api.router import Handler
from node.metrics import ACCEPTED, REPLAYED, Metrics
from node.region import Accepted
from replication.clock import encode_token

Ids = tuple[str, ...]
RequestT = TypeVar("RequestT", bound=wire.Request)

_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode


class Write(Generic[RequestT]):
    """One kind of write: its path below the tenant, its request, what it means, what is answered, what is refused."""

    __slots__ = ("body", "command", "path", "refusals", "reply", "request", "status")

    def __init__(
        self,
        path: str,
        request: type[RequestT],
        command: Callable[[RequestT, Ids], Command],
        reply: EntryReply,
        status: int,
        *refusals: ProblemKind,
    ) -> None:
        self.path = f"/v1/tenants/{{tenant}}/{path}"
        self.request = request
        self.refusals = refusals
        self.body = Body(request)
        self.command = command
        self.reply = reply
        self.status = status


def _grant(asked: wire.GrantRequest, _: Ids) -> Command:
    lot = None if asked.lot is None else LotId(asked.lot)
    return GrantCredit(asked.amount, asked.expires_at, asked.starts_at, asked.priority, lot)


def _revoke(_: wire.RevokeRequest, ids: Ids) -> Command:
    return RevokeLot(LotId(ids[1]))


def _reserve(asked: wire.ReserveRequest, _: Ids) -> Command:
    reservation = None if asked.reservation is None else ClaimId(asked.reservation)
    return Reserve(asked.amount, asked.lease_ms, reservation, None if asked.job is None else JobId(asked.job))


def _renew(asked: wire.RenewRequest, ids: Ids) -> Command:
    return RenewLease(ClaimId(ids[1]), asked.lease_ms)


def _capture(asked: wire.CaptureRequest, ids: Ids) -> Command:
    if not asked.amount:
        # Final, or it would not have decoded. Nothing was used, so nothing but the release is left of it.
        return ReleaseHold(ClaimId(ids[1]))
    return CaptureUsage(ClaimId(ids[1]), asked.amount, asked.at, asked.final)


def _release(_: wire.ReleaseRequest, ids: Ids) -> Command:
    return ReleaseHold(ClaimId(ids[1]))


def _debit(asked: wire.DebitRequest, _: Ids) -> Command:
    debit = None if asked.debit is None else ClaimId(asked.debit)
    return DebitUsage(asked.amount, asked.at, debit, OnShortage(asked.on_shortage.value))


def _refund(asked: wire.RefundRequest, _: Ids) -> Command:
    return RefundUsage(ClaimId(asked.claim), asked.amount, asked.at)


_SHORT, _TAKEN, _ENDED, _CLOSED = (
    ProblemKind.INSUFFICIENT_CREDIT,
    ProblemKind.ALREADY_EXISTS,
    ProblemKind.RESERVATION_ENDED,
    ProblemKind.LOT_CLOSED,
)
_ANY: Final = (
    ProblemKind.INVALID_REQUEST,
    ProblemKind.NOT_FOUND,
    ProblemKind.PAYLOAD_TOO_LARGE,
    ProblemKind.UNSUPPORTED_MEDIA_TYPE,
    ProblemKind.IDEMPOTENCY_MISMATCH,
    ProblemKind.NOT_READY,
)
"""What any write may be refused for, beside what stands with it in the table."""

WRITES: Final[tuple[Write[Any], ...]] = (
    Write("reservations", wire.ReserveRequest, _reserve, reservation_reply, 201, _SHORT, _TAKEN),
    Write("reservations/{reservation}/renew", wire.RenewRequest, _renew, reservation_reply, 200, _ENDED),
    Write("reservations/{reservation}/capture", wire.CaptureRequest, _capture, reservation_reply, 200, _ENDED),
    Write("reservations/{reservation}/release", wire.ReleaseRequest, _release, reservation_reply, 200, _ENDED),
    Write("debits", wire.DebitRequest, _debit, debit_reply, 201, _SHORT, _TAKEN),
    Write("refunds", wire.RefundRequest, _refund, refund_reply, 201),
    Write("grants", wire.GrantRequest, _grant, grant_reply, 201, _TAKEN),
    Write("grants/{lot}/revoke", wire.RevokeRequest, _revoke, revoke_reply, 200, _CLOSED),
)


def write_route(node: Node, write: Write[Any]) -> Route:
    """One kind of write: its handler, and its description, which is what its request says of itself."""
    about = Description(
        summary=told_by(write.request),
        status=write.status,
        reply=replied_by(write.reply),
        media=(JSON, MSGPACK),
        reply_headers=(wire.CREDIT_CLOCK, wire.CREDIT_ENTRY, wire.IDEMPOTENT_REPLAYED),
        body=write.request,
        takes_key=True,
        takes_clock=True,
        refusals=(*_ANY, *write.refusals),
    )
    return Route("POST", write.path, write_handler(node, write), about)


def write_handler(node: Node, write: Write[Any]) -> Handler:
    """The handler of one kind of write."""
    region, metrics = node.name, node.metrics
    decode, to_command, to_reply, status = write.body.decode, write.command, write.reply, write.status

    async def handle(request: web.BaseRequest, ids: Ids, query: str) -> web.Response:
        if query:
            raise invalid("query", "must be empty: a write takes no parameters")
        headers = request.headers
        key = idempotency_key(headers)
        content = await read_body(request)
        started = perf_counter()
        packed = is_msgpack(headers) if content else False
        command = to_command(decode(content, packed), ids)
        await wait_for_clock(node, headers)
        reasons = node.not_ready()
        if reasons:
            raise not_ready("; ".join(reasons))
        try:
            answer = await node.submit(TenantId(ids[0]), command, key)
        except NothingDone:
            raise
        except Unavailable as error:
            # Not "not ready": that would promise that nothing was written.
            raise Refused(ProblemKind.INTERNAL, f"{error}; the request may stand: ask again under its key") from None
        _count(metrics, command, answer, perf_counter() - started)
        if isinstance(answer, Refusal):
            raise refused_by_ledger(answer)
        entry = answer.filed.entry
        try:
            reply = to_reply(answer.filed, region)
        except OtherEntry:
            raise Refused(ProblemKind.IDEMPOTENCY_MISMATCH, "the key is another entry's", {"key": key}) from None
        packed = wants_msgpack(headers, packed)
        response_headers = {
            "Content-Type": MSGPACK if packed else JSON,
            wire.CREDIT_ENTRY: f"{entry.replica}:{entry.seq}",
            # Whoever has applied an entry has applied all that it had seen.
            wire.CREDIT_CLOCK: encode_token({entry.replica: entry.seq}),
        }
        if answer.replayed:
            response_headers[wire.IDEMPOTENT_REPLAYED] = "true"
        return web.Response(body=_msgpack(reply) if packed else _json(reply), status=status, headers=response_headers)

    return handle


def _count(metrics: Metrics, command: Command, answer: Accepted | Refusal, seconds: float) -> None:
    if isinstance(answer, Refusal):
        outcome = answer.reason.value
        if answer.reason is Reason.INSUFFICIENT_CREDIT:
            metrics.insufficient_credit()
    elif answer.replayed:
        outcome = REPLAYED
    else:
        outcome = ACCEPTED
        metrics.written(seconds)
    if isinstance(command, Reserve):
        metrics.reservation(outcome, seconds)
