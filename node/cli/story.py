"""One conflict told in full: what happened in a few sentences, the diagram, and every figure that it rests on."""

from collections.abc import Iterator, Sequence
from typing import Final, assert_never

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from creditmesh import wire
from creditmesh.wire import ConflictKind, ConflictState
from node.cli.diagram import COMPENSATION, LOSER, MAX_RIVALS_DRAWN, RIVAL, STYLES, Names, draw, names_in
from node.cli.moment import shown_clock, shown_duration, shown_time
from node.cli.output import amount, facts, postings, printable, signed, table

STATE_STYLES: Final = {
    ConflictState.DETECTED: "bold yellow",
    ConflictState.COMPENSATED: "cyan",
    ConflictState.REPAID: "green",
    ConflictState.CLEARED: "dim",
}


def tell(conflict: wire.Conflict, regions: Sequence[str]) -> Iterator[RenderableType]:
    """Everything that is known of a conflict; `regions` are the cluster's, in the order of the diagram's lanes."""
    names = names_in(conflict)
    yield Text.assemble(
        (conflict.kind.value, "bold"),
        "  ",
        (conflict.state.value, STATE_STYLES[conflict.state]),
        "  ",
        (conflict.id, "dim"),
    )
    yield Text(what_happened(conflict))
    yield Text()
    yield from draw(conflict, regions)
    yield Text()
    yield from _contenders(conflict, names)
    yield _clocks(conflict, names)
    yield _lots(conflict)
    if conflict.compensations:
        yield _compensations(conflict, names)
    if conflict.acknowledged:
        yield _acknowledged(conflict)
    yield facts(
        **{name: replica for replica, name in names.of.items()},
        tenant=conflict.tenant,
        amount=f"{conflict.amount:,} moved otherwise than recorded",
        debt=f"{conflict.debt:,}",
        detected="not yet" if conflict.detected_at is None else shown_time(conflict.detected_at),
    )


def what_happened(conflict: wire.Conflict) -> str:
    """The conflict in a few sentences."""
    loser = conflict.loser
    spent = "" if loser.amount is None else f" of {loser.amount:,}"
    elsewhere = ", ".join(sorted({rival.region for rival in conflict.rivals}))
    count = "one operation" if conflict.rival_count == 1 else f"{conflict.rival_count:,} operations"
    return (
        f"{loser.region} accepted a {loser.kind}{spent} of tenant {conflict.tenant} "
        f"at {shown_clock(loser.hlc[0])} UTC. "
        f"It had not heard of {count} that {elsewhere} had accepted earlier. "
        f"{_consequence(conflict)} {_what_became_of_it(conflict)}"
    )


def _consequence(conflict: wire.Conflict) -> str:
    loser = conflict.loser
    match conflict.kind:
        case ConflictKind.OVERSPEND:
            return f"In canonical order {conflict.debt:,} of its credit was spent already: that much is debt."
        case ConflictKind.DUPLICATE:
            return "The same request, claim or lot stands among them, so in canonical order this one does nothing."
        case ConflictKind.KEY_MISMATCH:
            return "Its idempotency key stands among them with another request, so in canonical order it does nothing."
        case ConflictKind.REVOKED if conflict.canonical_outcome == "revoked":
            return "In canonical order its credit was spent already, and the tenant's policy makes it void."
        case ConflictKind.REVOKED:
            debt = f": {conflict.debt:,} of it is debt" if conflict.debt else ""
            return f"In canonical order a lot that it counted on had been revoked{debt}."
        case ConflictKind.LEASE:
            return (
                f"In canonical order it found another lease: it is {conflict.canonical_outcome}, not {loser.outcome}."
            )
        case ConflictKind.OVERLAP:
            return "In canonical order another report of the job is charged for that time, in part or whole."
        case ConflictKind.REFUND:
            return "In canonical order the usage had been refunded, or paid for otherwise."
        case ConflictKind.REALLOCATED:
            return "In canonical order other lots pay for it; nobody owes anything more."
        case _:
            assert_never(conflict.kind)


