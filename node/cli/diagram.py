"""The space-time diagram of a conflict, in text: a lane for each region, time downwards.

     time (UTC)       ap-south     eu-west      us-east
     12:00:07.412         │           ●╌╌╌╌╌╌╌╌╌╌╌✗│      rival eu-west:812
     12:00:07.955         │           │            ◆      loser us-east:655
                          │           ├───────────▶│      then us-east hears of it
     12:00:21.030         │           │            ■      compensation us-east:702

The dashed line is the gossip that did not get through: the rival's entry, of which the loser's region had not heard
when it accepted the loser. When it did hear is in nobody's log; it was before its first compensation, so the arrow
that says so has no time. The time of an entry is the physical part of its hybrid clock.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from creditmesh import wire
from node.cli.moment import shown_clock
from node.cli.output import signed
from replication.clock import region_of

WIDTH: Final = 100
TIME_COLUMN: Final = 15
TEXT_COLUMN: Final = 42
"""At least so much is left for words."""

MAX_LANES: Final = 5
"""In a larger cluster, only the regions that take part have one."""

MAX_RIVALS_DRAWN: Final = 6
LANE: Final = "│"
RIVAL, LOSER, COMPENSATION = "●", "◆", "■"
LOST_STYLE: Final = "red"
STYLES: Final = {RIVAL: "bold yellow", LOSER: "bold red", COMPENSATION: "bold green"}


@dataclass(frozen=True, slots=True)
class Names:
    """How replicas are called in a diagram: by region; where a region has several boots in it, these are numbered."""

    of: dict[str, str]

    def dot(self, replica: str, seq: int) -> str:
        """An entry's name."""
        return f"{self.of[replica]}:{seq}"


def names_in(conflict: wire.Conflict) -> Names:
    """Names for the replicas whose entries take part."""
    parties = {party.replica for party in (conflict.loser, *conflict.rivals)}
    replicas = sorted(parties | {entry.replica for entry in conflict.compensations})
    boots: dict[str, list[str]] = {}
    for replica in replicas:
        boots.setdefault(region_of(replica), []).append(replica)
    return Names(
        {
            replica: region if len(of_region) == 1 else f"{region}#{number}"
            for region, of_region in boots.items()
            for number, replica in enumerate(of_region, 1)
        }
    )


