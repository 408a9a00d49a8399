"""Whether a region's log is what it must be: checked from its export alone, against what clients were told.

- Every log has no gap, and each of its entries names the hash of the one before.
- The postings of every entry sum to zero.
- An acknowledged request stands in the log exactly once, under the dot that was acknowledged, and as it was asked.
- Of the entries that stand under one idempotency key, at most one has effect: of the others, compensations take back
  every posting.
- A refused request does not stand in the log.
- What each tenant owes is the sum of the postings on its debt.

It does not use the node's own view of anything but the export, and of debts the list that is compared.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from creditmesh import Dot, wire
from creditmesh.history import Ending, Record, verdicts
from ledger.posting import DEBT, Postings, add_into

AT_MOST: Final = 5
"""Findings of one sort that are spelt out; the others are counted."""

COMPENSATION: Final = "compensation"
FIRST_PREV: Final = "00" * 32


@dataclass(slots=True)
class Kept:
    """What is remembered of an entry."""

    tenant: str
    key: str | None
    kind: str
    amount: int | None
    net: Postings
    """Its postings, and those of the compensations for it."""


@dataclass(slots=True)
class Log:
    """One region's export, as far as it has been read. ``clock`` is the export's beginning, then moves on."""

    region: str
    clock: dict[str, int] = field(default_factory=dict)
    kept: dict[Dot, Kept] = field(default_factory=dict)
    by_key: dict[tuple[str, str], list[Dot]] = field(default_factory=dict)
    debt: dict[str, int] = field(default_factory=dict)
    """By tenant; at most 0."""
    doubled: list[Dot] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    _heads: dict[str, str] = field(default_factory=dict)

    def add(self, entry: wire.ExportedEntry) -> None:
        """Takes the next entry of the export."""
        dot = Dot(entry.replica, entry.seq)
        if dot in self.kept:
            self.doubled.append(dot)
            return
        self._follow_chain(dot, entry)
        if sum(entry.postings.values()):
            self.broken.append(f"the postings of {shown(dot)} do not sum to zero")
        self.kept[dot] = Kept(entry.tenant, entry.key, entry.kind, entry.body.get("amount"), dict(entry.postings))
        if entry.key is not None:
            self.by_key.setdefault((entry.tenant, entry.key), []).append(dot)
        self.debt[entry.tenant] = self.debt.get(entry.tenant, 0) + entry.postings.get(DEBT, 0)
        if entry.kind == COMPENSATION:
            for replica, seq, postings in entry.body["of"]:
                if (compensated := self.kept.get(Dot(replica, seq))) is not None:
                    add_into(compensated.net, postings)

    def _follow_chain(self, dot: Dot, entry: wire.ExportedEntry) -> None:
        known = self.clock.get(dot.replica, 0)
        if dot.seq != known + 1:
            self.broken.append(f"log {dot.replica} goes from {known} to {dot.seq}")
        elif entry.prev != self._heads.get(dot.replica, FIRST_PREV if not known else entry.prev):
            self.broken.append(f"{shown(dot)} does not name the hash of the entry before it")
        self.clock[dot.replica] = dot.seq
        self._heads[dot.replica] = entry.hash


def findings(log: Log, records: Iterable[Record], debts: dict[str, int] | None) -> list[str]:
    """What is wrong with a region's log, as sentences.

    `debts` is what the region says that each tenant owes; None if the log does not begin at the beginning.
    """
    records = list(records)
    return [
        f"{log.region}: {finding}"
        for sort in (
            iter(log.broken),
            (f"{shown(dot)} stands in the export twice" for dot in log.doubled),
            _unkept_promises(log, records),
            _refused_but_there(log, records),
            _effects_twice(log),
            iter(()) if debts is None else _debts_that_differ(log, debts),
        )
        for finding in _at_most(sort)
    ]


def _unkept_promises(log: Log, records: list[Record]) -> Iterator[str]:
    for record in records:
        if record.ending is not Ending.ACCEPTED:
            continue
        dots = log.by_key.get((record.tenant, record.key), [])
        what = f"{record.kind} {record.key} of {record.tenant}"
        if record.dot is None:
            yield f"{what} was acknowledged without the name of its entry"
        elif record.dot not in log.kept:
            yield f"{what} was acknowledged as {shown(record.dot)}, which is missing"
        elif record.dot not in dots:
            yield f"{what} was acknowledged as {shown(record.dot)}, where another request stands"
        else:
            kept = log.kept[record.dot]
            if kept.kind != record.kind or (record.amount and kept.amount != record.amount):
                yield f"{what} of {record.amount} stands in the log as {kept.kind} of {kept.amount}"


def _refused_but_there(log: Log, records: list[Record]) -> Iterator[str]:
    for (tenant, key), verdict in verdicts(records).items():
        if verdict is Ending.REFUSED and (dots := log.by_key.get((tenant, key))):
            yield f"{key} of {tenant} was refused, but stands in the log as {shown(dots[0])}"


def _effects_twice(log: Log) -> Iterator[str]:
    for (tenant, key), dots in log.by_key.items():
        effective = [dot for dot in dots if log.kept[dot].net]
        if len(effective) > 1:
            yield f"{key} of {tenant} has effect {len(effective)} times: {', '.join(map(shown, effective))}"


def _debts_that_differ(log: Log, debts: dict[str, int]) -> Iterator[str]:
    for tenant in sorted({*log.debt, *debts}):
        posted, said = -log.debt.get(tenant, 0), debts.get(tenant, 0)
        if posted != said:
            yield f"{tenant} owes {posted:,} by its postings, but {said:,} by the list of debts"


def unequal_digests(digests: dict[str, str | None]) -> list[str]:
    """A finding if regions show different digests of canonical state."""
    if len(set(digests.values())) == 1 and None not in digests.values():
        return []
    return ["the digests differ: " + ", ".join(f"{region} {digest}" for region, digest in sorted(digests.items()))]


def unequal_reports(told: dict[str, list[wire.Conflict]]) -> list[str]:
    """A finding for each region that reports other conflicts than the first, or the same ones otherwise."""
    (first, expected), *others = told.items()
    by_id = {conflict.id: conflict for conflict in expected}
    wrong = []
    for region, listed in others:
        reported = {conflict.id: conflict for conflict in listed}
        differ = [name for name in sorted({*by_id, *reported}) if by_id.get(name) != reported.get(name)]
        if differ:
            wrong.append(f"{first} and {region} tell {len(differ)} conflicts differently: {differ[0]}")
    return wrong


def shown(dot: Dot) -> str:
    """A dot as people write it."""
    return f"{dot.replica}:{dot.seq}"


def _at_most(sort: Iterator[str]) -> Iterator[str]:
    count = 0
    for count, finding in enumerate(sort, 1):
        if count <= AT_MOST:
            yield finding
    if count > AT_MOST:
        yield f"… and {count - AT_MOST} more of these"
