"""A node that misbehaves on purpose: it answers each request as the next line of its script says."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from creditmesh import wire

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


def reservation(**changes: Any) -> wire.ReservationReply:
    """A reservation as a node would show it."""
    fields: dict[str, Any] = {
        "reservation": "r1",
        "tenant": "acme",
        "state": wire.ReservationState.OPEN,
        "amount": 60,
        "held": 60,
        "captured": 0,
        "lease_until": 1,
        "funding": [],
        "debt": 0,
        "region": "us-east",
    }
    return wire.ReservationReply(**{**fields, **changes})


def reply(body: wire.Reply | bytes, status: int = 200, headers: dict[str, str] | None = None) -> Behaviour:
    """Answers."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=content, status=status, headers=headers)

    return answer


def refuse(kind: wire.ProblemKind, *, headers: dict[str, str] | None = None, **fields: Any) -> Behaviour:
    """Refuses with a problem document."""

    async def answer(_: web.Request) -> web.StreamResponse:
        problem = {"type": wire.problem_type(kind), "title": kind.value, "status": wire.STATUS[kind], **fields}
        return web.Response(
            body=msgspec.json.encode(problem),
            status=wire.STATUS[kind],
            headers=headers,
            content_type=wire.PROBLEM_JSON,
        )

    return answer


async def drop(request: web.Request) -> web.StreamResponse:
    """Takes the request and hangs up without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def stall(_: web.Request) -> web.StreamResponse:
    """Takes the request and never answers."""
    await asyncio.Event().wait()
    raise AssertionError


class MisbehavingNode:
    """An HTTP server on loopback with a script; when the script is at its end, its last line goes on."""

    def __init__(self, *script: Behaviour) -> None:
        self.script = list(script)
        self.requests: list[tuple[str, str, str | None, Any]] = []
        """Method, path with query, idempotency key, body."""
        self.clocks: list[str | None] = []
        self.event_ids: list[str | None] = []
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._server = TestServer(app)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        content = await request.read()
        self.requests.append(
            (
                request.method,
                request.raw_path,
                request.headers.get(wire.IDEMPOTENCY_KEY),
                msgspec.json.decode(content) if content else None,
            )
        )
        self.clocks.append(request.headers.get(wire.CREDIT_CLOCK))
        self.event_ids.append(request.headers.get(wire.LAST_EVENT_ID))
        behaviour = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await behaviour(request)

    async def leave(self) -> None:
        """Take no connections any more."""
        assert self._server.runner is not None
        for site in list(self._server.runner.sites):
            await site.stop()

    @property
    def url(self) -> str:
        return str(self._server.make_url("")).rstrip("/")

    @property
    def keys(self) -> list[str | None]:
        return [key for _, _, key, _ in self.requests]

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.close()


async def unused_address() -> str:
    """Where nobody listens any more."""
    async with MisbehavingNode(drop) as node:
        return node.url
