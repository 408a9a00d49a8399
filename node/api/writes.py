"""The routes that change credit: request to command, command to entry, entry to reply.

All of them are one function with different parts, so that every write has the same order of checks: key, body, clock
token, whether the node takes writes, and last the ledger, the only one of them that leaves anything behind.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    Estimate,
    GrantCredit,
    OnShortage,
    RefundUsage,
    ReleaseHold,
    RenewLease,
    Reserve,
    RevokeLot,
    SetPolicy,
    TransferCredit,
)
from ledger.ids import ClaimId, JobId, Key, LotId, TenantId
from ledger.operation import Admission, OnOverspend
from ledger.pricing import Work
from ledger.refusal import Reason, Refusal
from node.api.description import Description, Route, replied_by, told_by
from node.api.facade import Node, NothingDone, Unavailable
from node.api.problems import Refused, invalid, not_ready, refused_by_ledger
from node.api.replies import (
    EntryReply,
    OtherEntry,
    debit_reply,
    grant_reply,
    policy_reply,
    refund_reply,
    reservation_reply,
    revoke_reply,
    transfer_reply,
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

    __slots__ = ("body", "command", "ids", "method", "path", "refusals", "reply", "request", "status", "wait_ms")

    def __init__(
        self,
        path: str,
        request: type[RequestT],
        command: Callable[[RequestT, Ids], Command],
        reply: EntryReply,
        status: int,
        *refusals: ProblemKind,
        method: str = "POST",
        wait_ms: Callable[[RequestT], int] = lambda _: 0,
    ) -> None:
        self.path = f"/v1/tenants/{{tenant}}/{path}"
        self.ids = self.path.count("{")
        """How many ids the path has, the tenant's included."""
        self.method = method
        self.wait_ms = wait_ms
        self.request = request
        self.refusals = refusals
        self.body = Body(request)
        self.command = command
        self.reply = reply
        self.status = status


def _grant(asked: wire.GrantRequest, _: Ids) -> Command:
    lot = None if asked.lot is None else LotId(asked.lot)
    weights = None if asked.weights is None else tuple(sorted(asked.weights.items()))
    return GrantCredit(asked.amount, asked.expires_at, asked.starts_at, asked.priority, lot, weights)


def _revoke(_: wire.RevokeRequest, ids: Ids) -> Command:
    return RevokeLot(LotId(ids[1]))


def _reserve(asked: wire.ReserveRequest, _: Ids) -> Command:
    reservation = None if asked.reservation is None else ClaimId(asked.reservation)
    job = None if asked.job is None else JobId(asked.job)
    return Reserve(amount_asked(asked), asked.lease_ms, reservation, job)


def amount_asked(asked: wire.AmountOrEstimate) -> int | Estimate:
    """How much a request is for."""
    estimate = asked.estimate
    if estimate is None:
        assert asked.amount is not None
        return asked.amount
    return Estimate(Work(estimate.gpu_type, estimate.gpus, estimate.priority), estimate.seconds)


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


def _transfer(asked: wire.TransferRequest, _: Ids) -> Command:
    return TransferCredit(TenantId(asked.to), asked.amount, asked.expires_at, asked.priority)


def _policy(asked: wire.PolicyRequest, _: Ids) -> Command:
    admission = Admission(asked.admission.value)
    return SetPolicy(OnOverspend(asked.on_overspend.value), admission, asked.max_held, asked.debt_limit)


_SHORT, _TAKEN, _ENDED, _CLOSED = (
    ProblemKind.INSUFFICIENT_CREDIT,
    ProblemKind.ALREADY_EXISTS,
    ProblemKind.RESERVATION_ENDED,
    ProblemKind.LOT_CLOSED,
)
ANY_WRITE: Final = (
    ProblemKind.INVALID_REQUEST,
    ProblemKind.NOT_FOUND,
    ProblemKind.PAYLOAD_TOO_LARGE,
    ProblemKind.UNSUPPORTED_MEDIA_TYPE,
    ProblemKind.IDEMPOTENCY_MISMATCH,
    ProblemKind.NOT_READY,
)
"""What any write may be refused for, beside what stands with it in the table."""

