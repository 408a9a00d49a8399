"""What a single value on the wire may be: amounts, times, names, and the headers that go with a body.

The rules are those of the store itself, so that a request that decodes is one whose every value can stand in the log.
All times are milliseconds since the epoch, all amounts are integers of the smallest unit of credit.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, Struct

MAX_AMOUNT: Final = 2**53 - 1
MAX_TIME_MS: Final = 2**48 - 1
DAY_MS: Final = 86_400_000
MAX_LEASE_MS: Final = 31 * DAY_MS
MAX_PAGE: Final = 1000

Amount = Annotated[int, Meta(ge=1, le=MAX_AMOUNT, description="credit, in the smallest unit")]
Millis = Annotated[int, Meta(ge=0, le=MAX_TIME_MS, description="milliseconds since the epoch")]
LeaseMillis = Annotated[
    int, Meta(ge=1, le=MAX_LEASE_MS, description="length of a lease in milliseconds, up to 31 days")
]
Priority = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1, description="the lot with the smaller one pays first")]
PageLimit = Annotated[int, Meta(ge=1, le=MAX_PAGE)]

Tenant = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}\Z")]
Id = Annotated[str, Meta(pattern=r"^~?[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z")]
"""What a lot or a claim can be called; with a ``~`` in front: a name that the store has made."""

NewId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z")]
"""What a client may call a lot or a claim that it makes."""

Key = Annotated[str, Meta(pattern=r"^[!-~]{1,255}\Z")]
Region = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
JobName = Annotated[str, Meta(min_length=1, max_length=255)]
GpuType = Annotated[str, Meta(min_length=1, max_length=64, description="a type of GPU that has a price")]
GpuCount = Annotated[int, Meta(ge=1, le=1_000_000)]
WorkClass = Annotated[str, Meta(min_length=1, max_length=64, description="a class of work that has a multiplier")]

ClockToken = Annotated[
    str, Meta(description="a clock token, as replies say it", extra_json_schema={"format": "clock-token"})
]
PageToken = Annotated[
    str, Meta(description="what a page said under `next`", extra_json_schema={"format": "page-token"})
]

Hlc = tuple[int, int]
"""A hybrid logical clock reading: milliseconds since the epoch, and a counter."""

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
"""Request: names the write, so that a retry in any region is the same write. Required on every write."""

IDEMPOTENT_REPLAYED: Final = "Idempotent-Replayed"
"""Reply: ``true`` where the write had been accepted before, and this is its first reply again."""

CREDIT_ENTRY: Final = "Credit-Entry"
"""Reply to a write: the dot ``<replica>:<seq>`` of the log entry that it made."""

CREDIT_CLOCK: Final = "Credit-Clock"
"""Request: answer only when caught up to this token. Reply: the token to send so as to see at least this reply."""

LAST_EVENT_ID: Final = "Last-Event-ID"
"""Request of a stream: the id of the last event that was read; the stream goes on behind it."""


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A request body or query. A field that it does not know is an error that names the field."""

    together: ClassVar[Mapping[str, Any]] = {}
    """What JSON Schema can say of its fields together."""


class Reply(Struct, frozen=True, kw_only=True, gc=False):
    """A reply body or a part of one. Readers pass over fields that they do not know."""


def shape(*absent: str, **given: str) -> dict[str, Any]:
    """The schema of an object whose fields `given` are of these JSON types, and those of `absent` null or left out."""
    types = {**given, **dict.fromkeys(absent, "null")}
    return {"properties": {name: {"type": kind} for name, kind in types.items()}, "required": list(given)}


class Behind(Reply, frozen=True, kw_only=True):
    """How far the answering node may be behind one peer region."""

    entries: Annotated[int, Meta(ge=0)]
    """Entries that the peer said it has and this node has not applied."""
    heard_ms_ago: int | None
    """Milliseconds since anything was heard of the peer; null when nothing has been since this node started."""


class ReadReply(Reply, frozen=True, kw_only=True):
    """What every read says of itself: who answered, as of which clock, and what it may not have seen."""

    region: str
    as_of: ClockToken
    """Clock token: what the answer takes into account. Send it as ``Credit-Clock`` to read no less elsewhere."""
    behind: dict[str, Behind]


class PageReply(ReadReply, frozen=True, kw_only=True):
    """One page of a list."""

    has_more: bool
    next: str | None
    """What to send as ``after`` for the next page; null on the last."""
