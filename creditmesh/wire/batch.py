"""Many operations in one request: ``POST /v1/batch``."""

from enum import StrEnum
from typing import Annotated, Any, Final

from msgspec import Meta, field

from creditmesh.wire.field import Id, Key, Reply, Request, Tenant

MAX_OPERATIONS: Final = 10_000


class BatchKind(StrEnum):
    """What an operation of a batch does: as the route of that name."""

    GRANT = "grant"
    REVOKE = "revoke"
    RESERVE = "reserve"
    RENEW = "renew"
    CAPTURE = "capture"
    RELEASE = "release"
    DEBIT = "debit"
    REFUND = "refund"
    TRANSFER = "transfer"
    POLICY = "policy"


class BatchOperation(Request, frozen=True, kw_only=True):
    """One operation: whose, under which key, what, about which lot or reservation, and the body of its route."""

    tenant: Tenant
    key: Key
    """Its own idempotency key."""
    operation: BatchKind
    id: Id | None = None
    """The lot to revoke, the reservation to renew, capture or release; of others null."""
    body: dict[str, Any] = field(default_factory=dict)


class BatchRequest(Request, frozen=True, kw_only=True):
    """``POST /v1/batch``: operations of any tenants, judged in order, each by itself: it is atomic for none of them.

    All that are accepted become durable in one commit.
    """

    operations: Annotated[list[BatchOperation], Meta(min_length=1, max_length=MAX_OPERATIONS)]


class BatchResult(Reply, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one operation, in the order in which they were sent: as its route would have answered."""

    status: int
    """The HTTP status that its route would have answered with."""
    reply: dict[str, Any] | None = None
    entry: str | None = None
    """The log entry, ``<replica>:<number>``."""
    replayed: bool = False
    """Whether it had been accepted before, and this is its first reply again."""
    problem: dict[str, Any] | None = None
    """Why it was refused: a problem document (RFC 9457)."""


class BatchReply(Reply, frozen=True, kw_only=True):
    """200: a result for each operation; what was accepted is on disk."""

    results: list[BatchResult]
    accepted: int
    refused: int
    region: str
