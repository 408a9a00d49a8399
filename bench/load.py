"""A load generator that costs little: keep-alive connections, one request at a time each, prepared bytes.

It shares two cores with the node under test, so it parses no more of a response than it must.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final, cast

from msgspec import Struct

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length: "


class Load(Struct):
    """What came of a load: latencies in seconds, and how many responses had another status than expected."""

    latencies: list[float]
    unexpected: dict[bytes, int]
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Expected responses a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """The latency, in seconds, that `share` of the requests did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], expected: bytes, load: Load, done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._expected = expected
        self._load = load
        self._done = done
        self._data = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of no common class
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the node closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        head_end = self._data.find(_HEAD_END)
        if head_end < 0:
            return
        head = self._data[:head_end].lower()
        at = head.find(_LENGTH)
        length = int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._data) < head_end + len(_HEAD_END) + length:
            return
        status = self._data[9:12]
        if status == self._expected:
            self._load.latencies.append(time.perf_counter() - self._sent_at)
        else:
            self._load.unexpected[status] = self._load.unexpected.get(status, 0) + 1
        self._data = b""
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            if not self._done.done():
                self._done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


async def run(host: str, port: int, connections: int, requests: Iterator[bytes], expected: bytes = b"201") -> Load:
    """Send all `requests` over `connections` connections; returns what came of them."""
    load = Load([], {})
    loop = asyncio.get_running_loop()
    begun_at = time.perf_counter()
    ends: list[asyncio.Future[None]] = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        ends.append(done)
        await loop.create_connection(_factory(requests, expected, load, done), host, port)
    await asyncio.gather(*ends)
    load.seconds = time.perf_counter() - begun_at
    return load


def _factory(
    requests: Iterator[bytes], expected: bytes, load: Load, done: asyncio.Future[None]
) -> Callable[[], _Connection]:
    return lambda: _Connection(requests, expected, load, done)


def post(path: str, key: str, body: bytes) -> bytes:
    """A POST as bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
