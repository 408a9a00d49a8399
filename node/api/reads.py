"""The routes that show one tenant as it stands: lots, reservations, the audit trail.

Every reply says who answers, as of which clock, and how far the node may be behind each peer.
"""

from collections.abc import Awaitable, Callable, Iterator
from heapq import merge
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from creditmesh import wire
from creditmesh.wire import ProblemKind
from ledger.claim import Claim
from ledger.ids import ClaimId, TenantId
from ledger.timeline import BEGINNING
from node.api import replies
from node.api.description import Description, Route, replied_by, told_by
from node.api.facade import Node
from node.api.problems import not_found
from node.api.requests import JSON, MSGPACK, Query, place_in, place_token, wait_for_clock, wants_msgpack
from node.api.router import Handler
from node.book import LedgerBook
from replication.entry import hash_of, seal

MAX_LOOKED_AT: Final = 2_000
"""Claims that one request for a page looks at, so that a filter that finds nothing does not hold up the node."""

MAX_POLICIES: Final = 100

_ROWS_AT_ONCE: Final = 100

T = TypeVar("T")
QueryT = TypeVar("QueryT", bound=wire.Request)
Answer = Callable[[tuple[str, ...], QueryT], Awaitable[wire.ReadReply | wire.ReservationView]]

_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode


class NoParameters(wire.Request, frozen=True, kw_only=True):
    """The query of a read that takes none."""


def read_route(
    node: Node, path: str, query_type: type[QueryT], answer: Answer[QueryT], *refusals: ProblemKind
) -> Route:
    """A read: its handler, and its description, which is what `answer` says of itself."""
    about = Description(
        summary=told_by(answer),
        reply=replied_by(answer),
        media=(JSON, MSGPACK),
        reply_headers=(wire.CREDIT_CLOCK,),
        query=query_type,
        takes_clock=True,
        refusals=(ProblemKind.INVALID_REQUEST, *refusals, ProblemKind.NOT_READY),
    )
    return Route("GET", path, read_handler(node, query_type, answer), about)


def read_handler(node: Node, query_type: type[QueryT], answer: Answer[QueryT]) -> Handler:
    """A handler that waits for the request's clock, answers, and says as of when."""
    decode = Query(query_type).decode

    async def handle(request: web.BaseRequest, ids: tuple[str, ...], query: str) -> web.Response:
        asked = decode(query)
        headers = request.headers
        await wait_for_clock(node, headers)
        reply = await answer(ids, asked)
        packed = wants_msgpack(headers)
        return web.Response(
            body=_msgpack(reply) if packed else _json(reply),
            headers={
                "Content-Type": MSGPACK if packed else JSON,
                wire.CREDIT_CLOCK: reply.as_of,
            },
        )

    return handle


def said_of_itself(node: Node) -> dict[str, Any]:
    """What `wire.ReadReply` says."""
    return {"region": node.name, "as_of": node.as_of(), "behind": replies.behind(node.behind())}


async def read_book(node: Node, tenant: str, render: Callable[[LedgerBook], T]) -> T:
    """What `render` makes of a tenant's book. Raises `Refused` (404) for a tenant without any entry."""
    reply = await node.read(TenantId(tenant), render)
    if reply is None:
        raise not_found("tenant", tenant)
    return reply


