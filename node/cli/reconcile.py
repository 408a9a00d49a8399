"""Commands about what does not add up: what schedulers say of their jobs, what is found, and settling it."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from creditmesh import wire
from node.cli.exits import USAGE, Stop
from node.cli.moment import shown_clock, shown_time
from node.cli.output import amount, facts, postings, printable
from node.cli.reach import Node, on_node

STDIN: Final = Path("-")

reconcile_app = typer.Typer(help="What does not add up between reservations, usage and what schedulers say.")
jobs_app = typer.Typer(help="What schedulers say of their jobs.")


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    reconcile_app.command("list")(on_node(list_findings))
    reconcile_app.command("apply")(on_node(apply_finding))
    jobs_app.command("put")(on_node(put_jobs))
    app.add_typer(reconcile_app, name="reconcile")
    app.add_typer(jobs_app, name="jobs")


def list_findings(
    node: Node,
    *,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    kind: Annotated[wire.FindingKind | None, typer.Option(help="Only of this kind.")] = None,
    after: Annotated[str | None, typer.Option(help="Where an earlier page ended.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=wire.MAX_PAGE)] = 50,
) -> None:
    """What does not add up, as one node sees it, the longest standing first."""
    reply = node.ask(lambda client: client.reconciliation(tenant=tenant, kind=kind, after=after, limit=limit))
    counts = "; ".join(f"{count:,} {kind}" for kind, count in reply.counts.items() if count)
    known = "; ".join(f"{source.source}, {source.jobs:,} jobs at {shown_time(source.at)}" for source in reply.sources)
    summary = facts(
        found=counts or "nothing",
        by_the_snapshots_of=known or "no scheduler",
        as_seen_in=f"{reply.region} at {shown_time(reply.at)}",
    )
    more = [Text(f"there is more: --after {reply.next}", style="dim")] if reply.has_more else []
    node.show(reply, *(Padding(_finding(finding), (0, 0, 1, 0)) for finding in reply.findings), summary, *more)


def _finding(finding: wire.Finding) -> Table:
    """One finding as a block, since its words need whole lines; the id, which is there to be copied, comes first."""
    about = finding.detail if finding.subject == finding.tenant else f"{finding.subject}: {finding.detail}"
    return facts(
        finding=Text(finding.id, style="bold"),
        tenant=finding.tenant,
        since=shown_time(finding.since // 1000 * 1000),
        what=printable(about),
        settled_by=_operation(finding),
    )


def _operation(finding: wire.Finding) -> str:
    operation = finding.operation
    if operation is None:
        return f"nobody: {printable(finding.why_not or '')}"
    where = f" in {finding.region}" if finding.region is not None else ""
    match operation.kind:
        case "usage":
            cost = operation.body.get("amount")
            what = "final usage" if operation.body.get("final") else "usage"
            return what if cost is None else f"{what} of {amount(cost)}"
        case "grant":
            return f"a grant of {amount(operation.body['amount'])}"
        case _:
            return f"a {operation.kind}{where}"


def apply_finding(
    node: Node,
    tenant: Annotated[str, typer.Argument(help="Whose finding it is.", show_default=False)],
    finding: Annotated[str, typer.Argument(help="Its id, as listed.", show_default=False)],
) -> None:
    """Post the operation that settles a finding: once, however often it is asked for."""
    reply = node.ask(lambda client: client.apply_finding(tenant, finding))
    entry = reply.entry
    node.show(
        reply,
        facts(
            finding=reply.finding,
            settled_by=f"{entry.kind} {entry.replica}:{entry.seq}{' (before)' if reply.replayed else ''}",
            at=shown_clock(entry.hlc[0]),
            outcome=entry.outcome,
            postings=postings(entry.postings) or "none",
            answered_by=reply.region,
        ),
    )


def put_jobs(
    node: Node,
    file: Annotated[Path, typer.Argument(help="JSON, as PUT /v1/jobs takes it; - for stdin.", show_default=False)],
) -> None:
    """Tell a node what a scheduler knows of its jobs, in the place of all that it said before."""
    asked = _read(file)
    reply = node.ask(lambda client: client.put_jobs(asked.source, asked.jobs, at=asked.at))
    node.show(
        reply,
        facts(
            source=reply.source,
            jobs=f"{reply.jobs:,} at {shown_time(reply.at)}",
            taken="yes" if reply.taken else "no: a later snapshot is there",
            unknown_tenants=_unknown(reply),
            kept_in=reply.region,
        ),
    )


def _read(file: Path) -> wire.JobsRequest:
    try:
        content = typer.get_binary_stream("stdin").read() if file == STDIN else file.read_bytes()
        return msgspec.json.decode(content, type=wire.JobsRequest)
    except OSError as error:
        raise Stop(USAGE, f"{file}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Stop(USAGE, f"{file}: {error}") from None


def _unknown(reply: wire.JobsReply) -> str:
    named = ", ".join(reply.unknown_tenants)
    rest = reply.unknown_tenant_count - len(reply.unknown_tenants)
    return f"{named} and {rest:,} more" if rest else named or "none"
