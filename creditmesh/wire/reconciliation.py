"""Reconciliation on the wire: what schedulers say of their jobs, what does not add up, and what settles it.

``PUT /v1/jobs``, ``GET /v1/reconciliation``, ``POST /v1/tenants/{tenant}/reconciliation/apply``. A snapshot belongs to
the node that it is sent to, so findings that rest on it are found there and nowhere else.
"""

from enum import StrEnum
from typing import Annotated, Any, Final

from msgspec import Meta

from creditmesh.wire.field import Id, JobName, Millis, PageLimit, PageReply, PageToken, Reply, Request, Tenant
from creditmesh.wire.trail import ExportedEntry

MAX_JOBS: Final = 50_000

SourceName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}\Z", description="what a scheduler calls itself")
]
WorkName = Annotated[str, Meta(min_length=1, max_length=64)]
FindingId = Annotated[str, Meta(pattern=r"^[a-z0-9_.-]{1,128}\Z", description="the id of a finding, as listed")]


class JobState(StrEnum):
    """Where a job is in its life, to its scheduler."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"


class ScheduledJob(Request, frozen=True, kw_only=True):
    """A job in a snapshot. The more is said, the more can be settled."""

    tenant: Tenant
    job: JobName
    state: JobState
    started_at: Millis | None = None
    ended_at: Millis | None = None
    """Only of what has finished."""
    reservation: Id | None = None
    """Null: the one that names the job."""
    gpu_type: WorkName | None = None
    """What it runs on, as the rate card has it; needed to charge for it, as are ``gpus``."""
    gpus: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    priority: WorkName | None = None
    """Its class of work, as the rate card has it; null: no multiplier."""

    def __post_init__(self) -> None:
        if self.state is JobState.PENDING and self.started_at is not None:
            raise ValueError("started_at must be null of a job that is pending")
        if self.state is not JobState.FINISHED and self.ended_at is not None:
            raise ValueError("ended_at must be null of a job that has not finished")
        if self.started_at is not None and self.ended_at is not None and self.ended_at < self.started_at:
            raise ValueError("ended_at must not be before started_at")


class JobsRequest(Request, frozen=True, kw_only=True):
    """``PUT /v1/jobs``: what a scheduler knows of its jobs, in the place of all that it said before.

    An empty list forgets the source.
    """

    source: SourceName
    jobs: Annotated[list[ScheduledJob], Meta(max_length=MAX_JOBS)]
    at: Millis | None = None
    """When it was so, by the scheduler's clock; null: now."""


class JobsReply(Reply, frozen=True, kw_only=True):
    """200: the snapshot of the source that stands now, on disk."""

    source: str
    at: int
    jobs: int
    """How many it has."""
    taken: bool
    """False where what was sent is older than what is there, and came too late."""
    unknown_tenants: list[str]
    """The first 100 tenants in what was sent that do not exist here. Their jobs are kept all the same."""
    unknown_tenant_count: int
    region: str


class FindingKind(StrEnum):
    """In what way things do not add up."""

    NEVER_STARTED = "never_started"
    RUNNING_UNRESERVED = "running_unreserved"
    LAPSED_RUNNING = "lapsed_running"
    UNFINISHED_USAGE = "unfinished_usage"
    NEGATIVE_BALANCE = "negative_balance"
    BOOKS_DIFFER = "books_differ"


class FindingOperation(Reply, frozen=True, kw_only=True):
    """The operation that would settle a finding: ``release``, ``usage``, ``grant`` or ``compensation``."""

    kind: str
    body: dict[str, Any]


class Finding(Reply, frozen=True, kw_only=True):
    """One thing that does not add up. Its id stays the same for as long as it stands."""

    id: str
    kind: FindingKind
    tenant: str
    subject: str
    """The reservation, the job, or the tenant."""
    since: int
    detail: str
    entries: list[str]
    """The entries that it rests on, ``<replica>:<number>``: the first 16."""
    operation: FindingOperation | None
    why_not: str | None
    """Why there is no operation, where there is none."""
    region: str | None
    """The region that must act, where not every one can."""


class ReconciliationQuery(Request, frozen=True, kw_only=True):
    """``GET /v1/reconciliation``."""

    tenant: Tenant | None = None
    kind: FindingKind | None = None
    after: PageToken | None = None
    limit: PageLimit = 100


class JobsSource(Reply, frozen=True, kw_only=True):
    """A scheduler that has sent a snapshot to this node."""

    source: str
    at: int
    jobs: int


class ReconciliationReply(PageReply, frozen=True, kw_only=True):
    """What does not add up, as this region sees it, the longest standing first. Each page is looked for afresh."""

    at: int
    """When it was looked for."""
    counts: dict[str, int]
    """How many there are of each kind, on all pages, whatever kind was asked for."""
    sources: list[JobsSource]
    """The schedulers whose snapshots were taken into account."""
    findings: list[Finding]


class ApplyRequest(Request, frozen=True, kw_only=True):
    """``POST reconciliation/apply``: post the operation of a finding, once. Its id is the idempotency key."""

    finding: FindingId


class ApplyReply(Reply, frozen=True, kw_only=True):
    """200: the entry that settles the finding. Asked again, in any region that has the entry: the same one."""

    finding: str
    entry: ExportedEntry
    replayed: bool
    """Whether it had been applied before."""
    region: str
