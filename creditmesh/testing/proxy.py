"""A link that can be faulty: a TCP port on loopback that leads to another, and what happens to the bytes on the way.

TCP delivers in order or not at all, so what a bad network does to a program is this, and nothing else is imitated:

- bytes of one direction, or of both, stop arriving, and arrive later, all of them (**stall**, **cut**);
- bytes arrive late (**delay**, with jitter by seed);
- connections end in the middle of a message (**drop**), or are refused because nobody listens at the far end;
- rarely, a bit arrives flipped: TCP's checksum lets one in some ten thousand damaged segments through (**corrupt**).

While a direction is stalled nothing more is read than fits into small buffers, so that the sender feels it. A
connection that is made while the link is cut is held, and led on when the link is whole again.
"""

import asyncio
import random
from contextlib import suppress
from typing import Final

CHUNK_BYTES: Final = 16 * 1024
CHUNKS_ON_THE_WAY: Final = 64


class Flow:
    """One direction of a link. Set its attributes at any time; they hold for bytes that have not arrived yet."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._open = asyncio.Event()
        self._open.set()
        self.delay_ms = 0.0
        self.jitter_ms = 0.0
        """A delay is drawn for each chunk from `delay_ms` to `delay_ms` + `jitter_ms`; order is kept."""
        self.corruption = 0.0
        """How likely it is that a chunk arrives with one bit flipped."""
        self.flipped = 0
        """Bits flipped so far."""
        self.carried_bytes = 0

    def stall(self) -> None:
        """Nothing arrives any more; what is sent is kept."""
        self._open.clear()

    def heal(self) -> None:
        """What is sent arrives at once, as it is."""
        self.delay_ms = self.jitter_ms = self.corruption = 0.0
        self._open.set()

    async def passable(self) -> None:
        """Returns when the flow is not stalled."""
        await self._open.wait()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries what comes from `reader` to `writer`, until its end, which arrives too."""
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_ON_THE_WAY)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(reader, way))
            group.create_task(self._deliver(way, writer))

    async def _take(self, reader: asyncio.StreamReader, way: "asyncio.Queue[tuple[float, bytes]]") -> None:
        loop = asyncio.get_running_loop()
        chunk = b"any"
        while chunk:
            try:
                chunk = await reader.read(CHUNK_BYTES)
            except OSError:
                chunk = b""
            delay_ms = self.delay_ms + self._rng.uniform(0, self.jitter_ms)
            await way.put((loop.time() + delay_ms / 1000, chunk))

    async def _deliver(self, way: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        chunk = b"any"
        while chunk:
            due, chunk = await way.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await self._open.wait()
            # Between here and the write nothing waits, so that nothing gets through after `stall`.
            if writer.is_closing():
                continue  # the far end has gone; what is still on the way gets lost, as it does
            with suppress(OSError):
                if chunk:
                    writer.write(self._damaged(chunk))
                    self.carried_bytes += len(chunk)
                    await writer.drain()
                else:
                    writer.write_eof()

    def _damaged(self, chunk: bytes) -> bytes:
        if not self.corruption or self._rng.random() >= self.corruption:
            return chunk
        self.flipped += 1
        bit = self._rng.randrange(8 * len(chunk))
        damaged = bytearray(chunk)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)


class Link:
    """The way from one region to another that it dials: listens on `port`, leads to `target`."""

    def __init__(self, target: tuple[str, int], rng: random.Random) -> None:
        self.target = target
        self.forth = Flow(rng)
        """From the one that dials."""
        self.back = Flow(rng)
        self.dropped = 0
        """Connections ended by `drop` so far."""
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Begins to listen on a free port of loopback; returns it."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Ends everything."""
        if self._server is not None:
            self._server.close()
        self.drop()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self) -> None:
        """Nothing arrives, in neither direction."""
        self.forth.stall()
        self.back.stall()

    def heal(self) -> None:
        """The link is as good as new; what was on the way arrives."""
        self.forth.heal()
        self.back.heal()

    def drop(self) -> None:
        """Ends all connections at once, at both ends, whatever is on the way."""
        for connection in self._connections:
            self.dropped += connection.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._lead(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            await self.forth.passable()
            await self.back.passable()
            far_reader, far_writer = await asyncio.open_connection(*self.target)
            writers.append(far_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self.forth.carry(reader, far_writer))
                group.create_task(self.back.carry(far_reader, writer))
        except OSError:
            pass  # nobody listens there: the dialler is told so by the end of its connection
        finally:
            for each in writers:
                each.transport.abort()
