"""Commands about one tenant's credit: what is given, reserved, used, given back, and what there is."""

from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from creditmesh import wire
from node.cli.exits import USAGE, Stop
from node.cli.moment import parse_duration, parse_time, shown_clock, shown_time
from node.cli.output import amount, facts, postings, table
from node.cli.reach import Node, on_node

Tenant = Annotated[str, typer.Argument(help="Whose credit.", show_default=False)]
Reservation = Annotated[str, typer.Argument(help="The reservation's id.", show_default=False)]
Amount = Annotated[int, typer.Argument(min=1, help="Credit, in the smallest unit.", show_default=False)]
MaybeAmount = Annotated[
    int | None, typer.Argument(min=1, help="Credit, in the smallest unit; or say --gpu.", show_default=False)
]
Gpu = Annotated[str | None, typer.Option("--gpu", help="Price it: the type of GPU.")]
Gpus = Annotated[int, typer.Option("--gpus", min=1, help="How many of them.")]
For = Annotated[
    int | None,
    typer.Option(
        "--for",
        parser=lambda given: given if isinstance(given, int) else parse_duration(given),
        metavar="DURATION",
        help="For how long: 90s, 2h, 3d …",
    ),
]
WorkClass = Annotated[str | None, typer.Option("--class", help="The class of work, whose multiplier counts.")]
Key = Annotated[str | None, typer.Option("--key", help="Idempotency key. Default: a new one.")]
At = Annotated[
    int | None, typer.Option("--at", parser=parse_time, metavar="TIME", help="When it was used. Default: now.")
]
Lease = Annotated[
    int,
    typer.Option(
        "--lease",
        parser=lambda given: given if isinstance(given, int) else parse_duration(given),  # the default is parsed too
        metavar="DURATION",
        show_default="10m",
        help="How long without a renewal: 30s, 10m, 2h …",
    ),
]
LEASE_MS: Final = 600_000


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    for command in (
        grant, revoke, transfer, quote, reserve, renew, capture, release, debit, refund, balance, lots, entries,
    ):  # fmt: skip
        app.command()(on_node(command))


# --- credit in ---------------------------------------------------------------------------------------------------


def grant(
    node: Node,
    tenant: Tenant,
    amount: Amount,
    *,
    expires: Annotated[
        int, typer.Option("--expires", parser=parse_time, metavar="TIME", help="30d (from now), 2031-01-31, ms …")
    ],
    starts: Annotated[
        int | None, typer.Option("--starts", parser=parse_time, metavar="TIME", help="Default: now.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Lots with the smaller number pay first.")] = 0,
    lot: Annotated[str | None, typer.Option(help="The lot's name. Default: made from the key.")] = None,
    weight: Annotated[
        list[str] | None, typer.Option(help="Under escrow: REGION=NUMBER, for each region that gets a share.")
    ] = None,
    key: Key = None,
) -> None:
    """Give credit to a tenant: a new lot."""
    reply = node.write(
        key,
        lambda client, key: client.grant(
            tenant,
            amount,
            expires_at=expires,
            starts_at=starts,
            priority=priority,
            lot=lot,
            weights=_weights(weight),
            key=key,
        ),
    )
    shares = ", ".join(f"{region} {part:,}" for region, part in (reply.shares or {}).items())
    node.show(
        reply,
        facts(
            lot=reply.lot,
            amount=f"{reply.amount:,}",
            live=f"{shown_time(reply.starts_at)} to {shown_time(reply.expires_at)}",
            priority=str(reply.priority),
            **({"shares": shares} if shares else {}),
            accepted_in=reply.region,
        ),
    )


def _weights(given: list[str] | None) -> dict[str, int] | None:
    if not given:
        return None
    parts = [text.rpartition("=") for text in given]
    if not all(region and number.isdecimal() for region, _, number in parts):
        raise Stop(USAGE, "--weight is REGION=NUMBER, such as us-east=2")
    return {region: int(number) for region, _, number in parts}


def revoke(
    node: Node,
    tenant: Tenant,
    lot: Annotated[str, typer.Argument(help="The lot to close.", show_default=False)],
    *,
    key: Key = None,
) -> None:
    """Close a lot: what remains of it is gone."""
    reply = node.write(key, lambda client, key: client.revoke(tenant, lot, key=key))
    node.show(reply, facts(lot=reply.lot, revoked=f"{reply.revoked:,}", accepted_in=reply.region))


def transfer(
    node: Node,
    tenant: Tenant,
    to: Annotated[str, typer.Argument(help="The tenant that gets it.", show_default=False)],
    amount: Amount,
    *,
    expires: Annotated[
        int | None,
        typer.Option("--expires", parser=parse_time, metavar="TIME", help="Default: with the first lot that pays."),
    ] = None,
    priority: Annotated[int, typer.Option(help="Of the new lot.")] = 0,
    key: Key = None,
) -> None:
    """Give credit of a tenant to another one, who gets a new lot."""
    reply = node.write(
        key,
        lambda client, key: client.transfer(tenant, to, amount, expires_at=expires, priority=priority, key=key),
    )
    shown = facts(
        transfer=reply.transfer,
        to=reply.to,
        amount=f"{reply.amount:,}",
        live=f"{shown_time(reply.starts_at)} to {shown_time(reply.expires_at)}",
        paid_by=_funding(reply.funding, reply.debt),
        accepted_in=reply.region,
    )
    node.show(reply, shown)


