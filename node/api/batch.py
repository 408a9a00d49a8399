"""Many operations in one request: each is what its own route would make of it, and each is answered by itself.

One bad operation spoils none of the others. What is accepted becomes durable in one commit, and only then is anything
answered. Nothing is atomic over several operations: whoever needs that has to ask for one operation that does it all.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from creditmesh import wire
from creditmesh.wire import STATUS, ProblemKind
from ledger.command import Command
from ledger.ids import Key, TenantId
from ledger.refusal import Refusal
from node.api.description import Description, Route, told_by
from node.api.facade import Node, NothingDone
from node.api.problems import Refused, invalid, not_ready, problem_document, refused_by_ledger
from node.api.requests import (
    JSON,
    MSGPACK,
    Item,
    Items,
    fault,
    is_msgpack,
    read_body,
    wait_for_clock,
    wants_msgpack,
)
from node.api.writes import WRITES, Write, count, may_stand, other_entry_refused, refuse_unless_ready
from node.region import Accepted

Answer = Accepted | Refusal | NothingDone

_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode
OPERATIONS: Final = Items(wire.MAX_OPERATIONS, "operations")
_OPERATION: Final = Item(wire.BatchOperation, "operation")
_AT_ONCE: Final = 200

T = TypeVar("T")


class Batches:
    """The route for batches."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> Iterator[Route]:
        """It."""
        about = Description(
            summary=told_by(wire.BatchRequest),
            reply=wire.BatchReply,
            media=(JSON, MSGPACK),
            reply_headers=(wire.CREDIT_CLOCK,),
            body=wire.BatchRequest,
            takes_clock=True,
            refusals=REFUSALS,
        )
        yield Route("POST", "/v1/batch", self.batch, about)

    async def batch(self, request: web.BaseRequest, _: tuple[str, ...], query: str) -> web.Response:
        """Judge every operation, and answer when what stands is durable."""
        node, headers = self._node, request.headers
        if query:
            raise invalid("query", "must be empty: a batch takes no parameters")
        content = await read_body(request, node.config.limits.batch_bytes)
        packed = is_msgpack(headers)
        items = OPERATIONS.decode(content, packed=packed)[0]
        judged = [each async for each in in_turns(items, lambda item: understood(item, packed))]
        await wait_for_clock(node, headers)
        results = await answered_all(node, [each for each in judged if not isinstance(each, Refused)])
        told = [result_of(each, node.name) if isinstance(each, Refused) else next(results) for each in judged]
        refused = sum(each.problem is not None for each in told)
        reply = wire.BatchReply(results=told, accepted=len(told) - refused, refused=refused, region=node.name)
        return many_answered(node, reply, packed=wants_msgpack(headers, packed))


REFUSALS: Final = (
    ProblemKind.INVALID_REQUEST,
    ProblemKind.PAYLOAD_TOO_LARGE,
    ProblemKind.UNSUPPORTED_MEDIA_TYPE,
    ProblemKind.NOT_READY,
)
"""What a request of many may be refused for as a whole."""


class Understood:
    """One operation of a batch that makes sense by itself."""

    __slots__ = ("command", "key", "tenant", "write")

    def __init__(self, operation: wire.BatchOperation, write: Write[Any], ids: tuple[str, ...]) -> None:
        try:
            request = msgspec.convert(operation.body, write.request)
        except msgspec.ValidationError as error:
            raise fault(error, "body") from None
        if write.wait_ms(request):
            raise invalid("wait_ms", "must be 0: a batch waits for nobody")
        self.write = write
        self.tenant = TenantId(operation.tenant)
        self.key = Key(operation.key)
        self.command: Command = write.command(request, ids)


async def in_turns(items: list[msgspec.Raw], understand: Callable[[msgspec.Raw], T]) -> AsyncIterator[T]:
    """What is made of each item, a few at a time, so that thousands do not keep everybody else waiting."""
    for number, item in enumerate(items, 1):
        yield understand(item)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)


def understood(item: msgspec.Raw, packed: bool) -> Understood | Refused:
    """What an item of a batch asks for, or why it makes no sense."""
    try:
        operation = _OPERATION.decode(item, packed=packed)
        write = WRITES[operation.operation]
        if write.ids == 1:
            if operation.id is not None:
                raise invalid("id", f"is of no use to {operation.operation}")
            return Understood(operation, write, (operation.tenant,))
        if operation.id is None:
            raise invalid("id", f"is required to {operation.operation}")
        return Understood(operation, write, (operation.tenant, operation.id))
    except Refused as refused:
        return refused


async def answered_all(node: Node, asked: list[Understood]) -> Iterator[wire.BatchResult]:
    """The results of operations that make sense, in order, once what was accepted is durable."""
    refuse_unless_ready(node)
    started = perf_counter()
    with may_stand():
        answers = await node.submit_all([(each.tenant, each.command, each.key) for each in asked])
    count_all(node, [each.command for each in asked], answers, perf_counter() - started)
    return (_result(each, answer, node.name) for each, answer in zip(asked, answers, strict=True))


def count_all(node: Node, commands: Sequence[Command], answers: Sequence[Answer], seconds: float) -> None:
    """Count the commands of one request, which took so long together, for the metrics."""
    for command, answer in zip(commands, answers, strict=True):
        if not isinstance(answer, NothingDone):
            count(node.metrics, command, answer, seconds)


def _result(asked: Understood, answer: Answer, region: str) -> wire.BatchResult:
    try:
        accepted = stands(answer)
        entry = accepted.filed.entry
        with other_entry_refused(asked.key):
            reply = asked.write.reply(accepted.filed, region)
        return wire.BatchResult(
            status=asked.write.status,
            reply=msgspec.to_builtins(reply),
            entry=f"{entry.replica}:{entry.seq}",
            replayed=accepted.replayed,
        )
    except Refused as refused:
        return result_of(refused, region)


def stands(answer: Answer) -> Accepted:
    """What was accepted. Raises `Refused` for anything else."""
    match answer:
        case Accepted():
            return answer
        case Refusal():
            raise refused_by_ledger(answer)
        case NothingDone():
            raise not_ready(str(answer))


def result_of(refused: Refused, region: str) -> wire.BatchResult:
    """The result of an operation that was refused."""
    return wire.BatchResult(status=STATUS[refused.kind], problem=problem_document(refused, region))


def many_answered(node: Node, reply: wire.Reply, *, packed: bool) -> web.Response:
    """The answer to a request of many, with the token of all that it has done."""
    return web.Response(
        body=_msgpack(reply) if packed else _json(reply),
        headers={"Content-Type": MSGPACK if packed else JSON, wire.CREDIT_CLOCK: node.as_of()},
    )
