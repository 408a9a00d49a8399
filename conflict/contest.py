"""One operation whose effect is contested: what is known of it, and what of it is still to be put right.

A contest exists for an operation while canonical order makes of it something else than its origin recorded, and for
ever once a compensation for it exists. It is a function of the entries known, so that every region that holds the same
entries holds the same contests.
"""

from operator import attrgetter

from msgspec import Struct

from conflict.detect import Canonical, Kind, classify, difference
from conflict.rivals import Rivals
from ledger.ids import Position
from ledger.posting import Postings, total
from replication.clock import Dot
from replication.filed import Filed


class Amends(Struct, frozen=True, gc=False, array_like=True):
    """What one compensation entry posted for one operation."""

    position: Position
    postings: Postings

    @property
    def dot(self) -> Dot:
        """The compensating entry's name."""
        return Dot(f"{self.position.region}/{self.position.boot}", self.position.seq)


class Contest(Struct, gc=False):
    """An operation, its effect in canonical order, and the amends made for it, in canonical order."""

    loser: Filed
    canonical: Canonical
    amends: list[Amends]
    is_counted: bool = False
    """Whether a metric has been told of it."""
    rivals: tuple[int, Rivals] | None = None
    """The rivals, and the version of the tenant's history for which they were found."""

    @property
    def compensated(self) -> Postings:
        """What the amends come to."""
        return total(amends.postings for amends in self.amends)

    @property
    def open_difference(self) -> Postings:
        """What is still to be posted; empty when the books match canonical order."""
        return difference(self.canonical.postings, self.loser.postings, self.compensated)

    @property
    def is_settled(self) -> bool:
        """Whether nothing more has to be posted."""
        return not self.open_difference

    @property
    def is_void(self) -> bool:
        """Whether there is nothing to report: the effect is as recorded, and no amends were ever made."""
        return not self.amends and self.is_cleared

    @property
    def is_cleared(self) -> bool:
        """Whether the effect is as recorded after all, although amends were made on the way."""
        loser, canonical = self.loser, self.canonical
        return canonical.postings == loser.postings and canonical.outcome == loser.outcome

    def add(self, amends: Amends) -> None:
        """Count a compensation, once."""
        if all(known.position != amends.position for known in self.amends):
            self.amends.append(amends)
            self.amends.sort(key=attrgetter("position"))

    def kind(self, rivals: Rivals) -> Kind:
        """What sort of conflict it is."""
        return classify(self.loser, self.canonical, rivals, [amends.postings for amends in self.amends])
