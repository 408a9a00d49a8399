"""A finding: one thing that does not add up, what it rests on, and the operation that would settle it.

A finding's id is made from what it rests on and, where that was settled before and goes wrong again, from how often it
was (`unsettled_id`). So every region that knows the same finds the same under the same id, for as long as it stands,
and what has been settled under an id does not stand under it any more. The id is the idempotency key of its operation.
That is posted at most once, whoever asks for it where; the request is the finding, whatever its operation has become.

An id tells by itself whether it is one, so that what has gone is told from what never was. That of a difference in the
books names the entry and counts the amends made before, because a compensation has no key to find it by.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from itertools import count
from typing import Final, NamedTuple

from msgspec import Struct

from ledger.command import GrantCredit, ReleaseHold, ReportUsage
from ledger.ids import Key, LotId, TenantId, derived
from ledger.operation import Compensation
from replication.clock import REPLICA_PATTERN, Dot

KEY_PREFIX: Final = "reconciliation:"
_STEM_DIGITS: Final = 16
_CHECK_DIGITS: Final = 8
_REQUEST_DIGITS: Final = 16

_is_stem = re.compile(rf"^[0-9a-f]{{{_STEM_DIGITS}}}\Z").match
_is_number = re.compile(r"^[0-9]{1,16}\Z").match
_is_replica = re.compile(REPLICA_PATTERN).match


class FindingKind(StrEnum):
    """In what way things do not add up."""

    NEVER_STARTED = "never_started"
    """Credit is reserved for a job of which nothing is heard."""
    RUNNING_UNRESERVED = "running_unreserved"
    """A job runs, or ran, for which nothing is reserved, and has not been charged for all of that time."""
    LAPSED_RUNNING = "lapsed_running"
    """A job went on after its reservation had ended without it."""
    UNFINISHED_USAGE = "unfinished_usage"
    """A job runs no more, and nobody has said that it has finished."""
    NEGATIVE_BALANCE = "negative_balance"
    """A tenant owes."""
    BOOKS_DIFFER = "books_differ"
    """Canonical order makes of an operation what the books do not say yet."""


_KINDS: Final = frozenset(kind.value for kind in FindingKind)

Remedy = ReleaseHold | ReportUsage | GrantCredit | Compensation
"""What would settle a finding."""


class Place(NamedTuple):
    """The order of findings: the longest standing first, and of those the ones that rest on the same thing together."""

    since: int
    rests_on: str


class Finding(Struct, frozen=True, gc=False):
    """One finding. ``remedy`` is None where ``why_not`` says why there is none."""

    id: str
    kind: FindingKind
    tenant: TenantId
    subject: str
    """The reservation, the job, or the tenant."""
    place: Place
    """Where it stands in a list."""
    detail: str
    entries: tuple[Dot, ...]
    """The first of those that it rests on."""
    remedy: Remedy | None
    why_not: str | None = None
    region: str | None = None
    """The region that must act, where not every one can."""

    @property
    def since(self) -> int:
        """For how long it stands: since when, in ms."""
        return self.place.since


class Sighting(Struct, frozen=True):
    """That there is a finding. To count or pass over many it need not be known what they are called and would cost."""

    kind: FindingKind
    place: Place
    name: Callable[[], str]
    tell: Callable[[str], Finding]

    def found(self) -> Finding:
        """All that there is to say of it."""
        return self.tell(self.name())

    def is_called(self, name: str) -> bool:
        """Whether it has this id."""
        return name.startswith(f"{self.kind}.") and self.name() == name


def finding_id(kind: FindingKind, tenant: TenantId, subject: str, *rests_on: str) -> str:
    """The id of a finding that rests on these things."""
    stem = derived(kind, tenant, subject, *rests_on)[:_STEM_DIGITS]
    return f"{kind}.{stem}{_check(kind, tenant, stem)}"


def unsettled_id(
    is_settled: Callable[[str], bool], kind: FindingKind, tenant: TenantId, subject: str, *rests_on: str
) -> str:
    """The first id of a finding that rests on these things under which nothing has been settled.

    It is counted how often they were settled, and not said by which entries: two regions that have not heard of each
    other's may then go on under one id, and one of their operations is the duplicate of the other.
    """
    again = ([] if times == 0 else [str(times)] for times in count())
    names = (finding_id(kind, tenant, subject, *rests_on, *times) for times in again)
    return next(name for name in names if not is_settled(name))


def is_finding_id(tenant: TenantId, name: str) -> bool:
    """Whether this is the id of a finding about a tenant, standing or not, that `finding_id` made."""
    kind, _, digits = name.partition(".")
    stem = digits[:_STEM_DIGITS]
    return kind in _KINDS and _is_stem(stem) is not None and digits == stem + _check(kind, tenant, stem)


def difference_id(loser: Dot, amends: int) -> str:
    """The id of a difference in the books: of which entry, after how many amends."""
    return f"{FindingKind.BOOKS_DIFFER}.{loser.replica.replace('/', '.')}.{loser.seq}.{amends}"


def difference_in(name: str) -> tuple[Dot, int] | None:
    """The entry and the count that `difference_id` was given; None if this is no such id."""
    match name.split("."):
        case [FindingKind.BOOKS_DIFFER, region, boot, seq, amends] if (
            _is_replica(f"{region}/{boot}") and _is_number(seq) and _is_number(amends)
        ):
            return Dot(f"{region}/{boot}", int(seq)), int(amends)
        case _:
            return None


def key_of(name: str) -> Key:
    """The idempotency key under which a finding is settled."""
    return Key(KEY_PREFIX + name)


def request_of(name: str) -> str:
    """The fingerprint of asking for a finding: not of its operation, which two regions may see differently."""
    return derived("finding", name)[:_REQUEST_DIGITS]


def write_off(name: str) -> LotId:
    """The lot that is granted to settle a debt."""
    return LotId(f"write-off-{name.rpartition('.')[2]}")


def _check(kind: str, tenant: TenantId, stem: str) -> str:
    return derived("finding", kind, tenant, stem)[:_CHECK_DIGITS]
