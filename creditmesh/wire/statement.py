"""A tenant's credit over time on the wire: statements, what expires, and when the credit runs out.

Statements, forecasts and ``GET balance?at=`` go by event time: when credit was given or used, whenever it came to be
known. Paths are under ``/v1/tenants/{tenant}``; periods are half-open, ``[from, to)``.
"""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, field

from creditmesh.wire.credit import LotBalance
from creditmesh.wire.field import DAY_MS, Hlc, Millis, PageLimit, PageReply, ReadReply, Reply, Request
from creditmesh.wire.usage import EventFlag

MAX_WINDOW_MS: Final = 31 * DAY_MS
PAGE_LINES: Final = 100

LineToken = Annotated[
    str, Meta(description="what a page said under `next`", extra_json_schema={"format": "line-token"})
]


class BalanceQuery(Request, frozen=True, kw_only=True):
    """``GET balance``."""

    at: Millis | None = None
    """By event time, after all that happened up to then; null: now, as in the books."""


class StatementFormat(StrEnum):
    """In which form a statement comes."""

    JSON = "json"
    """Page by page (msgpack for who accepts that)."""
    CSV = "csv"
    """As a whole: a header, the opening figures, the lines, the closing figures (RFC 4180)."""


class StatementQuery(Request, frozen=True, kw_only=True):
    """``GET statement``."""

    since: Millis = field(name="from")
    """The first millisecond of the period. On the wire: ``from``."""
    to: Millis
    """The first millisecond after it."""
    format: StatementFormat = StatementFormat.JSON
    after: LineToken | None = None
    limit: PageLimit = PAGE_LINES

    def __post_init__(self) -> None:
        _check_period(self.since, self.to)
        if self.format is StatementFormat.CSV:
            if self.after is not None:
                raise ValueError("after must be left out: a statement in CSV comes whole")
            if self.limit != PAGE_LINES:
                raise ValueError("limit must be left out: a statement in CSV comes whole")


class Standing(Reply, frozen=True, kw_only=True):
    """A tenant's figures at one moment."""

    available: int
    """What live lots still hold, less the debt. May be negative."""
    held: int
    used: int
    debt: int
    """What the tenant owes, as a number of at least 0."""


class StatementLine(Reply, frozen=True, kw_only=True):
    """One change of a tenant's figures."""

    at: int
    """When it happened."""
    kind: str
    """The operation, as in the log, or ``expiry``: a lot's time was over, and what it still had is gone."""
    entry: str | None
    """The log entry, ``<replica>:<number>``; null for an expiry, which needs none."""
    claim: str | None
    job: str | None
    """Whose usage it is, or for whom credit was reserved."""
    lot: str | None
    key: str | None
    outcome: str | None
    """What became of the operation, by event time; null for an expiry."""
    flags: list[EventFlag]
    """``unreserved``, if it is about usage that nothing was reserved for. In CSV with spaces between them."""
    amount: int
    """By how much it changed what is available."""
    available: int
    """After this line, as are the figures below."""
    held: int
    used: int
    debt: int


class OpenRegion(Reply, frozen=True, kw_only=True):
    """A region from which something of a period may still come in."""

    region: str
    promise: Hlc | None
    """How far it has promised that nothing more comes, as far as this node knows; null: it has not."""


class StatementReply(PageReply, frozen=True, kw_only=True):
    """A period of a tenant: opening figures, a page of dated lines, closing figures.

    The opening figures are those after everything before ``from``, the closing ones those after everything before
    ``to``, on every page. Opening ``available`` and the amounts of all lines add up to closing ``available``.
    """

    tenant: str
    since: int = field(name="from")
    """The first millisecond of the period. On the wire: ``from``."""
    to: int
    final: bool
    """Whether nothing of the period can come in any more."""
    final_from: int
    """When that can be so at the earliest: usage may be reported so much later than ``to``."""
    open_regions: list[OpenRegion]
    """Those that something may still come from, as far as this node knows: none when it is final."""
    opening: Standing
    lines: list[StatementLine]
    closing: Standing


class ExpiringQuery(Request, frozen=True, kw_only=True):
    """``GET expiring``."""

    since: Millis = field(name="from")
    """The first millisecond of the period. On the wire: ``from``."""
    to: Millis
    """The first millisecond after it."""

    def __post_init__(self) -> None:
        _check_period(self.since, self.to)


class ExpiringReply(ReadReply, frozen=True, kw_only=True):
    """Lots that have something left and expire in a period, the first to expire first."""

    tenant: str
    total: int
    """What they have left together."""
    lots: list[LotBalance]


class ForecastQuery(Request, frozen=True, kw_only=True):
    """``GET forecast``."""

    window_ms: Annotated[int, Meta(ge=1, le=MAX_WINDOW_MS)] = 3_600_000
    """How far back usage is looked at, in milliseconds, up to 31 days."""


class ForecastReply(ReadReply, frozen=True, kw_only=True):
    """When a tenant's credit runs out, if it goes on being used as it was."""

    tenant: str
    at: int
    """The time from which it looks back and ahead."""
    window_ms: int
    used: int
    """What was used in the window before ``at``, by event time, less refunds; of a report the part that lies in it."""
    per_hour: int
    """The same per hour, rounded up; 0 if more was refunded than used."""
    available: int
    """What can be spent now."""
    runs_out_at: int | None
    """The first millisecond at which nothing is available; ``at`` if nothing is. Null: it does not run out."""


def _check_period(since: int, to: int) -> None:
    if since >= to:
        raise ValueError("from must be before to")
