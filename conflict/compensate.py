"""The entries that close the difference between what was recorded and what canonical order says.

For each operation that a region accepted, and no other region, it posts

    canonical effect − (recorded effect + compensations so far)

as an entry that refers to the operation. One entry may carry the differences of many operations of a tenant; its
postings are their sum. Compensations take no part in the fold, so they can set off no further conflict, and one round
of them per region is always enough.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from conflict.contest import Contest
from ledger.operation import Compensation, Difference
from ledger.posting import Postings, total


def compensations(contests: Iterable[Contest], region: str, at_most: int) -> Iterator[tuple[Compensation, Postings]]:
    """The compensation entries that `region` owes for `contests`: contents and postings, `at_most` operations each."""
    owed = (
        Difference(contest.loser.entry.replica, contest.loser.entry.seq, rest)
        for contest in contests
        if contest.loser.position.region == region and (rest := contest.open_difference)
    )
    while differences := tuple(islice(owed, at_most)):
        yield Compensation(differences), total(difference.postings for difference in differences)
