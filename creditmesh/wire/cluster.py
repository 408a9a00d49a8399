"""The cluster on the wire: regions, links, clocks, the frontier, alarms, health; and faults on purpose.

``GET /v1/cluster``, ``GET /healthz``, ``GET /readyz``; and, served only where the node was told to,
``POST /v1/chaos/links`` and ``PUT /v1/chaos/clock``.
"""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta

from creditmesh.wire.field import DAY_MS, Hlc, ReadReply, Region, Reply, Request

MAX_CLOCK_OFFSET_MS: Final = 3660 * DAY_MS
"""Ten years: how wrong a node's clock may be set on purpose."""


class RegionLink(Reply, frozen=True, kw_only=True):
    """A peer region, as the answering node sees it."""

    region: str
    linked: bool
    cut: bool
    """Cut on purpose, by ``/v1/chaos/links``."""
    heard_ms_ago: int | None
    missing_here: int
    """Entries that the peer has and this node lacks, as far as it heard."""
    missing_there: int
    promise: Hlc | None
    """The peer will send nothing of its own from before this."""


class Frontier(Reply, frozen=True, kw_only=True):
    """Everything before ``hlc`` is stable: no replica can still send an operation that comes before it."""

    hlc: Hlc | None
    held_back_by: str | None
    """The region whose promise is the least."""


class Alarm(Reply, frozen=True, kw_only=True):
    """Something that an operator must look at: a fork, a clock too far ahead, a difference without a rival …"""

    kind: str
    subject: str
    """The region, replica or tenant that it is about."""
    detail: str
    raised_at: int
    """The first time."""
    count: int
    """How often it has been seen."""


class ClusterQuery(Request, frozen=True, kw_only=True):
    """``GET /v1/cluster``."""

    digest: bool = False
    """Whether to say the digest: the first time, that reads every tenant."""


class ClusterReply(ReadReply, frozen=True, kw_only=True):
    """``GET /v1/cluster``."""

    cluster: str
    replica: str
    clock: dict[str, int]
    """Vector clock: how many entries of each replica were applied."""
    digest: str | None
    """Of canonical state: equal clocks mean equal digests. Null unless asked for."""
    unsettled_tenants: int
    """Tenants whose books this node may still have to put right; 0 once its compensations are posted."""
    findings: dict[str, int] | None
    """By kind: how much did not add up when this node last looked by itself. Null before the first time."""
    regions: list[RegionLink]
    frontier: Frontier
    alarms: list[Alarm]


class HealthReply(Reply, frozen=True, kw_only=True):
    """``GET /healthz``: the process answers."""

    status: str
    region: str


class ReadyReply(Reply, frozen=True, kw_only=True):
    """``GET /readyz``: 200 when writes are taken, else 503 with the reasons."""

    ready: bool
    region: str
    reasons: list[str]


class LinkState(StrEnum):
    """Whether a link to a peer may carry anything."""

    OPEN = "open"
    CUT = "cut"


class LinkRequest(Request, frozen=True, kw_only=True):
    """``POST /v1/chaos/links``: cut or open the link to a peer, as a partition would."""

    peer: Region
    state: LinkState


class LinkReply(Reply, frozen=True, kw_only=True):
    """200: the link is in this state now."""

    peer: str
    state: LinkState
    region: str


class ClockRequest(Request, frozen=True, kw_only=True):
    """``PUT /v1/chaos/clock``: set a node's clock wrong, as a bad machine's would be."""

    offset_ms: Annotated[int, Meta(ge=-MAX_CLOCK_OFFSET_MS, le=MAX_CLOCK_OFFSET_MS)] = 0
    """By how much it is ahead of the machine's clock; 0 for right."""
    frozen: bool = False
    """Whether it stands still from now on."""


class ClockReply(Reply, frozen=True, kw_only=True):
    """200: the node's clock is set so now."""

    offset_ms: int
    frozen: bool
    now: int
    """What it shows, in milliseconds since the epoch."""
    region: str
