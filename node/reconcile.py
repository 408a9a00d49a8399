"""Reconciliation: a run over all tenants, for what does not add up.

A run looks at every tenant of which something is open (`Region.tenants_at_work`), one after the other; what there is to
find of one says `node.examine`. Tenants that are not in memory are read from their rows, and let go again.

The work is cut into slices, so that whoever hosts the region can serve requests in between. So a finding may be out of
date when the run is over; `standing` looks at it again. What is only counted, or is on another page, costs little: what
it is called and what would settle it is found out for what was asked for.
"""

from bisect import insort
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Final, assert_never

from ledger.ids import ClaimId, JobId, TenantId
from node.examine import Examination
from node.finding import Finding, FindingKind, Place, Sighting
from node.region import Region
from node.snapshots import Source

_SLICE: Final = 100
"""Rows that are read, and reservations or jobs that are looked at, without a pause."""


class Reconciliation:
    """What a run is asked for, and what it found.

    Asked for are the findings about `tenant` (None: about all), those of them that are `wanted`, behind the place
    `after`, at most `limit` of them. ``found`` has them in order, and one more if there are more; ``counts`` counts all
    that the tenant has, wanted or not.
    """

    def __init__(
        self,
        tenant: TenantId | None = None,
        wanted: Callable[[Sighting], bool] = lambda _: True,
        after: Place | None = None,
        limit: int = 0,
    ) -> None:
        self.tenant = tenant
        self.at = 0
        """When it began, in ms."""
        self.sources: list[Source] = []
        """The schedulers that had spoken by then."""
        self.counts: dict[FindingKind, int] = dict.fromkeys(FindingKind, 0)
        self.found: list[Finding] = []
        self._seen: list[Sighting] = []
        self._wanted = wanted
        self._after = after
        self._limit = limit

    def add(self, sighting: Sighting) -> None:
        """One more."""
        self.counts[sighting.kind] += 1
        if self._after is not None and sighting.place <= self._after:
            return
        is_full = len(self._seen) > self._limit
        if (not is_full or sighting.place < self._seen[-1].place) and self._wanted(sighting):
            insort(self._seen, sighting, key=attrgetter("place"))
            del self._seen[self._limit + 1 :]

    def tell(self) -> Iterator[Finding]:
        """What there is to say of those that were asked for; it is all in ``found`` when this has been gone through."""
        for sighting in self._seen:
            self.found.append(finding := sighting.found())
            yield finding


def reconcile(region: Region, now: int, result: Reconciliation) -> Iterator[None]:
    """Fill `result`; yields where others may be served. `now` (ms) is when it was asked for."""
    result.at = region.present(now)
    result.sources = region.snapshots.sources()
    work = 0
    for tenant in region.tenants_at_work() if result.tenant is None else (result.tenant,):
        of_tenant = Examination(region, tenant, result.at)
        work += of_tenant.rows
        for sighting in of_tenant.everything():
            if sighting is not None:
                result.add(sighting)
            work += 1
            if work >= _SLICE:
                work = 0
                yield
    for _ in result.tell():
        work += 1
        if work >= _SLICE:
            work = 0
            yield


def standing(region: Region, finding: Finding, now: int) -> Finding | None:
    """The finding as it is at `now` (ms); None if it does not stand any more."""
    of_tenant = Examination(region, finding.tenant, region.present(now))
    match finding.kind:
        case FindingKind.NEGATIVE_BALANCE:
            seen = of_tenant.balance()
        case FindingKind.BOOKS_DIFFER:
            seen = of_tenant.books()
        case FindingKind.NEVER_STARTED:
            seen = of_tenant.reservation(ClaimId(finding.subject))
        case FindingKind.RUNNING_UNRESERVED | FindingKind.LAPSED_RUNNING | FindingKind.UNFINISHED_USAGE:
            seen = of_tenant.job(JobId(finding.subject))
        case _:
            assert_never(finding.kind)
    again = next((sighting for sighting in seen if sighting is not None and sighting.is_called(finding.id)), None)
    return None if again is None else again.found()
