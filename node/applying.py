"""Applying a finding: the operation that would settle it is posted, once, however often and wherever it is asked for.

The finding's id is the idempotency key. Whoever asks again gets the first entry again, in any region that has it. An
operation that the ledger refuses leaves nothing behind, as always.
"""

from typing import Final

from msgspec import Struct

from ledger.ids import TenantId
from ledger.operation import Compensation, Content, Grant, Release, Usage
from ledger.refusal import Reason, Refusal, invalid, not_found
from node.finding import Finding, FindingKind, difference_in, is_finding_id, key_of
from node.reconcile import standing
from node.region import Accepted, Region

_SETTLED_BY: Final[dict[FindingKind, type[Content]]] = {
    FindingKind.NEVER_STARTED: Release,
    FindingKind.RUNNING_UNRESERVED: Usage,
    FindingKind.LAPSED_RUNNING: Usage,
    FindingKind.UNFINISHED_USAGE: Usage,
    FindingKind.NEGATIVE_BALANCE: Grant,
    FindingKind.BOOKS_DIFFER: Compensation,
}


class Gone(Struct, frozen=True):
    """The finding does not stand here, and was not applied as far as this region knows."""

    finding: str


Applied = Accepted | Refusal | Gone
"""What becomes of asking for it."""


def apply(region: Region, tenant: TenantId, name: str, found: Finding | None, now: int) -> Applied:
    """Settle the finding `name` of a tenant at `now` (ms).

    `found` is what a run has just found under that name, or None; it is looked at again before anything is posted.
    """
    if region.books.existing(tenant, now) is None:
        return not_found("tenant", tenant)
    difference = difference_in(name)
    if difference is None and not is_finding_id(tenant, name):
        return not_found("finding", name)
    before = _posted(region, tenant, name, now) if difference is None else _amended(region, tenant, name, now)
    if before is not None:
        return before
    finding = standing(region, found, now) if found is not None else None
    if finding is None:
        return Gone(name)
    if finding.remedy is None:
        return invalid("finding", f"names one without an operation: {finding.why_not}")
    if finding.region is not None and finding.region != region.settings.region:
        return invalid("finding", f"names one that the region {finding.region} has to settle; apply it there")
    if not isinstance(finding.remedy, Compensation):
        return region.submit(tenant, finding.remedy, key_of(name), now)
    assert difference is not None
    posted = region.amend(tenant, difference[0], now)
    if posted is None:
        return invalid("finding", "names one whose compensation cannot be posted: see the alarms")
    return Accepted(posted, replayed=False)


def _posted(region: Region, tenant: TenantId, name: str, now: int) -> Accepted | Refusal | None:
    """What stands under the key of a finding."""
    before = region.accepted_under(tenant, key_of(name), now)
    if before is None or isinstance(before.filed.entry.content, _SETTLED_BY[FindingKind(name.partition(".")[0])]):
        return before
    detail = "the key of the finding was used for another request"
    return Refusal(Reason.IDEMPOTENCY_MISMATCH, detail, {"key": key_of(name)})


def _amended(region: Region, tenant: TenantId, name: str, now: int) -> Accepted | Refusal | None:
    """The compensation of an entry that came after so many others of it as the name of the difference says."""
    difference = difference_in(name)
    assert difference is not None
    loser, count = difference
    posted = region.conflicts.amends(tenant, loser, now)
    if posted is None or count > len(posted):
        return not_found("finding", name)
    return Accepted(posted[count], replayed=True) if count < len(posted) else None
