"""How a request is refused: every refusal and failure as one problem document (RFC 9457).

The types are URNs, ``urn:creditmesh:problem:<kind>``, and each kind has one HTTP status; both stand in
`creditmesh.wire.problem`, which clients read them from. Problems are JSON also for those who speak msgpack.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.refusal import Refusal

RETRY_AFTER_S: Final = 1

TITLES: Final[dict[ProblemKind, str]] = {
    ProblemKind.INVALID_REQUEST: "The request makes no sense",
    ProblemKind.INSUFFICIENT_CREDIT: "Not enough credit",
    ProblemKind.DEBT_LIMIT: "More debt than the tenant's policy allows",
    ProblemKind.HELD_LIMIT: "More held than the tenant's policy allows",
    ProblemKind.NOT_FOUND: "No such thing here",
    ProblemKind.METHOD_NOT_ALLOWED: "The path does not take this method",
    ProblemKind.RESERVATION_ENDED: "The reservation has ended",
    ProblemKind.LOT_CLOSED: "The lot is closed",
    ProblemKind.START_UNKNOWN: "Nobody has said when the job started",
    ProblemKind.ALREADY_EXISTS: "The name is taken",
    ProblemKind.FINDING_GONE: "The finding does not stand",
    ProblemKind.PAYLOAD_TOO_LARGE: "The body is too large",
    ProblemKind.UNSUPPORTED_MEDIA_TYPE: "The body is in no known form",
    ProblemKind.IDEMPOTENCY_MISMATCH: "The idempotency key belongs to another request",
    ProblemKind.INTERNAL: "The node failed",
    ProblemKind.NOT_READY: "The node is not ready",
}


class Fields(Struct, frozen=True):
    """The fields that a kind of problem has beside those that all have: always, and where there is something to say."""

    always: dict[str, type] = {}
    perhaps: dict[str, type] = {}


FIELDS: Final[dict[ProblemKind, Fields]] = {
    ProblemKind.INVALID_REQUEST: Fields({"field": str, "rule": str}),
    ProblemKind.INSUFFICIENT_CREDIT: Fields(
        {"requested": int, "available": int, "debt": int, "held": int}, {"next_start": int, "elsewhere": int}
    ),
    ProblemKind.DEBT_LIMIT: Fields({"requested": int, "available": int, "debt_limit": int}),
    ProblemKind.HELD_LIMIT: Fields({"requested": int, "held": int, "max_held": int}),
    ProblemKind.NOT_FOUND: Fields(
        {}, dict.fromkeys(("tenant", "lot", "reservation", "claim", "conflict", "finding", "peer"), str)
    ),
    ProblemKind.METHOD_NOT_ALLOWED: Fields(),
    ProblemKind.RESERVATION_ENDED: Fields({"reservation": str, "state": str, "captured": int}, {"conflict": str}),
    ProblemKind.LOT_CLOSED: Fields({"lot": str}),
    ProblemKind.START_UNKNOWN: Fields({"job": str}),
    ProblemKind.ALREADY_EXISTS: Fields({}, dict.fromkeys(("lot", "reservation", "debit", "transfer"), str)),
    ProblemKind.FINDING_GONE: Fields({"finding": str}),
    ProblemKind.PAYLOAD_TOO_LARGE: Fields({"field": str}),
    ProblemKind.UNSUPPORTED_MEDIA_TYPE: Fields({"field": str}),
    ProblemKind.IDEMPOTENCY_MISMATCH: Fields({"key": str}),
    ProblemKind.INTERNAL: Fields(),
    ProblemKind.NOT_READY: Fields(),
}
"""What programs find in a problem, by kind."""

_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """The request is not served; `fields` are for programs and stand beside the sentence for people."""

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        fields: Mapping[str, int | str | None] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.fields = fields or {}
        self.headers = headers or {}


def invalid(field: str, rule: str) -> Refused:
    """400, with the field, header or parameter at fault and the rule that it breaks."""
    return Refused(ProblemKind.INVALID_REQUEST, f"{field} {rule}", {"field": field, "rule": rule})


def not_found(what: str, name: str) -> Refused:
    """404."""
    return Refused(ProblemKind.NOT_FOUND, f"no such {what}", {what: name})


def not_ready(detail: str) -> Refused:
    """503, with a word on when to ask again."""
    return Refused(ProblemKind.NOT_READY, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def refused_by_ledger(refusal: Refusal) -> Refused:
    """What the ledger's admission said: its reasons are kinds of problem."""
    return Refused(ProblemKind(refusal.reason.value), refusal.detail, refusal.fields)


def problem_document(refused: Refused, region: str) -> dict[str, Any]:
    """The document. Fields without a value are left out."""
    return {
        "type": wire.problem_type(refused.kind),
        "title": TITLES[refused.kind],
        "status": wire.STATUS[refused.kind],
        "detail": _sayable(refused.detail),
        "region": region,
        **{
            name: _sayable(value) if isinstance(value, str) else value
            for name, value in refused.fields.items()
            if value is not None
        },
    }


def problem_response(refused: Refused, region: str) -> web.Response:
    """The answer that is the document."""
    document = problem_document(refused, region)
    headers = {"Content-Type": wire.PROBLEM_JSON, **refused.headers}
    return web.Response(body=_encode(document), status=document["status"], headers=headers)


def _sayable(text: str) -> str:
    """A text that may quote a header: bytes there that are no UTF-8 come as halves of surrogate pairs."""
    return text.encode("utf-8", "backslashreplace").decode()
