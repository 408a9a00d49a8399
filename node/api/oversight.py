"""The routes for those who run the cluster: conflicts, debts, the cluster itself, audit, export, health."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

import msgspec
from aiohttp import web

from conflict.detect import Kind
from conflict.report import Report
from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.ids import Position, TenantId
from node.api import replies
from node.api.description import NDJSON, Description, Route, told_by
from node.api.facade import Node, RegionView
from node.api.problems import not_found
from node.api.reads import NoParameters, read_route, said_of_itself
from node.api.requests import (
    JSON,
    Query,
    clock_token,
    place_in,
    place_token,
    wait_for_clock,
)
from node.api.stream import streamed
from node.metrics import CONTENT_TYPE
from replication.clock import MAX_HLC, VectorClock, ms_of

MAX_REPORTS_LOOKED_AT: Final = 500
"""Reports that one request for a page looks at, so that a filter that finds nothing does not hold up the node."""

THE_END: Final = Position(MAX_HLC + 1, "", "", 0)
"""Behind every entry."""

_json = msgspec.json.Encoder().encode


class Oversight:
    """What operators, probes and auditors read."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> Iterator[Route]:
        """All of them."""
        node = self._node
        yield read_route(node, "/v1/conflicts", wire.ConflictsQuery, self.conflicts)
        yield read_route(node, "/v1/conflicts/{conflict}", NoParameters, self.conflict, ProblemKind.NOT_FOUND)
        yield read_route(node, "/v1/debts", NoParameters, self.debts)
        yield read_route(node, "/v1/cluster", wire.ClusterQuery, self.cluster)
        yield read_route(node, "/v1/audit", NoParameters, self.audit)
        export = Description(
            summary=told_by(self.export),
            reply=wire.ExportedEntry,
            media=(NDJSON,),
            reply_headers=(wire.CREDIT_CLOCK,),
            query=wire.ExportQuery,
            takes_clock=True,
            refusals=(ProblemKind.INVALID_REQUEST, ProblemKind.NOT_READY),
        )
        yield Route("GET", "/v1/entries", self.export, export)
        health = Description(summary=told_by(self.health), reply=wire.HealthReply)
        yield Route("GET", "/healthz", self.health, health)
        ready = Description(summary=told_by(self.ready), reply=wire.ReadyReply, unready=wire.ReadyReply)
        yield Route("GET", "/readyz", self.ready, ready)
        metrics = Description(summary=told_by(self.metrics), media=(CONTENT_TYPE,))
        yield Route("GET", "/metrics", self.metrics, metrics)

    async def conflicts(self, _: tuple[str, ...], asked: wire.ConflictsQuery) -> wire.ConflictsReply:
        """A page of reports, the latest loser first; one more than asked for if a transfer lost in both accounts."""
        before = place_in(asked.after, THE_END)
        return await self._node.read_all(lambda region, now: self._page_of_conflicts(region, now, before, asked))

    def _page_of_conflicts(
        self, region: RegionView, now: int, before: Position, asked: wire.ConflictsQuery
    ) -> wire.ConflictsReply:
        tenant = None if asked.tenant is None else TenantId(asked.tenant)
        page: list[wire.Conflict] = []
        last = before
        has_more = False
        for looked_at, report in enumerate(region.conflicts.reports(tenant, before, now)):
            wanted = is_wanted(report, asked)
            is_full = looked_at >= MAX_REPORTS_LOOKED_AT or (wanted and len(page) >= asked.limit)
            # The next page begins behind a place, where a transfer can have lost in both of its accounts.
            if is_full and _place(report) != last:
                has_more = True
                break
            last = _place(report)
            if wanted:
                page.append(replies.conflict(report))
        return wire.ConflictsReply(
            conflicts=page,
            has_more=has_more,
            next=place_token(last) if has_more else None,
            **said_of_itself(self._node),
        )

    async def conflict(self, ids: tuple[str, ...], _: NoParameters) -> wire.ConflictReply:
        """One report."""

        def render(region: RegionView, now: int) -> wire.ConflictReply:
            report = region.conflicts.report(ids[0], now)
            if report is None:
                raise not_found("conflict", ids[0])
            return wire.ConflictReply(conflict=replies.conflict(report), **said_of_itself(self._node))

        return await self._node.read_all(render)

    async def debts(self, _: tuple[str, ...], __: NoParameters) -> wire.DebtsReply:
        """Who owes what, by tenant."""

        def render(region: RegionView, now: int) -> wire.DebtsReply:
            books = [region.books.existing(tenant, now) for tenant in sorted(region.books.debts())]
            return wire.DebtsReply(
                debts=[replies.debt_of(book.tenant, book.account) for book in books if book is not None],
                **said_of_itself(self._node),
            )

        return await self._node.read_all(render)

    async def cluster(self, _: tuple[str, ...], asked: wire.ClusterQuery) -> wire.ClusterReply:
        """Regions, clock, frontier, alarms."""
        node = self._node
        state = await node.cluster(asked.digest)
        return wire.ClusterReply(
            cluster=node.config.cluster, replica=node.replica, **replies.cluster_fields(state), **said_of_itself(node)
        )

    async def audit(self, _: tuple[str, ...], __: NoParameters) -> wire.AuditReply:
        """Hash chains, sums, and books against canonical state."""
        found = await self._node.audit()
        digest = await self._node.read_all(lambda region, _: region.books.digest())
        return wire.AuditReply(
            ok=found.ok,
            entries=found.entries,
            replicas=[
                wire.ReplicaAudit(replica=log.replica, entries=log.entries, ok=log.ok)
                for _, log in sorted(found.logs.items())
            ],
            tenants=found.tenants,
            books_equal=found.books_equal,
            findings=list(found.findings),
            digest=digest,
            **said_of_itself(self._node),
        )

    async def export(self, request: web.BaseRequest, _: tuple[str, ...], query: str) -> web.StreamResponse:
        """Every entry beyond a clock token, one to a line. A stream that breaks off has no last chunk."""
        asked = Query(wire.ExportQuery).decode(query)
        after = {} if asked.after is None else clock_token(asked.after, "after")
        await wait_for_clock(self._node, request.headers)
        # Taken first: everything that it covers is in the stream, so it is where the next export starts.
        headers = {"Content-Type": NDJSON, wire.CREDIT_CLOCK: self._node.as_of()}
        return await streamed(self._node, request, headers, self._exported(after))

    async def _exported(self, after: VectorClock) -> AsyncIterator[bytes]:
        async for filed, digest in self._node.export(after):
            yield _json(replies.exported(filed, digest)) + b"\n"

    async def health(self, _: web.BaseRequest, __: tuple[str, ...], ___: str) -> web.Response:
        """The process answers."""
        return _plain(wire.HealthReply(status="ok", region=self._node.name), 200)

    async def ready(self, _: web.BaseRequest, __: tuple[str, ...], ___: str) -> web.Response:
        """Whether writes are taken, and why not."""
        reasons = list(self._node.not_ready())
        reply = wire.ReadyReply(ready=not reasons, region=self._node.name, reasons=reasons)
        return _plain(reply, 503 if reasons else 200)

    async def metrics(self, _: web.BaseRequest, __: tuple[str, ...], ___: str) -> web.Response:
        """What Prometheus scrapes."""
        return web.Response(body=self._node.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})


def is_wanted(report: Report, asked: wire.ConflictFilter) -> bool:
    """Whether a report passes the filters. Those that nobody owes anything for must be asked for by kind."""
    if asked.kind is None:
        if report.kind is Kind.REALLOCATED:
            return False
    elif report.kind.value != asked.kind.value:
        return False
    if asked.state is not None and report.state.value != asked.state.value:
        return False
    if asked.acknowledged is not None and bool(report.acknowledged) is not asked.acknowledged:
        return False
    if asked.region is not None and report.loser.region != asked.region:
        return False
    return asked.since is None or ms_of(report.loser.hlc) >= asked.since


def _place(report: Report) -> Position:
    loser = report.loser
    return Position(loser.hlc, loser.region, loser.replica.partition("/")[2], loser.seq)


def _plain(reply: wire.Reply, status: int) -> web.Response:
    return web.Response(body=_json(reply), status=status, headers={"Content-Type": JSON})