def _what_became_of_it(conflict: wire.Conflict) -> str:
    region, first = conflict.loser.region, conflict.compensations[:1]
    later = f" {shown_duration(first[0].hlc[0] - conflict.loser.hlc[0])} later" if first else ""
    match conflict.state:
        case ConflictState.DETECTED:
            return f"{region} has yet to put its books right."
        case ConflictState.COMPENSATED:
            return f"{region} put its books right{later}."
        case ConflictState.REPAID:
            return f"{region} put its books right{later}, and the debt has been repaid since."
        case ConflictState.CLEARED:
            return f"{region} put its books right{later}; later entries took the difference back."
        case _:
            assert_never(conflict.state)


def _contenders(conflict: wire.Conflict, names: Names) -> Iterator[Table]:
    """Who took part: what each did, and under which names."""
    parties = [(LOSER, "loser", conflict.loser)]
    parties += [(RIVAL, f"rival {number}", rival) for number, rival in enumerate(conflict.rivals[:MAX_RIVALS_DRAWN], 1)]
    did = table("who", "entry", "accepted (UTC, count)", "operation", "amount#", "outcome")
    named = table("who", "claim", "idempotency key")
    for symbol, who, party in parties:
        name = Text(f"{symbol} {who}", style=STYLES[symbol])
        accepted = f"{shown_clock(party.hlc[0])} +{party.hlc[1]}"
        did.add_row(
            name, names.dot(party.replica, party.seq), accepted, party.kind, amount(party.amount), party.outcome
        )
        named.add_row(name, party.claim or "–", party.key or "–")
    yield did
    yield named


def _clocks(conflict: wire.Conflict, names: Names) -> Table:
    """What each had heard, of the logs that take part; where the loser's clock is short of a rival is marked."""
    missed: dict[str, int] = {}
    for rival in conflict.rivals:
        missed[rival.replica] = max(missed.get(rival.replica, 0), rival.seq)
    shown = table("vector clocks", *(f"{name}#" for name in names.of.values()))

    def cells(party: wire.Contender, *, is_loser: bool) -> Iterator[str | Text]:
        for replica in names.of:
            known = party.clock.get(replica, 0)
            short = is_loser and known < missed.get(replica, 0)
            yield Text(f"{known:,} < {missed[replica]:,}", style="bold red") if short else f"{known:,}"

    shown.add_row(Text(f"{LOSER} loser", style=STYLES[LOSER]), *cells(conflict.loser, is_loser=True))
    for number, rival in enumerate(conflict.rivals[:MAX_RIVALS_DRAWN], 1):
        shown.add_row(Text(f"{RIVAL} rival {number}", style=STYLES[RIVAL]), *cells(rival, is_loser=False))
    return shown


def _lots(conflict: wire.Conflict) -> Table:
    shown = table("account", "recorded#", "in canonical order#", "difference#")
    for lot in conflict.lots:
        difference = lot.canonical - lot.recorded
        shown.add_row(f"lot/{lot.lot}", signed(lot.recorded), signed(lot.canonical), signed(difference))
    if conflict.debt:
        shown.add_row("debt", "", "", Text(signed(-conflict.debt), style="bold red"))
    return shown


def _compensations(conflict: wire.Conflict, names: Names) -> Table:
    shown = table("put right by", "posted (UTC, count)", "postings for this operation")
    for entry in conflict.compensations:
        shown.add_row(
            Text(f"{COMPENSATION} {names.dot(entry.replica, entry.seq)}", style=STYLES[COMPENSATION]),
            f"{shown_clock(entry.hlc[0])} +{entry.hlc[1]}",
            postings(entry.postings),
        )
    return shown


def _acknowledged(conflict: wire.Conflict) -> Table:
    shown = table("acknowledged by", "at (UTC)", "in", "note")
    for said in conflict.acknowledged:
        at = shown_time(said.at).removesuffix("Z")
        shown.add_row(printable(said.by), at, said.region, printable(said.note or ""))
    return shown
