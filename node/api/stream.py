"""Long replies, sent piece by piece. One that breaks off has no last chunk, so that nobody takes it for whole."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final

import structlog
from aiohttp import web

from node.api.facade import Node

STUCK_S: Final = 15.0
_CHUNK_BYTES: Final = 64 * 1024
_log = structlog.get_logger(__name__)


async def streamed(
    node: Node, request: web.BaseRequest, headers: Mapping[str, str], pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Send all `pieces`; to a HEAD request the headers alone."""

    async def send(response: web.StreamResponse) -> None:
        chunk = bytearray()
        async for piece in pieces:
            chunk += piece
            if len(chunk) >= _CHUNK_BYTES:
                await response.write(bytes(chunk))
                chunk.clear()
                # A fast reader never makes `write` wait; the node's other work must not wait for it.
                await asyncio.sleep(0)
        await response.write_eof(bytes(chunk))

    return await _sent(node, request, headers, send)


async def streamed_live(
    node: Node, request: web.BaseRequest, headers: Mapping[str, str], pieces: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    """Send each of `pieces` as it comes, for as long as they come. Who does not read for `STUCK_S` is dropped."""

    async def send(response: web.StreamResponse) -> None:
        async with aclosing(pieces):
            async for piece in pieces:
                async with asyncio.timeout(STUCK_S):
                    await response.write(piece)
                await asyncio.sleep(0)
        await response.write_eof()

    return await _sent(node, request, headers, send)


async def _sent(
    node: Node,
    request: web.BaseRequest,
    headers: Mapping[str, str],
    send: Callable[[web.StreamResponse], Awaitable[None]],
) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    if request.method == "HEAD":
        return response
    await response.prepare(request)
    try:
        await send(response)
    except ConnectionResetError:
        pass
    except TimeoutError:
        _drop(request)
    except Exception:  # noqa: BLE001 - logged; the reader sees that the stream broke off
        _log.exception("a stream broke off", region=node.name, path=request.raw_path)
        _drop(request)
    return response


def _drop(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()
