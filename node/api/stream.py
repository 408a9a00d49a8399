"""Long replies, sent piece by piece. One that breaks off has no last chunk, so that nobody takes it for whole."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

import structlog
from aiohttp import web

from node.api.facade import Node

_CHUNK_BYTES: Final = 64 * 1024
_log = structlog.get_logger(__name__)


async def streamed(
    node: Node, request: web.BaseRequest, headers: Mapping[str, str], pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Send all `pieces`; to a HEAD request the headers alone."""
    response = web.StreamResponse(headers=headers)
    if request.method == "HEAD":
        return response
    await response.prepare(request)
    try:
        chunk = bytearray()
        async for piece in pieces:
            chunk += piece
            if len(chunk) >= _CHUNK_BYTES:
                await response.write(bytes(chunk))
                chunk.clear()
                # A fast reader never makes `write` wait; the node's other work must not wait for it.
                await asyncio.sleep(0)
        await response.write_eof(bytes(chunk))
    except ConnectionResetError:
        pass
    except Exception:  # noqa: BLE001 - logged; the reader sees that the stream broke off
        _log.exception("a stream broke off", region=node.name, path=request.raw_path)
        if request.transport is not None:
            request.transport.abort()
    return response