# --- reservations, usage, and credit back ------------------------------------------------------------------------


def quote(
    node: Node,
    tenant: Tenant,
    amount: MaybeAmount = None,
    *,
    gpu: Gpu = None,
    gpus: Gpus = 1,
    duration: For = None,
    work: WorkClass = None,
) -> None:
    """What a reservation would cost, and what would be left. Holds nothing."""
    asked = _amount_or_estimate(amount, gpu, gpus, duration, work)
    reply = node.ask(lambda client: client.quote(tenant, asked))
    shown = facts(
        tenant=reply.tenant,
        costs=Text(f"{reply.amount:,}", style="bold"),
        available=f"{reply.available:,}, {reply.available_after:,} after it",
        held=f"{reply.held:,}, {reply.held_after:,} after it",
        would_be="accepted" if reply.accepted else Text(f"refused: {reply.refusal}", style="bold red"),
        as_seen_in=f"{reply.region}{behind(reply.behind)}",
    )
    node.show(reply, shown)


def reserve(
    node: Node,
    tenant: Tenant,
    amount: MaybeAmount = None,
    *,
    gpu: Gpu = None,
    gpus: Gpus = 1,
    duration: For = None,
    work: WorkClass = None,
    lease: Lease = LEASE_MS,
    reservation: Annotated[str | None, typer.Option("--id", help="Its name. Default: made from the key.")] = None,
    job: Annotated[str | None, typer.Option(help="What it is for, in the scheduler's words.")] = None,
    wait: Annotated[
        int,
        typer.Option(
            "--wait",
            parser=lambda given: given if isinstance(given, int) else parse_duration(given),
            metavar="DURATION",
            show_default="0s",
            help="Under escrow: wait so long for credit from other regions.",
        ),
    ] = 0,
    key: Key = None,
) -> None:
    """Set credit aside for a job, until it is captured, released, or the lease ends."""
    asked = _amount_or_estimate(amount, gpu, gpus, duration, work)
    reply = node.write(
        key,
        lambda client, key: client.reserve(
            tenant, asked, lease_ms=lease, reservation=reservation, job=job, wait_ms=wait, key=key
        ),
    )
    _show_reservation(node, reply)


def renew(node: Node, tenant: Tenant, reservation: Reservation, *, lease: Lease = LEASE_MS, key: Key = None) -> None:
    """Extend the lease of a reservation."""
    reply = node.write(key, lambda client, key: client.renew(tenant, reservation, lease_ms=lease, key=key))
    _show_reservation(node, reply)


def capture(
    node: Node,
    tenant: Tenant,
    reservation: Reservation,
    amount: Annotated[int, typer.Argument(min=0, help="Credit used. 0 only with --final.", show_default=False)],
    *,
    at: At = None,
    final: Annotated[bool, typer.Option("--final", help="Give back the rest.")] = False,
    key: Key = None,
) -> None:
    """Record usage of a reservation."""
    reply = node.write(
        key, lambda client, key: client.capture(tenant, reservation, amount, at=at, final=final, key=key)
    )
    _show_reservation(node, reply)


def release(node: Node, tenant: Tenant, reservation: Reservation, *, key: Key = None) -> None:
    """Give back what a reservation still holds."""
    _show_reservation(node, node.write(key, lambda client, key: client.release(tenant, reservation, key=key)))


def debit(
    node: Node,
    tenant: Tenant,
    amount: Amount,
    *,
    at: At = None,
    name: Annotated[str | None, typer.Option("--id", help="Its name. Default: made from the key.")] = None,
    on_shortage: Annotated[
        wire.OnShortage, typer.Option(help="What becomes of a debit of more than is available.")
    ] = wire.OnShortage.REFUSE,
    key: Key = None,
) -> None:
    """Record usage that nothing was reserved for."""
    reply = node.write(
        key, lambda client, key: client.debit(tenant, amount, at=at, debit=name, on_shortage=on_shortage, key=key)
    )
    node.show(reply, _claim(reply, debit=reply.debit))


def refund(
    node: Node,
    tenant: Tenant,
    claim: Annotated[
        str, typer.Argument(help="The reservation, the debit, or the claim of a job without one.", show_default=False)
    ],
    amount: Amount,
    *,
    at: Annotated[
        int | None,
        typer.Option(
            "--at",
            parser=parse_time,
            metavar="TIME",
            help="When it is given back: not before it was used. Default: now.",
        ),
    ] = None,
    key: Key = None,
) -> None:
    """Give back part of what a reservation or debit used, to the lots that paid for it."""
    reply = node.write(key, lambda client, key: client.refund(tenant, claim, amount, at=at, key=key))
    node.show(reply, _claim(reply, refund_of=reply.claim))


# --- what there is -----------------------------------------------------------------------------------------------


