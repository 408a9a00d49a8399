"""A record of every request that a client made, and what must be in the log because of it.

A request ends **accepted** (its entry must stand in the log, with effect once, whatever happens later), **refused** (it
must not stand there), or **unknown** (no answer came back, or a refusal after a lost answer; it may stand there, with
effect at most once). A key may be asked for several times; `verdicts` says what all its endings together mean.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import msgspec

from creditmesh.calls import Accepted, Dot
from creditmesh.errors import ApiError, CreditmeshError

R = TypeVar("R", bound=msgspec.Struct)


class Ending(StrEnum):
    """How a request ended, as far as its sender knows."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Record:
    """One request, with what a checker needs to find it in the log."""

    tenant: str
    key: str
    kind: str
    """The kind of its log entry: grant, hold, renew, capture, release."""
    amount: int
    """0 for kinds that have none."""
    ending: Ending
    reason: str
    """Of a refusal, the kind of problem; where no answer came, the error; empty when accepted."""
    dot: Dot | None
    """Of an accepted request, its log entry, where the node named it."""
    replayed: bool
    asked_ms: int
    """When it was sent, in milliseconds since the epoch."""
    took_ms: float


@dataclass(slots=True)
class Statistics:
    """What one scheduler has done so far."""

    jobs: int = 0
    """All that it was given."""
    started: int = 0
    finished: int = 0
    dropped: int = 0
    """Never started: refused, or unanswered, as often as the scheduler asks."""
    refusals: int = 0
    """For lack of credit; a job that asks again and is refused again counts again."""
    lost_leases: int = 0
    requests: Counter[tuple[str, Ending]] = field(default_factory=Counter)
    """By kind and ending."""
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)
    """Of every request that was not left unknown, by kind; the client's own retries included."""

    def add(self, record: Record) -> None:
        """Counts a request."""
        self.requests[record.kind, record.ending] += 1
        if record.ending is not Ending.UNKNOWN:
            self.latencies_ms.setdefault(record.kind, []).append(record.took_ms)

    def latency_ms(self, kind: str, quantile: float) -> float | None:
        """What this share of the requests of a kind took at most (nearest rank); None where there were none."""
        latencies = sorted(self.latencies_ms.get(kind, ()))
        return latencies[max(0, math.ceil(quantile * len(latencies)) - 1)] if latencies else None


class History:
    """Sends requests, at most so many at a time, and keeps the record of each."""

    def __init__(self, *, at_once: int, now_ms: Callable[[], int]) -> None:
        self.records: list[Record] = []
        self.statistics = Statistics()
        self._now_ms = now_ms
        self._slots = asyncio.Semaphore(at_once)

    async def send(
        self, kind: str, tenant: str, key: str, amount: int, request: Callable[[], Awaitable[Accepted[R]]]
    ) -> Accepted[R] | CreditmeshError:
        """What came of a request: its acceptance, or the error as a value."""
        async with self._slots:
            asked_ms, started = self._now_ms(), time.perf_counter()
            try:
                answer: Accepted[R] | CreditmeshError = await request()
            except CreditmeshError as error:
                answer = error
            took_ms = (time.perf_counter() - started) * 1000
        ending, reason = ending_of(answer)
        record = Record(
            tenant=tenant,
            key=key,
            kind=kind,
            amount=amount,
            ending=ending,
            reason=reason,
            dot=answer.dot if isinstance(answer, Accepted) else None,
            replayed=isinstance(answer, Accepted) and answer.replayed,
            asked_ms=asked_ms,
            took_ms=took_ms,
        )
        self.records.append(record)
        self.statistics.add(record)
        return answer


def ending_of(answer: Accepted[R] | CreditmeshError) -> tuple[Ending, str]:
    """How a request ended, and why."""
    if isinstance(answer, Accepted):
        return Ending.ACCEPTED, ""
    reason = answer.problem.kind if isinstance(answer, ApiError) else str(answer)
    return (Ending.UNKNOWN if answer.maybe_accepted else Ending.REFUSED), reason


def verdicts(records: Iterable[Record]) -> dict[tuple[str, str], Ending]:
    """For every (tenant, key): accepted if it ever was, else unknown if it ever was, else refused."""
    endings: dict[tuple[str, str], set[Ending]] = {}
    for record in records:
        endings.setdefault((record.tenant, record.key), set()).add(record.ending)
    strongest = (Ending.ACCEPTED, Ending.UNKNOWN, Ending.REFUSED)
    return {name: next(ending for ending in strongest if ending in seen) for name, seen in endings.items()}
