"""Commands about a tenant's rules."""

from typing import Annotated

import typer
from rich.console import RenderableType

from creditmesh import wire
from node.cli.credit import Key, Tenant
from node.cli.moment import shown_time
from node.cli.output import amount, facts, table
from node.cli.reach import Node, on_node

policy_app = typer.Typer(help="What becomes of overspending, and what a tenant may hold and owe.")


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    policy_app.command("show")(on_node(show_policy))
    policy_app.command("set")(on_node(set_policy))
    app.add_typer(policy_app, name="policy")


def show_policy(node: Node, tenant: Tenant) -> None:
    """The rules that count now, and how they came to be."""
    reply = node.ask(lambda client: client.policy(tenant))
    shown = table("since", "entry", "on overspend", "admission", "most held#", "most owed#")
    for change in reply.history:
        shown.add_row(
            shown_time(change.since),
            change.entry,
            change.on_overspend.value,
            change.admission.value,
            amount(change.max_held),
            amount(change.debt_limit),
        )
    node.show(reply, _rules(reply.policy), *([shown] if reply.history else []))


def set_policy(
    node: Node,
    tenant: Tenant,
    *,
    on_overspend: Annotated[
        wire.OnOverspend, typer.Option(help="What becomes of a reservation whose credit was spent earlier elsewhere.")
    ] = wire.OnOverspend.DEBT,
    admission: Annotated[
        wire.Admission, typer.Option(help="What a region may spend: all there is, or its own shares only.")
    ] = wire.Admission.OPTIMISTIC,
    max_held: Annotated[int | None, typer.Option(min=0, help="The most that may be held. Default: no limit.")] = None,
    debt_limit: Annotated[int | None, typer.Option(min=0, help="The most that debits may owe. Default: none.")] = None,
    key: Key = None,
) -> None:
    """Set the rules, all of them: what is left out has its default."""
    reply = node.write(
        key,
        lambda client, key: client.set_policy(
            tenant, on_overspend=on_overspend, admission=admission, max_held=max_held, debt_limit=debt_limit, key=key
        ),
    )
    node.show(reply, _rules(reply, since=shown_time(reply.since), accepted_in=reply.region))


def _rules(policy: wire.Policy, **more: str) -> RenderableType:
    return facts(
        on_overspend=policy.on_overspend.value,
        admission=policy.admission.value,
        most_held=amount(policy.max_held) or "no limit",
        most_owed=amount(policy.debt_limit) or "no limit",
        **more,
    )
