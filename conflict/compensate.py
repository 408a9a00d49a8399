"""The entries that close the difference between what was recorded and what canonical order says.

For each operation that a region accepted, and no other region, it posts

    canonical effect − (recorded effect + compensations so far)

as an entry that refers to the operation. One entry may carry the differences of many operations of a tenant; its
postings are their sum. Compensations take no part in the fold, so they can set off no further conflict, and one round
of them per region is always enough.
"""

from collections.abc import Iterable, Iterator

from conflict.contest import Contest
from ledger.operation import Compensation, Difference
from ledger.posting import Postings, total
from replication.entry import MAX_POSTING


def compensations(
    contests: Iterable[Contest], region: str, at_most: int, postings_at_most: int
) -> Iterator[tuple[Compensation, Postings]]:
    """The compensation entries that `region` owes for `contests`: contents and postings.

    Each for `at_most` operations, with `postings_at_most` postings in its parts, and with sums within `MAX_POSTING`
    (one part may have more), so that an entry keeps within its bounds.
    """
    parts: list[Difference] = []
    count = moved = 0
    for contest in contests:
        rest = contest.open_difference
        if contest.loser.position.region != region or not rest:
            continue
        size = sum(map(abs, rest.values()))
        if parts and (len(parts) == at_most or count + len(rest) > postings_at_most or moved + size > MAX_POSTING):
            yield _entry(parts)
            parts, count, moved = [], 0, 0
        parts.append(Difference(contest.loser.entry.replica, contest.loser.entry.seq, rest))
        count += len(rest)
        moved += size
    if parts:
        yield _entry(parts)


def _entry(parts: list[Difference]) -> tuple[Compensation, Postings]:
    return Compensation(tuple(parts)), total(part.postings for part in parts)
