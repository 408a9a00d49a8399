"""Refusals and failures on the wire: ``application/problem+json`` (RFC 9457) with stable types and fields.

The one table of HTTP status codes stands here.
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct

PROBLEM_JSON: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:creditmesh:problem:"


class ProblemKind(StrEnum):
    """The last part of a problem's ``type``."""

    INVALID_REQUEST = "invalid-request"
    INSUFFICIENT_CREDIT = "insufficient-credit"
    DEBT_LIMIT = "debt-limit"
    HELD_LIMIT = "held-limit"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    RESERVATION_ENDED = "reservation-ended"
    LOT_CLOSED = "lot-closed"
    START_UNKNOWN = "start-unknown"
    ALREADY_EXISTS = "already-exists"
    FINDING_GONE = "finding-gone"
    PAYLOAD_TOO_LARGE = "payload-too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    IDEMPOTENCY_MISMATCH = "idempotency-mismatch"
    INTERNAL = "internal"
    NOT_READY = "not-ready"


STATUS: Final[dict[ProblemKind, int]] = {
    ProblemKind.INVALID_REQUEST: 400,
    ProblemKind.INSUFFICIENT_CREDIT: 402,
    ProblemKind.DEBT_LIMIT: 402,
    ProblemKind.HELD_LIMIT: 409,
    ProblemKind.NOT_FOUND: 404,
    ProblemKind.METHOD_NOT_ALLOWED: 405,
    ProblemKind.RESERVATION_ENDED: 409,
    ProblemKind.LOT_CLOSED: 409,
    ProblemKind.START_UNKNOWN: 409,
    ProblemKind.ALREADY_EXISTS: 409,
    ProblemKind.FINDING_GONE: 409,
    ProblemKind.PAYLOAD_TOO_LARGE: 413,
    ProblemKind.UNSUPPORTED_MEDIA_TYPE: 415,
    ProblemKind.IDEMPOTENCY_MISMATCH: 422,
    ProblemKind.INTERNAL: 500,
    ProblemKind.NOT_READY: 503,
}


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A problem document. The fields after ``detail`` stand only in the kinds that have something to say there."""

    type: str
    title: str
    status: int
    detail: str = ""
    region: str | None = None
    field: str | None = None
    """invalid-request: which field, parameter or header."""
    rule: str | None = None
    """invalid-request: what it has to be."""
    requested: int | None = None
    available: int | None = None
    """insufficient-credit: what could be had now; and below, what is owed and held."""
    debt: int | None = None
    held: int | None = None
    elsewhere: int | None = None
    """insufficient-credit, of a tenant under escrow: what lies in the shares of other regions."""
    next_start: int | None = None
    """insufficient-credit: when the next lot starts."""
    max_held: int | None = None
    """held-limit: what the tenant's policy allows."""
    debt_limit: int | None = None
    """debt-limit: what the tenant's policy allows."""
    state: str | None = None
    """reservation-ended: closed, lapsed or revoked."""
    conflict: str | None = None
    """reservation-ended, of one that is revoked: the conflict that says why."""

    @property
    def kind(self) -> str:
        """The last part of the type, as in `ProblemKind`; of a later version, perhaps one that is not in there."""
        return self.type.removeprefix(TYPE_PREFIX)


def problem_type(kind: ProblemKind) -> str:
    """The full ``type`` of a kind."""
    return TYPE_PREFIX + kind
