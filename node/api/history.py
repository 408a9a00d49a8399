"""The routes that show one tenant over time: balance, statement, what expires, when the credit runs out.

What goes by event time is folded anew from the tenant's whole history for each request, in slices, so that others are
served in between: see `node.history`. The live balance is not, it is at hand.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from csv import writer
from functools import partial
from typing import Any, Final, TypeVar

from aiohttp import web
from msgspec import Struct
from msgspec.structs import astuple

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.event_time import Standing
from ledger.forecast import Burn, runs_out_at, used_in
from ledger.posting import DEBT
from ledger.statement import Line, Statement
from node.api import replies
from node.api.description import CSV, Description, Route, replied_by, told_by
from node.api.facade import Node
from node.api.reads import read_book, read_handler, read_route, said_of_itself
from node.api.requests import JSON, MSGPACK, Query, line_in, line_token, wait_for_clock
from node.api.stream import streamed
from node.book import LedgerBook
from node.history import History, open_regions
from replication.filed import Filed

COLUMNS: Final = wire.StatementLine.__struct_fields__

T = TypeVar("T")


class TenantHistory:
    """The reads of one tenant that are about time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._paged = read_handler(node, wire.StatementQuery, self.statement)
        self._decode = Query(wire.StatementQuery).decode

    def routes(self) -> Iterator[Route]:
        """All of them."""
        tenant, node, unknown = "/v1/tenants/{tenant}", self._node, ProblemKind.NOT_FOUND
        yield read_route(node, f"{tenant}/balance", wire.BalanceQuery, self.balance, unknown)
        yield read_route(node, f"{tenant}/expiring", wire.ExpiringQuery, self.expiring, unknown)
        yield read_route(node, f"{tenant}/forecast", wire.ForecastQuery, self.forecast, unknown)
        statement = Description(
            summary=told_by(self.statement),
            reply=replied_by(self.statement),
            media=(JSON, MSGPACK, CSV),
            reply_headers=(wire.CREDIT_CLOCK,),
            query=wire.StatementQuery,
            takes_clock=True,
            refusals=(ProblemKind.INVALID_REQUEST, unknown, ProblemKind.NOT_READY),
        )
        yield Route("GET", f"{tenant}/statement", self._in_either_form, statement)

    async def balance(self, ids: tuple[str, ...], asked: wire.BalanceQuery) -> wire.BalanceReply:
        """What the tenant can spend and what it owes, now or at a time."""
        node, at = self._node, asked.at
        if at is None:
            return await read_book(
                node,
                ids[0],
                lambda book: wire.BalanceReply(
                    tenant=book.tenant,
                    **replies.balance_fields(book.account, node.now(), node.name),
                    **said_of_itself(node),
                ),
            )
        said, history = await self._history(ids[0], lambda _: said_of_itself(node))
        fold = history.fold()
        await self._done(fold.before(at + 1))
        return wire.BalanceReply(tenant=ids[0], at=at, **replies.balance_fields(fold.account, at, node.name), **said)

    async def expiring(self, ids: tuple[str, ...], asked: wire.ExpiringQuery) -> wire.ExpiringReply:
        """Lots that have something left and expire in a period."""

        def render(book: LedgerBook) -> wire.ExpiringReply:
            lots = replies.expiring(book.account, asked.since, asked.to)
            total = sum(lot.remaining for lot in lots)
            return wire.ExpiringReply(tenant=book.tenant, total=total, lots=lots, **said_of_itself(self._node))

        return await read_book(self._node, ids[0], render)

    async def forecast(self, ids: tuple[str, ...], asked: wire.ForecastQuery) -> wire.ForecastReply:
        """When the credit runs out, if it goes on being used as it was."""
        node = self._node

        def as_it_stands(book: LedgerBook) -> tuple[int, int, Callable[[Burn], int | None], dict[str, Any]]:
            now, account = node.now(), book.account
            lots = [account.lots[place.lot] for place in account.spending_order]
            run_out = partial(runs_out_at, lots, -account.totals[DEBT], now)
            return now, account.available(now), run_out, said_of_itself(node)

        (now, available, run_out, said), history = await self._history(ids[0], as_it_stands)
        used = 0
        async for part in node.in_slices(used_in(history.fold(), now - asked.window_ms, now)):
            used += part
        burn = Burn(max(0, used), asked.window_ms)
        return wire.ForecastReply(
            tenant=ids[0],
            at=now,
            window_ms=asked.window_ms,
            used=used,
            per_hour=burn.per_hour,
            available=available,
            runs_out_at=run_out(burn),
            **said,
        )

    # -- statements -------------------------------------------------------------------------------------------------

    async def statement(self, ids: tuple[str, ...], asked: wire.StatementQuery) -> wire.StatementReply:
        """Opening figures, dated lines and closing figures of a period, by event time."""
        after = line_in(asked.after)
        told, statement = await self._begun(ids[0], asked)
        page: list[Line[Filed]] = []
        has_more = False
        async for line in self._node.in_slices(statement.lines()):
            if line is not None and line.order > after:
                if len(page) == asked.limit:
                    has_more = True
                else:
                    page.append(line)
        return wire.StatementReply(
            tenant=ids[0],
            since=asked.since,
            to=asked.to,
            final=not told.open_regions,
            final_from=told.final_from,
            open_regions=replies.open_regions(told.open_regions),
            opening=replies.standing(statement.opening),
            lines=list(map(replies.statement_line, page)),
            closing=replies.standing(statement.closing),
            has_more=has_more,
            next=line_token(page[-1].order) if has_more else None,
            **told.said,
        )

    async def _in_either_form(self, request: web.BaseRequest, ids: tuple[str, ...], query: str) -> web.StreamResponse:
        asked = self._decode(query)
        if asked.format is wire.StatementFormat.JSON:
            return await self._paged(request, ids, query)
        await wait_for_clock(self._node, request.headers)
        told, statement = await self._begun(ids[0], asked)
        headers = {"Content-Type": f"{CSV}; charset=utf-8", wire.CREDIT_CLOCK: told.said["as_of"]}
        return await streamed(self._node, request, headers, self._rows(asked, told, statement))

    async def _rows(
        self, asked: wire.StatementQuery, told: "_Told", statement: Statement[Filed]
    ) -> AsyncIterator[bytes]:
        yield csv_row(COLUMNS)
        yield csv_row(_figures(asked.since, "opening", None, statement.opening))
        async for line in self._node.in_slices(statement.lines()):
            if line is not None:
                yield csv_row(_row(replies.statement_line(line)))
        finality = "open" if told.open_regions else "final"
        yield csv_row(_figures(asked.to, "closing", finality, statement.closing))

    async def _begun(self, tenant: str, asked: wire.StatementQuery) -> tuple["_Told", Statement[Filed]]:
        node = self._node
        final_from = asked.to + node.config.settings.terms.limits.max_late_ms
        told, history = await self._history(
            tenant, lambda _: _Told(said_of_itself(node), final_from, open_regions(node.promises(), final_from))
        )
        statement = Statement(history.fold(), asked.since, asked.to)
        await self._done(statement.begin())
        return told, statement

    # -- history ----------------------------------------------------------------------------------------------------

    async def _history(self, tenant: str, render: Callable[[LedgerBook], T]) -> tuple[T, History]:
        """A tenant's whole history, and what `render` makes of its book at the moment that the history ends."""
        rendered, history = await read_book(self._node, tenant, lambda book: (render(book), History(book)))
        await self._done(history.read())
        return rendered, history

    async def _done(self, steps: Iterator[None]) -> None:
        async for _ in self._node.in_slices(steps):
            pass


class _Told(Struct, frozen=True):
    """What a statement says beside its figures, as of the moment that it was asked for."""

    said: dict[str, Any]
    final_from: int
    open_regions: dict[str, int]


def _figures(at: int, kind: str, outcome: str | None, figures: Standing) -> tuple[object, ...]:
    """The row of the opening or the closing figures."""
    return (at, kind, None, None, None, None, None, outcome, None, None, *astuple(figures))


def _row(line: wire.StatementLine) -> list[object]:
    return [" ".join(value) if isinstance(value, list) else value for value in astuple(line)]


class _Text:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def csv_row(values: Iterable[object]) -> bytes:
    """A row as RFC 4180 has it; None is empty."""
    row: str = writer(_Text()).writerow(values)
    return row.encode()
