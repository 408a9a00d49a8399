"""Conflict reports and debts on the wire: who lost, to whom, what it cost, and what put the books right.

``GET /v1/conflicts``, ``GET /v1/conflicts/{id}``, ``GET /v1/debts``. Nodes with the same entries give the same report.
"""

from enum import StrEnum

from msgspec import field

from creditmesh.wire.field import Millis, PageLimit, PageReply, PageToken, ReadReply, Region, Reply, Request, Tenant


class ConflictKind(StrEnum):
    """In what way canonical order differs from what the loser's region recorded."""

    OVERSPEND = "overspend"
    DUPLICATE = "duplicate"
    KEY_MISMATCH = "key_mismatch"
    REVOKED = "revoked"
    LEASE = "lease"
    OVERLAP = "overlap"
    REFUND = "refund"
    REALLOCATED = "reallocated"


class ConflictState(StrEnum):
    """The life of a report."""

    DETECTED = "detected"
    COMPENSATED = "compensated"
    REPAID = "repaid"
    CLEARED = "cleared"


class ConflictsQuery(Request, frozen=True, kw_only=True):
    """``GET /v1/conflicts``. ``reallocated`` ones are listed only when their kind is asked for."""

    tenant: Tenant | None = None
    kind: ConflictKind | None = None
    state: ConflictState | None = None
    region: Region | None = None
    """The loser's region."""
    since: Millis | None = field(default=None, name="from")
    """The loser was accepted at or after. On the wire: ``from``."""
    after: PageToken | None = None
    limit: PageLimit = 100


class Contender(Reply, frozen=True, kw_only=True):
    """An operation in a conflict: the loser, or a rival that stands earlier in canonical order and is concurrent."""

    replica: str
    seq: int
    region: str
    hlc: tuple[int, int]
    clock: dict[str, int]
    kind: str
    key: str | None
    claim: str | None
    amount: int | None
    outcome: str
    """What its origin recorded."""


class LotDifference(Reply, frozen=True, kw_only=True):
    """What the loser took from a lot: as recorded, and in canonical order. Taking is negative."""

    lot: str
    recorded: int
    canonical: int


class CompensatingEntry(Reply, frozen=True, kw_only=True):
    """The part of a compensation that answers this conflict."""

    replica: str
    seq: int
    hlc: tuple[int, int]
    postings: dict[str, int]


class Conflict(Reply, frozen=True, kw_only=True):
    """The report of one operation whose canonical effect is not what its origin recorded."""

    id: str
    kind: ConflictKind
    state: ConflictState
    tenant: str
    loser: Contender
    canonical_outcome: str
    """What became of the loser in canonical order."""
    rivals: list[Contender]
    """The first 16."""
    rival_count: int
    lots: list[LotDifference]
    amount: int
    """How much credit moved otherwise than recorded."""
    debt: int
    """How much more debt canonical order made of it; ``state`` says whether it has been repaid."""
    compensations: list[CompensatingEntry]
    detected_at: int | None
    """The time of the first compensation; null until that entry is known here."""


class ConflictsReply(PageReply, frozen=True, kw_only=True):
    """Conflicts, the latest loser first. A page can be short, or empty, and say that there is more."""

    conflicts: list[Conflict]


class ConflictReply(ReadReply, frozen=True, kw_only=True):
    """One conflict."""

    conflict: Conflict


class ClaimDebt(Reply, frozen=True, kw_only=True):
    """What one claim owes."""

    claim: str
    debt: int


class TenantDebt(Reply, frozen=True, kw_only=True):
    """What one tenant owes, oldest debt first."""

    tenant: str
    debt: int
    claims: list[ClaimDebt]


class DebtsReply(ReadReply, frozen=True, kw_only=True):
    """``GET /v1/debts``: every tenant that owes anything."""

    debts: list[TenantDebt]