class TenantReads:
    """What a tenant has now, and the log of how it came to it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> Iterator[Route]:
        """All of them."""
        tenant, node, unknown = "/v1/tenants/{tenant}", self._node, ProblemKind.NOT_FOUND
        yield read_route(node, f"{tenant}/lots", NoParameters, self.lots, unknown)
        yield read_route(node, f"{tenant}/reservations", wire.ReservationsQuery, self.reservations, unknown)
        yield read_route(node, f"{tenant}/reservations/{{reservation}}", NoParameters, self.reservation, unknown)
        yield read_route(node, f"{tenant}/policy", NoParameters, self.policy, unknown)
        yield read_route(node, f"{tenant}/entries", wire.EntriesQuery, self.entries, unknown)

    async def lots(self, ids: tuple[str, ...], _: NoParameters) -> wire.LotsReply:
        """Every lot, in spending order."""
        return await read_book(
            self._node,
            ids[0],
            lambda book: wire.LotsReply(
                tenant=book.tenant, lots=replies.all_lots(book.account), **said_of_itself(self._node)
            ),
        )

    async def reservation(self, ids: tuple[str, ...], _: NoParameters) -> wire.ReservationView:
        """One reservation."""
        tenant, name = ids

        def render(book: LedgerBook) -> wire.ReservationView:
            claim = book.account.claim(ClaimId(name))
            if claim is None or not claim.is_reservation:
                raise not_found("reservation", name)
            return wire.ReservationView(**replies.reservation_fields(book.tenant, claim), **said_of_itself(self._node))

        return await read_book(self._node, tenant, render)

    async def reservations(self, ids: tuple[str, ...], asked: wire.ReservationsQuery) -> wire.ReservationsReply:
        """A page of reservations, by id."""
        return await read_book(self._node, ids[0], lambda book: self._page_of_reservations(book, asked))

    def _page_of_reservations(self, book: LedgerBook, asked: wire.ReservationsQuery) -> wire.ReservationsReply:
        after = None if asked.after is None else ClaimId(asked.after)
        page: list[wire.ReservationRecord] = []
        last: str | None = None
        has_more = False
        for looked_at, claim in enumerate(claims_by_id(book, after)):
            is_wanted = claim.is_reservation and (asked.state is None or claim.state.value == asked.state.value)
            if looked_at == MAX_LOOKED_AT or (is_wanted and len(page) == asked.limit):
                has_more = True
                break
            last = claim.id
            if is_wanted:
                page.append(wire.ReservationRecord(**replies.reservation_fields(book.tenant, claim)))
        return wire.ReservationsReply(
            reservations=page, has_more=has_more, next=last if has_more else None, **said_of_itself(self._node)
        )

    async def policy(self, ids: tuple[str, ...], _: NoParameters) -> wire.PolicyView:
        """The tenant's rules, and how they came to be."""

        def render(book: LedgerBook) -> wire.PolicyView:
            return wire.PolicyView(
                tenant=book.tenant,
                policy=wire.Policy(**replies.policy_fields(book.account.policy)),
                history=[replies.policy_change(filed, policy) for filed, policy in book.policies(MAX_POLICIES)],
                **said_of_itself(self._node),
            )

        return await read_book(self._node, ids[0], render)

    async def entries(self, ids: tuple[str, ...], asked: wire.EntriesQuery) -> wire.EntriesReply:
        """A page of the tenant's log entries, in canonical order."""
        after = place_in(asked.after, BEGINNING)

        def render(book: LedgerBook) -> wire.EntriesReply:
            found = book.entries(after, asked.limit + 1)
            page, has_more = found[: asked.limit], len(found) > asked.limit
            return wire.EntriesReply(
                tenant=book.tenant,
                entries=[replies.exported(filed, hash_of(seal(filed.entry))) for filed in page],
                has_more=has_more,
                next=place_token(page[-1].position) if has_more else None,
                **said_of_itself(self._node),
            )

        return await read_book(self._node, ids[0], render)


def claims_by_id(book: LedgerBook, after: ClaimId | None) -> Iterator[Claim]:
    """The tenant's claims with ids behind `after`, those in memory and those that only the disk has."""
    claims = book.account.claims
    at_hand = sorted((claim for claim in claims.values() if after is None or claim.id > after), key=attrgetter("id"))
    # What memory has is newer than its row on disk.
    on_disk = (claim for claim in _ended_claims(book, after) if claim.id not in claims)
    return merge(at_hand, on_disk, key=attrgetter("id"))


def _ended_claims(book: LedgerBook, after: ClaimId | None) -> Iterator[Claim]:
    while page := book.ended_claims(after, _ROWS_AT_ONCE):
        yield from page
        after = page[-1].id
