"""What a demo or a replay comes to, for people: jobs, operations, conflicts, debts, and whether the regions agree."""

from collections import Counter
from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from creditmesh import wire
from creditmesh.history import Ending, Statistics
from node.cli.drive import Agreement, Conflicts, Doings
from node.cli.output import amount, table


def work(doings: Doings) -> Iterator[RenderableType]:
    """Jobs by region, operations by kind."""
    jobs = table("scheduler", "jobs#", "run#", "not started#", "refusals#", "leases lost#", title="Jobs")
    for region, told in doings.by_region.items():
        jobs.add_row(region, *map(amount, _job_figures(told)))
    everywhere = [sum(column) for column in zip(*map(_job_figures, doings.by_region.values()), strict=True)]
    jobs.add_row("all", *map(amount, everywhere), style="bold")
    yield jobs
    yield _operations(doings.overall())


def _job_figures(told: Statistics) -> tuple[int, ...]:
    return told.jobs, told.finished, told.dropped, told.refusals, told.lost_leases


def _operations(overall: Statistics) -> Table:
    shown = table(
        "operation", "accepted#", "refused#", "unanswered#", "median ms#", "p99 ms#", title="Requests of all clients"
    )
    for kind in sorted({kind for kind, _ in overall.requests}):
        endings = [overall.requests[kind, ending] for ending in (Ending.ACCEPTED, Ending.REFUSED, Ending.UNKNOWN)]
        latencies = [overall.latency_ms(kind, quantile) for quantile in (0.5, 0.99)]
        shown.add_row(kind, *map(amount, endings), *("" if ms is None else f"{ms:.1f}" for ms in latencies))
    return shown


def conflicts(found: Conflicts) -> Table:
    """How many conflicts of each kind, and what became of them."""
    shown = table("kind", "conflicts#", "amount#", "debt#", "now", title="Conflicts")
    for kind, count in sorted(found.by_kind().items()):
        listed = [conflict for conflict in found.listed if conflict.kind.value == kind]
        states = Counter(conflict.state.value for conflict in listed)
        now = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
        shown.add_row(
            kind,
            amount(count),
            amount(sum(conflict.amount for conflict in listed)) if listed else "",
            amount(sum(conflict.debt for conflict in listed)) if listed else "",
            now or "counted only: nobody owes anything more",
        )
    return shown


def debts(owed: list[wire.TenantDebt]) -> RenderableType:
    """Who owes what."""
    if not owed:
        return Text("Nobody owes anything.\n")
    shown = table("tenant", "owes#", "for claims#", title="Debt by tenant")
    for tenant in owed:
        shown.add_row(tenant.tenant, amount(tenant.debt), amount(len(tenant.claims)))
    return shown


def agreement(agreed: Agreement, exported: Mapping[str, int], wrong: list[str]) -> Iterator[RenderableType]:
    """The regions side by side, and what was checked."""
    shown = table("region", "entries#", "digest of canonical state", "hash chains", "books", "export#", title="Regions")
    for region, state in agreed.states.items():
        audit = agreed.audits[region]
        intact = all(log.ok for log in audit.replicas)
        shown.add_row(
            region,
            amount(sum(state.clock.values())),
            state.digest or "",
            Text("intact", style="green") if intact else Text("BROKEN", style="bold red"),
            Text("= canonical", style="green") if audit.books_equal else Text("DIFFER", style="bold red"),
            Text(amount(exported[region]), style="green" if not wrong else "bold red"),
        )
    yield shown
    for finding in wrong:
        yield Text(finding, style="bold red")


def worth_telling(found: list[wire.Conflict]) -> wire.Conflict | None:
    """The conflict that says most: an overspend that was put right, with few rivals in several regions."""

    def merit(conflict: wire.Conflict) -> tuple[bool, bool, bool, int, int]:
        return (
            conflict.kind is wire.ConflictKind.OVERSPEND,
            bool(conflict.compensations),
            0 < conflict.rival_count <= 4,
            len({rival.region for rival in conflict.rivals}),
            conflict.debt,
        )

    return max(found, key=merit, default=None)
