"""Quotes: what a reservation would cost and what would be left, by the same judgement that a reservation meets."""

from collections.abc import Iterator

import msgspec
from aiohttp import web

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.admission import amount_to_hold, refused_hold
from ledger.ids import TenantId
from ledger.refusal import Refusal
from node.api.description import Description, Route, told_by
from node.api.facade import Node
from node.api.problems import invalid, not_found, refused_by_ledger
from node.api.reads import said_of_itself
from node.api.requests import (
    JSON,
    MSGPACK,
    Body,
    is_msgpack,
    read_body,
    wait_for_clock,
    wants_msgpack,
)
from node.api.writes import amount_asked
from node.book import LedgerBook

_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode


class Quotes:
    """The route for quotes."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._terms = node.config.settings.terms
        self._body = Body(wire.QuoteRequest)

    def routes(self) -> Iterator[Route]:
        """It."""
        about = Description(
            summary=told_by(wire.QuoteRequest),
            reply=wire.QuoteReply,
            media=(JSON, MSGPACK),
            reply_headers=(wire.CREDIT_CLOCK,),
            body=wire.QuoteRequest,
            takes_clock=True,
            refusals=(
                ProblemKind.INVALID_REQUEST,
                ProblemKind.NOT_FOUND,
                ProblemKind.PAYLOAD_TOO_LARGE,
                ProblemKind.UNSUPPORTED_MEDIA_TYPE,
                ProblemKind.NOT_READY,
            ),
        )
        yield Route("POST", "/v1/tenants/{tenant}/quotes", self.quote, about)

    async def quote(self, request: web.BaseRequest, ids: tuple[str, ...], query: str) -> web.Response:
        """Price and judge, and hold nothing."""
        if query:
            raise invalid("query", "must be empty: a quote takes no parameters")
        node, headers = self._node, request.headers
        content = await read_body(request, node.config.limits.body_bytes)
        packed = is_msgpack(headers) if content else False
        asked = self._body.decode(content, packed)
        await wait_for_clock(node, headers)
        reply = await node.read(TenantId(ids[0]), lambda book: self._quoted(book, asked))
        if reply is None:
            raise not_found("tenant", ids[0])
        packed = wants_msgpack(headers, packed)
        return web.Response(
            body=_msgpack(reply) if packed else _json(reply),
            headers={"Content-Type": MSGPACK if packed else JSON, wire.CREDIT_CLOCK: reply.as_of},
        )

    def _quoted(self, book: LedgerBook, asked: wire.QuoteRequest) -> wire.QuoteReply:
        node, account = self._node, book.account
        now = node.now()
        amount = amount_to_hold(amount_asked(asked), now, self._terms)
        if isinstance(amount, Refusal):
            raise refused_by_ledger(amount)
        refusal = refused_hold(account, amount, now, node.name)
        available, held = account.available(now, node.name), account.held
        return wire.QuoteReply(
            tenant=book.tenant,
            amount=amount,
            available=available,
            available_after=available - amount,
            held=held,
            held_after=held + amount,
            accepted=refusal is None,
            refusal=None if refusal is None else refusal.reason.value,
            **said_of_itself(node),
        )