def balance(
    node: Node,
    tenant: Tenant,
    *,
    at: Annotated[
        int | None,
        typer.Option("--at", parser=parse_time, metavar="TIME", help="By event time, then. Default: now, as booked."),
    ] = None,
) -> None:
    """What a tenant can spend, holds, has used and owes: now, or at a time."""
    reply = node.ask(lambda client: client.balance(tenant, at=at))
    node.show(reply, *balance_shown(reply))


def lots(node: Node, tenant: Tenant) -> None:
    """All lots of a tenant, in spending order."""
    reply = node.ask(lambda client: client.lots(tenant))
    shown = table("lot", "granted#", "remaining#", "live from", "until", "priority#", "", "")
    for lot in reply.lots:
        shown.add_row(
            lot.lot,
            amount(lot.amount),
            amount(lot.remaining),
            shown_time(lot.starts_at),
            shown_time(lot.expires_at),
            str(lot.priority),
            "closed" if lot.closed else "",
            f"{lot.owner}'s" if lot.owner is not None else "",
        )
    node.show(reply, shown)


def entries(
    node: Node,
    tenant: Tenant,
    *,
    after: Annotated[str | None, typer.Option(help="Where an earlier page ended.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=wire.MAX_PAGE)] = 100,
) -> None:
    """The audit trail of a tenant: its log entries, oldest first."""
    reply = node.ask(lambda client: client.entries(tenant, after=after, limit=limit))
    shown = table("time", "entry", "operation", "outcome", "postings")
    for entry in reply.entries:
        shown.add_row(
            shown_clock(entry.hlc[0]),
            f"{entry.replica}:{entry.seq}",
            entry.kind,
            entry.outcome,
            postings((entry.postings if entry.tenant == tenant else entry.received) or {}) or "–",
        )
    more = [Text(f"there is more: --after {reply.next}", style="dim")] if reply.has_more else []
    node.show(reply, shown, *more)


def balance_shown(reply: wire.BalanceReply) -> tuple[RenderableType, ...]:
    """A balance for people, and how far it may be behind."""
    owed = Text(f"{reply.debt:,}", style="bold red" if reply.debt else "")
    when = {} if reply.at is None else {"at": shown_time(reply.at)}
    totals = facts(
        tenant=reply.tenant,
        **when,
        available=Text.assemble(
            (f"{reply.available:,}", "bold red" if reply.available < 0 else "bold"),
            "" if reply.elsewhere is None else f" here, {reply.elsewhere:,} in the shares of other regions",
        ),
        held=f"{reply.held:,}",
        used=f"{reply.used:,}",
        owed=owed,
        as_seen_in=f"{reply.region}{behind(reply.behind)}",
    )
    shown = table("lot", "remaining#", "live from", "until", "priority#")
    for lot in reply.lots:
        shown.add_row(
            lot.lot, amount(lot.remaining), shown_time(lot.starts_at), shown_time(lot.expires_at), str(lot.priority)
        )
    return (totals, shown) if reply.lots else (totals,)


def behind(peers: dict[str, wire.Behind]) -> str:
    """What an answer may not have seen, as an addition to where it was given."""
    lags = [f"{lag.entries:,} entries of {peer}" for peer, lag in sorted(peers.items()) if lag.entries]
    silent = [peer for peer, lag in sorted(peers.items()) if lag.heard_ms_ago is None]
    lacks = [f"lacks {', '.join(lags)}"] if lags else []
    unheard = [f"has not heard of {', '.join(silent)} yet"] if silent else []
    return f" ({'; '.join(lacks + unheard)})" if lacks or unheard else ""


def _amount_or_estimate(
    amount: int | None, gpu: str | None, gpus: int, duration_ms: int | None, work: str | None
) -> int | wire.Estimate:
    if amount is not None:
        if gpu is not None or duration_ms is not None or work is not None:
            raise Stop(USAGE, "give an amount, or --gpu and --for, not both")
        return amount
    if gpu is None or duration_ms is None:
        raise Stop(USAGE, "give an amount, or --gpu and --for")
    seconds = -(-duration_ms // 1000)
    return wire.Estimate(gpu_type=gpu, gpus=gpus, seconds=seconds, priority=work)


def _show_reservation(node: Node, reply: wire.ReservationReply) -> None:
    shown = facts(
        reservation=reply.reservation,
        state=reply.state.value,
        reserved=f"{reply.amount:,}",
        held=f"{reply.held:,}",
        captured=f"{reply.captured:,}",
        leased_until=shown_time(reply.lease_until),
        paid_by=_funding(reply.funding, reply.debt),
        accepted_in=reply.region,
    )
    node.show(reply, shown)


def _claim(reply: wire.DebitReply | wire.RefundReply, **name: str) -> RenderableType:
    return Group(
        facts(
            **name,
            amount=f"{reply.amount:,}",
            at=shown_time(reply.at),
            paid_by=_funding(reply.funding, reply.debt),
            accepted_in=reply.region,
        )
    )


def _funding(funding: list[wire.FundingPart], debt: int) -> str:
    parts = [f"{part.lot} {part.amount:,}" for part in funding] + ([f"nobody yet (debt) {debt:,}"] if debt else [])
    return ", ".join(parts) or "nothing is held"
