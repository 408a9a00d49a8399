"""The log on the wire: entries as exported, and the audit of a whole node.

``GET /v1/tenants/{tenant}/entries`` pages through one tenant's entries in canonical order;
``GET /v1/entries?after=<clock token>`` streams all that a node has beyond the token, one `ExportedEntry` per line
(NDJSON), causes before consequences.
"""

from typing import Any

from creditmesh.wire.field import ClockToken, PageLimit, PageReply, PageToken, ReadReply, Reply, Request


class ExportedEntry(Reply, frozen=True, kw_only=True):
    """An entry of the log. Its postings are what the origin recorded, and sum to zero."""

    replica: str
    seq: int
    hlc: tuple[int, int]
    clock: dict[str, int]
    """The origin's vector clock, this entry included."""
    tenant: str
    kind: str
    """The operation (grant, hold, renew, capture, release, lapse, debit, refund, revoke, expire, settle, policy,
    transfer, heartbeat, usage), or ``compensation``."""
    key: str | None
    request: str | None
    """Fingerprint of the client's request: the same key with another one is refused."""
    body: dict[str, Any]
    postings: dict[str, int]
    outcome: str
    result: dict[str, Any] | None
    """The claim after the operation; a retry's reply is made from it."""
    received: dict[str, int] | None
    """Of a transfer: what was posted for the tenant that got it, ``body.to``; ``postings`` are the giver's."""
    prev: str
    """Hex: hash of the entry before this one in the same log."""
    hash: str


class EntriesQuery(Request, frozen=True, kw_only=True):
    """``GET entries`` of a tenant."""

    after: PageToken | None = None
    limit: PageLimit = 100


class EntriesReply(PageReply, frozen=True, kw_only=True):
    """A tenant's audit trail, oldest first."""

    tenant: str
    entries: list[ExportedEntry]


class ExportQuery(Request, frozen=True, kw_only=True):
    """``GET /v1/entries``."""

    after: ClockToken | None = None
    """A clock token of an earlier export; null: from the beginning."""


class ReplicaAudit(Reply, frozen=True, kw_only=True):
    """One log, read from disk and checked hash by hash."""

    replica: str
    entries: int
    ok: bool


class AuditReply(ReadReply, frozen=True, kw_only=True):
    """``GET /v1/audit``: hash chains, sums, and books against canonical state."""

    ok: bool
    entries: int
    replicas: list[ReplicaAudit]
    tenants: int
    books_equal: bool
    """Whether the sum of all postings is canonical state; false for a while after regions met, until they have
    compensated, and a finding only where nothing is on its way."""
    findings: list[str]
    digest: str
    """Of canonical state: equal in every node that has applied the same entries."""
