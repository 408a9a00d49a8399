"""The route by which operators say that a conflict was seen to: a write like any other, but of no tenant's credit."""

from collections.abc import Iterator
from time import perf_counter
from typing import Final

import msgspec
from aiohttp import web

from creditmesh import wire
from ledger.command import AcknowledgeConflict
from ledger.refusal import Refusal
from node.api.description import Description, Route, told_by
from node.api.facade import Node
from node.api.problems import invalid, refused_by_ledger
from node.api.replies import acknowledge_reply
from node.api.requests import (
    JSON,
    MSGPACK,
    Body,
    idempotency_key,
    is_msgpack,
    read_body,
    wait_for_clock,
    wants_msgpack,
)
from node.api.writes import ANY_WRITE, may_stand, other_entry_refused, refuse_unless_ready
from replication.clock import encode_token

PATH: Final = "/v1/conflicts/{conflict}/ack"

_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode


class Acknowledging:
    """What is said of conflicts."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._decode = Body(wire.AcknowledgeRequest).decode

    def routes(self) -> Iterator[Route]:
        """The one."""
        about = Description(
            summary=told_by(wire.AcknowledgeRequest),
            status=201,
            reply=wire.AcknowledgeReply,
            media=(JSON, MSGPACK),
            reply_headers=(wire.CREDIT_CLOCK, wire.CREDIT_ENTRY, wire.IDEMPOTENT_REPLAYED),
            body=wire.AcknowledgeRequest,
            takes_key=True,
            takes_clock=True,
            refusals=ANY_WRITE,
        )
        yield Route("POST", PATH, self.acknowledge, about)

    async def acknowledge(self, request: web.BaseRequest, ids: tuple[str, ...], query: str) -> web.Response:
        """Acknowledge a conflict."""
        if query:
            raise invalid("query", "must be empty: a write takes no parameters")
        node, headers = self._node, request.headers
        key = idempotency_key(headers)
        content = await read_body(request, node.config.limits.body_bytes)
        started = perf_counter()
        packed = is_msgpack(headers) if content else False
        asked = self._decode(content, packed)
        await wait_for_clock(node, headers)
        refuse_unless_ready(node)
        with may_stand():
            answer = await node.acknowledge(AcknowledgeConflict(ids[0], asked.by, asked.note), key)
        if isinstance(answer, Refusal):
            raise refused_by_ledger(answer)
        entry = answer.filed.entry
        with other_entry_refused(key):
            reply = acknowledge_reply(answer.filed, ids[0], node.name)
        response_headers = {
            wire.CREDIT_ENTRY: f"{entry.replica}:{entry.seq}",
            wire.CREDIT_CLOCK: encode_token({entry.replica: entry.seq}),
        }
        if answer.replayed:
            response_headers[wire.IDEMPOTENT_REPLAYED] = "true"
        else:
            node.metrics.written(perf_counter() - started)
        packed = wants_msgpack(headers, packed)
        return web.Response(
            body=_msgpack(reply) if packed else _json(reply),
            status=201,
            headers={"Content-Type": MSGPACK if packed else JSON, **response_headers},
        )