_HELD, _OWES = ProblemKind.HELD_LIMIT, ProblemKind.DEBT_LIMIT
_KIND: Final = wire.BatchKind

WRITES: Final[dict[wire.BatchKind, Write[Any]]] = {
    _KIND.RESERVE: Write(
        "reservations",
        wire.ReserveRequest,
        _reserve,
        reservation_reply,
        201,
        _SHORT,
        _HELD,
        _TAKEN,
        wait_ms=lambda asked: asked.wait_ms,
    ),
    _KIND.RENEW: Write("reservations/{reservation}/renew", wire.RenewRequest, _renew, reservation_reply, 200, _ENDED),
    _KIND.CAPTURE: Write(
        "reservations/{reservation}/capture", wire.CaptureRequest, _capture, reservation_reply, 200, _ENDED
    ),
    _KIND.RELEASE: Write(
        "reservations/{reservation}/release", wire.ReleaseRequest, _release, reservation_reply, 200, _ENDED
    ),
    _KIND.DEBIT: Write("debits", wire.DebitRequest, _debit, debit_reply, 201, _SHORT, _OWES, _TAKEN),
    _KIND.REFUND: Write("refunds", wire.RefundRequest, _refund, refund_reply, 201),
    _KIND.GRANT: Write("grants", wire.GrantRequest, _grant, grant_reply, 201, _TAKEN),
    _KIND.REVOKE: Write("grants/{lot}/revoke", wire.RevokeRequest, _revoke, revoke_reply, 200, _CLOSED),
    _KIND.TRANSFER: Write("transfers", wire.TransferRequest, _transfer, transfer_reply, 201, _SHORT, _TAKEN),
    _KIND.POLICY: Write("policy", wire.PolicyRequest, _policy, policy_reply, 200, method="PUT"),
}
"""Every write, by the name that it has in a batch."""


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
        refusals=(*ANY_WRITE, *write.refusals),
    )
    return Route(write.method, write.path, write_handler(node, write), about)


def write_handler(node: Node, write: Write[Any]) -> Handler:
    """The handler of one kind of write."""
    region, metrics = node.name, node.metrics
    decode, to_command, to_reply, status = write.body.decode, write.command, write.reply, write.status
    body_bytes = node.config.limits.body_bytes

    async def handle(request: web.BaseRequest, ids: Ids, query: str) -> web.Response:
        if query:
            raise invalid("query", "must be empty: a write takes no parameters")
        headers = request.headers
        key = idempotency_key(headers)
        content = await read_body(request, body_bytes)
        started = perf_counter()
        packed = is_msgpack(headers) if content else False
        asked = decode(content, packed)
        command = to_command(asked, ids)
        await wait_for_clock(node, headers)
        refuse_unless_ready(node)
        with may_stand():
            answer = await node.submit(TenantId(ids[0]), command, key, write.wait_ms(asked))
        count(metrics, command, answer, perf_counter() - started)
        if isinstance(answer, Refusal):
            raise refused_by_ledger(answer)
        entry = answer.filed.entry
        with other_entry_refused(key):
            reply = to_reply(answer.filed, region)
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


def refuse_unless_ready(node: Node) -> None:
    """503, if the node takes no writes now."""
    reasons = node.not_ready()
    if reasons:
        raise not_ready("; ".join(reasons))


@contextmanager
def may_stand() -> Iterator[None]:
    """Say of a write that failed while it was on its way that it may stand: "not ready" would promise that not."""
    try:
        yield
    except NothingDone:
        raise
    except Unavailable as error:
        raise Refused(ProblemKind.INTERNAL, f"{error}; the request may stand: ask again under its key") from None


@contextmanager
def other_entry_refused(key: Key) -> Iterator[None]:
    """Refuse a request whose key has an entry that no node makes of such a request."""
    try:
        yield
    except OtherEntry:
        raise Refused(ProblemKind.IDEMPOTENCY_MISMATCH, "the key is another entry's", {"key": key}) from None


def count(metrics: Metrics, command: Command, answer: Accepted | Refusal, seconds: float) -> None:
    """Count a command for the metrics."""
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
