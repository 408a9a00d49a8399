"""Of a request of many, what became of each: as if it had been asked for alone."""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from creditmesh import Accepted, AsyncClient, wire
from creditmesh.calls import Dot
from creditmesh.errors import refusal

ResultT = TypeVar("ResultT", wire.EventResult, wire.BatchResult)


async def told(client: AsyncClient, event: wire.UsageEvent) -> Accepted[wire.EventResult]:
    """Tell one event. Raises as any request does."""
    (result,) = (await client.report([event])).results
    return accepted(result, event.id, replayed=result.status is wire.EventStatus.DUPLICATE)


class Batch:
    """Operations that are sent once, by whoever asks for the result of one of them first."""

    def __init__(self, operations: Sequence[wire.BatchOperation]) -> None:
        self._operations = operations
        self._sent: asyncio.Task[wire.BatchReply] | None = None

    async def result(self, client: AsyncClient, number: int) -> Accepted[wire.BatchResult]:
        """What became of one of them. Raises as any request does."""
        if self._sent is None:
            self._sent = asyncio.create_task(client.batch(self._operations))
        result = (await asyncio.shield(self._sent)).results[number]
        return accepted(result, self._operations[number].key, replayed=result.replayed)


def accepted(result: ResultT, key: str, *, replayed: bool) -> Accepted[ResultT]:
    """A result as the answer that it would have been."""
    if result.problem is not None:
        raise refusal(result.problem["status"], msgspec.json.encode(result.problem), maybe_accepted=False)
    assert result.entry is not None
    replica, _, seq = result.entry.rpartition(":")
    return Accepted(result, key, Dot(replica, int(seq)), replayed, clock=None, endpoint="", attempts=1)
