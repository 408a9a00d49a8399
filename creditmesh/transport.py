"""How a request gets an answer: which endpoint is asked, for how long, and when it is asked again.

A request goes to the first endpoint that has not failed lately. A connection that fails, an answer that does not come
in time, and every 5xx lead to another attempt after a pause (exponential, fully jittered), at the next endpoint where
there is one. All attempts carry the same headers, and so the same idempotency key: asking twice cannot spend twice,
even in two regions. A node that says ``Retry-After`` is not asked again before then; another one may be.
"""

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import aiohttp
from yarl import URL

from creditmesh.errors import Unavailable, read_problem, refusal
from creditmesh.wire.problem import ProblemKind

Sleep = Callable[[float], Awaitable[None]]

AVOID_S: Final = 5.0
"""How long an endpoint that failed is passed over while another one is to be had."""

LONG_BODY: Final = 2**20
"""Bytes."""

MAX_RETRY_AFTER_S: Final = 60.0
"""A node may not park its clients for longer than this."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to go on asking. Times in seconds."""

    attempts: int = 8
    first_pause_s: float = 0.05
    longest_pause_s: float = 2.0
    attempt_timeout_s: float = 10.0
    long_timeout_s: float = 900.0
    """For an attempt at what reads all there is, such as an audit: asking again would only begin it again."""

    def pause_s(self, failures: int, rng: random.Random) -> float:
        """A pause after so many failures: anything up to a bound that doubles, so that clients do not come in step."""
        bound: float = self.first_pause_s * 2 ** min(failures - 1, 30)
        return rng.uniform(0, min(self.longest_pause_s, bound))


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply that is no error."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    endpoint: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that gave no answer."""

    reason: str
    maybe_accepted: bool
    retry_after_s: float = 0.0


class Endpoint:
    """A node's address, and what the last attempts there taught."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.avoid_until = 0.0
        self.not_before = 0.0
        """What its last ``Retry-After`` asked for."""

    def url(self, path: str, query: Mapping[str, str]) -> URL:
        """`path` is already quoted."""
        return URL(self.address + path, encoded=True).update_query(query)


class Transport:
    """Sends requests to one of several endpoints until one answers. Open it with `open`, close it with `close`."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        retry: Retry,
        rng: random.Random,
        sleep: Sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not endpoints:
            raise ValueError("at least one endpoint is needed")
        self.endpoints = [Endpoint(address) for address in endpoints]
        self.retry = retry
        self._rng = rng
        self._sleep = sleep
        self._monotonic = monotonic
        self._session: aiohttp.ClientSession | None = None
        self._asking_once: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Must be called inside the event loop. The number of connections is the caller's concurrency."""
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        # aiohttp sends a PUT again by itself when a connection that it kept breaks, and when that fails, nobody could
        # say that the first may stand. There is no other way to tell it not to.
        self._asking_once = aiohttp.ClientSession(connector=self._session.connector, connector_owner=False)
        self._asking_once._retry_connection = False

    async def close(self) -> None:
        """Closes all connections."""
        for session in (self._asking_once, self._session):
            if session is not None:
                await session.close()
        self._asking_once = self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session; asking for it before `open` is a mistake of the program."""
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with AsyncClient(...)`")
        return self._session

    @property
    def attempt_timeout(self) -> aiohttp.ClientTimeout:
        """For one attempt, from connecting to the last byte."""
        return aiohttp.ClientTimeout(total=self.retry.attempt_timeout_s)

    @property
    def _long_timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=self.retry.long_timeout_s, connect=self.retry.attempt_timeout_s)

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        only: Endpoint | None = None,
        takes_long: bool = False,
    ) -> Answer:
        """The answer to a request; `only` asks that endpoint and no other, `takes_long` waits for it for as long.

        Raises:
            ApiError: a node refused.
            Unavailable: no answer within the attempts allowed.
        """
        maybe_accepted = False
        failures = 0
        within = self._long_timeout if takes_long else self.attempt_timeout
        while True:
            endpoint = only or self._choose()
            outcome = await self._attempt(
                endpoint, method, path, body, headers or {}, query or {}, within, failures + 1
            )
            if isinstance(outcome, Answer):
                endpoint.avoid_until = endpoint.not_before = 0.0
                if outcome.status < 400:
                    return outcome
                raise refusal(outcome.status, outcome.body, maybe_accepted=maybe_accepted)
            failures += 1
            maybe_accepted = maybe_accepted or (outcome.maybe_accepted and method != "GET")
            now = self._monotonic()
            endpoint.avoid_until = now + AVOID_S
            endpoint.not_before = now + outcome.retry_after_s
            if failures >= self.retry.attempts:
                raise Unavailable(failures, f"{endpoint.address}: {outcome.reason}", maybe_accepted=maybe_accepted)
            await self.pause(only or self._choose(), failures)

    async def pause(self, upcoming: Endpoint, failures: int) -> None:
        """Wait before the attempt at `upcoming` that follows so many failures."""
        pause_s = self.retry.pause_s(failures, self._rng)
        await self._sleep(max(pause_s, upcoming.not_before - self._monotonic()))

    def _choose(self) -> Endpoint:
        """The first that has not failed lately; if all have, the one whose failure is longest ago."""
        now = self._monotonic()
        for endpoint in self.endpoints:
            if endpoint.avoid_until <= now:
                return endpoint
        return min(self.endpoints, key=lambda endpoint: max(endpoint.avoid_until, endpoint.not_before))

    async def _attempt(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        within: aiohttp.ClientTimeout,
        number: int,
    ) -> Answer | Failure:
        url = endpoint.url(path, query)
        # What is long is sent piece by piece, so that it does not hold up whatever else the program does.
        data = BytesIO(body) if body is not None and len(body) > LONG_BODY else body
        session = self._asking_once if method == "PUT" and self._asking_once is not None else self.session
        try:
            async with session.request(
                method, url, data=data, headers=headers, timeout=within, allow_redirects=False
            ) as response:
                content = await response.read()
        except aiohttp.ClientConnectorError as error:
            return Failure(str(error), maybe_accepted=False)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Failure(str(error) or type(error).__name__, maybe_accepted=True)
        if response.status >= 500:
            problem, _ = read_problem(response.status, content)
            return Failure(
                f"{response.status} {problem.detail or problem.title}",
                maybe_accepted=problem.kind != ProblemKind.NOT_READY,
                retry_after_s=retry_after_s(response.headers.get("Retry-After")),
            )
        return Answer(response.status, response.headers, content, endpoint.address, number)


def retry_after_s(header: str | None) -> float:
    """The seconds that a ``Retry-After`` asks for, within reason; 0 for none and for the form with a date."""
    if header is None or not header.strip().isdecimal():
        return 0.0
    return min(float(header), MAX_RETRY_AFTER_S)
