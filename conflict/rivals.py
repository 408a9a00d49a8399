"""The rivals of a loser, found without looking at every entry.

A loser's clock covers each log up to some number, and canonical order follows the numbers within a log. So the rivals
in one log, the operations that the loser had not seen and that stand before it, are a stretch: from the first that its
clock does not cover to the last before its place. Both ends are found by bisection.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from ledger.ids import LotId, Position
from replication.filed import Filed

MAX_RIVALS: Final = 16
"""A report names the first so many rivals, and says how many there are."""


class Rivals(Struct, frozen=True, gc=False):
    """Where the first rivals of a loser stand, how many there are, and what of them decides the conflict's kind."""

    first: tuple[Position, ...]
    count: int
    revoked: tuple[LotId, ...]
    """The lots that rivals revoked."""
    is_other_request: bool
    """Whether the loser's key was used by an earlier operation for another request."""


class RivalIndex:
    """The places of operations, log by log."""

    def __init__(self, places: Iterable[Position]) -> None:
        """Index `places`, which are in canonical order."""
        self._logs: dict[str, list[Position]] = {}
        self._seqs: dict[str, list[int]] = {}
        for place in places:
            replica = f"{place.region}/{place.boot}"
            self._logs.setdefault(replica, []).append(place)
            self._seqs.setdefault(replica, []).append(place.seq)

    def of(self, loser: Filed, at_most: int) -> tuple[list[Position], int]:
        """The places of the first `at_most` rivals, in canonical order, and how many there are."""
        first: list[Position] = []
        count = 0
        for replica, places in self._logs.items():
            if replica == loser.entry.replica:
                continue
            start = bisect_right(self._seqs[replica], loser.others.get(replica, 0))
            stop = bisect_left(places, loser.position)
            if stop > start:
                count += stop - start
                first += places[start : min(stop, start + at_most)]
        first.sort()
        return first[:at_most], count
