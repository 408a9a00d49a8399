"""How the client calls a node: one request under one key, asked again where that is safe, its reply read strictly."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

import aiohttp
import msgspec

from creditmesh import wire
from creditmesh.errors import ProtocolError, Unavailable, refusal
from creditmesh.transport import Answer, Endpoint, Retry, Sleep, Transport, retry_after_s

R = TypeVar("R", bound=msgspec.Struct)

JSON_BODY: Final = {"Content-Type": "application/json"}


class Dot(NamedTuple):
    """The name of a log entry."""

    replica: str
    seq: int


@dataclass(frozen=True, slots=True)
class Accepted(Generic[R]):
    """An acknowledged write: its entry is durable in the region that answered."""

    reply: R
    key: str
    """The idempotency key under which it stands."""
    dot: Dot | None
    """The log entry, where the node names it."""
    replayed: bool
    """Whether the write had been accepted before, and this is its first reply again."""
    clock: str | None
    """Clock token: send it with a read, in any region, to see at least this write."""
    endpoint: str
    attempts: int


class Calls:
    """A connection to a cluster, without the calls that can be made."""

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        retry: Retry | None = None,
        rng: random.Random | None = None,
        sleep: Sleep = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        new_key: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self.sleep = sleep
        self._monotonic = monotonic
        self._new_key = new_key
        self._transport = Transport(
            [endpoints] if isinstance(endpoints, str) else endpoints,
            retry=retry or Retry(),
            rng=rng or random.Random(),
            sleep=sleep,
            monotonic=monotonic,
        )

    async def __aenter__(self) -> Self:
        self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    @property
    def _first(self) -> Endpoint:
        return self._transport.endpoints[0]

    async def _write(
        self, path: str, body: wire.Request, reply: type[R], key: str | None, method: str = "POST"
    ) -> Accepted[R]:
        key = key or self._new_key()
        headers = {**JSON_BODY, wire.IDEMPOTENCY_KEY: key}
        answer = await self._transport.call(method, path, body=msgspec.json.encode(body), headers=headers)
        return Accepted(
            reply=decoded(answer.body, reply),
            key=key,
            dot=_dot(answer),
            replayed=answer.headers.get(wire.IDEMPOTENT_REPLAYED) == "true",
            clock=answer.headers.get(wire.CREDIT_CLOCK),
            endpoint=answer.endpoint,
            attempts=answer.attempts,
        )

    @asynccontextmanager
    async def _stream(
        self,
        path: str,
        query: wire.Request,
        headers: Mapping[str, str] | None = None,
        silence_s: float | None = None,
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The first endpoint's reply, to be read as it comes; it may pause for `silence_s` (as for any answer)."""
        within_s = self._transport.retry.attempt_timeout_s
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=within_s, sock_read=silence_s or within_s)
        url = self._first.url(path, _query(query))
        try:
            async with self._transport.session.get(url, headers=headers, timeout=timeout) as response:
                if response.status >= 400:
                    self._first.not_before = self._monotonic() + retry_after_s(response.headers.get("Retry-After"))
                    raise refusal(response.status, await response.read(), maybe_accepted=False)
                yield response.content
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(1, f"{self._first.address}: {error}", maybe_accepted=False) from error

    async def _read(
        self,
        path: str,
        reply: type[R],
        query: wire.Request | None = None,
        *,
        clock: str | None = None,
        only: Endpoint | None = None,
        takes_long: bool = False,
    ) -> R:
        headers = {} if clock is None else {wire.CREDIT_CLOCK: clock}
        answer = await self._transport.call(
            "GET", path, headers=headers, query=_query(query), only=only, takes_long=takes_long
        )
        return decoded(answer.body, reply)

    async def _send(self, path: str, body: Any, reply: type[R], headers: Mapping[str, str] | None = None) -> R:
        """What has no key of its own: it changes nothing, or each part of it has a key."""
        answer = await self._transport.call(
            "POST", path, body=msgspec.json.encode(body), headers={**JSON_BODY, **(headers or {})}, takes_long=True
        )
        return decoded(answer.body, reply)


def _query(request: wire.Request | None) -> Mapping[str, str]:
    fields: dict[str, Any] = {} if request is None else msgspec.to_builtins(request)
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in fields.items()
        if value is not None
    }


def _dot(answer: Answer) -> Dot | None:
    replica, _, seq = answer.headers.get(wire.CREDIT_ENTRY, "").rpartition(":")
    return Dot(replica, int(seq)) if replica and seq.isdecimal() else None


def decoded(body: bytes, reply: type[R]) -> R:
    """A reply, read strictly. Raises `ProtocolError` if it is none."""
    try:
        return msgspec.json.decode(body, type=reply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a {reply.__name__}: {error}") from error