class Lanes:
    """Where the lanes of the regions are, and what a line across them looks like."""

    def __init__(self, regions: Sequence[str]) -> None:
        room = (WIDTH - TIME_COLUMN - TEXT_COLUMN) // len(regions)
        self.cell = max(5, min(room, max(len(region) for region in regions) + 3))
        self._centre = {region: index * self.cell + self.cell // 2 for index, region in enumerate(regions)}
        self.width = self.cell * len(regions)

    def head(self) -> Text:
        """The names of the regions over their lanes."""
        cells = []
        for region in self._centre:
            name = region if len(region) < self.cell else region[: self.cell - 2] + "…"
            cells.append(name.center(self.cell))
        return Text("".join(cells), style="bold")

    def row(self) -> list[tuple[str, str]]:
        """Nothing but lanes: characters with their styles."""
        row = [(" ", "")] * self.width
        for place in self._centre.values():
            row[place] = (LANE, "dim")
        return row

    def mark(self, region: str, symbol: str) -> list[tuple[str, str]]:
        """An entry on its region's lane."""
        row = self.row()
        row[self._centre[region]] = (symbol, STYLES[symbol])
        return row

    def message(self, row: list[tuple[str, str]], start: str, end: str, *, lost: bool) -> None:
        """Draws a message between two lanes into a row."""
        first, last = self._centre[start], self._centre[end]
        if first == last:
            return
        step = 1 if last > first else -1
        line, style = ("╌", LOST_STYLE) if lost else ("─", "green")
        for place in range(first + step, last, step):
            row[place] = ("┼" if row[place][0] == LANE else line, style)
        row[last - step] = ("✗" if lost else "▶" if step > 0 else "◀", f"bold {style}")
        if row[first][0] == LANE:
            row[first] = ("├" if step > 0 else "┤", style)


def draw(conflict: wire.Conflict, regions: Sequence[str]) -> Iterator[Text]:
    """The lines of the diagram; `regions` are the cluster's, in the order of their lanes."""
    lanes = Lanes(_with_lanes(conflict, regions))
    names = names_in(conflict)
    home = conflict.loser.region
    yield Text.assemble("time (UTC)".ljust(TIME_COLUMN), lanes.head())
    for rival in conflict.rivals[:MAX_RIVALS_DRAWN]:
        row = lanes.mark(rival.region, RIVAL)
        lanes.message(row, rival.region, home, lost=True)
        yield from _event(lanes, rival.hlc, row, _rival_words(conflict, rival, names))
    unseen = conflict.rival_count - min(len(conflict.rivals), MAX_RIVALS_DRAWN)
    if unseen:
        yield _line("", lanes.row(), Text(f"and {unseen:,} more rivals", style="dim"))
        yield _line("", lanes.row())
    yield from _event(lanes, conflict.loser.hlc, lanes.mark(home, LOSER), _loser_words(conflict, names))
    if not conflict.compensations:
        yield _line("", lanes.row(), Text("no compensation is known here yet", style="dim"))
        return
    for region in sorted({rival.region for rival in conflict.rivals} - {home}):
        row = lanes.row()
        lanes.message(row, region, home, lost=False)
        yield _line("", row, Text(f"{home} hears what {region} had accepted", style="dim"))
    yield _line("", lanes.row())
    for entry in conflict.compensations:
        row = lanes.mark(region_of(entry.replica), COMPENSATION)
        yield from _event(lanes, entry.hlc, row, _compensation_words(entry, names))


def _with_lanes(conflict: wire.Conflict, regions: Sequence[str]) -> list[str]:
    """All regions, if there is room for them; else those that take part."""
    taking_part = {party.region for party in (conflict.loser, *conflict.rivals)}
    taking_part |= {region_of(entry.replica) for entry in conflict.compensations}
    shown = regions if len(regions) <= MAX_LANES else [region for region in regions if region in taking_part]
    return [*shown, *sorted(taking_part.difference(regions))]


def _event(lanes: Lanes, hlc: wire.Hlc, row: list[tuple[str, str]], words: Sequence[Text]) -> Iterator[Text]:
    yield _line(shown_clock(hlc[0]), row, words[0])
    for line in words[1:]:
        yield _line("", lanes.row(), line)
    yield _line("", lanes.row())


def _line(time: str, row: list[tuple[str, str]], words: Text | None = None) -> Text:
    line = Text(time.ljust(TIME_COLUMN))
    for character, style in row:
        line.append(character, style=style)
    if words is not None:
        line.append("  ")
        line.append_text(words)
    line.rstrip()
    line.truncate(WIDTH, overflow="ellipsis")
    return line


def _rival_words(conflict: wire.Conflict, rival: wire.Contender, names: Names) -> list[Text]:
    known = conflict.loser.clock.get(rival.replica, 0)
    gap = f"{conflict.loser.region} had heard up to :{known}" if known else f"{conflict.loser.region} had heard nothing"
    return [
        Text.assemble(("rival ", STYLES[RIVAL]), names.dot(rival.replica, rival.seq)),
        Text(_operation(rival)),
        Text(gap, style=LOST_STYLE),
    ]


def _loser_words(conflict: wire.Conflict, names: Names) -> list[Text]:
    loser = conflict.loser
    words = [
        Text.assemble(("loser ", STYLES[LOSER]), names.dot(loser.replica, loser.seq)),
        Text(_operation(loser)),
    ]
    if conflict.canonical_outcome != loser.outcome:
        words.append(Text(f"recorded as {loser.outcome}, in order {conflict.canonical_outcome}"))
    words += [Text(f"{lot.lot}: {signed(lot.recorded)}, in order {signed(lot.canonical)}") for lot in conflict.lots]
    if conflict.debt:
        words.append(Text(f"debt: {conflict.debt:,}", style="bold red"))
    return words


def _compensation_words(entry: wire.CompensatingEntry, names: Names) -> list[Text]:
    head = Text.assemble(("compensation ", STYLES[COMPENSATION]), names.dot(entry.replica, entry.seq))
    return [head, *(Text(f"{account} {signed(posted)}") for account, posted in sorted(entry.postings.items()))]


def _operation(party: wire.Contender) -> str:
    amount = "" if party.amount is None else f" {party.amount:,}"
    claim = "" if party.claim is None else f" {party.claim}"
    return f"{party.kind}{amount}{claim}"
