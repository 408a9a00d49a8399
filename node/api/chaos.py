"""Faults on purpose: links that are cut, a clock that is wrong. Served only where the node was told to.

What is set here lasts until it is set otherwise, or until the process ends. There is no idempotency key: to set what is
set already changes nothing.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from creditmesh import wire
from creditmesh.wire import ProblemKind
from node.api.description import Description, Route, replied_by, told_by
from node.api.facade import Node
from node.api.problems import invalid, not_found
from node.api.requests import JSON, Body, is_msgpack, read_body
from node.api.router import Handler

RequestT = TypeVar("RequestT", bound=wire.Request)

_REFUSED: Final = (
    ProblemKind.INVALID_REQUEST,
    ProblemKind.PAYLOAD_TOO_LARGE,
    ProblemKind.UNSUPPORTED_MEDIA_TYPE,
)
_json = msgspec.json.Encoder().encode


class Chaos:
    """What can be broken in a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._peers = {peer.name for peer in node.config.peers}

    def routes(self) -> Iterator[Route]:
        """All of them."""
        most = self._node.config.limits.body_bytes
        yield _route("POST", "/v1/chaos/links", wire.LinkRequest, self.set_link, most, ProblemKind.NOT_FOUND)
        yield _route("PUT", "/v1/chaos/clock", wire.ClockRequest, self.set_clock, most)

    def set_link(self, asked: wire.LinkRequest) -> wire.LinkReply:
        """Cut or open the link to a peer, as a partition would. Served only where the node was told to."""
        if asked.peer not in self._peers:
            raise not_found("peer", asked.peer)
        self._node.set_link(asked.peer, cut=asked.state is wire.LinkState.CUT)
        return wire.LinkReply(peer=asked.peer, state=asked.state, region=self._node.name)

    def set_clock(self, asked: wire.ClockRequest) -> wire.ClockReply:
        """Set the node's clock wrong, as a bad machine's would be. Served only where the node was told to."""
        clock = self._node.clock
        clock.set(asked.offset_ms, asked.frozen)
        return wire.ClockReply(
            offset_ms=clock.offset_ms, frozen=clock.is_frozen, now=clock.now_ms(), region=self._node.name
        )


def _route(
    method: str,
    path: str,
    request_type: type[RequestT],
    carry_out: Callable[[RequestT], wire.Reply],
    most: int,
    *refusals: ProblemKind,
) -> Route:
    about = Description(
        summary=told_by(carry_out),
        reply=replied_by(carry_out),
        body=request_type,
        refusals=(*_REFUSED, *refusals),
    )
    return Route(method, path, _handler(request_type, carry_out, most), about)


def _handler(request_type: type[RequestT], carry_out: Callable[[RequestT], wire.Reply], most: int) -> Handler:
    decode = Body(request_type).decode

    async def handle(request: web.BaseRequest, _: tuple[str, ...], query: str) -> web.Response:
        if query:
            raise invalid("query", "must be empty: a write takes no parameters")
        content = await read_body(request, most)
        asked = decode(content, is_msgpack(request.headers) if content else False)
        return web.Response(body=_json(carry_out(asked)), headers={"Content-Type": JSON})

    return handle
