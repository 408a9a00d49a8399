"""Following a stream of server-sent events: what they are made of, and how a stream that broke off is taken up again.

A node names each event. Who comes back and says which it was told last is told what has become of things since, so a
stream that ends, breaks or falls silent is asked for again, and nothing is missed that the node has not announced as
missing. An event counts as told once the next is asked for: whoever fails over one gets it again.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Generic, NamedTuple, TypeVar

import aiohttp

from creditmesh.errors import ApiError, ProtocolError, Unavailable

T = TypeVar("T")

LONGEST_BLOCK: Final = 16 * 2**20
"""In bytes: more than the largest report."""


class Block(NamedTuple):
    """Lines up to an empty one. Without data it tells no event: the node is there, and this is where the reader is."""

    id: str | None
    data: bytes | None


class Following(Generic[T]):
    """The events of one node's stream, for as long as one iterates; see `AsyncClient.follow_conflicts`."""

    def __init__(
        self,
        opened: Callable[[str | None], AbstractAsyncContextManager[aiohttp.StreamReader]],
        read: Callable[[bytes], T],
        *,
        after: str | None,
        attempts: int,
        pause: Callable[[int], Awaitable[None]],
    ) -> None:
        """Follow what `opened` gives behind an event. `pause` waits after so many failures, `attempts` are too many."""
        self._opened = opened
        self._read = read
        self._attempts = attempts
        self._pause = pause
        self.last_id = after
        """Behind which event iterating begins, or begins again; None until the node has named one."""

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        """The events. Raises `Unavailable` after so many failures in a row; iterating again goes on from there."""
        failures = 0
        while True:
            try:
                async with self._opened(self.last_id) as content:
                    number = 0
                    async for block in blocks(content):
                        if block.data is not None:
                            yield self._read(block.data)
                        self.last_id = block.id or self.last_id
                        # What comes first is a greeting: who gets no further has not been served.
                        failures = 0 if number else failures
                        number += 1
                reason = "the stream has ended"
            except Unavailable as error:
                reason = error.last
            except ApiError as error:
                if error.status < 500:
                    raise
                reason = str(error)
            failures += 1
            if failures >= self._attempts:
                raise Unavailable(failures, reason, maybe_accepted=False)
            await self._pause(failures)


async def blocks(content: aiohttp.StreamReader) -> AsyncIterator[Block]:
    """The blocks of a stream; one that it ends in the middle of is none."""
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n\n")
        for lines in whole:
            yield _block(lines)
        if len(rest) > LONGEST_BLOCK:
            raise ProtocolError("an event of the stream does not end")


def _block(lines: bytes) -> Block:
    fields: dict[bytes, list[bytes]] = {}
    for line in lines.split(b"\n"):
        name, _, value = line.partition(b":")
        fields.setdefault(name, []).append(value.removeprefix(b" "))
    named = fields.get(b"id")
    told = fields.get(b"data")
    return Block(
        None if named is None else named[-1].decode("ascii", "replace"), None if told is None else b"\n".join(told)
    )
