"""The proxy between two regions: what it does to the bytes on the way, over real sockets."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from creditmesh.testing import Link

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Far:
    """A server that keeps its connections."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[Connection] = asyncio.Queue()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.connections.put((reader, writer))


@asynccontextmanager
async def linked(seed: int = 1) -> AsyncIterator[tuple[Link, int, Far]]:
    """A link, its port, and the far end."""
    far = Far()
    server = await asyncio.start_server(far.accept, "127.0.0.1", 0)
    link = Link(server.sockets[0].getsockname()[:2], random.Random(seed))
    port = await link.start()
    try:
        yield link, port, far
    finally:
        await link.close()
        server.close()
        while not far.connections.empty():
            far.connections.get_nowait()[1].close()


async def connected(port: int, far: Far) -> tuple[Connection, Connection]:
    near = await asyncio.open_connection("127.0.0.1", port)
    return near, await far.connections.get()


async def nothing_comes(reader: asyncio.StreamReader) -> bool:
    """Whether nothing comes for a while: one in which all else that was sent has long arrived."""
    try:
        async with asyncio.timeout(0.05):
            return not await reader.read(1)
    except TimeoutError:
        return True


async def test_bytes_and_ends_get_through_in_both_directions() -> None:
    async with linked() as (_, port, far):
        (near_in, near_out), (far_in, far_out) = await connected(port, far)
        near_out.write(b"question")
        near_out.write_eof()
        assert await far_in.read() == b"question"
        far_out.write(b"answer" * 100_000)
        far_out.close()
        assert await near_in.read() == b"answer" * 100_000
        near_out.close()


async def test_a_stalled_direction_keeps_what_is_sent_and_the_other_goes_on() -> None:
    async with linked() as (link, port, far):
        (near_in, near_out), (far_in, far_out) = await connected(port, far)
        link.forth.stall()
        near_out.write(b"held")
        far_out.write(b"through")
        assert await near_in.readexactly(7) == b"through"
        assert await nothing_comes(far_in)
        link.heal()
        assert await far_in.readexactly(4) == b"held"
        near_out.close()
        far_out.close()


async def test_a_connection_made_while_the_link_is_cut_is_led_on_when_it_is_healed() -> None:
    async with linked() as (link, port, far):
        link.cut()
        _, near_out = await asyncio.open_connection("127.0.0.1", port)
        near_out.write(b"hello")
        await asyncio.sleep(0)
        assert far.connections.empty()
        link.heal()
        far_in, far_out = await far.connections.get()
        assert await far_in.readexactly(5) == b"hello"
        near_out.close()
        far_out.close()


async def test_late_bytes_keep_their_order() -> None:
    async with linked() as (link, port, far):
        (_, near_out), (far_in, far_out) = await connected(port, far)
        link.forth.delay_ms, link.forth.jitter_ms = 5, 30
        for number in range(20):
            near_out.write(bytes([number]))
            await near_out.drain()
        assert await far_in.readexactly(20) == bytes(range(20))
        near_out.close()
        far_out.close()


async def test_what_is_corrupted_has_one_bit_flipped_to_a_chunk_and_the_seed_says_which() -> None:
    async def damaged(seed: int) -> bytes:
        async with linked(seed) as (link, port, far):
            (_, near_out), (far_in, far_out) = await connected(port, far)
            link.forth.corruption = 1.0
            near_out.write(bytes(1_000))
            arrived = await far_in.readexactly(1_000)
            assert sum(byte.bit_count() for byte in arrived) == link.forth.flipped > 0
            assert link.back.flipped == 0
            near_out.close()
            far_out.close()
            return arrived

    assert await damaged(1) == await damaged(1) != await damaged(2)


async def test_dropped_connections_end_at_both_ends_and_new_ones_can_be_made() -> None:
    async with linked() as (link, port, far):
        (near_in, near_out), (far_in, far_out) = await connected(port, far)
        link.drop()
        for reader in (near_in, far_in):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert link.dropped == 1
        near_out.close()
        far_out.close()
        (_, near_out), (far_in, far_out) = await connected(port, far)
        near_out.write(b"again")
        assert await far_in.readexactly(5) == b"again"
        near_out.close()
        far_out.close()


async def test_a_sender_feels_a_stalled_link() -> None:
    async with linked() as (link, port, far):
        (_, near_out), (far_in, far_out) = await connected(port, far)
        link.forth.stall()
        near_out.write(bytes(64 * 2**20))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await near_out.drain()
        link.heal()
        assert len(await far_in.readexactly(64 * 2**20)) == 64 * 2**20
        near_out.close()
        far_out.close()


async def test_where_nobody_listens_the_dialler_is_told() -> None:
    async with linked() as (link, port, _):
        link.target = ("127.0.0.1", 1)
        near_in, near_out = await asyncio.open_connection("127.0.0.1", port)
        assert await near_in.read() == b""
        near_out.close()
