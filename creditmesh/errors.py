"""What can go wrong with a request, as exceptions: the store refused it, or nobody could be asked.

Every error says whether the request **may have been accepted** all the same. That is so when an earlier attempt went
out and no answer came back: the next region that is asked may not have heard of the entry yet, and refuse. Asking
again later under the same key settles it.
"""

from typing import Any, Final

import msgspec

from creditmesh.wire.problem import Problem, ProblemKind


class CreditmeshError(Exception):
    """Whatever the client raises."""

    maybe_accepted: bool = False
    """Whether some attempt may have been accepted by a region although this error came back."""


class ApiError(CreditmeshError):
    """The node understood and said no: an RFC 9457 problem."""

    def __init__(self, problem: Problem, fields: dict[str, Any], *, maybe_accepted: bool = False) -> None:
        super().__init__(f"{problem.status} {problem.kind}: {problem.detail or problem.title}")
        self.problem = problem
        self.fields = fields
        """The whole problem document, with members that this version of the client does not know."""
        self.maybe_accepted = maybe_accepted

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status


class Invalid(ApiError):
    """400: the request makes no sense to the node; ``problem.field`` says where."""


class InsufficientCredit(ApiError):
    """402: more than is available; ``problem`` says what is available, owed and held, and when the next lot starts."""


class DebtLimit(ApiError):
    """402: a debit into a debt of more than the tenant's policy allows (``problem.debt_limit``)."""


class HeldLimit(ApiError):
    """409: with this reservation more would be held than the tenant's policy allows (``problem.max_held``)."""


class NotFound(ApiError):
    """404: no such tenant, lot, claim or conflict in this region's knowledge."""


class ReservationEnded(ApiError):
    """409: the reservation is closed, lapsed or revoked (``problem.state``), and why it is (``problem.conflict``)."""


class LotClosed(ApiError):
    """409: the lot has been revoked, or has expired for good."""


class StartUnknown(ApiError):
    """409: the end of a job without its start, which that region has not heard of: say it, or ask again later."""


class IdInUse(ApiError):
    """409: another request has already made a lot or claim of this name."""


class FindingGone(ApiError):
    """409: the finding does not stand in that region, and was not applied as far as it knows."""


class IdempotencyMismatch(ApiError):
    """422: the key belongs to an earlier request with another body."""


class Unavailable(CreditmeshError):
    """No endpoint gave an answer within the attempts allowed."""

    def __init__(self, attempts: int, last: str, *, maybe_accepted: bool) -> None:
        super().__init__(f"no answer after {attempts} attempts; the last: {last}")
        self.attempts = attempts
        self.last = last
        self.maybe_accepted = maybe_accepted


class ProtocolError(CreditmeshError):
    """An answer that is not what the wire schema says."""

    maybe_accepted = True


class LeaseLost(CreditmeshError):
    """The lease of a reservation ended while it was still wanted: its credit is no longer set aside."""

    def __init__(self, reservation: str, reason: str) -> None:
        super().__init__(f"the lease of {reservation} was lost: {reason}")
        self.reservation = reservation
        self.reason = reason


BY_KIND: Final[dict[str, type[ApiError]]] = {
    ProblemKind.INVALID_REQUEST: Invalid,
    ProblemKind.INSUFFICIENT_CREDIT: InsufficientCredit,
    ProblemKind.DEBT_LIMIT: DebtLimit,
    ProblemKind.HELD_LIMIT: HeldLimit,
    ProblemKind.NOT_FOUND: NotFound,
    ProblemKind.RESERVATION_ENDED: ReservationEnded,
    ProblemKind.LOT_CLOSED: LotClosed,
    ProblemKind.START_UNKNOWN: StartUnknown,
    ProblemKind.ALREADY_EXISTS: IdInUse,
    ProblemKind.FINDING_GONE: FindingGone,
    ProblemKind.IDEMPOTENCY_MISMATCH: IdempotencyMismatch,
}


def read_problem(status: int, body: bytes) -> tuple[Problem, dict[str, Any]]:
    """The problem in `body`; for what is no problem document (a proxy's page, say), one that says so."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        return msgspec.convert(fields, Problem), fields
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body[:200].decode("utf-8", "replace")
        return Problem(type="about:blank", title=f"HTTP {status}", status=status, detail=text), {}


def refusal(status: int, body: bytes, *, maybe_accepted: bool) -> ApiError:
    """The exception for an answer that says no."""
    problem, fields = read_problem(status, body)
    return BY_KIND.get(problem.kind, ApiError)(problem, fields, maybe_accepted=maybe_accepted)
