"""The HTTP server of a node: every request to its route, every refusal and failure to its problem.

    runner = aiohttp.web.ServerRunner(build_server(node))
    await runner.setup()
    await aiohttp.web.TCPSite(runner, host, port).start()

A request that has been read is answered or fails as a whole. Nothing is written to a log but failures of the node.
"""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Final

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from creditmesh.wire import ProblemKind
from node.api import console
from node.api.acknowledging import Acknowledging
from node.api.batch import Batches
from node.api.chaos import Chaos
from node.api.description import Route
from node.api.facade import Node, Unavailable
from node.api.following import Following
from node.api.history import TenantHistory
from node.api.openapi import with_document
from node.api.oversight import Oversight
from node.api.problems import Refused, invalid, not_ready, problem_response
from node.api.quotes import Quotes
from node.api.reads import TenantReads
from node.api.reconciling import Reconciling
from node.api.router import Router
from node.api.usage_events import UsageEvents
from node.api.writes import WRITES, write_route
from replication.clock import TokenError

KEEPALIVE_S: Final = 75.0

_log = structlog.get_logger(__name__)


def routes(node: Node) -> Iterator[Route]:
    """All routes of a node."""
    for write in WRITES.values():
        yield write_route(node, write)
    yield from TenantReads(node).routes()
    yield from Quotes(node).routes()
    yield from Batches(node).routes()
    yield from UsageEvents(node).routes()
    yield from TenantHistory(node).routes()
    yield from Oversight(node).routes()
    yield from Acknowledging(node).routes()
    yield from Following(node).routes()
    yield from Reconciling(node).routes()
    yield from console.routes()
    if node.config.chaos.enabled:
        yield from Chaos(node).routes()


def build_router(node: Node) -> Router:
    """The routes of a node, and one that describes them and itself."""
    router = Router()
    for route in with_document(routes(node)):
        router.add(route.method, route.path, route.handler)
    return router


def build_server(node: Node) -> web.Server:
    """The server, made inside the event loop. Bodies are not decompressed: a few bytes could become a gigabyte."""
    find = build_router(node).find
    region = node.name

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        try:
            path, _, query = _target(request).partition("?")
            handler, ids = find(request.method, path)
            return await handler(request, ids, query)
        except Refused as refused:
            return problem_response(refused, region)
        except (Unavailable, TokenError) as error:
            # A clock of so many logs that no token holds it: the next write here makes it one log again.
            return problem_response(not_ready(str(error)), region)
        except Exception:  # noqa: BLE001 - logged; the client is told no more than that it failed
            _log.exception("a request failed", method=request.method, path=request.raw_path, region=region)
            failure = Refused(ProblemKind.INTERNAL, f"region {region} failed to answer; its log says why")
            return problem_response(failure, region)

    server = _Server(
        answer,
        request_factory=partial(_request, longest_body=node.config.limits.batch_bytes),
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_S,
    )
    server.region = region
    return server


class _Connection(web.RequestHandler):
    """A connection that answers a problem also to what is no HTTP request."""

    __slots__ = ("region",)
    region: str

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what could not be read; the connection is closed after it."""
        if exc is None or status >= 500:
            return super().handle_error(request, status, exc, message)
        said = (message or str(exc)).strip().splitlines()
        response = problem_response(invalid("request", f"is not HTTP: {said[0] if said else status}"), self.region)
        response.force_close()
        return response


class _Server(web.Server):
    """Makes such connections."""

    region = ""

    def __call__(self) -> _Connection:
        connection = _Connection(self, loop=self._loop, **self._kwargs)
        connection.region = self.region
        return connection


def _target(request: web.BaseRequest) -> str:
    """Path and query as sent; a proxy may have sent the whole URL."""
    target = request.raw_path
    return target if target.startswith("/") else request.rel_url.raw_path_qs


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
    *,
    longest_body: int,
) -> web.BaseRequest:
    return web.BaseRequest(
        message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=longest_body
    )
