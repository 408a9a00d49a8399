"""Conflicts and debts on the wire: who lost, to whom, what it cost, what put the books right, who has seen to it.

``GET /v1/conflicts``, ``/v1/conflicts/{id}``, ``/v1/conflicts/stream``, ``POST /v1/conflicts/{id}/ack``,
``GET /v1/debts``. Nodes with the same entries give the same report.
"""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, field

from creditmesh.wire.field import Millis, PageLimit, PageReply, PageToken, ReadReply, Region, Reply, Request, Tenant

Signature = Annotated[str, Meta(pattern=r"^[^\x00-\x20\x7f-\x9f][^\x00-\x1f\x7f-\x9f]{0,63}\Z")]
"""Who says something: one line."""

Note = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,500}\Z")]
"""What is said: one line."""

EventToken = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}/[0-9a-z]{1,32}:[0-9]{1,15}\Z",
        description="the `id` of an event of the stream",
    ),
]


HEARTBEAT_S: Final = 15.0
"""A reader of the stream hears something at least so often."""


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


class ConflictFilter(Request, frozen=True, kw_only=True):
    """Which conflicts. ``reallocated`` ones are shown only when their kind is asked for."""

    tenant: Tenant | None = None
    kind: ConflictKind | None = None
    state: ConflictState | None = None
    region: Region | None = None
    """The loser's region."""
    since: Millis | None = field(default=None, name="from")
    """The loser was accepted at or after. On the wire: ``from``."""
    acknowledged: bool | None = None
    """Only those that somebody has acknowledged; or only those that nobody has."""


class ConflictsQuery(ConflictFilter, frozen=True, kw_only=True):
    """``GET /v1/conflicts``. ``reallocated`` ones are listed only when their kind is asked for."""

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


class Acknowledgement(Reply, frozen=True, kw_only=True):
    """Somebody has seen to a conflict."""

    by: str
    note: str | None
    at: int
    region: str
    """Where it was said."""
    entry: str
    """The log entry that says it, ``<replica>:<seq>``."""


class Conflict(Reply, frozen=True, kw_only=True):
    """The report of one operation whose canonical effect is not what its origin recorded."""

    id: str
    """The loser's entry and the kind; with `.received` behind it where a transfer lost in the receiver's account."""
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
    acknowledged: list[Acknowledgement]
    """In canonical order. Of one conflict the first 16 are kept."""


class ConflictsReply(PageReply, frozen=True, kw_only=True):
    """Conflicts, the latest loser first. A page can be short, or empty, and say that there is more."""

    conflicts: list[Conflict]


class ConflictReply(ReadReply, frozen=True, kw_only=True):
    """One conflict."""

    conflict: Conflict


class AcknowledgeRequest(Request, frozen=True, kw_only=True):
    """``POST /v1/conflicts/{id}/ack``: says that somebody has seen to it; moves no credit, and changes no state.

    Every region shows it. The key counts within the conflict.
    """

    by: Signature
    """Who: what people call themselves; nobody checks it."""
    note: Note | None = None


class AcknowledgeReply(Reply, frozen=True, kw_only=True):
    """An acknowledgement that stands."""

    region: str
    """Who answered."""
    conflict: str
    tenant: str
    acknowledgement: Acknowledgement
    again: bool
    """Whether the region that accepted it knew of an earlier one; both are kept."""


class ConflictStreamQuery(ConflictFilter, frozen=True, kw_only=True):
    """``GET /v1/conflicts/stream``. Each report is held against the filter as it stands when it is told."""

    after: EventToken | None = None
    """As the header ``Last-Event-ID``, which counts if both are sent: begin behind this event."""


class ConflictEventKind(StrEnum):
    """What an event of the stream tells."""

    CONFLICT = "conflict"
    """A report, whole: it has appeared, or is no longer what it was."""
    GONE = "gone"
    """There is no conflict of this id any more: it has come to nothing, or is one of another kind."""
    GAP = "gap"
    """What changed before is not known here: read the list."""


class ConflictEvent(Reply, frozen=True, kw_only=True):
    """The data of one event of the stream. Of ``conflict`` and ``gone`` the one is there that the event is about."""

    event: ConflictEventKind
    region: str
    """Who tells it."""
    conflict: Conflict | None = None
    gone: str | None = None


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
