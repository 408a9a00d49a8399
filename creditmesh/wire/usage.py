"""What schedulers tell of jobs, at least once, late and out of order: ``POST /v1/usage-events``.

An event is told by its ``type``. The same event may be sent any number of times, through any region: it counts once,
by its id, and usage of a job that was charged already costs nothing, by the job and the time. CloudEvents 1.0 are taken
too: ``subject`` is the tenant, ``data`` has the rest, and ``time`` stands for an ``at`` or ``end`` that it leaves out.
"""

from enum import StrEnum
from typing import Annotated, Any, Final

from msgspec import Meta, field

from creditmesh.wire.field import (
    MAX_AMOUNT,
    GpuCount,
    GpuType,
    Id,
    JobName,
    LeaseMillis,
    Millis,
    Reply,
    Request,
    Tenant,
    WorkClass,
)

MAX_EVENTS: Final = 10_000
CLOUDEVENTS_JSON: Final = "application/cloudevents+json"
CLOUDEVENTS_BATCH_JSON: Final = "application/cloudevents-batch+json"

EventId = Annotated[str, Meta(min_length=1, max_length=255)]


class Reported(Request, frozen=True, kw_only=True, tag_field="type"):
    """What all events say."""

    id: EventId
    """Names the event for the tenant, so that it counts once."""
    tenant: Tenant
    job: JobName
    reservation: Id | None = None
    """The job's reservation; null, or none that is known here: the last one that was made for the job."""


class JobStarted(Reported, frozen=True, kw_only=True, tag="job_started"):
    """A job has started. Its reservation's lease is extended, as by a heartbeat."""

    at: Millis | None = None
    lease_ms: LeaseMillis | None = None


class Heartbeat(Reported, frozen=True, kw_only=True, tag="heartbeat"):
    """A job runs. The lease of its reservation ends ``lease_ms`` after ``at``, or when it did, if that is later."""

    at: Millis | None = None
    lease_ms: LeaseMillis | None = None


class Priced(Reported, frozen=True, kw_only=True):
    """What it cost: an amount, or what ran, priced by the rate card at the time at which it ran."""

    amount: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)] | None = None
    gpu_type: GpuType | None = None
    gpus: GpuCount | None = None
    priority: WorkClass | None = None

    @property
    def is_priced(self) -> bool:
        """Whether it says what it cost."""
        return self.amount is not None or self.gpu_type is not None

    def __post_init__(self) -> None:
        if self.amount is not None and self.gpu_type is not None:
            raise ValueError("amount must stand in the place of gpu_type and gpus, not beside them")
        if (self.gpu_type is None) != (self.gpus is None):
            raise ValueError(f"{'gpus' if self.gpus is None else 'gpu_type'} is required beside the other of the two")
        if self.priority is not None and self.gpu_type is None:
            raise ValueError("priority is of use only beside gpu_type and gpus")


class Interval(Priced, frozen=True, kw_only=True, tag="usage"):
    """A job ran in ``[start, end)``. It is charged for what no earlier event has charged for."""

    start: Millis
    end: Millis

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.is_priced:
            raise ValueError("amount is required, or gpu_type and gpus")
        if self.start >= self.end:
            raise ValueError("end must be after start")


class JobFinished(Priced, frozen=True, kw_only=True, tag="job_finished"):
    """A job has ended: what of its time was not charged yet is charged, and what it still holds is released.

    Without a price nothing more is charged.
    """

    start: Millis | None = None
    """Null: when it was reported to have started."""
    end: Millis | None = None
    """Null: now."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start is not None and not self.is_priced:
            raise ValueError("amount is required, or gpu_type and gpus, where there is a start")
        if self.start is not None and self.end is not None and self.start > self.end:
            raise ValueError("end must not be before start")


UsageEvent = JobStarted | Heartbeat | Interval | JobFinished
"""One event, told by its ``type``."""


class CloudEvent(Request, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A CloudEvent 1.0 in structured JSON. Attributes that say nothing here are passed over, as the standard wants."""

    specversion: str
    id: EventId
    source: Annotated[str, Meta(min_length=1, max_length=255)]
    """Names the scheduler: ids are unique for each source."""
    kind: str = field(name="type")
    """A `type` of event, perhaps behind a prefix that ends in a dot: ``com.example.heartbeat``."""
    subject: Tenant
    """The tenant."""
    time: str | None = None
    """RFC 3339."""
    data: dict[str, Any]
    """The event's fields without ``id``, ``tenant`` and ``type``."""


class EventStatus(StrEnum):
    """What became of an event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """An event with this id had been accepted before: nothing more happened."""
    REFUSED = "refused"


class EventFlag(StrEnum):
    """What is unusual about an event that was accepted."""

    UNRESERVED = "unreserved"
    """Nothing was reserved for the job."""
    ENDED = "ended"
    """The reservation had ended; what was charged is an overrun."""
    OVERRUN = "overrun"
    """It cost more than was still held."""
    COVERED = "covered"
    """The job had been charged for all of this time."""
    PARTLY_COVERED = "partly_covered"
    """The job had been charged for part of this time."""


class EventResult(Reply, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one event, in the order in which they were sent."""

    id: str | None
    """The event's; null if it has none that can be read."""
    status: EventStatus
    entry: str | None = None
    """The log entry, ``<replica>:<number>``."""
    charged: int | None = None
    debt: int | None = None
    """What the reservation owes after it."""
    held: int | None = None
    """What the reservation still holds after it."""
    lease_until: int | None = None
    state: str | None = None
    """The reservation's, after it."""
    conflict: str | None = None
    """Of a reservation that is void: the conflict that says why."""
    flags: list[EventFlag] = field(default_factory=list)
    problem: dict[str, Any] | None = None
    """Why it was refused: a problem document (RFC 9457)."""


class UsageEventsReply(Reply, frozen=True, kw_only=True):
    """200: each event is accepted or refused by itself; what was accepted is on disk. One that stands alone and is
    refused is answered with its problem instead."""

    results: list[EventResult]
    accepted: int
    duplicates: int
    refused: int
    region: str
